"""apply(image): the image goes into a slot that is not active, then one eight-byte write switches to it."""

from __future__ import annotations

import ctypes
import hashlib
import mmap
import os
import struct
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from kpf_ebpf.facts.model import FileKey
from kpf_ebpf.image.model import AdapterPlace, MapImage
from kpf_ebpf.kernel import abi, bpf, cgroups, maps, named, scripts
from kpf_ebpf.kernel.active import Active, Trial, grant, read_active, read_trial, write_active
from kpf_ebpf.kernel.counters import possible_cpus
from kpf_ebpf.kernel.hooks import opened
from kpf_ebpf.kernel.pack import Packed, pack_image

NO_RUN_IS_LONGER = 0.1
"""Seconds."""
_MEMBARRIER, _MEMBARRIER_GLOBAL = 324, 1  # x86-64
_libc = ctypes.CDLL(None, use_errno=True)

Contents = Mapping[str, str]
"""What the inner maps of a slot hold: a digest by name."""


def fill_slot(
    pins: Path, image: MapImage, slot: int, model: int | None = None, known: Contents | None = None
) -> Contents:
    """Makes the inner maps of a slot that no program reads. An error leaves the active slot as it was.

    Nothing writes to an inner map once it is made: what slot ``model`` holds by ``known``, the slots share.
    """
    contents = {}
    bpf.lift_limit()
    for name, items in pack_image(image).items():
        contents[name] = _digest(items)
        with opened(pins / name) as outer:
            shared = model if known is not None and known.get(name) == contents[name] else None
            inner = _found_inner(outer, shared, pins / name, contents[name]) or _new_inner(name, items)
            _keep(pins / name, contents[name], inner)
    _hang_up(pins, (slot,))
    row = image.rows.numbers
    said = {address: (row[one.local], row[one.remote], one.flags) for address, one in image.named.items()}
    named.put(pins, slot, said)
    named.put_adapters(pins, slot, image.adapters)
    return contents


def _hang_up(pins: Path, slots: Iterable[int]) -> None:
    """Puts the inner maps that were made last into slots that no program reads.

    The kernel waits for its programs at each update, so all are made at the same time, and wait together.
    """

    def one(name: str, slot: int) -> None:
        inner = _made[pins / name][1]
        with opened(pins / name) as outer:
            if _held(outer, slot) != bpf.identity_of(inner):
                bpf.update(outer, struct.pack("=I", slot), struct.pack("=I", inner))

    places = [(name, slot) for name in maps.INNER_MAPS for slot in slots]
    with ThreadPoolExecutor(len(places)) as together:
        for done in [together.submit(one, *where) for where in places]:
            done.result()


def spread(pins: Path) -> None:
    """Puts what is active into the other slots, too, but for one that a trial may end in.

    So nothing is kept of what was before, and the next change of addresses finds all the rest in its place. Only
    by the process that made the image active, and once nothing will go back to the one before. Raises OSError.
    """
    before, trial = read_active(pins), read_trial(pins)
    others = set(range(abi.SLOTS)) - {before.slot, trial.instead.slot if trial else None}
    _hang_up(pins, others)


def rename(
    pins: Path,
    said: Mapping[int, named.Said],
    adapters: Mapping[int, AdapterPlace],
    announce: Callable[[int], None],
    switched: Callable[[], None] = lambda: None,
) -> int | None:
    """Makes an image active that is the active one, but for what addresses are by themselves; returns its generation.

    ``said``, ``adapters``: all there is to say of addresses by themselves, and of adapters. ``announce`` as for
    ``apply``; ``switched`` is called just after the switch. None: another slot does not hold the rest (see ``spread``),
    so that the whole image is to be applied. Raises OSError; the old image then stays active.
    """
    before, trial = read_active(pins), read_trial(pins)
    if before.slot is None:
        return None
    slot = _next_slot(before, trial)
    for name in maps.INNER_MAPS:
        with opened(pins / name) as outer:
            if not _held(outer, slot) or _held(outer, slot) != _held(outer, before.slot):
                return None
    named.put(pins, slot, said)
    named.put_adapters(pins, slot, adapters)
    generation = before.generation + 1
    announce(generation)
    active = Active(generation, before.stop_all, slot, before.opens)
    write_active(pins, active, Trial(active, trial.instead, trial.until) if trial else None)
    switched()
    _wait_for_programs()
    return generation


