"""Reading policies from disk."""

from __future__ import annotations

import os
from importlib import resources
from pathlib import Path

import pytest

from kpf_ebpf.policy import limits
from kpf_ebpf.policy.errors import Finding, PolicyError
from kpf_ebpf.policy.load import load
from kpf_ebpf.policy.model import Action


def refused(path: Path) -> Finding:
    """Return the one finding that ``path`` is refused with."""
    with pytest.raises(PolicyError) as caught:
        load(path)
    (finding,) = caught.value.findings
    return finding


def test_a_policy_and_the_group_file_beside_it_are_read(tmp_path: Path) -> None:
    """Whatever the working directory is."""
    (tmp_path / "p.toml").write_text('[groups]\nbad = { file = "bad.txt" }\n')
    (tmp_path / "bad.txt").write_text("192.0.2.0/24\n")
    policy, warnings = load(tmp_path / "p.toml")
    assert policy.file == str(tmp_path / "p.toml")
    assert policy.groups["bad"].file == str(tmp_path / "bad.txt")
    assert warnings == ()


def test_a_missing_policy_is_a_finding_that_says_so(tmp_path: Path) -> None:
    """Not an OSError."""
    finding = refused(tmp_path / "none.toml")
    assert (finding.where.file, finding.where.line) == (str(tmp_path / "none.toml"), 0)
    assert "No such file" in finding.expected


def test_a_folder_is_no_policy(tmp_path: Path) -> None:
    """Nor is anything but a regular file."""
    assert "readable file" in refused(tmp_path).expected


def test_a_pipe_is_refused_without_waiting(tmp_path: Path) -> None:
    """Opening one must not hang."""
    os.mkfifo(tmp_path / "p.toml")
    assert "not a regular file" in refused(tmp_path / "p.toml").expected


def test_a_huge_policy_is_refused(tmp_path: Path) -> None:
    """No more than the bound is read."""
    path = tmp_path / "p.toml"
    with path.open("wb") as stream:
        stream.truncate(limits.MAX_POLICY_BYTES * 1000)
    assert "at most" in refused(path).expected


def test_a_group_file_that_is_a_device_is_refused(tmp_path: Path) -> None:
    """An endless file is not read."""
    (tmp_path / "p.toml").write_text('[groups]\nbad = { file = "/dev/zero" }\n')
    assert "not a regular file" in refused(tmp_path / "p.toml").expected


def test_a_symlink_to_a_policy_is_followed(tmp_path: Path) -> None:
    """Configuration is often linked."""
    (tmp_path / "real.toml").write_text("")
    (tmp_path / "p.toml").symlink_to("real.toml")
    assert load(tmp_path / "p.toml")[1] == ()


def test_the_observe_policy_permits_everything_and_logs_everything() -> None:
    """Nobody is locked out by trying."""
    with resources.as_file(resources.files("kpf_ebpf.policy") / "observe.toml") as path:
        policy, warnings = load(path)
    cells = [action for pair in policy.predefined.cells.values() for action in (pair.trusted, pair.internet)]
    default = policy.default
    cells += [default.trusted_in, default.trusted_out, default.internet_in, default.internet_out]
    assert set(cells) == {Action.PERMIT}
    assert policy.predefined.log
    assert default.log
    assert (policy.packet_filter, policy.applications, warnings) == ((), (), ())
