"""The policy is swapped for another by `reload` under load, and back, again and again; between them, reloads fail.

Policy A permits port P1 and denies P2, policy B the other way round; both permit P0 and deny P9. A program sends to P1
and P2 in turn: each verdict tells by which policy it was made, so that a swap shows as exactly one change.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from tests.e2e.bench import SERVER, Bench
from tests.e2e.child import Child
from tests.e2e.tools import eventually

from . import ground
from .ground import DENIED, PERMITTED, QUIET, Setting

PAIR = 7011
NEVER = "packet-filter/P9 connections"
ENOUGH = 100
PAUSE = 2
"""Milliseconds between two attempts of the permitted program: the machine is to have time for more rounds."""


def policy(good: str, first: bool) -> str:
    """Policy A (``first``) or B."""
    names = ("permit", "deny") if first else ("deny", "permit")
    return (
        ground.packet_rule("P1", str(PAIR), names[0])
        + ground.packet_rule("P2", str(PAIR + 1), names[1])
        + ground.packet_rule("P9", str(DENIED), "deny")
        + ground.packet_rule("P9 connections", str(DENIED), "deny", protocol="tcp")
        + QUIET
        + ground.application(good)
    )


def reload(bench: Bench, *before: str) -> subprocess.CompletedProcess[str]:
    """Run reload, by way of other commands."""
    words = bench.command("reload")
    return subprocess.run([*words[:2], *before, *words[2:]], capture_output=True, text=True, timeout=90, check=False)


def _full_disk(bench: Bench) -> subprocess.CompletedProcess[str]:
    """In a mount namespace where the run folder has the same records and no room for one more."""
    run = f"/run/kpf-ebpf/{bench.instance}"
    copy = bench.folder / "records"
    script = (
        f"rm -rf {copy} && cp -a {run} {copy} && mount -t tmpfs -o size=256k,mode=700 none {run} && "
        f'cp -a {copy}/. {run} && {{ cat /dev/zero >{run}/filler 2>/dev/null || true; }} && exec "$@"'
    )
    return reload(bench, "unshare", "--mount", "sh", "-c", script, "sh")


def failures(bench: Bench) -> Iterator[tuple[str, subprocess.CompletedProcess[str]]]:
    """Reload so that it fails, in every way there is; the policy file is the other policy, or is spoilt."""
    whole = bench.policy.read_text()
    bench.policy.write_text(whole + "[[packet-filter]]\nprotocl = 1\n")
    yield "a mistake in the file", reload(bench)
    many = (ground.packet_rule(f"Rule {number}", str(number), "deny") for number in range(1, 17_000))
    bench.policy.write_text("".join(many) + whole)
    yield "more rules than there is room for", reload(bench)
    bench.policy.unlink()
    yield "no file", reload(bench)
    bench.policy.write_text(whole)
    yield "the run folder's disk is full", _full_disk(bench)
    yield "files may have 100 bytes", reload(bench, "prlimit", "--fsize=100")
    for name in ("-bpf,-sys_admin", "-all"):
        yield f"creating maps refused (capabilities {name})", reload(bench, "setpriv", f"--bounding-set={name}")


def tight(bench: Bench, option: str, limits: Iterable[int]) -> list[int]:
    """Reload under a limit that is wider each time, until it is done; the exit statuses, the last one 0."""
    statuses: list[int] = []
    for limit in limits:
        statuses.append(reload(bench, "prlimit", f"{option}={limit}").returncode)
        if statuses[-1] == 0:
            break
    return statuses


def run(setting: Setting) -> None:
    """Swap, and fail to swap, under load; then hold the counts against each other."""
    bench, report = setting.bench, setting.report
    swaps, rounds = setting.count(1000, 8), setting.count(5, 1)
    good, bad, pairs = (setting.program(name) for name in ("good", "bad", "pairs"))
    texts = policy(good, True), policy(good, False)
    bench.up(policy=texts[0])
    setting.serve()
    wire = setting.watch(DENIED, DENIED)
    permitted = [setting.traffic(good, mode, SERVER, PERMITTED, PAUSE) for mode in ("tcp", "udp", "session")]
    pair = setting.traffic(pairs, "pair", SERVER, PAIR)
    connects = setting.traffic(bad, "connect", SERVER, DENIED, kind=ground.IDLE)
    datagrams = setting.traffic(bad, "sendto", SERVER, DENIED, 0, kind=ground.IDLE)
    began, complaints, generation = time.monotonic(), [], bench.status()["generation"]
    for number in range(swaps):
        bench.write_policy(texts[(number + 1) % 2])
        done = bench.kpf("reload")
        if done.returncode:
            complaints.append(done.stderr.strip()[-200:])
        if number % 100 == 99:
            print(f"  {number + 1} swaps, {time.monotonic() - began:.0f} s", flush=True)
        if number % (swaps // rounds) == 0:
            _fail(setting, texts[number % 2], pair)
    seconds = time.monotonic() - began
    last = bench.status()["generation"] - generation
    report.expect(not complaints, "reload", swaps, f"{len(complaints)} failed {complaints[:2]}")
    report.expect(last == swaps, "generations", swaps, last)
    report.measure("seconds, failing reloads included", swaps, f"{seconds:.0f}")
    told = ground.ended(pair)
    judged = f"{told['changes']} changes, {told['mixed']} pairs astride one"
    good_pairs = told["changes"] == swaps and set(told["errors"]) == {"EPERM"}
    report.expect(good_pairs, "verdicts at P1 and P2: each of A or B, one change a swap", told["tried"], judged)
    for name, child in zip(("TCP", "UDP", "one connection"), permitted, strict=True):
        told = ground.ended(child)
        report.expect(ground.none_failed(told), f"P0, {name}: never fails", told["tried"], ground.errors(told))
    tcp, udp = ground.ended(connects), ground.ended(datagrams)
    arrived = ground.ended(wire)["tried"]
    for name, told in (("TCP", tcp), ("UDP", udp)):
        report.expect(ground.only_refused(told), f"P9, {name}: never passes", told["tried"], ground.errors(told))
    report.expect(not arrived, "P9: packets on the wire outside", tcp["tried"] + udp["tried"], arrived)
    hits = ground.rules(bench)[NEVER]["hits"]
    report.expect(hits == tcp["tried"], "hits of P9's rule over all swaps: exact", tcp["tried"], hits)
    _scarcity(setting, good)


def _fail(setting: Setting, other: str, pair: Child) -> None:
    """Reloads that fail change nothing: not the generation, not a verdict."""
    bench, report = setting.bench, setting.report
    before, changes = bench.status()["generation"], ground.counted(pair)["changes"]

    bench.write_policy(other)
    ran = list(failures(bench))
    status = bench.status()
    same = status["generation"] == before and status["enforcing"] and ground.counted(pair)["changes"] == changes
    for name, done in ran:
        word = f"exit {done.returncode}{', a traceback' if 'Traceback' in done.stderr else ''}"
        good = done.returncode in (1, 2) and "Traceback" not in done.stderr
        report.expect(good and same, f"failing reload, {name}: nothing changes", 1, word)
    left = [path.name for path in Path("/run/kpf-ebpf", bench.instance).iterdir() if path.name.startswith(".")]
    report.measure("half-written records left behind", 1, len(left))


def _scarcity(setting: Setting, good: str) -> None:
    """Reload with too little of something, with more each time, until it is done; then its policy must be whole."""
    bench, report = setting.bench, setting.report
    ladders = (("file descriptors", "--nofile", range(3, 40)), ("memory", "--as", range(40 << 20, 1 << 30, 4 << 20)))
    for name, option, limits in ladders:
        before = bench.status()["generation"]
        statuses = tight(bench, option, limits)
        told = bench.status()
        same = statuses[-1] == 0 and told["generation"] == before + 1 and told["enforcing"]
        what = f"reload with {name} from too few on: no change until it is done"
        report.expect(same, what, len(statuses), f"exit {', '.join(map(str, statuses))}")
        sender = setting.traffic(good, "tcp", SERVER, PERMITTED)
        eventually(lambda sender=sender: ground.counted(sender)["tried"] >= ENOUGH)
        found = ground.ended(sender)
        report.expect(ground.none_failed(found), f"once it is done with just enough {name}: P0 never fails",
                      found["tried"], ground.errors(found))  # fmt: skip
        bench.reload(bench.policy.read_text())
