"""One permitted socket sends to a million distinct peers (address, port), which all answer; a denied one tries, too.

The table of datagram flows has room for 65,536. Meanwhile and afterwards older flows of the same program go on.
"""

from __future__ import annotations

from tests.e2e.bench import SERVER
from tests.e2e.tools import system

from . import ground
from .ground import DENIED, QUIET, Setting

FIRST, NETWORK = "10.0.0.0", "10.0.0.0/8"
PERMITTED, PORTS = 9000, 64
PAUSE = 5
SLACK = 64 << 10
"""KiB that the machine's slab may grow by, whatever else happens on it."""


def run(setting: Setting) -> None:
    """A million peers, then as many attempts as the denied program makes; then what is left of it in memory."""
    bench, report = setting.bench, setting.report
    many, refused = setting.count(1_000_000, 80_000), setting.count(1_000_000, 20_000)
    good, bad = setting.program("good"), setting.program("bad")
    bench.up(policy=QUIET + ground.application(good))
    client, server = bench.namespaces["client"], bench.namespaces["server"]
    system("ip", "-n", client, "route", "add", NETWORK, "via", SERVER)
    system("ip", "-n", server, "route", "add", "local", NETWORK, "dev", "lo")
    outside = setting.serve(PERMITTED, PORTS)
    wire = setting.watch(DENIED, DENIED)
    lasting = [setting.traffic(good, mode, SERVER, PERMITTED, PAUSE) for mode in ("udp", "session")]
    engine = int(bench.status()["engine"])
    maps, slab, memory = ground.map_memory(bench), ground.slab(), ground.memory_of(engine)
    share = ground.Share(engine)
    sender = setting.traffic(good, "peers", FIRST, PERMITTED, many, PORTS)
    told = ground.finished(sender, 600)
    percent = share.percent()
    report.expect(
        ground.none_failed(told) and not told["extra"], "datagrams of one socket to distinct peers: all answered",
        told["tried"], f"{told['passed']:,} answers, {ground.errors(told)}",
    )  # fmt: skip
    report.measure("of them a second of the sender's processor time", many, f"{told['passed'] / told['cpu']:,.0f}")
    heard = ground.counted(outside)
    report.expect(heard["tried"] >= many, "datagrams received outside, those of the older flow too", many,
                  f"{heard['tried']:,}")  # fmt: skip
    table = {one["name"]: (one["entries"], one["max"]) for one in bench.status()["maps"]}
    entries, room = table["flows"]
    report.expect(entries <= room, "flows in the table: no more than there is room for", room, entries)
    now = ground.map_memory(bench)
    report.expect(now <= maps, "memory of all pinned maps, KiB: the same as before", maps, now)
    grown = ground.slab() - slab
    report.expect(grown < SLACK, "slab of the machine, KiB: grown by", 1, grown)
    grown = ground.memory_of(engine) - memory
    report.expect(grown < 4096, "memory (PSS) of the Engine, KiB: grown by", 1, grown)
    report.expect(percent < 50, "processor time of the Engine meanwhile, % of one", 1, f"{percent:.1f}")
    denied = setting.traffic(bad, "peers", FIRST, DENIED, refused, 1)
    told = ground.finished(denied, 600)
    report.expect(ground.only_refused(told), "the denied program, distinct addresses: all get EPERM", told["tried"],
                  ground.errors(told))  # fmt: skip
    arrived = ground.ended(wire)["tried"]
    report.expect(not arrived, "of that on the wire outside", told["tried"], arrived)
    for name, child in zip(("datagrams", "texts of one connection"), lasting, strict=True):
        before = ground.counted(child)["passed"]
        ground.eventually(lambda child=child, before=before: ground.counted(child)["passed"] > before + 10)
        told = ground.ended(child)
        good_one = ground.none_failed(told) and told["passed"] > before + 10
        report.expect(good_one, f"older flow, {name}: goes on meanwhile and afterwards", told["tried"],
                      ground.errors(told))  # fmt: skip
    report.expect(ground.one_engine(bench), "in the end: Engines; status proven", 1, len(ground.engines(bench)))
