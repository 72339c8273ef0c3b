"""How long `up` and `reload` take, and what the Engine that stays costs at rest: by the installed command."""

from __future__ import annotations

import os
import shutil
import signal
import statistics
import time
from dataclasses import replace
from pathlib import Path

from kpf_ebpf.engine import records
from kpf_ebpf.engine.folders import Instance
from kpf_ebpf.engine.follow import follow, followed_of
from kpf_ebpf.facts.model import Adapter, NameFact
from kpf_ebpf.policy.model import V4_BASE
from tests.e2e.bench import DENY_ALL, Bench
from tests.reliability.ground import bench_of_its_own

from .processor import spent

COMPILED = Path("/var/cache/kpf-ebpf")
REST = 30.0
"""Seconds that the Engine is watched at rest."""
RULE = """
[[packet-filter]]
description = "rule {0}"
action = "permit"
protocol = "tcp"
remote = {{ address = "10.{1}.{2}.{3}", port = 443 }}
"""


HOST = """
[[packet-filter]]
description = "a host"
action = "permit"
remote = { address = "localhost" }
"""
TIMES = 5
"""How often a command is timed; its median counts."""
FIRST, CHANGES = V4_BASE + (198 << 24 | 51 << 16 | 100 << 8), 21
"""The first of the addresses that a host or adapter gets, and how often it gets another."""


def many(count: int, changed: int = 0) -> str:
    """So many rules of one address each; ``changed`` makes another policy of it, by one address."""
    rules = (RULE.format(n, n >> 16, n >> 8 & 255, (n + (changed if n == 7 else 0)) & 255) for n in range(count))
    return DENY_ALL + "".join(rules)


def timed(bench: Bench, *words: str) -> float:
    """Seconds that a command takes; it must succeed."""
    began = time.perf_counter()
    done = bench.kpf(*words)
    took = time.perf_counter() - began
    assert done.returncode == 0, done.stderr
    return took


def up(bench: Bench) -> float:
    """Seconds until `up` has proven that it enforces."""
    return timed(bench, "up", "--policy", str(bench.policy), "--cgroup", bench.cgroup_name, "--yes")


def resident(pid: int) -> float:
    """MB: the Engine's proportional set size."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    raise ValueError("no Pss")


def at_rest(pid: int) -> float:
    """Its share of a processor, once its first round of looking at everything is over."""
    time.sleep(5)
    before = spent(pid)
    time.sleep(REST)
    return (spent(pid) - before) / REST


def engine() -> dict[str, float]:
    """Seconds of `up` and `reload`, MB and share of a processor of the Engine."""
    found = {}
    with bench_of_its_own() as bench:
        bench.write_policy(DENY_ALL)
        compiling, kept = [], []
        for _ in range(TIMES):
            shutil.rmtree(COMPILED, ignore_errors=True)
            compiling.append(up(bench))
            timed(bench, "down")
            kept.append(up(bench))
            timed(bench, "down")
        found["up, compiling (s)"], found["up (s)"] = statistics.median(compiling), statistics.median(kept)
        up(bench)
        bench.used = True
        pid = int(bench.status()["engine"])
        bench.engines.add(pid)
        found["Engine at rest (share of a core)"] = at_rest(pid)
        found["Engine (MB)"] = resident(pid)
        bench.write_policy(many(10000))
        found["up, 10,000 rules (s)"] = up(bench)
        reloading = []
        for number in range(1, TIMES + 1):
            bench.write_policy(many(10000, changed=number))
            reloading.append(timed(bench, "reload"))
        found["reload, 10,000 rules (s)"] = statistics.median(reloading)
        pid = int(bench.status()["engine"])
        found["Engine at rest, 10,000 rules (share of a core)"] = at_rest(pid)
        found["Engine, 10,000 rules (MB)"] = resident(pid)
        bench.write_policy(many(10000) + HOST)
        timed(bench, "reload")
        os.kill(pid, signal.SIGKILL)  # it would follow its own name servers
        host, adapter = following(Instance(bench.instance))
        found |= {"10,000 rules: a host's new address (ms)": host, "10,000 rules: an adapter's (ms)": adapter}
    return found


def following(instance: Instance) -> tuple[float, float]:
    """Milliseconds until a host's new address counts, and an adapter's, by what the Engine calls for it: medians."""
    enforced = records.enforced(instance)
    assert enforced is not None
    known = followed_of(instance, enforced)
    (fact,) = (fact for fact in enforced.names if fact.name == "localhost")
    adapter = known.adapters[-1]

    def once(names: list[NameFact], adapters: tuple[Adapter, ...]) -> float:
        nonlocal known
        took: list[float] = []
        began = time.perf_counter()
        now = follow(instance, known, names, adapters, lambda: took.append((time.perf_counter() - began) * 1000))
        assert now is not None and now != known
        known = now
        return took[0]

    adapters = known.adapters
    hosts = [once([replace(fact, addresses=(FIRST + number,))], adapters) for number in range(CHANGES)]
    own = [once([], (*adapters[:-1], replace(adapter, addresses=(FIRST + 100 + number,)))) for number in range(CHANGES)]
    return statistics.median(hosts), statistics.median(own)
