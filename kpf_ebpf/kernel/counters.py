"""Counters of rules and of default verdicts: one for each processor, read as their sum."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from pathlib import Path

from kpf_ebpf.kernel import abi, bpf
from kpf_ebpf.kernel.hooks import opened


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
