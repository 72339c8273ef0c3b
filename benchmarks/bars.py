"""What is to be reached and what was: the bars of the benchmark, each with what is aimed at, and the rivals."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from kpf_ebpf.kernel.load import ADAPTER_PROGRAMS

from . import hard
from .contenders import AGAIN, EMPTY, NONE
from .network import METRICS, Network

SIZES = (1, 10_000)
"""Rules under which a packet of a judged socket is measured."""
RATIOS = {
    "connect": (1.08, 1.05),
    "exchange": (1.04, 1.03),
    "datagrams": (1.12, 1.08),
    "one-way": (1.12, 1.08),
    "changing": (1.12, 1.08),
}
"""Against no firewall: the bar, and the aim."""
OURS = "kpf-ebpf"


@dataclass(frozen=True, slots=True)
class Bar:
    """What is to be reached at least, what was, and what is aimed at, if there is such."""

    what: str
    most: float
    found: float
    aim: float | None = None

    def __str__(self) -> str:
        met = "NOT MET" if self.found > self.most else "met"
        if self.aim is not None and self.found <= self.aim:
            met = "aim met"
        aim = "" if self.aim is None else f"{self.aim:,g}"
        found = f"{self.found:,.0f}" if self.found >= 1000 else f"{self.found:.4g}"
        return f"| {self.what} | {self.most:,g} | {aim} | {found} | {met} |"


def over(network: Network, name: str, metric: str) -> float:
    """Ours over another contender at as many rules, by what each is to no firewall."""
    mine = f"{OURS} {name.rpartition(' ')[2]}"
    return network.ratio(mine, metric).median / network.ratio(name, metric).median


def rivals(network: Network) -> list[str]:
    """The other firewalls of which there is one of ours with as many rules."""
    nobody = (NONE, AGAIN, EMPTY)
    others = (name for name in network.costs if name not in nobody and not name.startswith(OURS))
    return [name for name in others if f"{OURS} {name.rpartition(' ')[2]}" in network.costs]


def _kernel(found: dict[str, Any]) -> Iterator[Bar]:
    yield Bar("a new flow, 1,000 rules (ns, net)", 250, found["flows"][1000]["random"], 150)
    yield Bar("a new flow, 10,000 rules (ns, net)", 400, found["flows"][10000]["random"], 150)
    for words, costs in (("by a test run", found["cached path"]), ("in place", found["packets"])):
        for name in costs[SIZES[0]]:
            one, many = (costs[size][name] for size in SIZES)
            yield Bar(f"a packet of a judged socket {words}, {name}, 1 rule (ns, net)", 40, one, 25)
            yield Bar(f"the same, 10,000 rules, {name} (ns, net)", 40, many, 25)
            yield Bar(f"the same, 10,000 rules against 1, {name}", 1.05, many / one)
    walked = found["verified"]
    hooks = sum(count for name, count in walked.items() if name not in ADAPTER_PROGRAMS)
    yield Bar("instructions the verifier walks, hooks", 100_000, hooks, 50_000)
    yield Bar("instructions the verifier walks, with adapters", 100_000, sum(walked.values()), 50_000)


def _policies(found: dict[str, Any]) -> Iterator[Bar]:
    few, many = (found["lists"][size] for size in hard.LISTS)
    yield Bar("a flow to a listed destination, of 1,000,000 against 1,000", 1.5, many["flow (ns)"] / few["flow (ns)"])
    yield Bar("a list of 1,000,000: until the switch (s)", 10, many["applied (s)"])
    yield Bar("a list of 1,000,000: kernel memory, with the one it replaces (MB)", 200, many["kernel memory (MB)"])


def _engine(found: dict[str, Any]) -> Iterator[Bar]:
    for name, most, aim in (
        ("up, compiling (s)", 1.5, 0.8), ("up (s)", 1.5, 0.8), ("up, 10,000 rules (s)", 3, None),
        ("reload, 10,000 rules (s)", 1, None), ("Engine (MB)", 60, 40), ("Engine, 10,000 rules (MB)", 60, 40),
        ("10,000 rules: a host's new address (ms)", 20, None),
        ("10,000 rules: an adapter's (ms)", 20, None),
        ("Engine at rest (share of a core)", 0.001, None),
        ("Engine at rest, 10,000 rules (share of a core)", 0.001, None),
    ):  # fmt: skip
        yield Bar(name, most, found["engine"][name], aim)
    flood = found["flood"]
    for way, paced in flood["paced"].items():
        words = f"Engine under {paced['attempts a second']:,.0f} denied attempts a second, {way} (share of a core)"
        yield Bar(words, 0.2, paced["Engine"])
    for way, slowed in flood["slowed"].items():
        yield Bar(f"a denied attempt logged over not logged, {way}", 1.1, slowed["median"])


def _network(network: Network) -> Iterator[Bar]:
    many = f"{OURS} {SIZES[-1]}"
    yield Bar("connect, 10,000 rules, against empty programs", 1.05, network.ratio(many, "connect", EMPTY).median, 1.02)
    for metric, (most, aim) in RATIOS.items():
        yield Bar(f"{metric}, 10,000 rules, against no firewall", most, network.ratio(many, metric).median, aim)
    for name in rivals(network):
        worst = max(RATIOS, key=lambda metric, name=name: over(network, name, metric))  # type: ignore[misc]
        yield Bar(f"ours over {name}, where that is most: {worst}", 1, over(network, name, worst))


def bars(found: dict[str, Any], network: Network) -> str:
    """Markdown: each bar, and what was found."""
    rows = (*_kernel(found), *_policies(found), *_engine(found), *_network(network))
    return "\n".join(("| what | at most | aim | found | |", "|---|---:|---:|---:|---|", *map(str, rows)))


def ahead(network: Network) -> str:
    """Markdown: ours over each other firewall at as many rules; below 1 is ahead."""
    lines = ["| ours over | " + " | ".join(METRICS) + " |", "|---|" + "---:|" * len(METRICS)]
    for name in rivals(network):
        lines.append(f"| {name} | {' | '.join(f'{over(network, name, metric):.3f}' for metric in METRICS)} |")
    return "\n".join(lines)
