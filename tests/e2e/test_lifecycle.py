"""From up to down: one command at a time, without a gap, whatever dies meanwhile."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

from .bench import CLIENT, DENY_ALL, SERVER, Bench
from .tools import cgroup_mount, eventually


def good(bench: Bench) -> str:
    """Return a policy where the program "good" may initiate."""
    return f'{DENY_ALL}[[application]]\npath = "{bench.program("good")}"\ninternet-out = "permit"\nlog = true\n'


def allowed(bench: Bench, name: str) -> bool:
    """Return whether a program reaches the server; if not, it must be EPERM."""
    found = bench.run(bench.program(name), "tcp-connect", SERVER, 7000, "--text", "x")
    assert found.ok or found.errno == "EPERM", found
    return found.ok


def test_up_during_up_is_refused(bench: Bench) -> None:
    """up during up: exit 1, one line; the first one is not disturbed."""
    bench.write_policy(good(bench))
    arguments = ("up", "--policy", str(bench.policy), "--cgroup", bench.cgroup_name)
    bench.used = True
    started = [
        subprocess.Popen(
            bench.command(*arguments),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    told = [(*one.communicate(timeout=60), one.returncode) for one in started]
    assert sorted(code for _, _, code in told) == [0, 1], told
    (refusal,) = [errors for _, errors, code in told if code == 1]
    assert "another kpf-ebpf command" in refusal and len(refusal.strip().splitlines()) == 1
    bench.peer("tcp-echo", SERVER, 7000)
    assert allowed(bench, "good") and not allowed(bench, "bad")


def test_a_program_that_runs_already_is_known(bench: Bench) -> None:
    """A process older than up is the file it executes: its next socket is its own, not unknown."""
    bench.peer("udp-echo", SERVER, 7000)
    old = bench.start(bench.program("good"), "udp-session", SERVER, 7000)
    assert old.line().ok
    bench.up(policy=good(bench))
    assert old.say("echo one").ok
    bench.expect_hits(f"application/{bench.program('good')}/internet-out")


def test_up_after_a_killed_engine_takes_over(bench: Bench) -> None:
    """Enforcement outlives the Engine; a new up takes it over with counters, owners and live connections."""
    bench.up(policy=good(bench))
    bench.peer("tcp-echo", SERVER, 7000)
    live = bench.start(bench.program("good"), "tcp-session", SERVER, 7000)
    assert live.line().ok
    killed = bench.kill_engine()
    before = bench.hits(f"application/{bench.program('good')}/internet-out")
    bench.up(policy=good(bench))
    assert bench.status()["engine"] not in (None, killed)
    assert live.say("echo one").ok
    assert not allowed(bench, "bad")
    bench.expect_log(application=bench.program("bad"), action="deny")
    assert bench.hits(f"application/{bench.program('good')}/internet-out") == before


def test_what_killed_commands_left_stops_nobody(bench: Bench) -> None:
    """A damaged record of the Engine, a canary's cgroup: `up` takes over, and one Engine is left."""
    bench.up(policy=DENY_ALL)
    before = int(bench.status()["engine"])
    Path("/run/kpf-ebpf", bench.instance, "engine.json").write_text("half a rec")
    left = bench.cgroup / "kpf-perch-999999999"
    left.mkdir()
    bench.up()
    after = bench.status()
    assert after["enforcing"] and after["engine"] != before
    assert not left.exists()
    assert eventually(lambda: not Path(f"/proc/{before}/exe").exists()), "two Engines"


def test_up_for_another_cgroup_leaves_the_first(bench: Bench) -> None:
    """up again with another --cgroup: that one is firewalled then, the first one no more."""
    bench.up(policy=good(bench))
    bench.peer("tcp-echo", SERVER, 7000)
    other = bench.cgroup / "other"
    other.mkdir()
    try:
        done = bench.kpf("up", "--policy", str(bench.policy), "--cgroup", f"{bench.cgroup_name}/other")
        assert done.returncode == 0, done.stderr
        assert bench.status()["cgroup"] == f"{bench.cgroup_name}/other"
        assert allowed(bench, "bad"), "it runs in the cgroup that is left"
    finally:
        assert bench.kpf("down").returncode == 0
        other.rmdir()


def test_down_needs_no_cgroup(bench: Bench) -> None:
    """down after the cgroup was removed: nothing is left, exit 0."""
    gone = cgroup_mount() / f"kpf-test-gone-{bench.random}"
    gone.mkdir()
    bench.write_policy(DENY_ALL)
    assert bench.kpf("up", "--policy", str(bench.policy), "--cgroup", f"/{gone.name}").returncode == 0
    gone.rmdir()
    assert bench.kpf("status").returncode == 1
    done = bench.kpf("down")
    assert done.returncode == 0, done
    assert not Path("/run/kpf-ebpf", bench.instance).exists()


