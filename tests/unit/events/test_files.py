"""The log's files: numbered, rotated, safe to open, readable while they are written."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from kpf_ebpf.events.files import LogFile
from kpf_ebpf.events.render import json_line
from tests.unit.events.factories import RECORD

SIZE = len(json_line(RECORD)) + 1


def lines(log: LogFile, count: int = 100) -> list[int]:
    """Give the numbers of the last lines."""
    return [record.line for record in log.read_last(count)]


def fill(log: LogFile, count: int) -> None:
    """Append records."""
    for _ in range(count):
        log.append(RECORD)


def each(*actions: Callable[[], object]) -> Callable[[], bool]:
    """Make a wait function that does one thing at each call and then ends."""
    left = list(actions)

    def wait() -> bool:
        if not left:
            return False
        left.pop(0)()
        return True

    return wait


def test_records_are_numbered_and_read_back(tmp_path: Path) -> None:
    """From 1, oldest first; only as many as asked for."""
    log = LogFile(tmp_path / "log")
    assert [log.append(RECORD).line for _ in range(3)] == [1, 2, 3]
    assert lines(log) == [1, 2, 3]
    assert lines(log, 2) == [2, 3]
    assert lines(log, 0) == []
    assert log.lost == 0


def test_folder_and_file_are_not_for_everybody(tmp_path: Path) -> None:
    """Missing folders are made 0700; the file is 0640, whatever the umask, also if it was there."""
    before = os.umask(0o077)
    try:
        fill(LogFile(tmp_path / "a" / "b"), 1)
    finally:
        os.umask(before)
    path = tmp_path / "a" / "b" / "log.jsonl"
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o700
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    path.chmod(0o666)
    fill(LogFile(path.parent), 1)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_the_file_is_not_inherited_by_programs(tmp_path: Path) -> None:
    """Its descriptor is closed on exec."""
    log = LogFile(tmp_path)
    fill(log, 1)
    assert log._descriptor is not None
    assert not os.get_inheritable(log._descriptor)


def test_line_numbers_go_on_over_restarts(tmp_path: Path) -> None:
    """Also if the last record was rotated away."""
    fill(LogFile(tmp_path), 2)
    assert LogFile(tmp_path).append(RECORD).line == 3
    (tmp_path / "log.jsonl").rename(tmp_path / "log.jsonl.1")
    assert LogFile(tmp_path).append(RECORD).line == 4


def test_reading_makes_no_files(tmp_path: Path) -> None:
    """There is simply nothing yet."""
    log = LogFile(tmp_path / "none")
    assert log.read_last(5) == []
    assert list(log.follow(5, each())) == []
    assert not (tmp_path / "none").exists()


def test_a_full_file_is_rotated_and_four_are_kept(tmp_path: Path) -> None:
    """The oldest is given up; no file is larger than the limit."""
    limit = 2 * SIZE + 2  # two lines, of two digits too
    log = LogFile(tmp_path, limit=limit)
    fill(log, 9)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log.jsonl"] + [f"log.jsonl.{n}" for n in range(1, 5)]
    assert lines(log) == list(range(1, 10))
    fill(log, 2)
    assert lines(log) == list(range(3, 12))
    assert lines(log, 4) == [8, 9, 10, 11]
    assert all(path.stat().st_size <= limit for path in tmp_path.iterdir())
    assert len(list(tmp_path.iterdir())) == 5


def test_a_rotation_from_outside_is_survived(tmp_path: Path) -> None:
    """A moved, removed or truncated file loses no later record."""
    log = LogFile(tmp_path)
    fill(log, 1)
    (tmp_path / "log.jsonl").rename(tmp_path / "moved")
    fill(log, 1)
    assert lines(log) == [2]
    (tmp_path / "log.jsonl").unlink()
    fill(log, 1)
    assert lines(log) == [3]
    os.truncate(tmp_path / "log.jsonl", 0)
    fill(log, 1)
    assert lines(log) == [4]
    assert log.lost == 0


def test_a_symlink_is_not_followed(tmp_path: Path) -> None:
    """Neither written to nor read."""
    target = tmp_path / "target"
    target.write_text(json_line(RECORD) + "\n")
    (tmp_path / "log.jsonl").symlink_to(target)
    log = LogFile(tmp_path)
    fill(log, 1)
    assert log.lost == 1
    assert target.stat().st_size == SIZE
    assert log.read_last(1) == []


def test_a_fifo_does_not_block(tmp_path: Path) -> None:
    """Nor a folder, nor anything but a regular file."""
    os.mkfifo(tmp_path / "log.jsonl")
    log = LogFile(tmp_path)
    fill(log, 1)
    assert log.lost == 1
    assert log.read_last(1) == []


def test_a_full_disk_is_counted_and_leaves_no_half_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The record's number is used up, so that the gap shows; the next record is whole."""
    log = LogFile(tmp_path)
    fill(log, 1)
    real = os.write
    calls: list[int] = []

    def write(descriptor: int, data: bytes) -> int:
        calls.append(len(data))
        if len(calls) == 1:
            return real(descriptor, data[:10])
        raise OSError(errno.ENOSPC, "no space left")

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", write)
        assert log.append(RECORD).line == 2
    assert log.lost == 1
    fill(log, 1)
    assert (tmp_path / "log.jsonl").stat().st_size == 2 * SIZE
    assert lines(log) == [1, 3]


