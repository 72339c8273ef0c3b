"""The network log under a stream of records: rotated by size and number, rotated from outside, on a disk that is full.

A program is denied at distinct peers, so that each attempt is a record of its own. What the log does not have, somebody
has counted. A clock that is set is the whole machine's, and tried in a virtual one: tests/guest/test_clock.py.
"""

from __future__ import annotations

import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

from tests.e2e.bench import DENY_ALL, SERVER, Bench
from tests.e2e.child import Child
from tests.e2e.tools import eventually, system

from . import ground
from .ground import Setting

LIMIT, KEPT = 10 << 20, 4
"""As kpf_ebpf/events/files.py has them."""
FAR = "198.51.100.0"
PACE = 6
"""Attempts a millisecond at most, so that the Engine keeps up."""
SMALL, LARGE = "1m", "64m"
"""A disk that is full soon, and with room again."""
LOST = re.compile(r"^(\d+) records could not be written to the log")


def folder(bench: Bench) -> Path:
    """Where the log is."""
    return Path("/var/log/kpf-ebpf", bench.instance)


def files(bench: Bench) -> list[Path]:
    """The log's files, the oldest first."""
    names = [f"log.jsonl.{number}" for number in range(KEPT + 1, 0, -1)]
    return [path for name in (*names, "log.jsonl") if (path := folder(bench) / name).exists()]


def records(paths: list[Path]) -> list[dict[str, Any]]:
    """All records in order; a line that is none raises ValueError."""
    return [json.loads(line) for path in paths for line in path.read_bytes().splitlines()]


def gaps(found: list[dict[str, Any]]) -> int:
    """Line numbers that are missing between the records."""
    lines = [one["line"] for one in found]
    return sum(after - before - 1 for before, after in pairwise(lines))


def in_order(found: list[dict[str, Any]]) -> bool:
    """Whether line numbers only grow."""
    lines = [one["line"] for one in found]
    return all(before < after for before, after in pairwise(lines))


def stream(setting: Setting, program: str) -> Child:
    """Begin a stream of denied attempts."""
    return setting.traffic(setting.program(program), "scatter", FAR, 1, 0, PACE)


def written(bench: Bench) -> int:
    """Events that reached the Engine's buffers."""
    events = bench.status()["events"]
    return int(events["seen"]) - int(events["lost"])


def run(setting: Setting) -> None:
    """The three ways, one after the other."""
    bench = setting.bench
    bench.up(policy=DENY_ALL)
    system("ip", "-n", bench.namespaces["client"], "route", "add", "198.0.0.0/8", "via", SERVER)
    engine = int(bench.status()["engine"])
    share = ground.Share(engine)
    _from_outside(setting)
    _by_size(setting)
    setting.report.measure("processor time of the Engine meanwhile, % of one", 1, f"{share.percent():.0f}")
    setting.report.expect(ground.engines(bench) == [engine], "the Engine is the same one all the while", 1, engine)
    bench.kpf("down", check=True)
    _on_a_full_disk(setting)


def _from_outside(setting: Setting) -> None:
    """Somebody renames the log's file, again and again: nothing is lost."""
    bench, report = setting.bench, setting.report
    times = setting.count(20, 3)
    sender, log = stream(setting, "outside"), folder(bench) / "log.jsonl"
    paths = []
    for number in range(times):
        assert eventually(lambda: log.exists() and log.stat().st_size), "nothing is logged"
        paths.append(log.rename(folder(bench) / f"outside.{number}"))
    assert eventually(lambda: log.exists() and log.stat().st_size), "nothing is logged any more"
    tried = ground.ended(sender)["tried"]
    paths.append(log)
    total = written(bench)
    eventually(lambda: sum(one["count"] for one in records(paths)) == total)
    found = records(paths)
    counts = sum(one["count"] for one in found)
    report.expect(counts == total and in_order(found) and not gaps(found), "renamed from outside: no record is lost",
                  times, f"{tried:,} attempts, {total:,} events, {counts:,} logged")  # fmt: skip
    for path in paths:
        path.unlink()


def _by_size(setting: Setting) -> None:
    """So many records that the oldest file goes; in the quick run only one rotation."""
    bench, report = setting.bench, setting.report
    sender = stream(setting, "size")
    oldest = folder(bench) / f"log.jsonl.{1 if setting.quick else KEPT}"
    assert eventually(oldest.exists, 600), "the log is not rotated"
    if not setting.quick:
        place = oldest.stat().st_ino
        assert eventually(lambda: oldest.stat().st_ino != place, 600), "the oldest file stays"
    ground.ended(sender)
    eventually(lambda: records(files(bench)[-1:])[-1]["count"] == 1)
    found, sizes = records(files(bench)), [path.stat().st_size for path in files(bench)]
    report.expect(len(sizes) <= KEPT + 1 and max(sizes) <= LIMIT, "rotated by size: files, none larger than 10 MiB",
                  len(sizes), f"{sum(sizes) / 2**20:.1f} MiB, {len(found):,} records")  # fmt: skip
    report.expect(in_order(found) and not gaps(found), "line numbers over all files: without a gap", len(found),
                  f"{found[0]['line']:,} to {found[-1]['line']:,}")  # fmt: skip


def _on_a_full_disk(setting: Setting) -> None:
    """A file system of 1 MiB is full soon: nothing ends, the losses are counted; with room again, the log goes on."""
    bench, report = setting.bench, setting.report
    folder(bench).mkdir(mode=0o700, parents=True, exist_ok=True)
    system("mount", "-t", "tmpfs", "-o", f"size={SMALL},mode=700", "none", str(folder(bench)))
    try:
        bench.up(policy=DENY_ALL)
        engine = int(bench.status()["engine"])
        sender = stream(setting, "full")
        assert eventually(lambda: _lost(bench) > 0, 60), "a full disk is not told"
        before = _lost(bench)
        more = eventually(lambda: _lost(bench) > before, 30)
        status = bench.kpf("status")
        report.expect(bool(more) and status.returncode == 0, "full disk: enforcing, losses are told and counted on", 1,
                      f"{_lost(bench):,} records lost so far")  # fmt: skip
        told = ground.counted(sender)
        report.expect(
            ground.only_refused(told), "full disk: every attempt gets EPERM", told["tried"], ground.errors(told)
        )
        system("mount", "-o", f"remount,size={LARGE}", "none", str(folder(bench)))
        log = folder(bench) / "log.jsonl"
        size = log.stat().st_size
        assert eventually(lambda: log.stat().st_size > size + 100_000, 60), "the log does not go on"
        ground.ended(sender)
        total = written(bench)
        eventually(lambda: sum(one["count"] for one in records(files(bench))) + _lost(bench) >= total, 5)
        found, lost = records(files(bench)), _lost(bench)
        report.expect(gaps(found) == lost and in_order(found), "room again: lines missing in the log, and told as lost",
                      lost, gaps(found))  # fmt: skip
        report.expect(ground.engines(bench) == [engine], "full disk: the Engine is the same one", 1, engine)
    finally:
        bench.kpf("down")
        system("umount", "-l", str(folder(bench)))


def _lost(bench: Bench) -> int:
    """Records that could not be written, as status tells it."""
    matches = (LOST.match(line) for line in bench.status()["warnings"])
    return next((int(match[1]) for match in matches if match), 0)
