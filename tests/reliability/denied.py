"""One program makes as many denied attempts as it can, with logging off and on, alone and four at once.

Every attempt must fail, be counted exactly, and leave the Engine's memory as it was; the log may lose records, and the
kernel says how many.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from tests.e2e.bench import SERVER
from tests.e2e.tools import eventually

from . import ground
from .ground import DENIED, QUIET, Setting

FAR = "198.51.100.0"
BOUND = 16 << 10
"""KiB that the Engine's memory may grow by under a flood."""
WAYS = (
    ("connect", SERVER, "hits", "a socket for each connect()"),
    ("distinct", FAR, "hits", "connect() to distinct peers"),
    ("scatter", FAR, "hits", "sendto() to distinct peers"),
    ("send", SERVER, "packets", "send() on a connected socket"),
)
"""Mode, peer, what of the rule's counter must be the number of attempts, in words."""


@dataclass(frozen=True, slots=True)
class Flood:
    """What came of one flood: attempts, how many each second and each second of the senders' processor time."""

    attempts: int
    rate: float
    rate_cpu: float


def policy(log: bool) -> str:
    """One rule for each way."""
    end = f'action = "deny"\nlog = {str(log).lower()}\n'
    rules = (f'[[packet-filter]]\ndescription = "{mode}"\napplication = "@{mode}@"\n{end}' for mode, *_ in WAYS)
    return "".join(rules) + QUIET


def run(setting: Setting) -> None:
    """Each way with logging off, on, and by four processes at once."""
    bench, report = setting.bench, setting.report
    seconds = setting.count(12, 1)
    paths = {mode: setting.program(mode) for mode, *_ in WAYS}

    def ready(log: bool) -> str:
        text = policy(log)
        for mode, path in paths.items():
            text = text.replace(f"@{mode}@", path)
        return text

    bench.up(policy=ready(False))
    client = bench.namespaces["client"]
    ground.system("ip", "-n", client, "route", "add", "198.0.0.0/8", "via", SERVER)
    engine = int(bench.status()["engine"])
    memory = ground.memory_of(engine)
    wire = setting.watch(1024, 65535)
    quiet = {mode: flood(setting, way, paths[mode], seconds, 1, "log off") for way in WAYS for mode in way[:1]}
    bench.reload(ready(True))
    before = bench.status()["events"]
    share = ground.Share(engine)
    loud = {mode: flood(setting, way, paths[mode], seconds, 1, "log on") for way in WAYS for mode in way[:1]}
    percent = share.percent()
    for mode, _, _, words in WAYS:
        ratio = loud[mode].rate_cpu / quiet[mode].rate_cpu
        report.measure(f"{words}: rate with log / without, by processor time", 1, f"{ratio:.2f}")
    report.expect(percent <= 101, "processor time of the Engine meanwhile, % of one", 1, f"{percent:.0f}")
    logged = sum(loud[mode].attempts for mode in ("connect", "distinct", "scatter"))
    after = bench.status()["events"]
    seen, lost = after["seen"] - before["seen"], after["lost"] - before["lost"]
    at_most = logged + len(WAYS) * (seconds // 30 + 2)  # of a connected socket, one every 30 seconds
    report.expect(logged <= seen <= at_most, "events, the lost ones included: one a flow", logged,
                  f"{seen:,}, of which {lost:,} lost")  # fmt: skip
    together = 4
    bench.reload(ready(False))
    for way in WAYS:
        flood(setting, way, paths[way[0]], seconds, together, "four at once")
    arrived = ground.ended(wire)["tried"]
    report.expect(not arrived, "of all these on the wire outside", len(report.rows), arrived)
    grown = ground.memory_of(engine) - memory
    report.expect(grown < BOUND, "memory (PSS) of the Engine, KiB: grown by", memory, grown)
    report.expect(ground.one_engine(bench), "in the end: Engines; status proven", 1, len(ground.engines(bench)))


def flood(
    setting: Setting, way: tuple[str, str, str, str], path: str, seconds: int, processes: int, condition: str
) -> Flood:
    """Attempts for some seconds; the rule's counter must grow by as many."""
    mode, peer, column, words = way
    rule = f"packet-filter/{mode}"
    before = ground.rules(setting.bench)[rule][column]
    began = time.monotonic()
    children = [setting.traffic(path, mode, _peer(peer, number), DENIED, kind=0) for number in range(processes)]
    eventually(lambda: time.monotonic() > began + seconds, seconds + 5)
    found = [ground.ended(child) for child in children]
    wall = time.monotonic() - began
    attempts = sum(one["tried"] for one in found)
    made = Flood(attempts, attempts / wall, attempts / sum(one["cpu"] for one in found))
    grown = ground.rules(setting.bench)[rule][column] - before
    text = f"{grown:,} {column}, {made.rate:,.0f}/s ({made.rate_cpu:,.0f} a second of processor time)"
    good = grown == attempts and all(map(ground.only_refused, found))
    setting.report.expect(good, f"{words}, {condition}: EPERM, counted exactly", attempts, text)
    return made


def _peer(first: str, number: int) -> str:
    """Peers of each process are its own: 198.51.100.0, 198.52.100.0, …"""
    one, two, rest = first.split(".", 2)
    return f"{one}.{int(two) + number}.{rest}" if first == FAR else first
