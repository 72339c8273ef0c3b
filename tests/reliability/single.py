"""One Engine per instance, whatever is typed at the same time, and whatever a dead Engine's record says.

Two `up` race; `down` comes during `up`; the record of the Engine names a process that is somebody else's.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import threading
import time
from collections import Counter
from pathlib import Path

from tests.e2e.bench import DENY_ALL, Bench
from tests.e2e.tools import eventually

from . import ground
from .ground import Setting

BUSY = "another kpf-ebpf command"


def begin(bench: Bench, *arguments: str) -> subprocess.Popen[str]:
    """Begin a command."""
    pipe = subprocess.PIPE
    bench.used = True
    return subprocess.Popen(bench.command(*arguments), stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, text=True)


def up(bench: Bench) -> subprocess.Popen[str]:
    """Begin an up."""
    return begin(bench, "up", "--policy", str(bench.policy), "--cgroup", bench.cgroup_name, "--yes")


def outcome(ran: subprocess.Popen[str]) -> str:
    """How a command ended, in a word: done, busy, or something that no command should say."""
    _, complaint = ran.communicate(timeout=120)
    if ran.returncode == 0:
        return "done"
    return "busy" if ran.returncode == 1 and BUSY in complaint else f"exit {ran.returncode}: {complaint.strip()[-160:]}"


def nothing_left(bench: Bench) -> bool:
    """Whether the instance is down altogether."""
    places = (Path("/run/kpf-ebpf", bench.instance), Path("/sys/fs/bpf/kpf-ebpf", bench.instance))
    there = [path for path in places if path.exists()]
    return not there and not ground.engines(bench) and bench.kpf("status").returncode == 1


def started(pid: int) -> int:
    """When a process started, in clock ticks since boot."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])


def run(setting: Setting) -> None:
    """Races, then false records."""
    setting.bench.write_policy(DENY_ALL)
    chance = random.Random(int.from_bytes(os.urandom(4), "big"))
    took = _racing_ups(setting, chance)
    _down_during_up(setting, chance, took)
    _false_records(setting)
    if not setting.quick:
        _stopped(setting)


def _racing_ups(setting: Setting, chance: random.Random) -> float:
    """Two at once, over nothing and over an enforced policy; returns how long one takes."""
    bench, report = setting.bench, setting.report
    rounds, ends, not_one, took = setting.count(20, 2), Counter[str](), 0, 1.0
    for number in range(rounds):
        if number % 2 == 0:
            bench.kpf("down")
        began = time.monotonic()
        first = up(bench)
        threading.Event().wait(chance.uniform(0, took / 2))
        second = up(bench)
        ends[" and ".join(sorted(map(outcome, (first, second))))] += 1
        took = time.monotonic() - began
        not_one += not ground.one_engine(bench)
    good = set(ends) <= {"busy and done", "done and done"}
    report.expect(good, "two up at once: one does, the other is refused or comes after it", rounds, _words(ends))
    report.expect(not not_one, "two up at once: one Engine in the end, status proven", rounds, f"{not_one} not")
    return took


def _down_during_up(setting: Setting, chance: random.Random, took: float) -> None:
    bench, report = setting.bench, setting.report
    rounds, ends, undefined = setting.count(20, 2), Counter[str](), 0
    for number in range(rounds):
        bench.kpf("down")
        if number % 2:
            outcome(up(bench))
        first = up(bench)
        threading.Event().wait(chance.uniform(0, took))
        second = begin(bench, "down")
        ends[f"up {outcome(first)}, down {outcome(second)}"] += 1
        is_up = bench.kpf("status").returncode == 0
        undefined += not (ground.one_engine(bench) if is_up else nothing_left(bench))
    good = all(
        end in {f"up {one}, down {other}" for one in ("done", "busy") for other in ("done", "busy")} for end in ends
    )
    report.expect(good, "down during up: each is done, or refused as busy", rounds, _words(ends))
    report.expect(not undefined, "down during up: enforcing with one Engine in the end, or nothing is left", rounds,
                  f"{undefined} neither")  # fmt: skip


def _false_records(setting: Setting) -> None:
    """The record names a process of somebody else's: it lives on, and up starts an Engine."""
    bench, report = setting.bench, setting.report
    record = Path("/run/kpf-ebpf", bench.instance, "engine.json")
    bench.up()
    somebody = subprocess.Popen(["sleep", "600"], stdin=subprocess.DEVNULL)
    try:
        true_start = started(somebody.pid)
        cases = (
            ("a pid used again", json.dumps({"pid": somebody.pid, "started": true_start - 1})),
            ("a living stranger, with its own start time", json.dumps({"pid": somebody.pid, "started": true_start})),
            ("half a record", '{"pid": 4'),
        )
        for name, text in cases:
            bench.kill_engine()
            record.write_text(text)
            told = bench.kpf("status", "--json")
            engine = json.loads(told.stdout)["engine"] if told.stdout else told.stderr.strip()[-120:]
            ran = outcome(up(bench))
            lives = somebody.poll() is None
            report.expect(ran == "done" and lives and ground.one_engine(bench),
                          f"engine.json of {name}: up takes over, the stranger lives", 1,
                          f"up: {ran}; status before: {engine}")  # fmt: skip
            if ran != "done":
                record.unlink()
                bench.up()
    finally:
        somebody.kill()
        somebody.wait(10)


def _stopped(setting: Setting) -> None:
    """An Engine that does not answer is ended all the same."""
    bench = setting.bench
    engine = int(bench.status()["engine"])
    os.kill(engine, signal.SIGSTOP)
    ran = outcome(up(bench))
    gone = eventually(lambda: engine not in ground.engines(bench))
    setting.report.expect(ran == "done" and bool(gone) and ground.one_engine(bench),
                          "up over an Engine that is stopped (SIGSTOP): it is replaced", 1, ran)  # fmt: skip


def _words(ends: Counter[str]) -> str:
    return "; ".join(f"{count} x {end}" for end, count in ends.most_common())
