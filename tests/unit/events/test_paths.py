"""The path of a program is one where the program is, as far as that can be known."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from kpf_ebpf.events.paths import UNVERIFIED, PathFinder, is_file
from kpf_ebpf.facts.model import FileKey


def a_program(folder: Path, name: str = "program") -> tuple[Path, FileKey]:
    """Make a file and its key."""
    path = folder / name
    path.write_bytes(b"\x7fELF")
    status = path.stat()
    device = os.major(status.st_dev) << 20 | os.minor(status.st_dev)
    return path, FileKey(status.st_ino, device, 1, *divmod(status.st_ctime_ns, 10**9))


def a_process(folder: Path, pid: int, executed: Path) -> Path:
    """Make a small /proc."""
    proc = folder / "proc"
    (proc / str(pid)).mkdir(parents=True)
    (proc / str(pid) / "exe").symlink_to(executed)
    return proc


def test_the_kernels_path_is_taken_where_the_file_is_there(tmp_path: Path) -> None:
    """Without a look at the process."""
    path, key = a_program(tmp_path)
    assert PathFinder(lambda _: str(path), tmp_path).path_of(key, 0) == str(path)


def test_a_process_tells_its_path_where_the_kernels_is_another_file(tmp_path: Path) -> None:
    """For instance one of another mount namespace, or cut."""
    path, key = a_program(tmp_path)
    other, _ = a_program(tmp_path, "other")
    finder = PathFinder(lambda _: str(other), a_process(tmp_path, 7, path))
    assert finder.path_of(key, 7) == str(path)


def test_a_relative_path_is_not_taken(tmp_path: Path) -> None:
    """It means nothing here."""
    path, key = a_program(tmp_path)
    assert PathFinder(lambda _: "./program", tmp_path).path_of(key, 7) is None
    assert PathFinder(lambda _: "./program", a_process(tmp_path, 7, path)).path_of(key, 7) == str(path)


def test_a_pid_of_another_program_by_now_does_not_count(tmp_path: Path) -> None:
    """The kernel's text is better than a wrong one."""
    _, key = a_program(tmp_path)
    other, _ = a_program(tmp_path, "other")
    finder = PathFinder(lambda _: "/gone/program", a_process(tmp_path, 7, other))
    assert finder.path_of(key, 7) == "/gone/program" + UNVERIFIED


def test_nobody_knows_a_path(tmp_path: Path) -> None:
    """Then there is none."""
    _, key = a_program(tmp_path)
    assert PathFinder(lambda _: None, tmp_path).path_of(key, 7) is None
    assert PathFinder(lambda _: "", tmp_path).path_of(key, 0) is None


@pytest.mark.parametrize("text", ["/a\0b", "/" + "x" * 5000])
def test_a_text_that_cannot_be_a_path_does_no_harm(tmp_path: Path, text: str) -> None:
    """It is given as it is."""
    _, key = a_program(tmp_path)
    assert PathFinder(lambda _: text, tmp_path).path_of(key, 0) == text + UNVERIFIED


def test_another_device_is_another_file(tmp_path: Path) -> None:
    """Inode numbers are used on every file system."""
    path, key = a_program(tmp_path)
    assert is_file(key, path)
    assert not is_file(replace(key, device=key.device + (1 << 20) * 8), path)
    assert not is_file(replace(key, inode=key.inode + 1), path)


def test_on_an_unnamed_device_the_change_time_decides(tmp_path: Path) -> None:
    """For btrfs and overlayfs, stat() tells another device than the kernel."""
    path, key = a_program(tmp_path)
    elsewhere = replace(key, device=0xFFFFE)
    assert is_file(elsewhere, path)
    assert not is_file(replace(elsewhere, ctime_nanoseconds=key.ctime_nanoseconds ^ 1), path)


def test_checked_paths_are_remembered_and_the_oldest_forgotten(tmp_path: Path) -> None:
    """An attacker with many programs cannot fill the memory."""
    programs = [a_program(tmp_path, str(number)) for number in range(3)]
    texts = {key: str(path) for path, key in programs}
    asked: list[FileKey] = []

    def lookup(key: FileKey) -> str | None:
        asked.append(key)
        return texts[key]

    finder = PathFinder(lookup, tmp_path, size=2)
    first, second, third = (key for _, key in programs)
    for key in (first, second, first, third, first, second):
        assert finder.path_of(key, 0) == texts[key]
    assert asked == [first, second, third, second]


def test_unchecked_paths_are_not_remembered(tmp_path: Path) -> None:
    """The next event may come from a process that can be asked."""
    path, key = a_program(tmp_path)
    finder = PathFinder(lambda _: "/elsewhere", a_process(tmp_path, 7, path))
    assert finder.path_of(key, 0) == "/elsewhere" + UNVERIFIED
    assert finder.path_of(key, 7) == str(path)
