"""The values of a policy."""

from __future__ import annotations

import dataclasses

import pytest

from kpf_ebpf.policy.model import ANY_ADDRESS, PREDEFINED_DEFAULTS, Policy, Where


def test_a_place_prints_as_file_and_line() -> None:
    """Without a line the file alone."""
    assert (str(Where("p.toml", 3)), str(Where("p.toml"))) == ("p.toml:3", "p.toml")


def test_a_policy_cannot_be_changed() -> None:
    """Frozen, and its mappings are read-only."""
    policy = Policy()
    with pytest.raises(dataclasses.FrozenInstanceError):
        policy.file = "x"  # type: ignore[misc]
    with pytest.raises(TypeError):
        policy.groups["x"] = None  # type: ignore[index]
    with pytest.raises(TypeError):
        PREDEFINED_DEFAULTS["igmp"] = None  # type: ignore[index]


def test_any_address_is_any_and_holds_nothing_else() -> None:
    """So that nobody has to look twice."""
    assert ANY_ADDRESS.any
    assert not (ANY_ADDRESS.ranges or ANY_ADDRESS.names or ANY_ADDRESS.groups or ANY_ADDRESS.trusted)