def test_half_a_line_of_a_crash_is_skipped(tmp_path: Path) -> None:
    """And does not spoil the next one; other rubbish neither."""
    (tmp_path / "log.jsonl").write_bytes((json_line(RECORD) + "\n\n\xff{}\n" + '{"line": 7').encode("latin-1"))
    log = LogFile(tmp_path)
    assert log.append(RECORD).line == 2
    assert lines(log) == [1, 2]
    assert lines(log, 1) == [2]


def test_a_closed_log_opens_again(tmp_path: Path) -> None:
    """Closing twice does no harm."""
    log = LogFile(tmp_path)
    fill(log, 1)
    log.close()
    log.close()
    fill(log, 1)
    assert lines(log) == [1, 2]


def test_following_gives_the_last_records_and_then_new_ones(tmp_path: Path) -> None:
    """Each once."""
    log = LogFile(tmp_path)
    fill(log, 3)
    wait = each(lambda: fill(log, 1), lambda: None, lambda: fill(log, 2))
    assert [record.line for record in LogFile(tmp_path).follow(2, wait)] == [2, 3, 4, 5, 6]


def test_following_without_last_records_gives_new_ones_only(tmp_path: Path) -> None:
    """What was there before is not repeated."""
    log = LogFile(tmp_path)
    fill(log, 3)
    assert [record.line for record in LogFile(tmp_path).follow(0, each(lambda: fill(log, 1)))] == [4]


def test_following_starts_before_there_is_a_file(tmp_path: Path) -> None:
    """The first record is not missed."""
    log = LogFile(tmp_path / "later")
    follower = LogFile(tmp_path / "later")
    assert [record.line for record in follower.follow(5, each(lambda: fill(log, 2)))] == [1, 2]


def test_following_goes_on_over_rotations(tmp_path: Path) -> None:
    """Even over several between two looks."""
    log = LogFile(tmp_path, limit=2 * SIZE)
    wait = each(lambda: fill(log, 1), lambda: fill(log, 6), lambda: fill(log, 2))
    assert [record.line for record in LogFile(tmp_path).follow(0, wait)] == list(range(1, 10))


def test_following_goes_on_over_what_outsiders_do(tmp_path: Path) -> None:
    """Moving the file away, and truncating it."""
    log = LogFile(tmp_path)
    path = tmp_path / "log.jsonl"
    wait = each(
        lambda: fill(log, 2),
        lambda: path.rename(tmp_path / "moved"),
        lambda: fill(log, 2),
        lambda: os.truncate(path, 0),
        lambda: fill(log, 1),
    )
    assert [record.line for record in LogFile(tmp_path).follow(0, wait)] == [1, 2, 3, 4, 5]


def test_a_line_is_given_when_it_is_whole(tmp_path: Path) -> None:
    """A reader may look between two halves of a write."""
    path = tmp_path / "log.jsonl"
    line = (json_line(RECORD) + "\n").encode()
    path.write_bytes(line[:30])

    def finish() -> None:
        with path.open("ab") as file:
            file.write(line[30:])

    assert list(LogFile(tmp_path).follow(5, each(finish))) == [RECORD]
