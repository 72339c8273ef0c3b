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
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from kpf_ebpf.kernel import bpf
from kpf_ebpf.kernel.load import MEASURES
from tests.kernel.conftest import Kernel, loaded_kernel

from . import micro, policies
from .empty import programs_that_pass

ENABLE_STATS = 32
ROUNDS, EXCHANGES, TURNS = 80, 3000, 5


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


def judge(kernel: Kernel, size: int) -> None:
    """Has so many rules enforced on a program that makes traffic."""
    program = kernel.folder / "load"
    source = Path(__file__).with_name("load.c")
    subprocess.run(["cc", "-O2", "-o", str(program), str(source)], check=True)
    names, groups = policies.surroundings(kernel)
    cells = "".join(f'{cell} = "permit"\n' for cell in ("trusted-in", "trusted-out", "internet-in", "internet-out"))
    kernel.apply(policies.every_field(size, names, groups) + f'[[application]]\npath = "{program}"\n{cells}')


def in_place(kernels: Mapping[int, Kernel]) -> dict[int, dict[str, float]]:
    """Net nanoseconds a packet by number of rules, protocol and direction."""
    programs = {size: kernel.folder / "load" for size, kernel in kernels.items()}
    found: dict[int, dict[str, list[float]]] = {size: {} for size in kernels}
    with programs_that_pass(f"kpfb-{os.getpid()}") as (empty, every), statistics_on():
        nothing = {name: every[name] for name in ("egress", "ingress")}
        processors = sorted(os.sched_getaffinity(0))
        for turn in range(ROUNDS):
            processor = processors[turn % len(processors)]
            for kind in ("tcp", "udp"):
                floor = average(nothing, next(iter(programs.values())), empty, kind, processor)
                for size, kernel in sorted(kernels.items(), reverse=bool(turn // 2 % 2)):
                    ours = {name: kernel.programs.descriptors[f"kpf_{name}"] for name in nothing}
                    cost = average(ours, programs[size], kernel.cgroup, kind, processor)
                    for name in cost:
                        found[size].setdefault(f"{kind} {name}", []).append(cost[name] - floor[name])
    return {size: _medians(of_size) for size, of_size in found.items()}


def by_test_run(kernels: Mapping[int, Kernel]) -> dict[int, dict[str, float]]:
    """The same by protocol, of the packet hook by itself; {} of each where there are no programs for it."""
    found: dict[int, dict[str, list[float]]] = {size: {} for size in kernels}
    for _ in range(TURNS):
        for size, kernel in kernels.items():
            for name, cost in micro.cached_path(kernel).items():
                found[size].setdefault(name, []).append(cost)
    return {size: _medians(of_size) for size, of_size in found.items()}


def _medians(found: dict[str, list[float]]) -> dict[str, float]:
    return {name: statistics.median(values) for name, values in found.items()}


def packets(sizes: tuple[int, ...]) -> tuple[dict[int, dict[str, float]], dict[int, dict[str, float]]]:
    """A packet of a judged socket, in place and by a test run; firewalls of so many rules stand side by side."""
    with ExitStack() as stack:
        kernels = {size: stack.enter_context(loaded_kernel(*MEASURES)) for size in sizes}
        for size, kernel in kernels.items():
            judge(kernel, size)
        return in_place(kernels), by_test_run(kernels)
