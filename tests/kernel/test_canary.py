"""What a process of the firewall's own finds out in a cgroup below the firewalled one."""

from __future__ import annotations

from pathlib import Path

import pytest

from kpf_ebpf.engine import canary, perch
from kpf_ebpf.kernel.active import read_active
from tests.kernel.conftest import Kernel


def test_the_canary_tells_where_nothing_is_enforced(kernel: Kernel, tmp_path: Path) -> None:
    """In a cgroup without hooks the denied port is not denied; with them, and under stop-all, the canary is content."""
    kernel.apply("")
    outside = kernel.cgroup.with_name(f"{kernel.cgroup.name}-outside")
    outside.mkdir()
    try:
        told = canary.prove(kernel.programs.pins, outside, kernel.counters)
    finally:
        outside.rmdir()
    assert not told.ok and "expected EPERM" in told.detail
    assert canary.prove(kernel.programs.pins, kernel.cgroup, kernel.counters).ok
    assert read_active(kernel.programs.pins).slot is not None
    told = canary.prove(kernel.programs.pins, kernel.cgroup / "gone", kernel.counters)
    assert not told.ok and "could not be sent out" in told.detail


def test_the_namespace_is_also_known_from_the_hook(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before 5.14 user space cannot ask for its network namespace's cookie: the sock_create hook has seen it."""

    def too_old() -> int:
        raise OSError(92, "Protocol not available")

    monkeypatch.setattr(perch, "home_cookie", too_old)
    assert perch.find_home(kernel.programs.pins, kernel.cgroup) == kernel.home
