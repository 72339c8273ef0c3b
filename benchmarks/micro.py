"""What a flow's classification costs, by BPF_PROG_TEST_RUN, and what the verifier walks: `make bench-micro`.

Needs root. A cost is net: less what the same program costs without the classifier, in the same round.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import statistics
import struct
import sys
import time

from kpf_ebpf.facts.model import FileKey
from kpf_ebpf.kernel import abi, bpf
from kpf_ebpf.kernel.active import read_active
from kpf_ebpf.kernel.hooks import opened
from kpf_ebpf.kernel.load import ADAPTER_PROGRAMS, MEASURES, PROBES
from kpf_ebpf.policy.addresses import address
from tests.kernel.conftest import Kernel, loaded_kernel

from . import policies

SIZES = (1, 1000, 10000)
FLOWS, REPEAT, ROUNDS = 1000, 100_000, 9
CLASSIFIER = ("kpf_measure", "kpf_measure_nothing")
"""Programs: the classifier, and what is to be subtracted."""
TCP, UDP, TEXT = 6, 17, b"some bytes that are sent"
PACKET_HOOK = ("kpf_measure_egress", "kpf_measure_nothing_skb")
"""Programs of a cgroup's packets, where there are such: the packet hook with the test run's socket taken for one that
is established, and what is to be subtracted."""


ETHERNET = bytes(12)
NO_PROTOCOL = ETHERNET + b"\x88\xb5" + bytes(50)
"""A frame of the protocol number for local experiments."""


def run_many(program: int, mark: int, repeat: int, frame: bytes = NO_PROTOCOL) -> float:
    """Run a program that takes packets so many times on one frame with this mark; nanoseconds a run.

    By this process's clock: the kernel's answer is in whole nanoseconds, and a cached verdict takes few.
    """
    data = ctypes.create_string_buffer(frame, len(frame))
    context = ctypes.create_string_buffer(struct.pack("=II", 0, 0) + struct.pack("=I", mark), 192)
    sizes = struct.pack("=IIIIQQ", program, 0, len(frame), 0, ctypes.addressof(data), 0)
    attributes = sizes + struct.pack("=IIIIQQ", repeat, 0, 192, 0, ctypes.addressof(context), 0)
    began = time.perf_counter_ns()
    bpf.call(bpf.PROG_TEST_RUN, attributes)
    return (time.perf_counter_ns() - began) / repeat


def _flow(kernel: Kernel, number: int, keys: list[FileKey], cgroups: list[int], active: int) -> bytes:
    """The flow that only the rule with this number matches."""
    one, probe = policies.rule(number), abi.Probe(active=active)
    for name in ("local", "remote"):
        place = address(getattr(one, name))
        assert place is not None
        for index, word in enumerate(struct.unpack("=4I", place.to_bytes(16, "big"))):
            getattr(probe.flow, name)[index] = word
    key = keys[one.application]
    file = probe.flow.application
    file.inode, file.device, file.generation = key.inode, key.device, key.generation
    file.ctime_seconds, file.ctime_nanoseconds = key.ctime_seconds, key.ctime_nanoseconds
    probe.flow.cgroup, probe.flow.uid = cgroups[one.cgroup], one.user
    probe.flow.netns_cookie, probe.flow.ifindex, probe.flow.protocol = kernel.home, 2, 6
    probe.flow.local_port, probe.flow.remote_port = one.local_ports[0] + 7, one.port
    probe.flow.direction, probe.flow.known = int(one.direction == "out"), abi.KNOWS_ALL | abi.HAS_PORTS
    return bytes(probe)


def classification(kernel: Kernel, size: int) -> dict[str, float]:
    """Net nanoseconds a flow, for flows that each match another rule, taken at random from ``size``."""
    programs, names = policies.surroundings(kernel)
    began = time.perf_counter()
    kernel.apply(policies.every_field(size, programs, names))
    took = time.perf_counter() - began
    keys = []
    for program in programs:
        with program.open("rb") as file:
            keys.append(kernel.programs.identify(file.fileno()))
    cgroups = [(kernel.cgroup / f"group{number}").stat().st_ino for number in range(policies.CGROUPS)]
    word = read_active(kernel.programs.pins)
    active = abi.active_word(word.generation, False, word.slot or 0)
    chosen = [(number * 7919) % size for number in range(FLOWS)]
    wrong = 0
    with opened(kernel.programs.pins / "probes") as fd:
        for index, number in enumerate(chosen):
            bpf.update(fd, struct.pack("=I", index), _flow(kernel, number, keys, cgroups, active))
        for index, number in enumerate(chosen[:50]):
            bpf.run_marked(kernel.programs.descriptors["kpf_probe"], index)
            answer = abi.Probe.from_buffer_copy(
                bpf.lookup(fd, struct.pack("=I", index), len(bytes(abi.Probe()))) or b""
            )
            wrong += answer.rule.counter != kernel.counters[f"packet-filter/rule {number}"]
    assert not wrong, f"{wrong} of 50 flows were decided by another rule than theirs"
    measured, nothing = (kernel.programs.descriptors[name] for name in CLASSIFIER)
    found: dict[str, list[float]] = {"same": [], "random": []}
    for _ in range(ROUNDS):
        for name, mark in (("same", 1), ("random", FLOWS)):
            found[name].append(run_many(measured, mark, REPEAT) - run_many(nothing, mark, REPEAT))
    return {**{name: statistics.median(values) for name, values in found.items()}, "apply s": took}


def _frame(protocol: int) -> bytes:
    """A frame of a TCP or UDP packet from 192.0.2.1 to 198.51.100.1, on the way."""
    if protocol == TCP:
        segment = struct.pack("!HHIIHHHH", 40000, 443, 1, 1, 0x5010, 65535, 0, 0)
    else:
        segment = struct.pack("!HHHH", 40000, 443, 8 + len(TEXT), 0)
    segment += TEXT
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(segment), 1, 0x4000, 64, protocol, 0)
    return ETHERNET + b"\x08\x00" + head + bytes((192, 0, 2, 1)) + bytes((198, 51, 100, 1)) + segment


def cached_path(kernel: Kernel) -> dict[str, float]:
    """Net nanoseconds of the packet hook by protocol, the verdict of its socket being there; {}: no such programs.

    By the lower quartiles: whoever shares the processor only adds, for some milliseconds at a time.
    The kernel makes a socket for each call of BPF_PROG_TEST_RUN: the first of the runs judges it, the others find that.
    """
    found: dict[str, float] = {}
    there = kernel.programs.descriptors
    if not all(name in there for name in PACKET_HOOK):
        return found
    measured, nothing = (there[name] for name in PACKET_HOOK)
    for name, protocol in (("tcp", TCP), ("udp", UDP)):
        frame = _frame(protocol)
        rounds = [(run_many(measured, 0, REPEAT, frame), run_many(nothing, 0, REPEAT, frame)) for _ in range(ROUNDS)]
        cost, floor = (statistics.quantiles(costs, n=4)[0] for costs in zip(*rounds, strict=True))
        found[name] = cost - floor
    return found


def verified(kernel: Kernel) -> dict[str, int]:
    """Instructions that the verifier walked, of every program of the product."""
    no_hooks = (*PROBES, *MEASURES, *PACKET_HOOK)
    return {name: bpf.verified(fd) for name, fd in kernel.programs.descriptors.items() if name not in no_hooks}


def main() -> int:
    """Measure; print a table, or one JSON document."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.micro", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if os.geteuid() != 0:
        print("this needs root", file=sys.stderr)
        return 2
    with loaded_kernel(*ADAPTER_PROGRAMS, *MEASURES) as kernel:
        walked = verified(kernel)
        costs, cached = {}, {}
        for size in SIZES:
            costs[size] = classification(kernel, size)
            cached[size] = cached_path(kernel)
    if options.json:
        print(json.dumps({"verified": walked, "classification": costs, "cached path": cached}))
        return 0
    for name, count in walked.items():
        print(f"{name:24} {count:8,}")
    hooks = sum(count for name, count in walked.items() if name not in ADAPTER_PROGRAMS)
    print(f"{'all, without adapters':24} {hooks:8,}\n{'all':24} {sum(walked.values()):8,}\n")
    for size, cost in costs.items():
        print(
            f"{size:6} rules: a flow again {cost['same']:6.0f} ns, random flows {cost['random']:6.0f} ns; "
            f"applied in {cost['apply s']:.2f} s"
        )
        for name, net in cached[size].items():
            print(f"{'':13} a packet of a judged socket, {name}: {net:.1f} ns")
    return 0


if __name__ == "__main__":
    sys.exit(main())
