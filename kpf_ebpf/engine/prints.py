"""Prints of program files: cheap marks that move with every change, by which the Engine knows when to look closer."""

from __future__ import annotations

import os
import select
from collections.abc import Iterable

from kpf_ebpf.facts.wildcards import expand, is_wildcard

Print = tuple[int, int, int, int]
"""Device, inode and ctime (ns) of a file, and how often file systems were mounted or unmounted below it, or may be."""


class Mounts:
    """Counts changes of the mounts that this process sees, as far as they happened between two looks."""

    def __init__(self) -> None:
        self._file = -1
        self._poll = select.poll()
        self._count = 0

    def count(self) -> int:
        """How many looks found a change. The kernel tells of it by an error condition (proc(5), mountinfo)."""
        if self._file < 0:
            self._file = os.open("/proc/self/mountinfo", os.O_RDONLY | os.O_CLOEXEC)
            self._poll.register(self._file, select.POLLPRI)
        self._count += bool(self._poll.poll(0))
        return self._count


_MOUNTS = Mounts()


class Prints:
    """Takes the prints of all files that application words mean. Wildcards are walked only when it is asked for."""

    def __init__(self, words: Iterable[str]) -> None:
        self._words = tuple(words)
        self._matches: dict[str, tuple[str, ...]] = {}

    def take(self, *, walk: bool) -> dict[str, Print]:
        """Path as the policy has it (or as a wildcard matched it) -> print; what is not there has none."""
        if walk:
            self._matches = {word: expand(word)[0] for word in self._words if is_wildcard(word)}
        paths = (path for word in self._words for path in self._matches.get(word, () if is_wildcard(word) else (word,)))
        mounts, root = _MOUNTS.count(), os.stat("/").st_dev  # noqa: PTH116  (each second)
        return {path: found for path in paths if (found := _print(path, mounts, root)) is not None}


def _print(path: str, mounts: int, root: int) -> Print | None:
    """An image that was changed while it was not mounted shows no other time; what lies on ``root`` is always there."""
    try:
        status = os.stat(os.path.realpath(path))  # noqa: PTH116  (many, each second)
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_ctime_ns, 0 if status.st_dev == root else mounts
