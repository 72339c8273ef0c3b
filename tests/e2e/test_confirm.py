"""A policy on trial: kept when somebody confirms it, gone by itself when nobody does, whoever is alive."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest

from kpf_ebpf.kernel.active import read_trial, write_active

from .bench import CLIENT, DENY_ALL, INTERPRETER, SERVER, Bench
from .tools import eventually

PERMIT = DENY_ALL.replace('internet-out = "deny"', 'internet-out = "permit"')
SERVED = """
import json, socket, subprocess, sys
listener = socket.create_server((sys.argv[1], 7022))
print("ready", flush=True)
session, _ = listener.accept()
while command := session.recv(65536):
    done = subprocess.run(json.loads(command), capture_output=True, text=True)
    session.sendall(json.dumps([done.returncode, done.stdout, done.stderr]).encode() + b"\\n")
"""
"""What sshd is to `up`: a process that serves a session over TCP, and runs what comes over it."""


def reaches(bench: Bench) -> bool:
    """Return whether a program reaches the server; if not, it must be EPERM."""
    found = bench.run(bench.program("any"), "tcp-connect", SERVER, 7000, "--text", "x")
    assert found.ok or found.errno == "EPERM", found
    return found.ok


def left(bench: Bench) -> float | None:
    """Return the seconds that are left to confirm."""
    found = bench.status()["pending-confirm"]
    return None if found is None else float(found)


def expire(bench: Bench) -> None:
    """Let the time of a trial be over: the moment that the programs compare with is now."""
    pins = Path("/sys/fs/bpf/kpf-ebpf", bench.instance)
    trial = read_trial(pins)
    assert trial is not None
    write_active(pins, trial.active, replace(trial, until=time.monotonic_ns()))


def on_trial(bench: Bench, policy: str, seconds: int) -> subprocess.CompletedProcess[str]:
    """Reload with a policy on trial."""
    bench.write_policy(policy)
    return bench.kpf("reload", "--confirm", str(seconds))


def test_what_is_confirmed_stays(bench: Bench) -> None:
    """up --confirm, confirm: the policy is enforced for good; there is nothing more to confirm."""
    bench.peer("tcp-echo", SERVER, 7000)
    bench.up("--confirm", "30", policy=DENY_ALL)
    assert 0 < (left(bench) or 0) <= 30
    assert not reaches(bench)
    assert bench.kpf("confirm").returncode == 0
    assert left(bench) is None and not reaches(bench)
    again = bench.kpf("confirm")
    assert again.returncode == 1 and "nothing to confirm" in again.stderr


@pytest.mark.parametrize("engine", ["living", "dead"])
def test_what_nobody_confirms_is_what_was_before(bench: Bench, engine: str) -> None:
    """reload --confirm: the former policy counts again by itself, also with a dead Engine, and status says so."""
    bench.peer("tcp-echo", SERVER, 7000)
    bench.up(policy=PERMIT)
    file = bench.status()["policy"]["sha256"]
    assert on_trial(bench, DENY_ALL, 600).returncode == 0
    assert not reaches(bench)
    if engine == "dead":
        bench.kill_engine()
    expire(bench)
    assert reaches(bench)
    found = bench.status()
    assert found["enforcing"] and found["pending-confirm"] is None and found["policy"]["sha256"] == file
    assert bench.kpf("confirm").returncode == 1
    bench.reload(DENY_ALL)
    assert not reaches(bench), "life goes on after a trial"


@pytest.mark.parametrize("engine", ["living", "dead"])
def test_a_first_policy_that_nobody_confirms_leaves_nothing(bench: Bench, engine: str) -> None:
    """up --confirm where nothing was enforced: nothing is afterwards; the Engine takes it down, or `up` does."""
    bench.peer("tcp-echo", SERVER, 7000)
    bench.up("--confirm", "600", policy=DENY_ALL)
    assert not reaches(bench)
    if engine == "dead":
        bench.kill_engine()
    expire(bench)
    assert reaches(bench)
    done = bench.kpf("status", "--json")
    assert done.returncode == 1 and not json.loads(done.stdout)["enforcing"]
    if engine == "living":
        assert eventually(lambda: not Path("/sys/fs/bpf/kpf-ebpf", bench.instance).exists())
    bench.up(policy=DENY_ALL)
    assert not reaches(bench)


def test_nothing_is_left_whoever_saw_the_end_of_a_first_policys_trial(bench: Bench) -> None:
    """A command writes down that it is over before the Engine looks: the Engine takes down what is left, too."""
    bench.peer("tcp-echo", SERVER, 7000)
    bench.up("--confirm", "600", policy=DENY_ALL)
    engine = int(bench.status()["engine"])
    os.kill(engine, signal.SIGSTOP)
    expire(bench)
    assert bench.kpf("confirm").returncode == 1
    os.kill(engine, signal.SIGCONT)
    assert eventually(lambda: not Path("/sys/fs/bpf/kpf-ebpf", bench.instance).exists())
    assert eventually(lambda: not Path(f"/proc/{engine}/exe").exists()), "an Engine with nothing to do"
    assert reaches(bench)


def test_a_trial_within_a_trial_ends_in_what_was_before_both(bench: Bench) -> None:
    """Another --confirm while one is pending: what counts when nobody confirms is what somebody once did.

    Here nobody turns the clock: three seconds are three seconds.
    """
    bench.peer("tcp-echo", SERVER, 7000)
    bench.up(policy=PERMIT)
    assert on_trial(bench, DENY_ALL, 60).returncode == 0
    assert on_trial(bench, DENY_ALL + "# another\n", 3).returncode == 0
    assert eventually(lambda: reaches(bench), 30)


def test_a_trial_goes_on_over_everything_else(bench: Bench) -> None:
    """stop-all, an accepted program, a changed adapter: none of them confirms what is on trial."""
    bench.peer("tcp-echo", SERVER, 7000)
    program = bench.program("named")
    rule = f'[[application]]\npath = "{program}"\ninternet-out = "deny"\n'
    bench.up(policy=PERMIT + rule)
    assert on_trial(bench, DENY_ALL + rule, 600).returncode == 0
    assert bench.kpf("stop-all", "on").returncode == 0
    assert bench.kpf("stop-all", "off").returncode == 0
    Path(program).chmod(0o700)
    Path(program).chmod(0o755)
    assert bench.kpf("accept", program).returncode == 0
    assert left(bench)
    assert not reaches(bench)
    expire(bench)
    assert reaches(bench)


def test_a_bad_policy_on_trial_changes_nothing(bench: Bench) -> None:
    """Refused like any other; nothing is pending."""
    bench.up(policy=PERMIT)
    assert on_trial(bench, "nonsense", 30).returncode == 2
    assert left(bench) is None


class Remote:
    """A session from the server namespace to a process in the firewalled cgroup, which runs commands."""

    def __init__(self, bench: Bench) -> None:
        enter = ("sh", "-c", 'echo $$ >"$0/cgroup.procs" && exec "$@"', str(bench.cgroup))
        words = ("nsenter", f"--net=/run/netns/{bench.namespaces['client']}", *enter)
        program = bench.program("daemon")
        self.served = subprocess.Popen([*words, program, "-I", "-c", SERVED, CLIENT], stdout=subprocess.PIPE)
        bench.closing.callback(self._end)
        assert self.served.stdout is not None and self.served.stdout.readline() == b"ready\n"
        relay = f"import socket, sys\ns = socket.create_connection(({CLIENT!r}, 7022)).makefile('rwb', 0)\n"
        relay += "for line in sys.stdin.buffer:\n s.write(line); sys.stdout.buffer.write(s.readline())\n"
        relay += " sys.stdout.buffer.flush()\n"
        outside = ("nsenter", f"--net=/run/netns/{bench.namespaces['server']}", str(INTERPRETER), "-I", "-c", relay)
        self.session = subprocess.Popen(outside, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        bench.used = True
        self.bench = bench

    def run(self, *words: str) -> tuple[int, str]:
        """Run a kpf-ebpf command over the session: its exit status and complaint."""
        command = self.bench.command(*words)[2:]  # it is in the namespace already
        assert self.session.stdin is not None and self.session.stdout is not None
        self.session.stdin.write(json.dumps(command).encode() + b"\n")
        self.session.stdin.flush()
        status, _, complaint = json.loads(self.session.stdout.readline())
        return int(status), str(complaint)

    def close(self) -> None:
        """End the session at the other side."""
        self.session.kill()
        self.session.wait(10)

    def _end(self) -> None:
        self.close()
        self.served.kill()
        self.served.wait(10)
        for stream in (self.served.stdout, self.session.stdin, self.session.stdout):
            if stream is not None:
                stream.close()


def up(remote: Remote, *words: str) -> tuple[int, str]:
    """Run `up` over a session."""
    bench = remote.bench
    return remote.run("up", "--policy", str(bench.policy), "--cgroup", bench.cgroup_name, *words)


def test_up_refuses_to_cut_the_session_it_is_run_from(bench: Bench) -> None:
    """Found by ancestry: exit status 1, what to do next, and nothing was changed; the session goes on."""
    remote = Remote(bench)
    bench.write_policy(DENY_ALL)
    status, complaint = up(remote)
    assert status == 1 and "--confirm" in complaint and SERVER in complaint, complaint
    assert remote.run("status")[0] == 1, "the session lives, and nothing is enforced"


@pytest.mark.parametrize("words", [("--yes",), ("--confirm", "60")])
def test_a_session_lives_on_whatever_the_policy_says(bench: Bench, words: tuple[str, ...]) -> None:
    """--yes, --confirm: its own connection is permitted, no other is; confirmed, it is the policy's to judge."""
    remote = Remote(bench)
    bench.write_policy(DENY_ALL)
    status, complaint = up(remote, *words)
    assert status == 0, complaint
    assert remote.run("status")[0] == 0
    bench.expect_hits("internal/session")
    assert any("session from" in warning for warning in bench.status()["warnings"])
    bench.serve(bench.program("other"), "tcp-echo", CLIENT, 7023)
    assert not bench.outsider("tcp-connect", CLIENT, 7023, "--deadline", 1).ok
    if words[0] == "--confirm":
        assert bench.kpf("confirm").returncode == 0
    else:
        remote.close()
    assert eventually(lambda: not any(rule["id"] == "internal/session" for rule in bench.status()["rules"]), 20)


def test_a_policy_that_permits_the_session_asks_nothing(bench: Bench) -> None:
    """No rule of its own is made for it."""
    remote = Remote(bench)
    bench.write_policy(DENY_ALL.replace('internet-in = "deny"', 'internet-in = "permit"'))
    assert up(remote)[0] == 0
    assert remote.run("status")[0] == 0
    assert not any(rule["id"] == "internal/session" for rule in bench.status()["rules"])


def test_a_policy_that_opens_on_failure_does(bench: Bench) -> None:
    """on-failure = "open": enforced while the Engine lives; killed, everything passes, and status says that it does."""
    bench.peer("tcp-echo", SERVER, 7000)
    policy = '[preferences]\non-failure = "open"\n' + DENY_ALL
    bench.up(policy=policy)
    assert eventually(lambda: not reaches(bench))
    bench.kill_engine()
    assert eventually(lambda: reaches(bench))
    done = bench.kpf("status", "--json")
    assert done.returncode == 1
    assert any("EVERYTHING IS PERMITTED" in warning for warning in json.loads(done.stdout)["warnings"])
    bench.up(policy=policy)
    assert eventually(lambda: not reaches(bench))
