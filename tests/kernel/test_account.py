"""To whom maps are charged: to nobody's memory cgroup, and whoever makes them stays where it was."""

from __future__ import annotations

from pathlib import Path

from kpf_ebpf.kernel.account import _memory_cgroup, charged_to_nobody


def test_a_map_is_made_in_the_root_cgroup_and_its_maker_is_back_afterwards() -> None:
    """Else the limit of a service would one day leave the machine's sockets without an owner."""
    before = Path("/proc/self/cgroup").read_text()
    with charged_to_nobody():
        found = _memory_cgroup()
        assert found is None or found[1] == found[0]
    assert Path("/proc/self/cgroup").read_text() == before


def test_a_maker_that_fails_is_back_too() -> None:
    """Whatever goes wrong meanwhile."""
    before = Path("/proc/self/cgroup").read_text()
    try:
        with charged_to_nobody():
            raise OSError(28, "no room")
    except OSError as problem:
        assert problem.errno == 28
    assert Path("/proc/self/cgroup").read_text() == before
