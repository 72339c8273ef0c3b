"""A file's time of change is relied on only while nothing can go past it."""

from __future__ import annotations

import mmap
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kpf_ebpf.facts.files import look_at
from kpf_ebpf.facts.steady import BEING_WRITTEN, IN_MEMORY, RECENT_NS, Unsteady, held, is_in_memory

NOBODY = 65534


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Path]:
    """Give a file system in memory."""
    folder = tmp_path / "memory"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "kpf-test", str(folder)], check=True)
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_file_that_is_open_for_writing_is_not_relied_on(tmp_path: Path) -> None:
    """Whoever has it open could write on through pages that are dirty already."""
    path = tmp_path / "tool"
    path.write_bytes(b"some")
    with path.open("r+b"):
        assert look_at(str(path)).problem == BEING_WRITTEN
    assert look_at(str(path)).problem == ""


def test_a_file_that_is_mapped_for_writing_is_not_relied_on(tmp_path: Path) -> None:
    """A shared mapping outlives its descriptor, and counts like it."""
    path = tmp_path / "tool"
    path.write_bytes(b"some")
    with path.open("r+b") as file:
        memory = mmap.mmap(file.fileno(), 0)
    assert look_at(str(path)).problem == BEING_WRITTEN
    memory.close()
    assert look_at(str(path)).problem == ""


def test_who_wants_to_write_while_a_file_is_read_is_noticed(tmp_path: Path) -> None:
    """An open for writing in between breaks the lease: what was read is not relied on. The writer goes on after."""
    path = tmp_path / "tool"
    path.write_bytes(b"some")
    descriptor = os.open(path, os.O_RDONLY)
    with pytest.raises(Unsteady), held(descriptor), pytest.raises(BlockingIOError):
        os.open(path, os.O_WRONLY | os.O_NONBLOCK)
    os.close(descriptor)
    path.write_bytes(b"other")


def test_readers_do_not_disturb(tmp_path: Path) -> None:
    """Only writing matters."""
    path = tmp_path / "tool"
    path.write_bytes(b"some")
    with path.open("rb"):
        assert look_at(str(path)).problem == ""


def test_a_file_changed_just_now_is_waited_for(tmp_path: Path) -> None:
    """Two changes within a tick have the same time: after the wait another change has another one."""
    path = tmp_path / "tool"
    path.write_bytes(b"some")
    changed = path.stat().st_ctime_ns
    look_at(str(path))
    assert time.time_ns() - changed >= RECENT_NS


def test_a_users_file_in_memory_is_not_relied_on(memory: Path, tmp_path: Path) -> None:
    """tmpfs notes no time of a write through a mapping; what only root may write is fine there, too."""
    path = memory / "tool"
    path.write_bytes(b"some")
    assert look_at(str(path)).problem == ""
    for mode, owner in ((0o755, NOBODY), (0o775, 0), (0o757, 0)):
        path.chmod(mode)
        os.chown(path, owner, 0)
        assert look_at(str(path)).problem == IN_MEMORY
    descriptor = os.open(tmp_path, os.O_RDONLY)
    assert not is_in_memory(descriptor)
    os.close(descriptor)
