"""apply(image): the image goes into a slot that is not active, then one eight-byte write switches to it."""

from __future__ import annotations

import os
import struct
from pathlib import Path

from kpf_ebpf.image.model import MapImage
from kpf_ebpf.kernel import abi, bpf
from kpf_ebpf.kernel.pack import pack_image


def read_active(pins: Path) -> tuple[int, bool, int]:
    """(generation, stop-all, slot) of the active word; slot -1: nothing is active."""
    fd = bpf.open_pinned(pins / "active")
    try:
        (word,) = struct.unpack("=Q", bpf.lookup(fd, bytes(4), 8) or bytes(8))
    finally:
        os.close(fd)
    slot = abi.active_slot(word)
    return word >> 8, abi.active_stop_all(word), -1 if slot is None else slot


def write_active(pins: Path, generation: int, stop_all: bool, slot: int) -> None:
    """One write: every verdict remembered under another word is stale from here on."""
    fd = bpf.open_pinned(pins / "active")
    try:
        bpf.update(fd, bytes(4), struct.pack("=Q", abi.active_word(generation, stop_all, slot)))
    finally:
        os.close(fd)


def fill_slot(pins: Path, image: MapImage, slot: int) -> None:
    """Makes the ten inner maps of a slot that no program reads. An error leaves the active slot as it was."""
    for name, items in pack_image(image).items():
        spec = abi.INNER_MAPS[name]
        inner = bpf.create_map(spec.type, spec.key_size, spec.value_size, len(items), spec.flags)
        try:
            bpf.update_many(inner, items)
            outer = bpf.open_pinned(pins / name)
            try:
                bpf.update(outer, struct.pack("=I", slot), struct.pack("=I", inner))
            finally:
                os.close(outer)
        finally:
            os.close(inner)


def apply(pins: Path, image: MapImage) -> int:
    """Makes the image the active one; returns its generation. A counter keeps its count when another rule gets it."""
    generation, stop_all, slot = read_active(pins)
    free = (slot + 1) % abi.SLOTS
    fill_slot(pins, image, free)
    write_active(pins, generation + 1, stop_all, free)
    return generation + 1


def read_counter(fd: int, counter: int) -> tuple[int, int, int]:
    """(hits, packets, bytes) of a counter, summed over the processors."""
    size = 24 * _possible_cpus()
    data = bpf.lookup(fd, struct.pack("=I", counter), size) or bytes(size)
    rows = list(struct.iter_unpack("=QQQ", data))
    return sum(row[0] for row in rows), sum(row[1] for row in rows), sum(row[2] for row in rows)


def read_default(fd: int, which: int) -> int:
    """How often a default verdict (``enum kpf_default``) was returned."""
    data = bpf.lookup(fd, struct.pack("=I", which), 8 * _possible_cpus()) or bytes(8)
    return sum(row[0] for row in struct.iter_unpack("=Q", data))


def _possible_cpus() -> int:
    text = Path("/sys/devices/system/cpu/possible").read_text().strip()
    return int(text.split("-")[-1].split(",")[-1]) + 1
