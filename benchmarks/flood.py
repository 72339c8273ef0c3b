"""A program whose attempts are all denied: what that costs the Engine, and what being logged costs the program.

The four ways are those of the reliability experiment "denied", and so is the program that goes them. This alone:
`python -m benchmarks.flood`.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.e2e.bench import SERVER
from tests.e2e.child import Child
from tests.e2e.tools import system
from tests.reliability import ground
from tests.reliability.denied import WAYS
from tests.reliability.ground import DENIED, QUIET, Setting
from tests.reliability.report import Report

from .processor import spent

PACE, PACED = 100_000, ("distinct", "scatter")
"""Attempts a second, and the ways of which each attempt is an event of its own: with those the Engine is watched."""
TRIAL, WATCHED, WATCHES = 1.0, 2.0, 5
"""Seconds of finding out how fast such a pace really is; that the Engine is watched; how often it is."""
ROUNDS, UNTIL_STEADY, SLICE = 6, 0.6, 0.5
"""How many; in each, of each way, logged and not, seconds of a flood until the Engine takes it for one, and after."""


def policy(paths: dict[tuple[str, bool], str]) -> str:
    """A rule for each way, of one program that is logged and one that is not."""
    rules = (
        f'[[packet-filter]]\ndescription = "{mode} {log}"\napplication = "{path}"\naction = "deny"\n'
        f"log = {str(log).lower()}\n"
        for (mode, log), path in paths.items()
    )
    return "".join(rules) + QUIET


def watched(child: Child, seconds: float) -> tuple[int, float]:
    """How many attempts a program makes meanwhile, and the processor time that they take it; all must be denied."""
    before = ground.counted(child)
    time.sleep(seconds)
    after = ground.counted(child)
    if not ground.only_refused(after):
        raise RuntimeError(f"not all attempts were denied: {ground.errors(after)}")
    return after["tried"] - before["tried"], after["cpu"] - before["cpu"]


def paced(setting: Setting, engine: int, mode: str, peer: str, path: str) -> dict[str, float]:
    """The Engine's share of a processor under a flood of that pace, and what the pace was: medians of the watches."""
    many = PACE // 1000  # in each millisecond; which is a little longer, by what the attempts and waking up take
    for _ in range(2):
        child = setting.traffic(path, mode, peer, DENIED, 0, many, kind=0)
        many = max(1, round(many * PACE / (watched(child, TRIAL)[0] / TRIAL)))
        child.stop()
    child = setting.traffic(path, mode, peer, DENIED, 0, many, kind=0)
    watched(child, UNTIL_STEADY)
    rates, shares = [], []
    for _ in range(WATCHES):
        began, before = time.monotonic(), spent(engine)
        attempts, _ = watched(child, WATCHED)
        took = time.monotonic() - began
        rates.append(attempts / took)
        shares.append((spent(engine) - before) / took)
    child.stop()
    return {"attempts a second": statistics.median(rates), "Engine": statistics.median(shares)}


def slowed(setting: Setting, paths: dict[tuple[str, bool], str]) -> dict[str, dict[str, float]]:
    """By way: processor time of a logged attempt over that of one that is not, over the rounds."""
    ratios: dict[str, list[float]] = {mode: [] for mode, *_ in WAYS}
    processors = sorted(os.sched_getaffinity(0))
    for turn in range(ROUNDS):
        for mode, peer, *_ in WAYS:
            cost = {}
            for log in (True, False) if turn % 2 else (False, True):
                child = setting.traffic(paths[mode, log], mode, peer, DENIED, kind=0)
                os.sched_setaffinity(child.process.pid, {processors[turn // 2 % len(processors)]})
                watched(child, UNTIL_STEADY)
                attempts, took = watched(child, SLICE)
                cost[log] = took / attempts
                child.stop()
            ratios[mode].append(cost[True] / cost[False])
    quartiles = {mode: statistics.quantiles(several, n=4) for mode, several in ratios.items()}
    return {mode: {"median": median, "low": low, "high": high} for mode, (low, median, high) in quartiles.items()}


def flood() -> dict[str, Any]:
    """All of it."""
    with tempfile.TemporaryDirectory(prefix="kpf-bench-") as folder, ground.bench_of_its_own() as bench:
        ground.compile_helpers(Path(folder))
        setting = Setting(bench, Path(folder), Report("flood", ""), quick=False)
        words = {True: "logged", False: "quiet"}
        paths = {(mode, log): setting.program(f"{mode}-{words[log]}") for mode, *_ in WAYS for log in words}
        bench.up(policy=policy(paths))
        system("ip", "-n", bench.namespaces["client"], "route", "add", "198.0.0.0/8", "via", SERVER)
        engine = int(bench.status()["engine"])
        peers = {mode: peer for mode, peer, *_ in WAYS}
        return {
            "paced": {mode: paced(setting, engine, mode, peers[mode], paths[mode, True]) for mode in PACED},
            "slowed": slowed(setting, paths),
        }


def main() -> int:
    """Measure the flood alone; print JSON."""
    if os.geteuid() != 0:
        print("this needs root", file=sys.stderr)
        return 2
    print(json.dumps(flood(), indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