def test_in_the_foreground_up_stays_until_it_is_told(bench: Bench) -> None:
    """--foreground: returns when the Engine ends; enforcement goes on and says so."""
    bench.write_policy(good(bench))
    bench.used = True
    staying = subprocess.Popen(
        bench.command("up", "--policy", str(bench.policy), "--cgroup", bench.cgroup_name, "--foreground"),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert eventually(lambda: bench.status()["engine"], 30)
        staying.send_signal(signal.SIGTERM)
        out, _ = staying.communicate(timeout=20)
    finally:
        staying.kill()
    assert staying.returncode == 0 and "still enforced" in out
    found = bench.status()
    assert found["enforcing"] is True and found["engine"] is None


def test_a_dry_run_prints_the_image_and_changes_nothing(bench: Bench) -> None:
    """--dry-run: every rule in order, no root asked for, nothing there afterwards; a bad policy is exit status 2."""
    bench.write_policy(good(bench))
    done = subprocess.run(
        ["setpriv", "--reuid=65534", "--clear-groups", *bench.command("up", "--dry-run")[2:]],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0 and "internal/gui-to-engine" in done.stdout, done
    shown = bench.kpf("up", "--dry-run", "--policy", str(bench.policy))
    assert shown.returncode == 0, shown
    ids = [line.split()[0] for line in shown.stdout.splitlines()[1:] if line.strip()]
    own = f"application/{bench.program('good')}/internet-out"
    assert (
        ids.index("internal/gui-to-engine")
        < ids.index("guard/44334")
        < ids.index(own)
        < ids.index("default/internet-out")
    )
    assert bench.kpf("status").returncode == 1
    bench.write_policy("[defualt]\n")
    assert bench.kpf("up", "--dry-run", "--policy", str(bench.policy)).returncode == 2


def test_a_counter_given_to_another_rule_begins_at_nothing(bench: Bench) -> None:
    """Counters belong to rule ids: a new rule has no hits, an old one keeps its own."""
    bench.up(policy=good(bench))
    bench.peer("tcp-echo", SERVER, 7000)
    assert allowed(bench, "good") and not allowed(bench, "bad")
    denied = bench.hits("default/internet-out")
    bench.reload(f'{DENY_ALL}[[application]]\npath = "{bench.program("new")}"\ninternet-out = "permit"\n')
    assert bench.hits(f"application/{bench.program('new')}/internet-out") == 0
    assert bench.hits("default/internet-out") == denied


def test_log_follows_what_comes(bench: Bench) -> None:
    """log -f: goes on with each new record, one JSON object a line."""
    bench.up(policy=good(bench))
    following = subprocess.Popen(
        bench.command("log", "-f", "-n", "0", "--json"), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
    )
    try:
        assert following.stdout is not None
        assert not allowed(bench, "bad")
        assert json.loads(following.stdout.readline())["application"] == bench.program("bad")
    finally:
        following.kill()
        following.wait(10)


def test_repeats_are_one_line_with_a_count(bench: Bench) -> None:
    """Identical consecutive records are one line with a count, and no flow is missing from it."""
    bench.up(policy=good(bench))
    path = bench.program("bad")
    child = bench.start(path, "tcp-connect-many", SERVER, 7000, "--count", 50)
    assert child.line().data == {"EPERM": 50}
    bench.expect_hits("default/internet-out", 50)
    assert eventually(lambda: sum(one["count"] for one in bench.log() if one["application"] == path) == 50)
    assert len([one for one in bench.log() if one["application"] == path]) <= 10


def test_lost_events_are_counted_and_change_no_verdict(bench: Bench) -> None:
    """A stopped Engine reads nothing: verdicts and counters stay right, and status says how many events were lost."""
    bench.up(policy=good(bench))
    bench.peer("tcp-echo", SERVER, 7000)
    engine = bench.status()["engine"]
    os.kill(engine, signal.SIGSTOP)
    try:
        child = bench.start(bench.program("bad"), "tcp-connect-many", SERVER, 7000, "--count", 4000)
        assert child.line(60).data == {"EPERM": 4000}
        found = bench.status()
        assert found["events"]["seen"] == 4000 and found["events"]["lost"] > 0, found["events"]
        assert bench.hits("default/internet-out") == 4000
        assert allowed(bench, "good")
    finally:
        os.kill(engine, signal.SIGCONT)


def test_the_engines_own_rows_are_the_engines(bench: Bench) -> None:
    """The Engine is the process that up registered: its syslog datagrams leave; the same interpreter's do not."""
    syslog = f'[preferences.syslog]\nenabled = true\nserver = "{SERVER}"\nport = 5140\n'
    listener = bench.peer("udp-echo", SERVER, 5140)
    bench.up(policy=syslog + good(bench))
    engine = bench.status()["engine"]
    (bench.cgroup / "cgroup.procs").write_text(str(engine))
    assert not allowed(bench, "bad")
    heard = listener.line()
    assert heard.data["event"] == "received" and "kpf-ebpf" in heard.data["text"], heard
    bench.expect_hits("internal/syslog")
    told = json.loads(bench.kpf("rules", "--internal", "--hits", "--json").stdout)
    assert [one["hits"] for one in told if one["id"] == "internal/syslog"] == [1]
    other = bench.run(str(Path("/usr/bin/python3").resolve()), "udp-send", SERVER, 5140, "--local-address", CLIENT)
    assert other.errno == "EPERM", other
