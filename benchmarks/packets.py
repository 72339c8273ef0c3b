"""What a packet of a judged socket costs in place: the kernel's run-time statistics while packets really flow.

Programs that do nothing, at the same hooks of another cgroup, are measured in the same rounds; net is less theirs. And
what it costs by BPF_PROG_TEST_RUN, where that can be measured.
"""

from __future__ import annotations

import ctypes
import os
import statistics
import struct
import subprocess
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from kpf_ebpf.kernel import bpf
from kpf_ebpf.kernel.load import MEASURES
from tests.kernel.conftest import Kernel, loaded_kernel

from . import micro, policies
from .contenders import run
from .empty import programs_that_pass

ENABLE_STATS = 32
STANDS, ROUNDS, EXCHANGES = 12, 8, 3000
"""So often the programs are loaded, so many rounds are measured with each policy then, of so many exchanges each."""
Costs = dict[str, list[float]]


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


def build(kernel: Kernel) -> Path:
    """The program that makes traffic, as a file of the kernel's own."""
    program = kernel.folder / "load"
    run("cc", "-O2", "-o", str(program), str(Path(__file__).with_name("load.c")))
    return program


def judge(kernel: Kernel, size: int, program: Path) -> None:
    """Has so many rules enforced on the program that makes traffic."""
    names, groups = policies.surroundings(kernel)
    cells = "".join(f'{cell} = "permit"\n' for cell in ("trusted-in", "trusted-out", "internet-in", "internet-out"))
    kernel.apply(policies.every_field(size, names, groups) + f'[[application]]\npath = "{program}"\n{cells}')


def in_place(kernel: Kernel, program: Path, empty: Path, every: Mapping[str, int]) -> Costs:
    """Net nanoseconds a packet by protocol and direction, in each of some rounds."""
    found: Costs = defaultdict(list)
    names = ("egress", "ingress")
    nothing = {name: every[name] for name in names}
    ours = {name: kernel.programs.descriptors[f"kpf_{name}"] for name in names}
    processors = sorted(os.sched_getaffinity(0))
    for turn in range(ROUNDS):
        processor = processors[turn % len(processors)]
        for kind in ("tcp", "udp"):
            floor = average(nothing, program, empty, kind, processor)
            cost = average(ours, program, kernel.cgroup, kind, processor)
            for name in names:
                found[f"{kind} {name}"].append(cost[name] - floor[name])
    return found


def packets(sizes: tuple[int, ...]) -> tuple[dict[int, dict[str, float]], dict[int, dict[str, float]]]:
    """A packet of a judged socket by number of rules: in place, and by a test run ({} without programs for it).

    The same programs judge by the one policy and by the other: where they happen to lie in memory makes ten per cent.
    And they are loaded anew for each of some stands.
    """
    placed: dict[int, Costs] = {size: defaultdict(list) for size in sizes}
    by_test_run: dict[int, Costs] = {size: defaultdict(list) for size in sizes}
    with programs_that_pass(f"kpfb-{os.getpid()}") as (empty, every), statistics_on():
        for stand in range(STANDS):
            with loaded_kernel(*MEASURES) as kernel:
                program = build(kernel)
                for size in sizes if stand % 2 else reversed(sizes):
                    judge(kernel, size, program)
                    for name, costs in in_place(kernel, program, empty, every).items():
                        placed[size][name] += costs
                    for name, cost in micro.cached_path(kernel).items():
                        by_test_run[size][name].append(cost)
    return _each(placed), _each(by_test_run)


def _each(found: dict[int, Costs]) -> dict[int, dict[str, float]]:
    return {
        size: {name: statistics.median(costs) for name, costs in of_size.items()} for size, of_size in found.items()
    }
