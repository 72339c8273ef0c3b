"""The Engine, or `up` itself, is killed (SIGKILL) at a random moment; then comes a new `up`, round after round.

All the while a denied program connects and sends at full rate, and a permitted one exchanges texts by TCP and UDP. What
arrives outside is counted on the wire.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from tests.e2e.bench import SERVER, Bench
from tests.e2e.child import Child
from tests.e2e.tools import eventually

from . import ground
from .ground import DENIED, LOGGED, PERMITTED, QUIET, Setting

NTH = 50
"""Each so many denied datagrams one goes to a port of its own, whose denial is logged."""
TCP_RULE, LOGGED_RULE = "packet-filter/Denied connections", "packet-filter/Logged"
PAUSE = 2
"""Milliseconds between two attempts of the permitted program: the machine is to have time for more rounds."""


@dataclass
class Found:
    """What the rounds showed."""

    unproven: int = 0
    engine_killed: int = 0
    up_killed: int = 0
    up_done: int = 0
    unwarned: int = 0
    stood_still: int = 0
    failed_ups: list[str] = field(default_factory=list)
    up_seconds: float = 0


def policy(bench: Bench, good: str) -> str:
    """A policy with a rule for each kind of traffic."""
    return (
        ground.packet_rule("Logged", f'"{LOGGED}-{LOGGED + 9999}"', "deny", log=True)
        + ground.packet_rule("Denied datagrams", str(DENIED), "deny")
        + ground.packet_rule("Denied connections", str(DENIED), "deny", protocol="tcp")
        + QUIET
        + ground.application(good)
    )


def up(bench: Bench) -> subprocess.Popen[str]:
    """Begin an up."""
    words = bench.command("up", "--policy", str(bench.policy), "--cgroup", bench.cgroup_name, "--yes")
    pipe = subprocess.PIPE
    bench.used = True
    return subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, text=True)


def kill_engine(bench: Bench, found: Found, chance: random.Random) -> None:
    """Let the Engine live for a random moment, then kill it."""
    engine = json.loads(Path(f"/run/kpf-ebpf/{bench.instance}/engine.json").read_text())["pid"]
    threading.Event().wait(chance.uniform(0, 0.4))
    os.kill(engine, signal.SIGKILL)
    assert eventually(lambda: not Path(f"/proc/{engine}").exists())
    found.engine_killed += 1


def kill_up(bench: Bench, found: Found, chance: random.Random) -> None:
    """Kill an up somewhere between its first moment and its last."""
    begun = up(bench)
    try:
        begun.wait(chance.uniform(0, found.up_seconds))
        found.up_done += 1
    except subprocess.TimeoutExpired:
        begun.kill()
        found.up_killed += 1
    begun.communicate(timeout=60)


def look(bench: Bench, found: Found, *, without_engine: bool) -> None:
    """After a kill: status proves enforcement; it says whether the Engine lives; counters go on counting."""
    done = bench.kpf("status", "--json")
    told = json.loads(done.stdout)
    found.unproven += not (done.returncode == 0 and told["enforcing"] and told["canary"]["ok"])
    if without_engine:
        warned = any("Engine is not running" in line for line in told["warnings"])
        found.unwarned += not (told["engine"] is None and warned)
    before = next(one["hits"] for one in told["rules"] if one["id"] == TCP_RULE)
    found.stood_still += not eventually(lambda: ground.rules(bench)[TCP_RULE]["hits"] > before)


def again(bench: Bench, found: Found) -> None:
    """A new up, which must do."""
    began = time.monotonic()
    begun = up(bench)
    _, complaint = begun.communicate(timeout=90)
    found.up_seconds = time.monotonic() - began
    if begun.returncode:
        found.failed_ups.append(complaint.strip()[-200:])


def perches(bench: Bench) -> list[Path]:
    """The cgroups of canaries that are there no more."""
    return list(bench.cgroup.glob("kpf-perch-*"))


def run(setting: Setting) -> None:
    """Rounds of kills under load; then every count is held against every other."""
    bench, report = setting.bench, setting.report
    bench.closing.callback(lambda: [path.rmdir() for path in perches(bench)])
    seed = int.from_bytes(os.urandom(4), "big")
    chance, found, rounds = random.Random(seed), Found(), setting.count(200, 4)
    good, bad, inner = (setting.program(name) for name in ("good", "bad", "inner"))
    bench.write_policy(policy(bench, good))
    again(bench, found)
    assert not found.failed_ups, found.failed_ups
    setting.serve()
    wire = setting.watch(DENIED, DENIED), setting.watch(LOGGED, LOGGED + 9999)
    permitted = [setting.traffic(good, mode, SERVER, PERMITTED, PAUSE) for mode in ("tcp", "udp", "session")]
    connects = setting.traffic(bad, "connect", SERVER, DENIED, kind=ground.IDLE)
    datagrams = setting.traffic(bad, "sendto", SERVER, DENIED, NTH, kind=ground.IDLE)
    incoming, listener = _from_outside(setting, inner)
    began = time.monotonic()
    for number in range(rounds):
        kills_up = number % 3 == 2
        (kill_up if kills_up else kill_engine)(bench, found, chance)
        look(bench, found, without_engine=not kills_up)
        again(bench, found)
        if number % 20 == 19:
            print(f"  round {number + 1}, {time.monotonic() - began:.0f} s: {found}", flush=True)
    report.measure("seed of the random moments", 1, str(seed))
    killed = found.engine_killed + found.up_killed
    report.expect(not found.unproven, "status after a kill: enforcing, by the canary", rounds, f"{found.unproven} not")
    report.expect(
        not found.unwarned, "status after the Engine's kill: no Engine, with a warning", found.engine_killed,
        f"{found.unwarned} not",
    )  # fmt: skip
    report.expect(not found.stood_still, "counters go on after a kill", rounds, f"{found.stood_still} stood still")
    report.measure("up killed in its work; done before the kill", found.up_killed, found.up_done)
    report.expect(
        not found.failed_ups, "the next up takes over", rounds, f"{len(found.failed_ups)} failed {found.failed_ups[:2]}"
    )
    for name, child in zip(("TCP connections", "UDP datagrams", "texts of one connection"), permitted, strict=True):
        told = ground.ended(child)
        report.expect(ground.none_failed(told), f"permitted {name}: none fails", told["tried"], ground.errors(told))
    _denied(setting, wire, connects, datagrams)
    sent, heard = ground.ended(incoming), ground.ended(listener)
    report.expect(sent["tried"] > 0 and not heard["tried"], "denied from outside: none comes in", sent["tried"],
                  f"{heard['tried']} came in")  # fmt: skip
    _log(setting, killed)
    left = len(perches(bench))
    report.expect(not left, "cgroups of killed canaries that are left in the firewalled one", killed, left)
    half = len(list(Path("/run/kpf-ebpf", bench.instance).glob(".*")))
    report.measure("half-written records left in the run folder", killed, half)
    report.expect(ground.one_engine(bench), "in the end: Engines; status proven", 1, len(ground.engines(bench)))


def _from_outside(setting: Setting, inner: str) -> tuple[Child, Child]:
    """A server that the policy lets nobody reach, and somebody outside who tries."""
    child = setting.program("listener", "serve")
    listener = setting.start(child, DENIED, 1)
    listener.event("ready")
    sender = setting.start(inner, "sendto", "192.0.2.1", DENIED, 0, netns="server", kind=ground.IDLE)
    sender.event("ready")
    return sender, listener


def _denied(setting: Setting, wire: tuple[Child, Child], connects: Child, datagrams: Child) -> None:
    report, bench = setting.report, setting.bench
    tcp, udp = ground.ended(connects), ground.ended(datagrams)
    arrived = [ground.ended(child)["tried"] for child in wire]
    for name, told in (("connections", tcp), ("datagrams", udp)):
        report.expect(ground.only_refused(told), f"denied {name}: all get EPERM", told["tried"], ground.errors(told))
    report.expect(not sum(arrived), "denied: packets on the wire outside", tcp["tried"] + udp["tried"], sum(arrived))
    hits = ground.rules(bench)[TCP_RULE]["hits"]
    report.expect(hits == tcp["tried"], "hits of the denied connections' rule: exact", tcp["tried"], hits)


def _log(setting: Setting, killed: int) -> None:
    """Every line of the log must be a whole record, wherever the writer was when it was killed."""
    whole, broken = 0, 0
    for path in Path("/var/log/kpf-ebpf", setting.bench.instance).glob("log.jsonl*"):
        for line in path.read_bytes().splitlines():
            try:
                json.loads(line)
                whole += 1
            except ValueError:
                broken += 1
    setting.report.expect(whole > 0 and not broken, f"log lines after {killed} kills: whole", whole, f"{broken} not")
