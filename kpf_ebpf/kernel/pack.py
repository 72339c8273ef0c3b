"""An image as bytes for the kernel's maps: the layouts of ``bpf/kpf_abi.h``, native byte order."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator

from kpf_ebpf.facts.model import FileKey
from kpf_ebpf.image.model import ApplicationEntry, MapImage
from kpf_ebpf.kernel import abi
from kpf_ebpf.policy.model import Action
from kpf_ebpf.resolve.model import STOP_ALL, ResolvedRule

CHUNK_RULES = 256
Items = list[tuple[bytes, bytes]]
_U32 = struct.Struct("=I").pack


def pack_rule(rule: ResolvedRule, counter: int) -> bytes:
    """struct kpf_rule."""
    flags = (
        rule.log * abi.RULE_LOG
        | rule.alert * abi.RULE_ALERT
        | (rule.mirror == "engine") * abi.RULE_MIRROR_ENGINE
        | (rule.mirror == "gui") * abi.RULE_MIRROR_GUI
    )
    return struct.pack(
        "=IBBBx", counter, rule.action is Action.PERMIT, abi.Step[rule.origin.upper().replace("-", "_")], flags
    )


def pack_file(key: FileKey) -> bytes:
    """struct kpf_file."""
    return struct.pack("=QIIqIxxxx", key.inode, key.device, key.generation, key.ctime_seconds, key.ctime_nanoseconds)


def pack_path(path: str) -> bytes | None:
    """struct kpf_path, as a key; None for a path that is too long for one."""
    text = os.fsencode(path)
    return text.ljust(abi.PATH_BYTES, b"\0") if len(text) < abi.PATH_BYTES else None


def _application(entry: ApplicationEntry) -> bytes:
    return struct.pack("=8I", entry.application_class, entry.component, entry.modified, *entry.cells, 0)


def _application_files(image: MapImage) -> Items:
    """Per file the accepted contents, the one that is there now first; more than there is room for are left out."""
    times: dict[bytes, list[bytes]] = {}
    entries: dict[bytes, ApplicationEntry] = {}
    for key, entry in image.applications:
        place = struct.pack("=QII", key.inode, key.device, key.generation)
        times.setdefault(place, []).append(struct.pack("=qII", key.ctime_seconds, key.ctime_nanoseconds, 0))
        entries.setdefault(place, entry)
    return [
        (place, b"".join(times[place][: abi.CTIMES]).ljust(16 * abi.CTIMES, b"\0") + _application(entry))
        for place, entry in entries.items()
    ]


def vector_layout(image: MapImage) -> tuple[list[int], dict[str, int], list[int]]:
    """All vectors in a row, the indexes of the special ones, and each field's base."""
    row: list[int] = []
    bases = []
    for vectors in image.vectors:
        bases.append(len(row))
        row += vectors
    special = {"icmp": len(row)}
    row += image.icmp
    special["permits"] = len(row)
    row.append(image.permits)
    special["everything"] = len(row)
    row.append((1 << image.positions) - 1)
    return row, special, bases


def _vectors(row: list[int], chunks: int) -> Iterator[tuple[bytes, bytes]]:
    """(summary, chunks) of each vector."""
    size = chunks * CHUNK_RULES // 8
    for vector in row:
        data = vector.to_bytes(size, "little")
        summary = 0
        for number in range(chunks):
            if any(data[number * 32 : number * 32 + 32]):
                summary |= 1 << number
        yield struct.pack("=Q", summary), data


def pack_image(image: MapImage) -> dict[str, Items]:
    """The elements of each slotted map, by the map's name in ``bpf/maps.c``."""
    chunks = max(1, -(-image.positions // CHUNK_RULES))
    row, special, bases = vector_layout(image)
    packed = list(_vectors(row, chunks))
    header = struct.pack(
        "=QQ9I9I",
        image.policy.home,
        sum(
            1 << number for rule_id, number in image.counters.items() if number < 64 and rule_id.startswith("internal/")
        ),
        image.positions,
        chunks,
        image.canary_end,
        image.guard_end,
        image.policy.administration_port,
        image.policy.popup_port,
        special["permits"],
        special["everything"],
        special["icmp"],
        *bases,
    )
    header += pack_rule(STOP_ALL, image.counters[STOP_ALL.id])
    header += b"".join(_application(entry) for entry in image.components)
    return {
        "images": [(_U32(0), header)],
        "summaries": [(_U32(index), summary) for index, (summary, _) in enumerate(packed)],
        "vectors": [
            (_U32(index * chunks + number), data[number * 32 : number * 32 + 32])
            for index, (_, data) in enumerate(packed)
            for number in range(chunks)
        ],
        "rules": [
            (_U32(position), pack_rule(rule, image.counters[rule.id])) for position, rule in enumerate(image.rules)
        ],
        "applications": _application_files(image),
        "users": [(_U32(uid), _U32(number)) for uid, number in image.users.items()],
        "cgroups": [(struct.pack("=Q", cgroup), _U32(number)) for cgroup, number in image.cgroups.items()],
        "addresses": [
            (
                _U32(bits) + address.to_bytes(16, "big"),
                struct.pack("=QIIII", entry.trusted, entry.local, entry.remote, entry.flags, 0),
            )
            for (bits, address), entry in image.prefixes.items()
        ],
        "ports": [(_U32(port), struct.pack("=II", *pair)) for port, pair in enumerate(image.ports)],
        "adapters": [
            (_U32(index), struct.pack("=II", adapter.slot, adapter.own_zone))
            for index, adapter in image.adapters.items()
        ],
    }
