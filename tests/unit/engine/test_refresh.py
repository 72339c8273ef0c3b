"""What the Engine notices of program files, and how it says it."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from kpf_ebpf.engine import folders, refresh
from kpf_ebpf.engine.enforce import View
from kpf_ebpf.engine.errors import Busy, EngineError
from kpf_ebpf.engine.folders import Instance
from kpf_ebpf.engine.prints import Prints
from kpf_ebpf.engine.records import Enforced
from kpf_ebpf.engine.refresh import changes
from kpf_ebpf.engine.snapshot import ReadPolicy, read_files
from kpf_ebpf.facts.model import Facts, FileKey, Part
from kpf_ebpf.policy.model import Action
from kpf_ebpf.resolve.model import ResolvedApplication, ResolvedRule
from kpf_ebpf.resolve.resolve import resolve

KEY = FileKey(7, 8, 9, 1000, 1)
RULE = ResolvedRule("modified//x", "modified", "modified: /x", Action.DENY)
ONE = ResolvedApplication("/x", KEY, "old", RULE)


def test_a_print_moves_with_every_change(tmp_path: Path) -> None:
    """Written, replaced, removed, made again: each is another print, or none."""
    path = tmp_path / "program"
    prints = Prints([str(path)])
    assert prints.take(walk=True) == {}
    path.write_text("one")
    seen = [prints.take(walk=True)]
    fresh = tmp_path / "fresh"
    fresh.write_text("one")
    fresh.rename(path)
    seen.append(prints.take(walk=False))
    path.chmod(0o755)
    seen.append(prints.take(walk=False))
    assert all(list(one) == [str(path)] for one in seen)
    assert len({one[str(path)] for one in seen}) == 3
    path.unlink()
    assert prints.take(walk=False) == {}


def test_what_could_not_be_done_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel has no room just now: what moved is not forgotten, and the Engine does not ask again all the time."""
    monkeypatch.setattr(folders, "RUN", tmp_path)
    (tmp_path / "one").mkdir()
    asked: list[View] = []

    def full(instance: Instance, holder: str, view: View, *_: object, **__: object) -> None:
        asked.append(view)
        raise EngineError("the kernel's maps could not be filled")

    monkeypatch.setattr(refresh, "resolve_again", full)
    refresher = refresh.Refresher(Instance("one"), lambda before, after: None)
    try:
        refresher._moved = {Part.USERS}
        now = time.monotonic()
        for moment in (now, now + 1, now + refresh.RETRY + 1):
            refresher.look(moment)
    finally:
        refresher.close()
    assert len(asked) == 2
    assert refresher._moved >= {Part.USERS}


def enforced(path: Path, generation: int) -> Enforced:
    """Return the record of a policy file."""
    read = read_files(path)
    return Enforced(generation, read.snapshot, read.policy.sha256, resolve(read.policy, Facts()), {})


def test_no_edit_of_a_group_file_is_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Edits between the reading and the first look, and between a look and the next record, count like all others."""
    monkeypatch.setattr(folders, "RUN", tmp_path)
    (tmp_path / "one").mkdir()
    policy, listed = tmp_path / "policy.toml", tmp_path / "few.txt"
    policy.write_text('[groups]\nfew = { file = "few.txt" }\n')
    listed.write_text("192.0.2.1\n")
    asked: list[str] = []

    def resolved(instance: Instance, holder: str, view: View, read: ReadPolicy | None, **_: object) -> None:
        asked.extend(read.snapshot.groups.values() if read else ["nothing read"])
        raise Busy("so that nothing else happens")

    monkeypatch.setattr(refresh, "resolve_again", resolved)
    refresher = refresh.Refresher(Instance("one"), lambda before, after: None)
    now = time.monotonic()
    try:
        known = enforced(policy, 1)
        listed.write_text("192.0.2.2\n")  # read, not yet watched
        refresher.retarget(known)
        refresher.look(now)
        assert asked == ["192.0.2.2\n"]
        refresher._groups_moved = False
        (tmp_path / "fresh").write_text("192.0.2.3\n# another file by that name\n")
        (tmp_path / "fresh").rename(listed)  # watched, and a new record comes before the next look
        refresher.retarget(replace(known, generation=2))
        refresher.look(now + 100)
        assert asked[1:] == ["192.0.2.3\n# another file by that name\n"]
    finally:
        refresher.close()


def test_each_change_is_a_line() -> None:
    """Found, gone, modified, put back, touched, accepted: and nothing for what stayed."""
    modified = replace(ONE, key=replace(KEY, ctime_seconds=-1))
    assert changes((ONE,), (ONE,)) == []
    assert changes((), (ONE,)) == ["/x: found, SHA-256 old"]
    assert changes((ONE,), ()) == ["/x: gone"]
    assert "modified, denied" in changes((ONE,), (modified,))[0]
    assert "again what was accepted" in changes((modified,), (ONE,))[0]
    assert "touched" in changes((ONE,), (replace(ONE, key=replace(KEY, ctime_seconds=2000)),))[0]
    assert changes((ONE,), (replace(ONE, sha256="new"),)) == ["/x: accepted as changed by root, SHA-256 old -> new"]
