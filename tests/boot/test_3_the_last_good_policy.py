"""The third boot: the policy file is bad. Then the package is upgraded, removed and purged."""

from __future__ import annotations

import json
import os
from pathlib import Path

from kpf_ebpf.kernel import bpf
from kpf_ebpf.kernel.hooks import HOOKS, OPTIONS_HOOK
from tests.boot.machine import (
    BAD,
    DENIED,
    DENY,
    KEPT,
    LATER,
    PERMITTED,
    POLICY,
    SERVICE,
    files,
    kpf,
    look,
    main_process,
    new_engine,
    once,
    run,
    started,
    under_load,
)


def warned() -> bool:
    """Return whether `status` tells that the file is bad."""
    return any(line.startswith(f"{POLICY}: bad") for line in look()["warnings"])


def test_the_last_good_policy_holds() -> None:
    """With a bad file the boot enforces what was enforced of it last, from the first packet, and says so."""
    assert (KEPT / "early").read_text() == (KEPT / "ordinary").read_text() == "EPERM"
    found = look()
    assert found["cgroup"] == "/" and found["policy"]["file"] == str(POLICY) and found["engine"] == main_process()
    assert warned()
    with started(PERMITTED, "listen"):
        assert once(PERMITTED) == "ok" and once(DENIED) == "EPERM"


def test_a_policy_that_is_gone_is_not_the_shipped_one() -> None:
    """Without the file, too, the last good policy holds: what observes only would permit everything."""
    POLICY.unlink()
    run("systemctl", "restart", SERVICE)
    assert warned() and once(DENIED) == "EPERM"


def test_a_mended_policy_is_reloaded() -> None:
    """A reload of the bad file changes nothing; of a good one it takes the warning away."""
    POLICY.write_text(BAD)
    assert run("systemctl", "reload", SERVICE, status=None).returncode != 0
    assert warned() and once(DENIED) == "EPERM"
    POLICY.write_text(DENY)
    run("systemctl", "reload", SERVICE)
    assert not warned() and once(DENIED) == "EPERM"


def test_an_upgrade_leaves_no_gap() -> None:
    """While a later version is installed nothing gets through and nothing fails; then its Engine is at work."""
    before = main_process()
    with under_load() as tally:
        run("dpkg", "--install", LATER)
        assert new_engine(before) == look()["engine"]
    tally.require_no_gap()
    assert kpf("--version").stdout.split()[-1] == "99.0"


def test_removal_ends_the_enforcement() -> None:
    """A removed package enforces nothing; the policy stays."""
    run("dpkg", "--remove", "kpf-ebpf")
    with started(PERMITTED, "listen"):
        assert once(DENIED) == "ok"
    assert POLICY.exists() and main_process() == 0


def test_a_purge_leaves_nothing() -> None:
    """No program at the root cgroup, no pin, no file that was not there before the package."""
    run("dpkg", "--purge", "kpf-ebpf")
    group = os.open("/sys/fs/cgroup", os.O_RDONLY)
    try:
        hooks = [hook for hook in (*HOOKS, OPTIONS_HOOK) if not isinstance(hook.where, str)]
        left = {hook.name: bpf.attached(group, int(hook.where)) for hook in hooks}
    finally:
        os.close(group)
    assert not any(left.values()), left
    assert not list(Path("/sys/fs/bpf").glob("kpf-ebpf*")) and not list(Path("/sys/fs/cgroup").glob("kpf-*"))
    assert not Path("/run/kpf-ebpf").exists() and not Path("/var/log/kpf-ebpf").exists()
    remaining = sorted(files() - set(json.loads((KEPT / "files").read_text())))
    assert not remaining, " ".join(remaining)
