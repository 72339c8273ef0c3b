"""The bounds of a policy."""

from __future__ import annotations

from kpf_ebpf.policy import limits
from kpf_ebpf.policy.model import Preferences


def test_every_bound_is_a_positive_number() -> None:
    """A bound of nothing would refuse everything."""
    bounds = {name: value for name, value in vars(limits).items() if name.startswith("MAX_")}
    assert bounds
    assert all(isinstance(value, int) and value > 0 for value in bounds.values())


def test_the_bounds_leave_room_for_what_was_promised() -> None:
    """Block lists of a million entries, ten thousand rules, the defaults."""
    assert limits.MAX_GROUP_ENTRIES >= 1_000_000
    assert 1_000_000 * len("255.255.255.255/32\n") <= limits.MAX_GROUP_BYTES
    assert limits.MAX_PACKET_FILTER >= 10_000
    assert Preferences().name_grace <= limits.MAX_NAME_GRACE