def _next_slot(before: Active, trial: Trial | None) -> int:
    """The slot that the next image goes into: not the active one, nor the one that a trial may end in."""
    if before.slot is None:
        return 0
    turns = [(before.slot + turn) % abi.SLOTS for turn in range(1, abi.SLOTS)]
    return next(one for one in turns if trial is None or one != trial.instead.slot)


def _held(outer: int, slot: int) -> int:
    """The id of the inner map of a slot; 0: none."""
    return int.from_bytes(bpf.lookup(outer, struct.pack("=I", slot), 4) or b"", "little")


def _digest(items: Packed) -> str:
    digest = hashlib.blake2b(digest_size=16)
    if isinstance(items, bytes):
        digest.update(items)
    else:
        for key, value in items:
            digest.update(key + value)
    return digest.hexdigest()


def _new_inner(name: str, items: Packed) -> int:
    spec = maps.INNER_MAPS[name]
    entries = 1 if isinstance(items, bytes) else max(1, len(items))
    inner = bpf.create_map(spec.type, spec.key_size, spec.value_size, entries, spec.flags)
    try:
        if isinstance(items, bytes):
            with mmap.mmap(inner, len(items)) as memory:
                memory[:] = items
        else:
            bpf.update_many(inner, items)
    except OSError:
        os.close(inner)
        raise
    return inner


_made: dict[Path, tuple[str, int]] = {}
"""The inner map that this process last put below an outer one: its contents' digest, and its descriptor."""


def _keep(outer: Path, digest: str, inner: int) -> None:
    before = _made.get(outer)
    _made[outer] = digest, inner
    if before is not None and before[1] != inner:
        os.close(before[1])


def _found_inner(outer: int, slot: int | None, path: Path, digest: str) -> int | None:
    """The descriptor of an inner map with these contents: one of our own making, or the one of a slot."""
    known, inner = _made.get(path, ("", -1))
    if known == digest:
        return inner
    if slot is None:
        return None
    held = _held(outer, slot)
    try:
        return bpf.open_map(held) if held else None
    except PermissionError:
        return None  # the Engine may not open a map by its number: it makes one, and has that the next time


@dataclass(frozen=True, slots=True)
class Manner:
    """How an image becomes active: ``opens`` on failure, and on trial ``until`` a moment (ns of the monotonic clock).

    A trial that goes on keeps what was there before its beginning. ``known``: what the active slot holds.
    """

    opens: bool = False
    until: int | None = None
    known: Contents | None = None


def apply(
    pins: Path,
    image: MapImage,
    fresh: Iterable[int] = (),
    announce: Callable[[int, Contents], None] = lambda generation, contents: None,
    manner: Manner | None = None,
) -> int:
    """Makes the image the active one; returns its generation.

    ``fresh`` are counters that another rule had before: they begin at 0. ``announce`` is called with the generation and
    what its slot holds when everything is ready, just before the switch. Raises OSError; the old image then stays
    active.
    """
    manner = manner or Manner()
    before, trial = read_active(pins), read_trial(pins)
    slot = _next_slot(before, trial)
    contents = fill_slot(pins, image, slot, before.slot, manner.known)
    zero = bytes(24 * possible_cpus())
    with opened(pins / "counters") as fd:
        bpf.update_many(fd, [(struct.pack("=I", counter), zero) for counter in fresh])
    named = {path: _current(one.key) for one in image.policy.applications for path in one.executed}
    scripts.put(pins, named)
    cgroups.put(pins, image.policy.cgroups)
    generation = before.generation + 1
    announce(generation, contents)
    active = Active(generation, before.stop_all, slot, manner.opens)
    instead = trial.instead if trial else before
    if manner.opens:
        grant(pins)
    write_active(pins, active, None if manner.until is None else Trial(active, instead, manner.until))
    if manner.until is None:
        scripts.keep(pins, set(named))
        cgroups.keep(pins, image.policy.cgroups)
    _wait_for_programs()  # whoever fills a slot relies on it: none is read any more but the active one
    return generation


def _wait_for_programs() -> None:
    """Until every program run that has begun is over: membarrier(2) waits for a grace period of RCU."""
    if _libc.syscall(_MEMBARRIER, _MEMBARRIER_GLOBAL, 0, 0):
        time.sleep(NO_RUN_IS_LONGER)  # processors without a tick have no such call


def _current(key: FileKey) -> FileKey:
    """The file that is there now: of a modified one the key is that of no file, and this is another one."""
    return replace(key, ctime_seconds=-2) if key.ctime_seconds == -1 else key
