"""The second boot: a policy of denials stands, and there is no name server."""

from __future__ import annotations

import time

import psutil

from kpf_ebpf.engine.run import CANARY_PERIOD
from tests.boot.machine import (
    BAD,
    DENIED,
    KEPT,
    PERMITTED,
    POLICY,
    SERVICE,
    look,
    main_process,
    once,
    run,
    shown,
    started,
)
from tests.e2e.tools import eventually

BEFORE = ("systemd-", "kmod-static-nodes", "modprobe@")
"""What services' names begin with that may start before the firewall: parts of systemd, which send nothing."""


def test_the_firewall_is_up_by_itself() -> None:
    """The policy is enforced on the whole machine, the Engine lives, and one start sufficed."""
    found = look()
    assert found["cgroup"] == "/" and found["policy"]["file"] == str(POLICY) and found["engine"] == main_process()
    assert shown(SERVICE, "ActiveState", "NRestarts") == {"ActiveState": "active", "NRestarts": "0"}


def test_the_firewall_is_up_before_any_service() -> None:
    """Only parts of systemd are started before it is proven, and no network may be set up before."""
    proven = int(shown(SERVICE, "ActiveEnterTimestampMonotonic")["ActiveEnterTimestampMonotonic"])
    assert 0 < proven <= int(shown("network-pre.target", "ActiveEnterTimestampMonotonic").popitem()[1])
    assert proven <= int(shown("sysinit.target", "ActiveEnterTimestampMonotonic").popitem()[1])
    listed = run("systemctl", "list-units", "--type=service", "--all", "--plain", "--no-legend").stdout.splitlines()
    names = {line.split()[0] for line in listed} - {SERVICE}
    assert "vmtest-early.service" in names and "dbus.service" in names
    early = set()
    for name in names:
        began = int(shown(name, "ExecMainStartTimestampMonotonic")["ExecMainStartTimestampMonotonic"])
        if 0 < began < proven and not name.startswith(BEFORE):
            early.add(name)
    assert not early


def test_the_first_packets_of_the_boot_were_judged() -> None:
    """A service that sends as soon as there may be a network is denied, and so is an ordinary one."""
    assert (KEPT / "early").read_text() == "EPERM"
    assert (KEPT / "ordinary").read_text() == "EPERM"


def test_permitted_programs_have_their_network() -> None:
    """What the policy permits works."""
    with started(PERMITTED, "listen"):
        assert once(PERMITTED) == "ok" and once(DENIED) == "EPERM"


def test_names_that_nobody_answers_for_hold_nothing_up() -> None:
    """Their rules wait for addresses; everything else is enforced."""
    assert eventually(lambda: all(one["error"] for one in look()["names"]))
    assert not any(one["addresses"] for one in look()["names"])


def test_the_engine_proves_enforcement_by_itself() -> None:
    """Once a minute it sends the canary out, with the few rights it has kept; what fails stands in the warnings."""
    born = psutil.Process(main_process()).create_time()
    assert eventually(lambda: time.time() - born > CANARY_PERIOD + 10, CANARY_PERIOD * 2)
    assert not [line for line in look()["warnings"] if "canary" in line]


def test_the_next_boot_is_prepared() -> None:
    """The policy file is bad when the machine boots next."""
    POLICY.write_text(BAD)
    for name in ("early", "ordinary"):
        (KEPT / name).unlink()
