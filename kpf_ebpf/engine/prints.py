"""Prints of program files: cheap marks that move with every change, by which the Engine knows when to look closer."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from kpf_ebpf.facts.wildcards import expand, is_wildcard

Print = tuple[int, int, int]
"""Device, inode and ctime (ns) of a file."""


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
        return {path: found for path in paths if (found := _print(path)) is not None}


def _print(path: str) -> Print | None:
    try:
        status = Path(os.path.realpath(path)).stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_ctime_ns
