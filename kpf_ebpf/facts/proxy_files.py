"""Reading the files that name a proxy: regular files of root that nobody else may write, bounded; and their stamps."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from kpf_ebpf.facts.wildcards import is_roots

MAX_FILE_BYTES = 1 << 18
"""A larger file is refused as a whole: cut off in the middle it could name another host."""

Stamp = tuple[int, int, int, int, int]
"""Device, inode, size, mtime and ctime (ns): moves with every change of content, owner and mode."""

_NULL = os.makedev(1, 3)
_GONE = frozenset({errno.ENOENT, errno.ENOTDIR})


def read_roots(path: str) -> str | None:
    """Read a file of root's that only root may write; None for any other, and for one that is not there."""
    text, _ = _look(path)
    return text


def distrust(path: str) -> str:
    """Say why ``read_roots`` does not read a file that is there; "" if it does, or there is none."""
    _, problem = _look(path)
    return problem


def stamp(path: str) -> Stamp | None:
    """Take a file's stamp; None if there is none."""
    try:
        status = os.stat(path)  # noqa: PTH116  (dozens, each other second)
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _look(path: str) -> tuple[str | None, str]:
    """Give a file's text, or None and why it is not read ("": it says nothing anyway)."""
    try:
        status = Path(path).stat()
        if not stat.S_ISREG(status.st_mode):  # asked before opening: opening a device can do things
            silent = stat.S_ISDIR(status.st_mode) or status.st_rdev == _NULL  # a link to /dev/null masks a file
            return None, "" if silent else "it is not a regular file"
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY), "rb") as file:
            status = os.fstat(file.fileno())  # again: it may be another one by now
            if not stat.S_ISREG(status.st_mode):
                return None, "it is not a regular file"
            if not is_roots(status):
                return None, "others than root may write it"
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as problem:
        return None, "" if problem.errno in _GONE else f"{problem.strerror}"
    if len(data) > MAX_FILE_BYTES:
        return None, f"it is larger than {MAX_FILE_BYTES >> 10} KiB"
    return data.decode("utf-8", errors="replace"), ""
