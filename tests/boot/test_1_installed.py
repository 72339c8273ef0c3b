"""The first boot: a machine without kpf-ebpf gets the package."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path

from tests.boot.machine import (
    BAD,
    DENIED,
    DENY,
    KEPT,
    PACKAGE,
    PERMITTED,
    POLICY,
    SERVICE,
    files,
    kpf,
    look,
    main_process,
    make_programs,
    new_engine,
    once,
    run,
    shown,
    started,
    under_load,
)

KILLS = 2
DROP_IN = Path(f"/etc/systemd/system/{SERVICE}.d/test.conf")


def test_the_package_enforces_when_it_is_installed() -> None:
    """The whole machine is firewalled by the shipped observe policy, the Engine is the service's main process."""
    make_programs()
    (KEPT / "files").write_text(json.dumps(sorted(files())))
    run("dpkg", "--install", PACKAGE)
    found = look()
    assert found["cgroup"] == "/" and found["policy"]["file"].endswith("observe.toml")
    assert found["engine"] == main_process() == new_engine(0)
    assert Path(f"/proc/{found['engine']}/cgroup").read_text().strip() == f"0::/system.slice/{SERVICE}"
    assert run("systemctl", "is-enabled", SERVICE).stdout == "enabled\n"
    with started(PERMITTED, "listen"):
        assert once(PERMITTED) == once(DENIED) == "ok"
    logged = (json.loads(line) for line in kpf("log", "--json", "-n", "1000").stdout.splitlines())
    assert str(DENIED) in {one["application"] for one in logged}


def test_the_service_is_confined() -> None:
    """The Engine has no way to more privileges, a filter of system calls, and few capabilities."""
    lines = Path(f"/proc/{main_process()}/status").read_text().splitlines()
    status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
    assert status["NoNewPrivs"] == "1" and status["Seccomp"] == "2"
    assert int(status["CapEff"], 16).bit_count() <= 6
    assert Path(f"/proc/{main_process()}/ns/mnt").readlink() == Path("/proc/1/ns/mnt").readlink()


def test_the_manual_is_there() -> None:
    """man finds the command and the policy's language."""
    for page in ("kpf-ebpf", "kpf-ebpf-policy"):
        run("man", "--where", page)


def require_one_failure(status: str) -> None:
    """A start must have failed, once, with this exit status."""
    assert run("systemctl", "restart", SERVICE, status=None).returncode != 0
    state = shown(SERVICE, "ActiveState", "NRestarts", "Result")
    assert (state["ActiveState"], state["NRestarts"], state["Result"]) == ("failed", "0", "exit-code"), state
    told = run("journalctl", "--no-pager", f"--unit={SERVICE}").stdout
    assert f"status={status}/" in told


def test_a_refused_policy_is_no_restart_loop() -> None:
    """A policy that is bad from the first day: the start fails once and says where; what was enforced is untouched."""
    before = look()
    POLICY.parent.mkdir(exist_ok=True)
    POLICY.write_text(BAD)
    require_one_failure("2")
    assert f"{POLICY}:1" in run("journalctl", "--no-pager", f"--unit={SERVICE}").stdout
    found = json.loads(kpf("status", "--json", status=1).stdout)  # the observe policy opens when its Engine is gone
    assert found["engine"] is None
    assert (found["policy"], found["generation"]) == (before["policy"], before["generation"])


def test_a_policy_is_reloaded_by_systemd() -> None:
    """With a good policy the service starts; `systemctl reload` takes a new one."""
    POLICY.write_text(DENY + f'[[application]]\npath = "{DENIED}"\ntrusted-out = "permit"\ninternet-out = "permit"\n')
    run("systemctl", "start", SERVICE)
    with started(PERMITTED, "listen"):
        assert once(PERMITTED) == once(DENIED) == "ok"
        POLICY.write_text(DENY)
        run("systemctl", "reload", SERVICE)
        assert once(PERMITTED) == "ok" and once(DENIED) == "EPERM"
    assert look()["cgroup"] == "/"


def test_programs_that_do_not_load_are_no_restart_loop() -> None:
    """Where the kernel takes no program the start fails once; what was enforced stays enforced."""
    DROP_IN.parent.mkdir()
    DROP_IN.write_text("[Service]\nCapabilityBoundingSet=~CAP_BPF CAP_SYS_ADMIN\n")
    run("systemctl", "daemon-reload")
    try:
        require_one_failure("1")
        assert look()["engine"] is None and once(DENIED) == "EPERM"
    finally:
        shutil.rmtree(DROP_IN.parent)
        run("systemctl", "daemon-reload")
    run("systemctl", "start", SERVICE)


def test_a_killed_engine_comes_back_under_load() -> None:
    """`systemctl kill -s KILL`, again and again: nothing gets through, nothing fails, and there is a new Engine."""
    with under_load() as tally:
        for _ in range(KILLS):
            before = main_process()
            run("systemctl", "kill", "--signal=KILL", SERVICE)
            assert new_engine(before) == look()["engine"]
    tally.require_no_gap()


def test_a_stopped_service_leaves_the_policy() -> None:
    """`systemctl stop` ends the Engine, not the enforcement; a start takes it over."""
    with under_load() as tally:
        run("systemctl", "stop", SERVICE)
        assert look()["engine"] is None
        run("systemctl", "start", SERVICE)
    tally.require_no_gap()


def test_a_stuck_engine_is_replaced() -> None:
    """An Engine that gives no sign of life is ended by systemd's watchdog, and started anew."""
    before = main_process()
    os.kill(before, signal.SIGSTOP)
    assert new_engine(before) == look()["engine"]


def test_the_next_boot_is_prepared() -> None:
    """A policy of denials, whose names nobody resolves, is what the next boot shall find."""
    assert not any(one["addresses"] for one in look()["names"])
    assert once(DENIED) == "EPERM" and not (KEPT / "early").exists()
