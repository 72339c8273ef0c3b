"""What is kept from one policy to the next: counters, and which content of a program was accepted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import pytest

from kpf_ebpf.engine import enforce, folders, records
from kpf_ebpf.engine.accepted import Accepted, digests, keep_accepted
from kpf_ebpf.engine.enforce import View, prepare
from kpf_ebpf.engine.errors import EngineError
from kpf_ebpf.engine.folders import Instance
from kpf_ebpf.engine.records import Attachment, Enforced, EngineProcess
from kpf_ebpf.engine.snapshot import OBSERVE, Snapshot, read_files
from kpf_ebpf.facts.model import Facts, FileFact, FileKey, Session
from kpf_ebpf.policy.errors import PolicyError
from kpf_ebpf.policy.model import Action
from kpf_ebpf.resolve.model import ResolvedApplication, ResolvedRule

OLD, NEW = FileKey(7, 8, 9, 1000, 1), FileKey(7, 8, 9, 2000, 2)
MODIFIED = ResolvedRule("modified//usr/bin/x", "modified", "modified: /usr/bin/x", Action.DENY)
BEFORE = Accepted((ResolvedApplication("/usr/bin/x", OLD, "old", MODIFIED),))


def facts(sha256: str, *, root_owned: bool = True) -> Facts:
    """Return facts with one program."""
    found = FileFact("/usr/bin/x", NEW, sha256, root_owned=root_owned)
    return Facts(applications=MappingProxyType({"/usr/bin/x": (found,)}))


def kept(given: Facts, mode: str) -> FileFact:
    """Return the program as it counts."""
    return keep_accepted(given, BEFORE, mode).applications["/usr/bin/x"][0]


def test_the_same_content_is_the_same_program() -> None:
    """A ctime that moved while the digest did not (a chmod, a hard link) is accepted."""
    assert kept(facts("old"), "deny").key == NEW


def test_another_content_counts_as_modified() -> None:
    """No file has this ctime, so the kernel says "modified"; the digest stays the accepted one."""
    found = kept(facts("new"), "deny")
    assert found.sha256 == "old" and found.key == FileKey(7, 8, 9, -1, 2)


@pytest.mark.parametrize(("root_owned", "accepted"), [(True, True), (False, False)])
def test_accept_system_takes_what_is_only_roots(root_owned: bool, accepted: bool) -> None:
    """on-modified = "accept-system": a package upgrade is taken, a user's file is not."""
    assert (kept(facts("new", root_owned=root_owned), "accept-system").key == NEW) is accepted


def test_the_same_key_with_another_content_counts_as_modified() -> None:
    """An image that was changed while it was not mounted: neither inode nor ctime tell."""
    same_key = FileFact("/usr/bin/x", OLD, "new", root_owned=False)
    found = kept(Facts(applications=MappingProxyType({"/usr/bin/x": (same_key,)})), "deny")
    assert found.key.ctime_seconds == -1 and found.sha256 == "old"


def test_what_cannot_be_looked_at_any_more_counts_as_modified() -> None:
    """Else a user's file held open for writing would be forgotten, and taken as new when it is closed."""
    unreadable = FileFact("/usr/bin/x", NEW, "", problem="is open for writing")
    found = kept(Facts(applications=MappingProxyType({"/usr/bin/x": (unreadable,)})), "deny")
    assert (found.key.ctime_seconds, found.sha256, found.problem) == (-1, "old", "")


@pytest.mark.parametrize(("sha256", "is_modified"), [("old", False), ("new", True)])
def test_a_file_where_an_accepted_one_was_deleted_is_held_against_it(sha256: str, is_modified: bool) -> None:
    """Gone at one look, there at the next: the same content is the same program, another one counts as modified."""
    before = digests(keep_accepted(facts("old"), BEFORE, "deny"), {})
    gone = digests(Facts(applications=MappingProxyType({"/usr/bin/x": ()})), before)
    found = keep_accepted(facts(sha256), Accepted((), gone), "deny").applications["/usr/bin/x"][0]
    assert (found.key.ctime_seconds == -1) is is_modified
    assert found.sha256 == "old"


def test_a_word_that_the_policy_has_no_more_is_forgotten() -> None:
    """Digests are those of the policy's own words: they do not pile up, and a rule that comes back begins anew."""
    assert digests(facts("old"), {"/usr/bin/y": "gone"}) == {"/usr/bin/x": "old"}


