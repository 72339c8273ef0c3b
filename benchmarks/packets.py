"""What a packet of a judged socket costs in place: the kernel's run-time statistics while packets really flow.

Programs that do nothing, at the same hooks of another cgroup, are measured in the same rounds; net is less theirs.
"""

from __future__ import annotations

import ctypes
import os
import statistics
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kpf_ebpf.kernel import bpf
from tests.kernel.conftest import Kernel

from . import policies
from .empty import programs_that_pass

ENABLE_STATS = 32
ROUNDS, EXCHANGES = 10, 10_000


@contextmanager
def statistics_on() -> Iterator[None]:
    """The kernel measures every run of a program, as long as this lasts."""
    fd = bpf.call(ENABLE_STATS, struct.pack("=I", 0))
    try:
        yield
    finally:
        os.close(fd)


def runs(program: int) -> tuple[int, int]:
    """(nanoseconds, runs) of a program so far (``struct bpf_prog_info``: run_time_ns at 192, run_cnt at 200)."""
    info = ctypes.create_string_buffer(256)
    bpf.call(bpf.INFO_BY_FD, struct.pack("=IIQ", program, 256, ctypes.addressof(info)))
    spent, count = struct.unpack_from("=QQ", info.raw, 192)
    return spent, count


def traffic(program: Path, cgroup: Path, kind: str, count: int, processor: int) -> None:
    """So many exchanges between two connected sockets of one process, on one processor."""

    def enter() -> None:
        os.sched_setaffinity(0, {processor})
        (cgroup / "cgroup.procs").write_text(str(os.getpid()))

    words = [str(program), kind, "127.0.0.1", "7177", str(count)]
    subprocess.run(words, preexec_fn=enter, capture_output=True, check=True)


def average(programs: dict[str, int], program: Path, cgroup: Path, kind: str, processor: int) -> dict[str, float]:
    """Nanoseconds a run of each program over the exchanges."""
    before = {name: runs(fd) for name, fd in programs.items()}
    traffic(program, cgroup, kind, EXCHANGES, processor)
    after = {name: runs(fd) for name, fd in programs.items()}
    return {name: (after[name][0] - before[name][0]) / max(1, after[name][1] - before[name][1]) for name in programs}


def packets(kernel: Kernel, size: int) -> dict[str, float]:
    """Net nanoseconds a packet, by protocol and direction, with so many rules."""
    program = kernel.folder / "load"
    if not program.exists():
        source = Path(__file__).with_name("load.c")
        subprocess.run(["cc", "-O2", "-o", str(program), str(source)], check=True)
    names, groups = policies.surroundings(kernel)
    cells = "".join(f'{cell} = "permit"\n' for cell in ("trusted-in", "trusted-out", "internet-in", "internet-out"))
    text = policies.every_field(size, names, groups) + f'[[application]]\npath = "{program}"\n{cells}'
    kernel.apply(text)
    ours = {name: kernel.programs.descriptors[f"kpf_{name}"] for name in ("egress", "ingress")}
    found: dict[str, list[float]] = {}
    with programs_that_pass(f"{kernel.cgroup.name}-nothing") as (empty, every), statistics_on():
        nothing = {name: every[name] for name in ours}
        processors = sorted(os.sched_getaffinity(0))
        for turn in range(ROUNDS):
            for kind in ("tcp", "udp"):
                processor = processors[turn % len(processors)]
                floor = average(nothing, program, empty, kind, processor)
                cost = average(ours, program, kernel.cgroup, kind, processor)
                for name in cost:
                    found.setdefault(f"{kind} {name}", []).append(cost[name] - floor[name])
    return {name: statistics.median(values) for name, values in found.items()}
