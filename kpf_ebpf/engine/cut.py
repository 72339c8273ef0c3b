"""Ends live TCP connections that the policy denies: their packets are dropped anyway, and both ends would only wait.

A connection is judged by the evaluator, with the owner that the kernel has for its socket. Those over the loopback
device are left alone: whether the sender's half is mirrored only the kernel knows.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Mapping
from pathlib import Path

from kpf_ebpf.engine.records import Attachment
from kpf_ebpf.evaluate.evaluator import Flow, evaluate
from kpf_ebpf.facts.addresses import is_loopback
from kpf_ebpf.facts.model import FileKey
from kpf_ebpf.image.model import MapImage
from kpf_ebpf.kernel import abi, bpf
from kpf_ebpf.kernel.hooks import opened
from kpf_ebpf.kernel.sockets import places, take
from kpf_ebpf.policy.addresses import address
from kpf_ebpf.policy.model import Action

_TCP = 6
ELSEWHERE = 2
"""The adapter's number for connections in other network namespaces, where no rule knows an adapter: not loopback."""


def cut(pins: Path, image: MapImage, place: Attachment) -> int:
    """Shuts down every denied connection of the cgroup; returns how many."""
    inside = _cgroups(Path(place.folder))
    adapters = {one: adapter.index for adapter in image.policy.adapters for one in adapter.addresses}
    seen, ended = set[int](), 0
    with opened(pins / "identity") as identity:
        for where in places():
            if where.inode in seen:
                continue
            seen.add(where.inode)
            taken = take(where)
            if taken is None:
                continue
            with taken:
                flow = _flow(identity, taken, image, adapters, inside)
                if flow is not None and evaluate(image, flow).action is Action.DENY:
                    ended += _shut(taken)
    return ended


def _cgroups(folder: Path) -> frozenset[int]:
    """The ids of a cgroup and all below it."""
    found = {folder.stat().st_ino}
    for parent, names, _ in os.walk(folder):
        for name in names:
            try:
                found.add(Path(parent, name).stat().st_ino)
            except OSError:
                continue
    return frozenset(found)


def _flow(
    identity: int, taken: socket.socket, image: MapImage, adapters: Mapping[int, int], inside: frozenset[int]
) -> Flow | None:
    """A connected TCP socket's flow as its packets are judged; None: it is another kind, or not ours to end."""
    if taken.type != socket.SOCK_STREAM or taken.proto not in (0, _TCP):
        return None
    value = bpf.lookup(identity, struct.pack("=i", taken.fileno()), abi.IDENTITY_BYTES)
    try:
        local, remote = taken.getsockname(), taken.getpeername()
    except OSError:
        return None
    if value is None:
        return None
    who = abi.Identity.from_buffer_copy(value)
    ends = address(local[0].partition("%")[0]), address(remote[0].partition("%")[0])
    if who.cgroup not in inside or who.initiator == abi.Initiator.UNKNOWN or None in ends:
        return None
    if is_loopback(ends[1] or 0) or (ends[1] in adapters and who.netns_cookie == image.policy.home):
        return None
    home = who.netns_cookie == image.policy.home
    return Flow(
        direction="out" if who.initiator == abi.Initiator.OUT else "in",
        protocol=_TCP,
        local=ends[0] or 0,
        remote=ends[1] or 0,
        local_port=local[1],
        remote_port=remote[1],
        ifindex=adapters.get(ends[0] or 0, ELSEWHERE) if home else ELSEWHERE,
        netns_cookie=who.netns_cookie,
        uid=who.uid,
        cgroup=who.cgroup,
        application=FileKey(*who.application.words()),
        component=who.component,
    )


def _shut(taken: socket.socket) -> int:
    try:
        taken.shutdown(socket.SHUT_RDWR)
    except OSError:
        return 0  # it ended by itself
    return 1
