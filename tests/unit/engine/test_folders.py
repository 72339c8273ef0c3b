"""An instance's places: folders of root's alone, files that are never half written, a lock for one."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from kpf_ebpf.engine import folders
from kpf_ebpf.engine.errors import EngineError
from kpf_ebpf.engine.folders import Instance, make_folder, remove_folder, write_file


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let the run folders be a test's own."""
    monkeypatch.setattr(folders, "RUN", tmp_path / "run")
    return tmp_path


@pytest.mark.parametrize("name", ["kpf-ebpf", "a", "t-0123456789", "x" * 32])
def test_good_names(name: str) -> None:
    """The contract: [a-z0-9-]{1,32}."""
    assert folders.NAME.fullmatch(name)


@pytest.mark.parametrize("name", ["", "A", "a b", "../x", "x" * 33, "a_b", "a/b", "a\n"])
def test_bad_names(name: str) -> None:
    """Nothing that could name another folder."""
    assert not folders.NAME.fullmatch(name)


def test_a_lock_is_for_one(elsewhere: Path) -> None:
    """The second who asks is refused with one line; afterwards it is free, and leaves no file."""
    with Instance("one").locked():
        with pytest.raises(EngineError, match="another kpf-ebpf command"), Instance("one").locked():
            pass
        with Instance("two").locked():
            pass
    with Instance("one").locked():
        pass
    assert not list((elsewhere / "run").iterdir())


def test_a_command_waits_for_the_engine_and_not_for_ever(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The Engine's own short work is no reason to refuse; one that never ends is."""
    engine = Instance("one").locked(folders.ENGINE)
    engine.__enter__()
    ended = threading.Timer(0.3, lambda: engine.__exit__(None, None, None))
    ended.start()
    with Instance("one").locked():
        pass
    ended.join()
    monkeypatch.setattr(folders, "PATIENCE", 0.2)
    with (
        Instance("one").locked(folders.ENGINE),
        pytest.raises(EngineError, match="another kpf-ebpf command"),
        Instance("one").locked(),
    ):
        pass


def test_folders_are_roots_alone(elsewhere: Path) -> None:
    """Mode 0700, also where the folder was there with another mode."""
    path = elsewhere / "made"
    path.mkdir(mode=0o755)
    make_folder(path)
    assert path.stat().st_mode & 0o777 == 0o700
    remove_folder(path)
    remove_folder(path)
    assert not path.exists()


def test_a_link_is_not_taken_for_a_folder(elsewhere: Path) -> None:
    """What is not a folder of root's is refused, not followed."""
    (elsewhere / "target").mkdir()
    (elsewhere / "link").symlink_to(elsewhere / "target")
    with pytest.raises(EngineError, match="not a folder of root's"):
        make_folder(elsewhere / "link")


def test_a_file_is_replaced_at_one_stroke(elsewhere: Path) -> None:
    """Whoever has the old file open goes on reading the old text; the mode is what was asked for."""
    path = elsewhere / "file"
    write_file(path, "old")
    with path.open() as reader:
        write_file(path, "new", 0o640)
        assert reader.read() == "old"
    assert path.read_text() == "new" and path.stat().st_mode & 0o777 == 0o640
    assert [one.name for one in elsewhere.iterdir()] == ["file"]


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk: the old text stands, and no half-written file lies beside it."""
    path = tmp_path / "record.json"
    write_file(path, "old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(folders.os, "fchmod", full)
    with pytest.raises(OSError, match="No space left"):
        write_file(path, "new")
    assert path.read_text() == "old"
    assert [found.name for found in tmp_path.iterdir() if found.is_file()] == ["record.json"]
