"""Everything that is measured, against the bars that are set: `make bench`. Writes JSON, and a plot of the peers."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kpf_ebpf.kernel.load import ADAPTER_PROGRAMS, MEASURES
from tests.kernel.conftest import loaded_kernel

from . import engine, hard, micro, network, packets
from .plot import draw

SIZES = (1, 10000)
RATIOS = {"connect": 1.08, "exchange": 1.04, "datagrams": 1.12, "one-way": 1.12, "changing": 1.12}
PEERS = ("nft rules", "nft map", "iptables")


@dataclass(frozen=True, slots=True)
class Bar:
    """What is to be reached, and what was."""

    what: str
    most: float
    found: float

    def __str__(self) -> str:
        met = "met" if self.found <= self.most else "NOT MET"
        return f"| {self.what} | {self.most:,g} | {self.found:,.4g} | {met} |"


def measure(rounds: int, part: float) -> dict[str, Any]:
    """Everything, one after the other."""
    with loaded_kernel(*MEASURES) as kernel:
        verified = micro.verified(kernel)
        flows = {size: micro.classification(kernel, size) for size in micro.SIZES}
        in_place = {size: packets.packets(kernel, size) for size in SIZES}
        changed, policies, lists = hard.change(kernel), hard.policies(kernel), hard.block_lists(kernel)
    return {
        "verified": verified,
        "flows": flows,
        "packets": in_place,
        "change": changed,
        "hard": policies,
        "lists": lists,
        "engine": engine.engine(),
        "network": network.measured(rounds, part),
    }


def bars(found: dict[str, Any]) -> Iterator[Bar]:
    """Each bar, and what was found."""
    yield Bar("a new flow, 1,000 rules (ns, net)", 250, found["flows"][1000]["random"])
    yield Bar("a new flow, 10,000 rules (ns, net)", 400, found["flows"][10000]["random"])
    for name in found["packets"][1]:
        for size in SIZES:
            yield Bar(
                f"a packet of a judged socket, {name}, {size:,} rules (ns, net)", 40, found["packets"][size][name]
            )
    walked = found["verified"]
    hooks = sum(count for name, count in walked.items() if name not in ADAPTER_PROGRAMS)
    yield Bar("instructions the verifier walks, hooks", 100_000, hooks)
    yield Bar("instructions the verifier walks, with adapters", 100_000, sum(walked.values()))
    yield Bar("another address of one rule: until it counts (ms)", 20, found["change"])
    few, many = (found["lists"][size] for size in hard.LISTS)
    yield Bar("a flow to a listed destination, of 1,000,000 against 1,000", 1.5, many["flow (ns)"] / few["flow (ns)"])
    yield Bar("a list of 1,000,000: until the switch (s)", 10, many["applied (s)"])
    yield Bar("a list of 1,000,000: kernel memory, with the one it replaces (MB)", 200, many["kernel memory (MB)"])
    own = found["engine"]
    for name, most in (
        ("up, compiling (s)", 1.5), ("up (s)", 1.5), ("up, 10,000 rules (s)", 3), ("reload, 10,000 rules (s)", 1),
        ("Engine (MB)", 60), ("Engine, 10,000 rules (MB)", 60), ("Engine at rest (share of a core)", 0.001),
        ("Engine at rest, 10,000 rules (share of a core)", 0.001),
    ):  # fmt: skip
        yield Bar(name, most, own[name])
    ratios = {
        name: {metric: statistics.median(values) for metric, values in ratio.items()}
        for name, ratio in found["network"].items()
    }
    ours = ratios["kpf-ebpf 10000"]
    yield Bar(
        "connect, 10,000 rules, against empty programs", 1.05, ours["connect"] / ratios["empty programs"]["connect"]
    )
    for metric, most in RATIOS.items():
        yield Bar(f"{metric}, 10,000 rules, against no firewall", most, ours[metric])
    for peer in PEERS:
        for name in (name for name in ratios if name.startswith(peer)):
            mine = ratios[f"kpf-ebpf {name.rpartition(' ')[2]}"]
            for metric in RATIOS:
                yield Bar(f"{metric}: ours over {name}", 1, mine[metric] / ratios[name][metric])


def main() -> int:
    """Measure everything; the exit status is 0 whatever was reached: the table tells."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--part", type=float, default=1, help="that part of the network's counts")
    parser.add_argument("--folder", type=Path, default=Path("build"), help="for benchmarks.json and performance.svg")
    options = parser.parse_args()
    if os.geteuid() != 0:
        print("this needs root: sudo make bench", file=sys.stderr)
        return 2
    found = measure(options.rounds, options.part)
    options.folder.mkdir(exist_ok=True)
    (options.folder / "benchmarks.json").write_text(json.dumps(found, indent=1))
    draw(found["network"], options.folder / "performance.svg")
    print("| what | at most | found | |\n|---|---:|---:|---|")
    print(*bars(found), sep="\n")
    print("\n| 10,000 rules | a flow (ns, net) | until the switch (s) |\n|---|---:|---:|")
    for name, cost in found["hard"].items():
        print(f"| {name} | {cost['flow (ns)']:.0f} | {cost['applied (s)']:.2f} |")
    print(f"\n{network.table(found['network'])}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
