"""The path of an executed file, checked against what is there now."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

from kpf_ebpf.facts.model import FileKey

CACHED = 4096
"""Paths remembered at most."""

_NANOSECONDS = 1_000_000_000


class PathFinder:
    """Finds paths for the log: the kernel's text, /proc/PID/exe, or else the kernel's text unchecked.

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
        kernels = text if text and text.startswith("/") else None
        if kernels is not None and is_file(key, Path(kernels)):
            return self._remember(key, kernels)
        executed = self._executed(key, pid)
        return kernels if executed is None else self._remember(key, executed)

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
