"""Whether a file can be relied on to show that it changes: its time of change is what tells, and must not lie.

Contents are written through a mapping without a new time of change, once its pages are dirty; and on file systems in
memory always. So a file is looked at while nobody has it open for writing, which a lease tells (fcntl(2)), and not on
such file systems, if others than root may write it.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

BEING_WRITTEN = "is open for writing: run `kpf-ebpf reload` when it is written"
IN_MEMORY = "is on a file system in memory, where others than root can change it unnoticed"
RECENT_NS = 20_000_000
"""Nanoseconds: two changes so close can have the same time (a tick of the slowest kernels' clock is 10 ms)."""

_MEMORY_FILE_SYSTEMS = frozenset({0x01021994, 0x858458F6, 0x958458F6})  # tmpfs, ramfs, hugetlbfs (linux/magic.h)
_F_SETSIG = 10
_libc = ctypes.CDLL(None, use_errno=True)


class Unsteady(Exception):
    """A file whose time of change cannot be relied on now; the message says why."""


@contextmanager
def held(descriptor: int) -> Iterator[None]:
    """Holds a file as it is while it is looked at: who wants to write it waits. Raises Unsteady, also at the end.

    Where the file system knows no leases, nothing is held.
    """
    if not _lease(descriptor, fcntl.F_RDLCK):
        yield
        return
    try:
        _outlast(os.fstat(descriptor).st_ctime_ns)
        yield
        if fcntl.fcntl(descriptor, fcntl.F_GETLEASE) != fcntl.F_RDLCK:
            raise Unsteady(BEING_WRITTEN)  # somebody waits for it, or has waited as long as the kernel lets him
    finally:
        _lease(descriptor, fcntl.F_UNLCK)


def _lease(descriptor: int, kind: int) -> bool:
    """Raises Unsteady if somebody has the file open for writing."""
    try:
        fcntl.fcntl(descriptor, _F_SETSIG, signal.SIGURG)  # who breaks the lease sends it: one that is ignored
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, kind)
    except BlockingIOError:
        raise Unsteady(BEING_WRITTEN) from None
    except OSError:
        return False
    return True


def _outlast(changed_ns: int) -> None:
    """Waits until another change would have another time."""
    age = time.time_ns() - changed_ns
    if 0 <= age < RECENT_NS:
        time.sleep((RECENT_NS - age) / 1e9)


def is_in_memory(descriptor: int) -> bool:
    """Whether a file lies on a file system that keeps no record of writes through a mapping."""
    answer = ctypes.create_string_buffer(256)
    if _libc.fstatfs(descriptor, answer):
        return False
    return int.from_bytes(answer.raw[:8], "little") in _MEMORY_FILE_SYSTEMS
