"""A policy is what it was when it was read, whatever becomes of its files."""

from __future__ import annotations

from pathlib import Path

import pytest

from kpf_ebpf.engine.snapshot import read_again, read_files
from kpf_ebpf.policy.errors import PolicyError

POLICY = '[groups]\nblocked = { file = "blocked.txt" }\n[[packet-filter]]\ndescription = "X"\naction = "deny"\n'


def test_a_policy_read_again_is_the_same(tmp_path: Path) -> None:
    """From the texts alone, group files included; what the files say by now does not count."""
    path, blocked = tmp_path / "policy.toml", tmp_path / "blocked.txt"
    path.write_text(POLICY + 'remote = { address = "@blocked" }\n')
    blocked.write_text("192.0.2.0/24 # ours\n")
    first = read_files(path)
    path.write_text("nonsense")
    blocked.unlink()
    assert read_again(first.snapshot) == first
    assert first.policy.groups["blocked"].addresses.ranges


def test_a_bad_policy_is_no_snapshot(tmp_path: Path) -> None:
    """Every mistake is told when the files are read, also one in a group file."""
    path = tmp_path / "policy.toml"
    path.write_text(POLICY)
    (tmp_path / "blocked.txt").write_text("192.0.2.0/24\nnowhere\n")
    with pytest.raises(PolicyError, match=r"blocked\.txt:2"):
        read_files(path)
