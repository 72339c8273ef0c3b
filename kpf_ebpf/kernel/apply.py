"""apply(image): the image goes into a slot that is not active, then one eight-byte write switches to it."""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from kpf_ebpf.facts.model import FileKey
from kpf_ebpf.image.model import MapImage
from kpf_ebpf.kernel import abi, bpf, cgroups, maps, scripts
from kpf_ebpf.kernel.hooks import opened
from kpf_ebpf.kernel.pack import Items, pack_image


@dataclass(frozen=True, slots=True)
class Active:
    """The active word: what is enforced. ``slot`` None: nothing is active."""

    generation: int
    stop_all: bool
    slot: int | None


def read_active(pins: Path) -> Active:
    """What is enforced now."""
    with opened(pins / "active") as fd:
        (word,) = struct.unpack("=Q", bpf.lookup(fd, bytes(4), 8) or bytes(8))
    return Active(word >> 8, abi.active_stop_all(word), abi.active_slot(word))


def write_active(pins: Path, active: Active) -> None:
    """One write: every verdict remembered under another word is stale from here on."""
    slot = -1 if active.slot is None else active.slot
    with opened(pins / "active") as fd:
        bpf.update(fd, bytes(4), struct.pack("=Q", abi.active_word(active.generation, active.stop_all, slot)))


Contents = Mapping[str, str]
"""What the inner maps of a slot hold: a digest by name."""


def fill_slot(
    pins: Path, image: MapImage, slot: int, model: int | None = None, known: Contents | None = None
) -> Contents:
    """Makes the ten inner maps of a slot that no program reads. An error leaves the active slot as it was.

    Nothing writes to an inner map once it is made: what slot ``model`` holds by ``known``, the slots share.
    """
    contents = {}
    for name, items in pack_image(image).items():
        contents[name] = _digest(items)
        with opened(pins / name) as outer:
            shared = model is not None and known is not None and known.get(name) == contents[name]
            inner = _inner_of(outer, model) if shared and model is not None else _new_inner(name, items)
            try:
                bpf.update(outer, struct.pack("=I", slot), struct.pack("=I", inner))
            finally:
                os.close(inner)
    return contents


def _digest(items: Items) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for key, value in items:
        digest.update(key + value)
    return digest.hexdigest()


def _new_inner(name: str, items: Items) -> int:
    spec = maps.INNER_MAPS[name]
    inner = bpf.create_map(spec.type, spec.key_size, spec.value_size, max(1, len(items)), spec.flags)
    try:
        bpf.update_many(inner, items)
    except OSError:
        os.close(inner)
        raise
    return inner


def _inner_of(outer: int, slot: int) -> int:
    found = bpf.lookup(outer, struct.pack("=I", slot), 4)
    if found is None:
        raise OSError(0, f"slot {slot} is empty")
    return bpf.open_map(int.from_bytes(found, "little"))


def apply(
    pins: Path,
    image: MapImage,
    fresh: Iterable[int] = (),
    announce: Callable[[int, Contents], None] = lambda generation, contents: None,
    known: Contents | None = None,
) -> int:
    """Makes the image the active one; returns its generation.

    ``fresh`` are counters that another rule had before: they begin at 0. ``announce`` is called with the generation and
    what its slot holds when everything is ready, just before the switch. ``known``: what the active slot holds.
    Raises OSError; the old image then stays active.
    """
    before = read_active(pins)
    slot = 0 if before.slot is None else (before.slot + 1) % abi.SLOTS
    contents = fill_slot(pins, image, slot, before.slot, known)
    zero = bytes(24 * possible_cpus())
    with opened(pins / "counters") as fd:
        bpf.update_many(fd, [(struct.pack("=I", counter), zero) for counter in fresh])
    named = {path: _current(one.key) for one in image.policy.applications for path in one.executed}
    scripts.put(pins, named)
    cgroups.put(pins, image.policy.cgroups)
    generation = before.generation + 1
    announce(generation, contents)
    write_active(pins, Active(generation, before.stop_all, slot))
    scripts.keep(pins, set(named))
    cgroups.keep(pins, image.policy.cgroups)
    return generation


def _current(key: FileKey) -> FileKey:
    """The file that is there now: of a modified one the key is that of no file, and this is another one."""
    return replace(key, ctime_seconds=-2) if key.ctime_seconds == -1 else key


def read_counter(fd: int, counter: int) -> tuple[int, int, int]:
    """(hits, packets, bytes) of a counter, summed over the processors."""
    size = 24 * possible_cpus()
    data = bpf.lookup(fd, struct.pack("=I", counter), size) or bytes(size)
    rows = list(struct.iter_unpack("=QQQ", data))
    return sum(row[0] for row in rows), sum(row[1] for row in rows), sum(row[2] for row in rows)


def read_counters(pins: Path, counters: Iterable[int]) -> dict[int, tuple[int, int, int]]:
    """(hits, packets, bytes) of several counters."""
    with opened(pins / "counters") as fd:
        return {counter: read_counter(fd, counter) for counter in counters}


def read_defaults(pins: Path) -> dict[abi.Default, int]:
    """How often each default verdict was returned, and what is counted beside them."""
    with opened(pins / "defaults") as fd:
        size = 8 * possible_cpus()
        return {
            which: sum(
                row[0] for row in struct.iter_unpack("=Q", bpf.lookup(fd, struct.pack("=I", which), size) or b"")
            )
            for which in abi.Default
        }


def possible_cpus() -> int:
    """How many processors the kernel makes room for: so many values has an element of a per-CPU map."""
    text = Path("/sys/devices/system/cpu/possible").read_text().strip()
    return int(text.split("-")[-1].split(",")[-1]) + 1
