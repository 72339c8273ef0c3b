"""A permitted program has 100,000 TCP connections open at once, in several processes; a denied one tries as well.

A random sample of them exchanges a text. Then all are closed, and what they took must be given back.
"""

from __future__ import annotations

import re
import resource
import subprocess
import time
from typing import Any

from tests.e2e.bench import CLIENT, SERVER
from tests.e2e.child import Child
from tests.e2e.tools import eventually, system

from . import ground
from .ground import DENIED, PERMITTED, QUIET, Setting

EACH = 12_500
"""Connections of a process: fewer than the descriptors one may have, and than there are local ports."""
FIRST_SOURCE, SOURCES = "192.0.2.11", 4
SPARE = 256
"""Descriptors of a process that are no connections."""


def sockets(bench: ground.Bench, place: str) -> int:
    """TCP sockets that a namespace has, those that wait for their time to be over included."""
    words = ["ip", "netns", "exec", bench.namespaces[place], "cat", "/proc/net/sockstat"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    found = re.search(r"^TCP: inuse (\d+) orphan \d+ tw (\d+)", done.stdout, re.MULTILINE)
    assert found
    return int(found[1]) + int(found[2])


def run(setting: Setting) -> None:
    """Open, sample, close."""
    bench, report = setting.bench, setting.report
    wanted = setting.count(100_000, 4_000)
    each = min(EACH, wanted // 2, resource.getrlimit(resource.RLIMIT_NOFILE)[1] - SPARE)
    processes = wanted // each
    good, bad = setting.program("good", "many"), setting.program("bad", "many")
    bench.up(policy=QUIET + ground.application(good))
    client, server = bench.namespaces["client"], bench.namespaces["server"]
    for number in range(SOURCES):
        system("ip", "-n", client, "address", "add", f"192.0.2.{11 + number}/24", "dev", "v0")
    system("ip", "netns", "exec", server, "sh", "-c", "echo 4096 > /proc/sys/net/core/somaxconn")
    servers = [setting.serve(PERMITTED + 10 * number) for number in range(processes)]
    wire = setting.watch(DENIED, DENIED)
    engine = int(bench.status()["engine"])
    before, slab, maps = sockets(bench, "client"), ground.slab(), ground.map_memory(bench)
    memory, share = ground.memory_of(engine), ground.Share(engine)
    clients = [
        setting.start(good, SERVER, PERMITTED + 10 * number, each, FIRST_SOURCE, SOURCES) for number in range(processes)
    ]
    told = _sum(ground.finished(child, 600) for child in clients)
    percent = share.percent()
    report.measure("processes, and connections of each", processes, f"{each:,}")
    report.expect(told["passed"] == processes * each, "permitted connections open at once", processes * each,
                  f"{told['extra']:,} open, {ground.errors(told)}")  # fmt: skip
    there = sum(ground.counted(child)["extra"] for child in servers)
    report.expect(there == told["extra"], "open at the other end", processes * each, there)
    full = ground.slab()
    report.measure("slab of the machine meanwhile, KiB a connection (both ends)", told["extra"],
                   f"{(full - slab) / max(1, told['extra']):.1f}")  # fmt: skip
    refused = setting.start(bad, SERVER, DENIED, each // 2, CLIENT, 1)
    report.expect(ground.only_refused(found := ground.finished(refused, 120)), "denied connections meanwhile: EPERM",
                  found["tried"], ground.errors(found))  # fmt: skip
    arrived = ground.ended(wire)["tried"]
    report.expect(not arrived, "denied: packets on the wire outside", found["tried"], arrived)
    hits = ground.rules(bench)[f"application/{good}/internet-out"]["hits"]
    report.expect(hits == told["tried"], "hits of the permitted program's rule: exact", told["tried"], hits)
    began = time.monotonic()
    bench.reload(bench.policy.read_text())
    took = time.monotonic() - began
    report.measure("reload meanwhile, which looks at every socket: seconds", told["extra"], f"{took:.1f}")
    sample = setting.count(1_000, 100)
    found = _sum(ground.told(child, f"sample {sample}", 300) for child in clients)
    report.expect(ground.none_failed(found), "a text on a random sample, after a reload: comes back", found["tried"],
                  ground.errors(found))  # fmt: skip
    report.expect(percent < 100, "processor time of the Engine meanwhile, % of one", 1, f"{percent:.1f}")
    _close(setting, clients, servers, before)
    left = (ground.slab() - slab) // 1024
    report.expect(
        eventually(lambda: ground.slab() - slab < max(32 << 10, (full - slab) // 2), 30),
        "slab given back, MiB: it was, it is", (full - slab) // 1024, left,
    )  # fmt: skip
    report.expect((now := ground.map_memory(bench)) <= maps, "memory of all pinned maps, KiB: as before", maps, now)
    grown = ground.memory_of(engine) - memory
    report.expect(grown < 4096, "memory (PSS) of the Engine, KiB: grown by", 1, grown)
    report.expect(ground.one_engine(bench), "in the end: Engines; status proven", 1, len(ground.engines(bench)))


def _sum(several: Any) -> dict[str, Any]:
    total: dict[str, Any] = {"tried": 0, "passed": 0, "extra": 0, "errors": {}}
    for one in several:
        for key in ("tried", "passed", "extra"):
            total[key] += one[key]
        for name, count in one["errors"].items():
            total["errors"][name] = total["errors"].get(name, 0) + count
    return total


def _close(setting: Setting, clients: list[Child], servers: list[Child], before: int) -> None:
    """Close all; both namespaces must have as few sockets as before."""
    for child in clients:
        ground.told(child, "close", 120)
    gone = eventually(lambda: not sum(ground.counted(child)["extra"] for child in servers), 30)
    setting.report.expect(bool(gone), "closed at the other end, too: open", 1,
                          sum(ground.counted(child)["extra"] for child in servers))  # fmt: skip
    eventually(lambda: sockets(setting.bench, "client") <= before, 30)
    left = sockets(setting.bench, "client")
    setting.report.expect(left <= before, "TCP sockets in the namespace: as before", before, left)
