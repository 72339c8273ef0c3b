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


def run_many(program: int, mark: int, repeat: int) -> float:
    """Run a tc program so many times on one packet with this mark; nanoseconds a run."""
    data = ctypes.create_string_buffer(bytes(12) + b"\x88\xb5" + bytes(50), 64)
    context = ctypes.create_string_buffer(struct.pack("=II", 0, 0) + struct.pack("=I", mark), 192)
    attributes = struct.pack(
        "=IIIIQQIIIIQQ", program, 0, 64, 0, ctypes.addressof(data), 0, repeat, 0, 192, 0, ctypes.addressof(context), 0
    )
    _, answer = bpf._exchange(bpf.PROG_TEST_RUN, attributes)
    return float(struct.unpack_from("=I", answer, 36)[0])


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
    measured, nothing = (kernel.programs.descriptors[name] for name in MEASURES)
    found: dict[str, list[float]] = {"same": [], "random": []}
    for _ in range(ROUNDS):
        for name, mark in (("same", 1), ("random", FLOWS)):
            found[name].append(run_many(measured, mark, REPEAT) - run_many(nothing, mark, REPEAT))
    return {**{name: statistics.median(values) for name, values in found.items()}, "apply s": took}


def verified(kernel: Kernel) -> dict[str, int]:
    """Instructions that the verifier walked, of every program of the product."""
    no_hooks = (*PROBES, *MEASURES)
    return {name: bpf.verified(fd) for name, fd in kernel.programs.descriptors.items() if name not in no_hooks}


def main() -> int:
    """Measure; print a table, or one JSON document."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.micro", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if os.geteuid() != 0:
        print("this needs root", file=sys.stderr)
        return 2
    with loaded_kernel(*MEASURES) as kernel:
        walked = verified(kernel)
        costs = {size: classification(kernel, size) for size in SIZES}
    if options.json:
        print(json.dumps({"verified": walked, "classification": costs}))
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
    return 0


if __name__ == "__main__":
    sys.exit(main())
