"""An image as bytes for the kernel's maps: the layouts of ``bpf/kpf_abi.h``, native byte order."""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping

from kpf_ebpf.facts.model import FileKey
from kpf_ebpf.image.model import ApplicationEntry, MapImage
from kpf_ebpf.image.rows import summary
from kpf_ebpf.kernel import abi
from kpf_ebpf.policy.addresses import is_v4
from kpf_ebpf.policy.model import V4_BASE, Action
from kpf_ebpf.resolve.model import STOP_ALL, ResolvedRule

Items = list[tuple[bytes, bytes]]
FEW_HOSTS = 64
"""Single addresses that the trie finds as fast as a hash does."""
Packed = Items | bytes
"""What a map holds: its elements, or the value of the only one, up to where zeros begin."""
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


def pack_host(place: int) -> bytes:
    """struct kpf_host: an address as flows have it."""
    address = V4_BASE | place >> 96 & 0xFFFFFFFF if place >> 128 else place
    return address.to_bytes(16, "big")


def pack_prefix(bits: int, place: int) -> bytes:
    """struct kpf_prefix of a prefix of places (image.prefixes)."""
    family = -(place >> 128) & 0xFFFFFFFF
    return struct.pack(">I", family).join((_U32(31 + bits if bits else 0), (place & 2**128 - 1).to_bytes(16, "big")))


def pack_named(slot: int, address: int) -> bytes:
    """struct kpf_named_key of an address (IPv4 as ::ffff:a.b.c.d)."""
    words = address.to_bytes(16, "big")
    return _U32(slot) + (b"\xff" * 4 + words[12:] + words[4:] if is_v4(address) else bytes(4) + words)


def _application(entry: ApplicationEntry, row: int) -> bytes:
    return struct.pack("=8I", row, entry.component, entry.modified, *entry.cells, 0)


def _application_files(image: MapImage, rows: list[int]) -> Items:
    """Per file the accepted contents, the one that is there now first; more than there is room for are left out.

    ``rows``: the row of each class.
    """
    times: dict[bytes, list[bytes]] = {}
    entries: dict[bytes, ApplicationEntry] = {}
    for key, entry in image.applications:
        place = struct.pack("=QII", key.inode, key.device, key.generation)
        times.setdefault(place, []).append(struct.pack("=qII", key.ctime_seconds, key.ctime_nanoseconds, 0))
        entries.setdefault(place, entry)
    return [
        (
            place,
            b"".join(times[place][: abi.CTIMES]).ljust(16 * abi.CTIMES, b"\0")
            + _application(entry, rows[entry.application_class]),
        )
        for place, entry in entries.items()
    ]


def _hosts(image: MapImage) -> set[tuple[int, int]]:
    """The prefixes of single addresses, if they are so many that a look into a hash pays: they are in it then."""
    single = {(bits, place) for bits, place in image.prefixes if bits == (33 if place >> 128 else 129)}
    return single if len(single) > FEW_HOSTS else set()


def _header(image: MapImage, row: Mapping[int, int], hosts: int) -> bytes:
    """struct kpf_image. ``row``: the row of a vector; ``hosts``: how many addresses are in that hash."""
    free = [row[vectors[0]] for vectors in image.vectors]  # class 0 of each field: what no rule names
    internal = (number for rule_id, number in image.counters.items() if rule_id.startswith("internal/"))
    scopes = [row[vector] for vector in image.vectors[abi.Field.SCOPE]]
    head = struct.pack(
        "=QQ14I",
        image.policy.home,
        sum(1 << number for number in internal if number < 64),
        image.positions,
        image.canary_end,
        image.guard_end,
        image.policy.administration_port,
        image.policy.popup_port,
        row[image.permits],
        row[(1 << image.positions) - 1],
        free[abi.Field.USER],
        free[abi.Field.CGROUP],
        free[abi.Field.LOCAL_PORT],
        free[abi.Field.REMOTE_PORT],
        free[abi.Field.LOCAL_ADDRESS],
        hosts,
        0,
    )
    tables = (
        [row[vector] for vector in image.vectors[abi.Field.PROTOCOL]],
        [row[vector] for vector in image.icmp],
        scopes[::2],
        scopes[1::2],
    )
    return b"".join(
        (
            head,
            pack_rule(STOP_ALL, image.counters[STOP_ALL.id]),
            *(_application(entry, row[image.vectors[0][entry.application_class]]) for entry in image.components),
            *(struct.pack(f"={len(table)}I", *table) for table in tables),
        )
    )


def pack_image(image: MapImage) -> dict[str, Packed]:
    """The elements of each slotted map, by the map's name in ``bpf/maps.c``; of those with one element its value."""
    row, layout = image.rows.numbers, image.rows
    classes = [[row[vector] for vector in vectors] for vectors in image.vectors]
    local, remote = classes[abi.Field.LOCAL_ADDRESS], classes[abi.Field.REMOTE_ADDRESS]
    local_port, remote_port = classes[abi.Field.LOCAL_PORT], classes[abi.Field.REMOTE_PORT]
    hosts = _hosts(image)

    kinds = list(dict.fromkeys(image.prefixes.values()))
    numbers = {entry: _U32(number) for number, entry in enumerate(kinds)}

    pairs = {pair: struct.pack("=II", local_port[pair[0]], remote_port[pair[1]]) for pair in set(image.ports)}
    width = len(layout.rows[0])
    pack_row = struct.Struct(f"={width}H{2 * (abi.CHUNKS - width)}xQ").pack
    return {
        "images": _header(image, row, len(hosts)),
        "rows": b"".join(pack_row(*chunks, summary(chunks)) for chunks in layout.rows),
        "pool": b"".join(layout.pool),
        "rules": b"".join(pack_rule(rule, image.counters[rule.id]) for rule in image.rules),
        "address_kinds": b"".join(
            struct.pack("=QIIII", entry.trusted, local[entry.local], remote[entry.remote], entry.flags, 0)
            for entry in kinds
        ),
        "ports": b"".join(map(pairs.__getitem__, image.ports)),
        "applications": _application_files(image, classes[abi.Field.APPLICATION]),
        "users": [(_U32(uid), _U32(classes[abi.Field.USER][number])) for uid, number in image.users.items()],
        "cgroups": [
            (struct.pack("=Q", cgroup), _U32(classes[abi.Field.CGROUP][number]))
            for cgroup, number in image.cgroups.items()
        ],
        "addresses": [
            (pack_prefix(*prefix), numbers[entry]) for prefix, entry in image.prefixes.items() if prefix not in hosts
        ],
        "hosts": [(pack_host(place), numbers[image.prefixes[bits, place]]) for bits, place in hosts],
    }
