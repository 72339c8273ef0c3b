"""Adopts sockets older than the hooks: their owner goes into the socket's own storage, as if the hooks had seen it.

Every descriptor of every process is looked at, in all network namespaces, until a walk finds nothing new. What is in
no /proc (connections nobody accepted yet, orphans, descriptors in flight) stays of unknown owner.
"""

from __future__ import annotations

import socket
import struct
from pathlib import Path

from kpf_ebpf.facts.system import cgroup_mount, read_text
from kpf_ebpf.kernel import abi, bpf
from kpf_ebpf.kernel.hooks import opened
from kpf_ebpf.kernel.sockets import places, take

ROUNDS = 5
"""Walks over all descriptors at most."""
_SO_NETNS_COOKIE = 71


def _cookie(taken: socket.socket, pid: int, home: int) -> int:
    """The cookie of the socket's network namespace; before 5.14 that of its process', if it is this one."""
    try:
        return int.from_bytes(taken.getsockopt(socket.SOL_SOCKET, _SO_NETNS_COOKIE, 8), "little")
    except OSError:
        try:
            own, its = Path("/proc/self/ns/net").stat(), Path(f"/proc/{pid}/ns/net").stat()
        except OSError:
            return 0
        return home if own.st_ino == its.st_ino else 0


def _is_tcp(taken: socket.socket) -> bool:
    return taken.type == socket.SOCK_STREAM


def _listens(taken: socket.socket) -> bool:
    return _is_tcp(taken) and bool(taken.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))


def _port(taken: socket.socket) -> int:
    try:
        return int(taken.getsockname()[1])
    except OSError:
        return 0


def _initiator(taken: socket.socket, cookie: int, listeners: set[tuple[int, int]]) -> abi.Initiator:
    """TCP came in if a listener holds its local port; a connected datagram socket went out."""
    if _listens(taken):
        return abi.Initiator.IN
    try:
        taken.getpeername()
    except OSError:
        return abi.Initiator.UNKNOWN
    if _is_tcp(taken) and (cookie, _port(taken)) in listeners:
        return abi.Initiator.IN
    return abi.Initiator.OUT


def _uid(pid: int) -> int:
    for line in (read_text(f"/proc/{pid}/status") or "").splitlines():
        if line.startswith("Uid:"):
            return int(line.split()[1])
    return 0


def _cgroup(pid: int, mount: str | None) -> int:
    """The id of a process' cgroup; 0: not known."""
    for line in (read_text(f"/proc/{pid}/cgroup") or "").splitlines():
        if line.startswith("0::") and mount is not None:
            try:
                return Path(mount + line[3:]).stat().st_ino
            except OSError:
                return 0
    return 0


def adopt(pins: Path, home: int) -> int:
    """Gives every old socket its owner; those that have one keep it. Returns how many were adopted.

    ``home`` is the cookie of this process' network namespace.

    The hooks must be attached, and ``processes`` be filled (``processes.scan``).
    """
    mount = cgroup_mount(read_text("/proc/self/mounts") or "")
    adopted, seen, listeners = 0, set[int](), set[tuple[int, int]]()
    with opened(pins / "identity") as identity, opened(pins / "processes") as processes:
        for _ in range(ROUNDS):
            fresh = [place for place in places() if place.inode not in seen]
            if not fresh:
                break
            for place in fresh:
                taken = take(place)
                if taken is not None:
                    with taken:
                        if _listens(taken):
                            listeners.add((_cookie(taken, place.pid, home), _port(taken)))
            for place in fresh:
                if place.inode in seen:
                    continue
                seen.add(place.inode)
                taken = take(place)
                if taken is not None:
                    with taken:
                        cookie = _cookie(taken, place.pid, home)
                        value = _owner(processes, place.pid, taken, cookie, _cgroup(place.pid, mount), listeners)
                        adopted += _give(identity, taken, value)
    return adopted


def _owner(
    processes: int, pid: int, taken: socket.socket, cookie: int, cgroup: int, listeners: set[tuple[int, int]]
) -> abi.Identity:
    known = bpf.lookup(processes, struct.pack("=I", pid), abi.PROCESS_BYTES)
    process = abi.Process.from_buffer_copy(known) if known else abi.Process()
    return abi.Identity(
        application=process.script if process.script.inode else process.file,
        netns_cookie=cookie,
        cgroup=cgroup,
        pid=pid,
        uid=_uid(pid),
        version=abi.ABI_VERSION,
        component=process.component,
        initiator=_initiator(taken, cookie, listeners),
        adopted=not _listens(taken),
    )


def _give(identity: int, taken: socket.socket, owner: abi.Identity) -> int:
    key = struct.pack("=i", taken.fileno())
    before = bpf.lookup(identity, key, abi.IDENTITY_BYTES)
    if before is not None and abi.Identity.from_buffer_copy(before).version:
        return 0  # it has an owner already
    try:
        bpf.update(identity, key, bytes(owner), bpf.NOEXIST if before is None else 0)
    except OSError:
        return 0
    return 1
