"""The path of an executed file, checked against what is there now."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

from kpf_ebpf.facts.model import FileKey
from kpf_ebpf.kernel import abi

UNVERIFIED = " (not verified)"
"""Behind a path that is not, or not here, that of the file: in another mount namespace, or removed since."""
CACHED = 4096
"""Paths remembered at most."""

_NANOSECONDS = 1_000_000_000


class PathFinder:
    """Finds paths for the log: the kernel's text, /proc/PID/exe, or else a text that says it is not verified.

    ``lookup`` reads the kernel's map ``paths``. Only checked answers are remembered: an unchecked one may be another
    mount namespace's path, or a file that was moved.
    """

    def __init__(self, lookup: Callable[[FileKey], str | None], proc: Path = Path("/proc"), size: int = CACHED) -> None:
        self._lookup = lookup
        self._proc = proc
        self._size = size
        self._cache: OrderedDict[FileKey, str] = OrderedDict()

    def path_of(self, key: FileKey, pid: int) -> str | None:
        """Give the path of a file that process ``pid`` (0: not known) executes; None if nobody knows it."""
        if key in self._cache:
            self._cache.move_to_end(key)
            return self._cache[key]
        text = self._lookup(key)
        told = text if text and text.startswith("/") else None
        found = None if told is None else self._own_path(key, told)
        if found is None:
            executed = self._executed(key, pid)
            found = None if executed is None else self._own_path(key, executed)
            told = told or executed
        if found is not None:
            return self._remember(key, found)
        if told is not None and (key.device, key.generation) == (0, abi.SCRIPT_AT_HOME):
            return told
        return None if told is None else told + UNVERIFIED

    def _own_path(self, key: FileKey, text: str) -> str | None:
        """The path without links, if that file is there: a link of a user's own is no name for a program."""
        try:
            path = os.path.realpath(text)
        except (OSError, ValueError):
            return None
        return path if is_file(key, Path(path)) else None

    def _executed(self, key: FileKey, pid: int) -> str | None:
        if pid <= 0:
            return None
        link = self._proc / str(pid) / "exe"
        try:
            text = str(link.readlink())
        except OSError:
            return None
        return text if text.startswith("/") and is_file(key, link) else None

    def _remember(self, key: FileKey, path: str) -> str:
        self._cache[key] = path
        while len(self._cache) > self._size:
            self._cache.popitem(last=False)
        return path


def is_file(key: FileKey, path: Path) -> bool:
    """Tell whether the file that a key names is at a path now.

    stat() tells btrfs and overlayfs files another device than the kernel programs see. Their device is always an
    unnamed one (major 0), so with such a device the time of the last change has to agree instead.
    """
    try:
        status = path.stat()
    except (OSError, ValueError):
        return False
    if status.st_ino != key.inode:
        return False
    if os.major(status.st_dev) << 20 | os.minor(status.st_dev) == key.device:
        return True
    changed = divmod(status.st_ctime_ns, _NANOSECONDS)
    return key.device >> 20 == 0 and changed == (key.ctime_seconds, key.ctime_nanoseconds)