def test_a_program_not_known_before_is_taken_as_it_is() -> None:
    """The first look at a program is the one that counts."""
    assert keep_accepted(facts("new"), Accepted(), "deny") == facts("new")


def test_a_rule_keeps_its_counter(tmp_path: Path) -> None:
    """Counters belong to rule ids: what was counted before goes on being counted there."""
    path = tmp_path / "policy.toml"
    path.write_text('[[packet-filter]]\ndescription = "A"\naction = "deny"\n')
    first = prepare(read_files(path), None, View()).image
    before = Enforced(1, Snapshot(str(path), "", {}), "", first.policy, dict(first.counters))
    path.write_text('[[packet-filter]]\ndescription = "B"\naction = "deny"\n' + path.read_text())
    second = prepare(read_files(path), None, View(), before=before).image
    assert second.counters["packet-filter/A"] == first.counters["packet-filter/A"]
    assert len(set(second.counters.values())) == len(second.counters)


def test_a_session_of_earlier_facts_is_over_unless_it_is_asked_for(tmp_path: Path) -> None:
    """What was gathered before may speak of a session: its rule is only there if the session is to live on now."""
    path = tmp_path / "policy.toml"
    path.write_text("")
    earlier = replace(prepare(read_files(path), None, View()).facts, session=Session(1, 22, 2, 50000))
    ready = prepare(read_files(path), None, View(before=earlier, parts=frozenset()))
    assert ready.facts.session is None
    assert "internal/session" not in {rule.id for rule in ready.image.rules}


def test_too_many_rules_are_one_line(tmp_path: Path) -> None:
    """A policy that no image has room for: how many, how many at most, and that nothing was changed."""
    path = tmp_path / "policy.toml"
    path.write_text(
        "".join(f'[[packet-filter]]\ndescription = "{number}"\naction = "deny"\n' for number in range(16_400))
    )
    with pytest.raises((EngineError, PolicyError)) as told:
        prepare(read_files(path), None, View())
    assert "at most" in str(told.value) and len(str(told.value).splitlines()) == 1


def test_records_come_back_as_they_were(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is written down is read back equal: rules with all their fields, and the image compiled from them."""
    monkeypatch.setattr(folders, "RUN", tmp_path)
    instance = Instance("one")
    instance.run.mkdir()
    image = prepare(read_files(OBSERVE), None, View()).image
    given = Enforced(3, Snapshot("x.toml", "", {"g": "1"}), "abc", image.policy, dict(image.counters))
    for record in (given, Attachment("/x", "/"), EngineProcess(1, 2)):
        records.write(instance, record)
    assert records.read(instance, Enforced) == given
    assert records.read(instance, Attachment) == Attachment("/x", "/")
    assert records.read(instance, EngineProcess) == EngineProcess(1, 2)
    read = records.read(instance, Enforced)
    assert read is not None and read.image() == image


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": "x"}', '{"pid": 1}', "null"])
def test_a_damaged_record_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """A record that no kpf-ebpf wrote: which file, and what to do; never a traceback."""
    monkeypatch.setattr(folders, "RUN", tmp_path)
    instance = Instance("one")
    instance.run.mkdir()
    (instance.run / "engine.json").write_text(text)
    with pytest.raises(EngineError, match=r"engine\.json is damaged"):
        records.read(instance, EngineProcess)


def test_no_record_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing was written: nothing is enforced."""
    monkeypatch.setattr(folders, "RUN", tmp_path)
    assert records.read(Instance("none"), Enforced) is None


def test_a_switch_that_fails_leaves_the_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel has no room: what is written down is still what is enforced, the policy's text included."""
    monkeypatch.setattr(folders, "RUN", tmp_path)
    instance = Instance("one")
    instance.run.mkdir()
    image = prepare(read_files(OBSERVE), None, View()).image
    before = Enforced(3, Snapshot("old.toml", "", {}), "abc", image.policy, dict(image.counters))
    records.write(instance, before)

    def no_room(*_: object) -> int:
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(enforce, "apply", no_room)
    with pytest.raises(EngineError, match="the old policy stands"):
        enforce.switch(instance, replace(before, snapshot=Snapshot("new.toml", "", {})), image, before)
    assert records.read(instance, Enforced) == before
