"""The map of processes: those older than ``up``, and the firewall's own components."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

from kpf_ebpf.facts.model import FileKey
from kpf_ebpf.kernel import abi, bpf
from kpf_ebpf.kernel.hooks import opened
from kpf_ebpf.kernel.pack import pack_file, pack_path

INITIAL_USER_NAMESPACE = 0xEFFFFFFD
"""Inode of the first user namespace (PROC_USER_INIT_INO)."""
ROUNDS = 10
"""Walks over /proc at most, until one finds nobody new."""


def _value(key: FileKey, component: abi.Component) -> bytes:
    return pack_file(key) + bytes(abi.FILE_BYTES) + struct.pack("=II", component, 0)


def register(pins: Path, pid: int, component: abi.Component, key: FileKey | None = None) -> None:
    """Makes a process a component of the firewall, until it executes something else or ends."""
    with opened(pins / "processes") as fd:
        bpf.update(fd, struct.pack("=I", pid), _value(key or FileKey(0, 0, 0, 0, 0), component))


def forget(pins: Path, pid: int) -> None:
    """Forgets a process."""
    with opened(pins / "processes") as fd:
        bpf.delete(fd, struct.pack("=I", pid))


def start_time(pid: int) -> int | None:
    """When a process started (clock ticks since boot); with the pid this names it for good. None: it is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()
    return None if not fields or fields[0] in "ZX" else int(fields[19])


def _pids() -> Iterator[int]:
    return (int(entry.name) for entry in os.scandir("/proc") if entry.name.isdigit())


def _executed(pid: int, identify: Callable[[int], FileKey]) -> FileKey | None:
    """The file of a process that started before the firewall did.

    Only in the first user namespace: elsewhere a process can make its exe link point to any file (PR_SET_MM_MAP). And
    only if it has that file mapped as a program; then a liar has at least nothing that it could not get by injecting
    code into the program it claims to be.
    """
    try:
        if Path(f"/proc/{pid}/ns/user").stat().st_ino != INITIAL_USER_NAMESPACE:
            return None
        if not _is_mapped(f"/proc/{pid}"):
            return None
        fd = os.open(f"/proc/{pid}/exe", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None  # a kernel thread, or gone
    try:
        return identify(fd)
    except OSError:
        return None
    finally:
        os.close(fd)


def _is_mapped(process: str) -> bool:
    """Whether the file of a process' exe link is mapped in it, to be executed. Raises OSError."""
    wanted = str(Path(f"{process}/exe").readlink()).replace("\n", "\\012")  # as maps(5) writes it
    for line in Path(f"{process}/maps").read_text(errors="surrogateescape").split("\n"):
        words = line.split(maxsplit=5)
        if len(words) == 6 and "x" in words[1] and words[5] == wanted:
            return True
    return False


def scan(pins: Path, identify: Callable[[int], FileKey]) -> int:
    """Adds the processes that are older than the hooks, which must be attached; returns how many.

    What the hooks wrote meanwhile is newer and stays. A process that ended in between is taken out again. Their paths
    are noted, too, for the log: they may be gone when it is written.
    """
    added = 0
    with opened(pins / "processes") as fd, opened(pins / "paths") as paths:
        for _ in range(ROUNDS):
            found = 0
            for pid in _pids():
                found += _add(fd, paths, pid, identify)
            added += found
            if not found:
                break
    return added


def _note_path(paths: int, pid: int, file: FileKey) -> None:
    """What the exe link says; whoever reads it compares it with the file that is there."""
    try:
        text = pack_path(str(Path(f"/proc/{pid}/exe").readlink()))
        if text is not None:
            bpf.update(paths, pack_file(file), text)
    except OSError:
        return  # gone, or no room: then the log says which file it was


def _add(fd: int, paths: int, pid: int, identify: Callable[[int], FileKey]) -> int:
    key = struct.pack("=I", pid)
    if bpf.lookup(fd, key, abi.PROCESS_BYTES) is not None:
        return 0
    started = start_time(pid)
    file = _executed(pid, identify)
    if file is None or started is None:
        return 0
    try:
        bpf.update(fd, key, _value(file, abi.Component.NONE), bpf.NOEXIST)
    except OSError:
        return 0
    _note_path(paths, pid, file)
    if start_time(pid) != started:
        bpf.delete(fd, key)
        return 0
    return 1
