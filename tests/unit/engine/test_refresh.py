"""What the Engine notices of program files, and how it says it."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from kpf_ebpf.engine import folders, refresh
from kpf_ebpf.engine.enforce import View
from kpf_ebpf.engine.errors import EngineError
from kpf_ebpf.engine.folders import Instance
from kpf_ebpf.engine.prints import Prints
from kpf_ebpf.engine.refresh import changes
from kpf_ebpf.facts.model import FileKey, Part
from kpf_ebpf.policy.model import Action
from kpf_ebpf.resolve.model import ResolvedApplication, ResolvedRule

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
