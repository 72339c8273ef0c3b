"""Every socket of every process: found through /proc, taken by pidfd_getfd (5.6)."""

from __future__ import annotations

import ctypes
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass

_PIDFD_GETFD = 438
_INTERNET = frozenset({socket.AF_INET, socket.AF_INET6})
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a socket was found: process, its descriptor, and the socket's inode."""

    pid: int
    descriptor: int
    inode: int


def places() -> Iterator[Place]:
    """Every socket, by the oldest process that has it first: under socket activation that is the activator."""
    for pid in sorted(int(entry.name) for entry in os.scandir("/proc") if entry.name.isdigit()):
        try:
            with os.scandir(f"/proc/{pid}/fd") as entries:
                names = [entry.name for entry in entries]
        except OSError:
            continue
        for name in names:
            try:
                target = os.readlink(f"/proc/{pid}/fd/{name}")  # noqa: PTH115  (many, and mostly not ours)
            except OSError:
                continue
            if target.startswith("socket:["):
                yield Place(pid, int(name), int(target[8:-1]))


def take(place: Place) -> socket.socket | None:
    """A descriptor of our own for somebody's socket; None: it is gone, or not of the internet families."""
    try:
        process = os.pidfd_open(place.pid)
    except OSError:
        return None
    try:
        descriptor = _libc.syscall(_PIDFD_GETFD, process, place.descriptor, 0)
    finally:
        os.close(process)
    if descriptor < 0:
        return None
    try:
        taken = socket.socket(fileno=descriptor)
    except OSError:
        os.close(descriptor)
        return None
    if taken.family in _INTERNET and os.fstat(descriptor).st_ino == place.inode:
        return taken
    taken.close()
    return None
