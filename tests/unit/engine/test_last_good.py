"""What a boot falls back to where the policy file is bad."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from kpf_ebpf.engine import folders, last_good
from kpf_ebpf.engine.folders import Instance
from kpf_ebpf.engine.records import Enforced
from kpf_ebpf.engine.snapshot import ReadPolicy, read_files, warnings
from kpf_ebpf.facts.model import Facts
from kpf_ebpf.policy.errors import PolicyError
from kpf_ebpf.resolve.resolve import resolve

GOOD = '[groups]\nfew = { file = "few.txt" }\n[default]\ninternet-out = "deny"\n'
BAD = "[default]\ninternet-out = 7\nnobody = 8\n"


@pytest.fixture
def instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Instance:
    """An instance whose state folder is the test's; nothing is on trial."""
    state = tmp_path / "kpf-ebpf"
    state.mkdir(mode=0o700)
    monkeypatch.setattr(folders, "STATE", state)
    monkeypatch.setattr(last_good, "read_trial", lambda pins: None)
    return Instance("test")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A good policy's file, with a group's beside it."""
    (tmp_path / "few.txt").write_text("192.0.2.1\n")
    path = tmp_path / "policy.toml"
    path.write_text(GOOD)
    return path


def enforced(read: ReadPolicy) -> Enforced:
    """Return the record of this policy."""
    return Enforced(
        1, read.snapshot, read.policy.sha256, resolve(read.policy, Facts()), {}, digests={"/usr/bin/x": "d"}
    )


def test_a_good_file_counts_as_it_is(instance: Instance, file: Path) -> None:
    """What was enforced before is not asked."""
    last_good.keep(instance, enforced(read_files(file)))
    file.write_text(GOOD.replace("deny", "permit"))
    read = last_good.read(instance, file)
    assert "permit" in read.snapshot.text and not read.snapshot.note


@pytest.mark.parametrize("how", ["bad", "gone", "unreadable"])
def test_a_bad_file_is_what_was_last_enforced_of_it(instance: Instance, file: Path, how: str) -> None:
    """Also what it said of groups; and the first mistake is told, and how many more there are."""
    last_good.keep(instance, enforced(read_files(file)))
    (file.parent / "few.txt").unlink()
    if how == "bad":
        file.write_text(BAD)
    else:
        file.unlink()
    if how == "unreadable":
        file.mkdir()
    read = last_good.read(instance, file)
    assert read.snapshot.text == GOOD and list(read.snapshot.groups.values()) == ["192.0.2.1\n"]
    first = warnings(read)[0]
    assert first.startswith(f"{file}: bad, so what was last enforced") and "kpf-ebpf reload" in first
    if how == "bad":
        assert f"{file}:2" in first and "(and 1 more)" in first


def test_another_file_falls_back_to_nothing(instance: Instance, file: Path) -> None:
    """Whoever names a file means that one."""
    last_good.keep(instance, enforced(read_files(file)))
    other = file.with_name("other.toml")
    other.write_text(BAD)
    with pytest.raises(PolicyError):
        last_good.read(instance, other)


def test_the_shipped_policy_replaces_nothing(instance: Instance, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine's policy is gone: what was enforced of it counts, not the policy that permits everything."""
    monkeypatch.setattr(last_good, "POLICY", file)
    last_good.keep(instance, enforced(read_files(file)))
    file.unlink()
    assert last_good.read(instance, None).snapshot.text == GOOD


@pytest.mark.parametrize("text", ["", "{", "[]", '{"snapshot": 3}', '{"snapshot": {"file": "x"}}'])
def test_a_damaged_record_is_none(instance: Instance, file: Path, text: str) -> None:
    """What no kpf-ebpf wrote is fallen back to by nobody."""
    last_good.keep(instance, enforced(read_files(file)))
    (instance.state / "last-good.json").write_text(text)
    file.write_text(BAD)
    assert last_good.recall(instance) is None
    with pytest.raises(PolicyError):
        last_good.read(instance, file)


def test_what_is_on_trial_is_not_good_yet(instance: Instance, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A boot in the middle of a trial has what was before it."""
    monkeypatch.setattr(last_good, "read_trial", lambda pins: "something")
    last_good.keep(instance, enforced(read_files(file)))
    assert last_good.recall(instance) is None


def test_what_was_fallen_back_to_stays_the_same(instance: Instance, file: Path) -> None:
    """Its note is no part of it: the next boot tells of its own mistakes."""
    known = enforced(read_files(file))
    last_good.keep(instance, known)
    fallen_back = replace(known, snapshot=replace(known.snapshot, note="bad"))
    assert last_good.is_kept(instance, fallen_back)
    last_good.keep(instance, fallen_back)
    good = last_good.recall(instance)
    assert good is not None and not good.snapshot.note


def test_a_full_disk_keeps_the_old_one(instance: Instance, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It cannot be written: that is no failure of the command, and `status` can tell."""
    known = enforced(read_files(file))
    last_good.keep(instance, known)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(last_good, "write_file", full)
    changed = replace(known, digests={"/usr/bin/x": "other"})
    last_good.keep(instance, changed)
    assert last_good.is_kept(instance, known) and not last_good.is_kept(instance, changed)


def test_forgetting_leaves_the_password(instance: Instance, file: Path) -> None:
    """The folder goes only if nothing else is in it."""
    last_good.keep(instance, enforced(read_files(file)))
    (instance.state / "password").write_text("x")
    last_good.forget(instance)
    assert [path.name for path in instance.state.iterdir()] == ["password"]
    (instance.state / "password").unlink()
    last_good.forget(instance)
    assert not instance.state.exists()
