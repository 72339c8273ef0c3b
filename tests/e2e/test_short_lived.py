"""Programs that live two milliseconds: ten thousand of them, and each has its own verdict and its own owner."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

from .bench import DENY_ALL, SERVER, Bench
from .launch import peer, start

COUNT = 10_000
SPAWNERS = 2


def shell(bench: Bench, name: str) -> str:
    """Return an application of its own: a copy of bash, which connects by itself and tells of it."""
    path = bench.programs / name
    shutil.copyfile("/bin/bash", path)
    path.chmod(0o755)
    return str(path)


def one_rule_each(bench: Bench, *programs: tuple[str, str]) -> str:
    """Return a policy with one cell, Internet/out, for each program; all else is denied, nothing is logged."""
    rules = (f'[[application]]\npath = "{path}"\ninternet-out = "{action}"\n' for path, action in programs)
    return DENY_ALL.replace("log = true\n", "") + "".join(rules)


def test_of_ten_thousand_short_lived_programs_none_has_a_wrong_verdict_or_owner(bench: Bench, tmp_path: Path) -> None:
    """Owner of a flow, out: the process that calls connect, from its first moment, whatever began or ended beside it.

    Half may connect and half may not, mixed: every exit status, every complaint, every counter is exact; and nobody
    is "any other application", which a process would be whose owner is unknown.
    """
    good, bad = shell(bench, "good"), shell(bench, "bad")
    bench.up(policy=one_rule_each(bench, (good, "permit"), (bad, "deny")))
    server = peer(bench, "absorb", SERVER, 7000)
    asked = ("spawn", SERVER, 7000, "--count", COUNT // SPAWNERS, "--text", tmp_path / "complaints-")
    heirs = (("--heir", good, "--heir", bad), ("--heir", bad, "--heir", good))
    spawners = [start(bench, bench.program("spawner"), *asked, *heirs[number % 2]) for number in range(SPAWNERS)]
    ends: Counter[str] = Counter()
    for spawner in spawners:
        ends.update(spawner.line(deadline=240).data)
    assert ends == {"good 0": COUNT // 2, "bad 1": COUNT // 2}
    complaints = Counter((tmp_path / "complaints-bad").read_text().splitlines())
    assert complaints["bad: connect: Operation not permitted"] == COUNT // 2, complaints
    assert (tmp_path / "complaints-good").read_text() == ""
    assert server.say("count").data == {"count": COUNT // 2}
    hits = {rule["id"]: rule["hits"] for rule in bench.status()["rules"] if rule["hits"]}
    cell = "internet-out"
    assert hits == {f"application/{good}/{cell}": COUNT // 2, f"application/{bad}/{cell}": COUNT // 2}
