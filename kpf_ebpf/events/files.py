"""The network log's files: log.jsonl and what was rotated away from it, log.jsonl.1 (the youngest) to log.jsonl.4."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from io import FileIO
from pathlib import Path

from kpf_ebpf.events.model import LogRecord
from kpf_ebpf.events.render import MAX_LINE, json_line, parse_json

NAME = "log.jsonl"
FOLDER_MODE = 0o700
FILE_MODE = 0o640
LIMIT = 10 << 20
"""Bytes a file may have before it is rotated."""
KEPT = 4
"""Rotated files kept."""

_TAIL = 2 * LIMIT
_BLOCK = 1 << 20
_FLAGS = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_Place = tuple[int, int]


def _pause() -> bool:
    time.sleep(0.2)
    return True


class LogFile:
    """The log in a folder. One process writes, any number read; an object is for one thread.

    ``lost`` counts records that could not be written. Their line numbers are used up: a gap shows the loss.
    """

    def __init__(self, folder: Path, limit: int = LIMIT, kept: int = KEPT) -> None:
        self.lost = 0
        self._folder = folder
        self._limit = limit
        self._kept = kept
        self._descriptor: int | None = None
        self._line: int | None = None

    def append(self, record: LogRecord) -> LogRecord:
        """Write a record with the next line number and give it back so numbered. Does not raise OSError."""
        if self._line is None:
            self._line = max((last.line for last in self.read_last(1)), default=0)
        self._line += 1
        numbered = replace(record, line=self._line)
        try:
            self._write(json_line(numbered).encode("ascii") + b"\n")
        except OSError:
            self.lost += 1
        return numbered

    def close(self) -> None:
        """Close the file that is written to; ``append`` opens it again."""
        if self._descriptor is not None:
            descriptor, self._descriptor = self._descriptor, None
            os.close(descriptor)

    def read_last(self, count: int) -> list[LogRecord]:
        """Give the last records, oldest first; lines that are not records are skipped."""
        records, source = self._read_back(count)
        if source is not None:
            source.close()
        return records

    def follow(self, count: int = 0, wait: Callable[[], bool] = _pause) -> Iterator[LogRecord]:
        """Give the last records and then every new one, over rotations; ``wait`` pauses, and ends it with False."""
        records, source = self._read_back(count)
        try:
            yield from records
            while True:
                if source is not None:
                    yield from source.more()
                following = self._next(source)
                if following is not None:
                    if source is not None:
                        yield from source.more()  # written between the last look and the rotation
                        source.close()
                    source = following
                elif not wait():
                    return
        finally:
            if source is not None:
                source.close()

    def _path(self, number: int) -> Path:
        return self._folder / (f"{NAME}.{number}" if number else NAME)

    def _write(self, line: bytes) -> None:
        descriptor = self._opened()
        size = os.fstat(descriptor).st_size
        if size and size + len(line) > self._limit:
            self._rotate()
            descriptor, size = self._opened(), 0
        written = 0
        try:
            while written < len(line):
                written += os.write(descriptor, line[written:])
        except OSError:
            if written:
                os.ftruncate(descriptor, size)  # half a line would spoil the next one
            raise

    def _opened(self) -> int:
        """Give the descriptor of what is log.jsonl now, which somebody else may have rotated."""
        path = self._path(0)
        if self._descriptor is not None:
            if _place_at(path) == _place(os.fstat(self._descriptor)):
                return self._descriptor
            self.close()
        _make_folder(self._folder)
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | _FLAGS, FILE_MODE)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise OSError(f"{path} is not a regular file")
            if stat.S_IMODE(status.st_mode) != FILE_MODE:
                os.fchmod(descriptor, FILE_MODE)
            if status.st_size and os.pread(descriptor, 1, status.st_size - 1) != b"\n":
                os.write(descriptor, b"\n")  # a crash left half a line
        except OSError:
            os.close(descriptor)
            raise
        self._descriptor = descriptor
        return descriptor

    def _rotate(self) -> None:
        for number in range(self._kept, 0, -1):
            if _place_at(self._path(number - 1)) is not None:
                self._path(number - 1).replace(self._path(number))
        self.close()

    def _read_back(self, count: int) -> tuple[list[LogRecord], _Source | None]:
        """Give the last records, and log.jsonl read up to its end."""
        current = _Source.at(self._path(0))
        newest_first: list[LogRecord] = []
        seen: set[_Place] = set()
        for number in range(self._kept + 1):
            source = _Source.at(self._path(number)) if number else current
            if source is None:
                continue
            if source.place not in seen:  # else it was rotated while we read
                seen.add(source.place)
                newest_first += source.tail(count - len(newest_first))
            if number:
                source.close()
            if len(newest_first) >= count:
                break
        return newest_first[::-1], current

    def _next(self, source: _Source | None) -> _Source | None:
        """Give the file behind ``source``; None while there is none."""
        places = [_place_at(self._path(number)) for number in range(self._kept + 1)]
        if source is None:
            return _Source.at(self._path(0))
        if places[0] is None or source.place == places[0]:
            return None
        number = places.index(source.place) - 1 if source.place in places else 0
        following = _Source.at(self._path(number))
        if following is not None and following.place != places[number]:
            following.close()  # rotated once more just now: look again
            return self._next(source)
        return following


class _Source:
    """One file, read line by line as it grows."""

    def __init__(self, file: FileIO) -> None:
        self._file = file
        self._rest = b""
        self.place = _place(os.fstat(file.fileno()))

    @classmethod
    def at(cls, path: Path) -> _Source | None:
        """Open a file; None if there is none or it is not a regular one."""
        try:
            file = FileIO(os.open(path, os.O_RDONLY | _FLAGS))
        except OSError:
            return None
        if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            return cls(file)
        file.close()
        return None

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def tail(self, count: int) -> list[LogRecord]:
        """Read the file to its end (of a huge one the end only); give its last records, newest first."""
        start = max(0, os.fstat(self._file.fileno()).st_size - _TAIL)
        self._file.seek(start)
        records: list[LogRecord] = []
        for line in reversed(list(self._lines())):
            if len(records) >= count:
                break
            records += _records(line)
        return records

    def more(self) -> Iterator[LogRecord]:
        """Give the records that came since the last look."""
        if os.fstat(self._file.fileno()).st_size < self._file.tell():
            self._file.seek(0)  # truncated from outside
            self._rest = b""
        for line in self._lines():
            yield from _records(line)

    def _lines(self) -> Iterator[bytes]:
        while block := self._file.read(_BLOCK):
            *lines, self._rest = (self._rest + block).split(b"\n")
            self._rest = self._rest[: MAX_LINE + 1]
            yield from lines


def _records(line: bytes) -> list[LogRecord]:
    try:
        return [parse_json(line)]
    except ValueError:
        return []


def _place(status: os.stat_result) -> _Place:
    return status.st_dev, status.st_ino


def _place_at(path: Path) -> _Place | None:
    try:
        return _place(path.lstat())
    except OSError:
        return None


def _make_folder(folder: Path) -> None:
    if not folder.is_dir():
        _make_folder(folder.parent)
        folder.mkdir(FOLDER_MODE, exist_ok=True)
