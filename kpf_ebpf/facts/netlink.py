"""Lists of the kernel's adapters, addresses and filters by rtnetlink(7), read without a library.

Every command and the Engine look at adapters; a library for all of netlink costs each of them 0.1 s and 15 MB.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator
from typing import Any

LINKS, ADDRESSES, FILTERS = 18, 22, 46  # RTM_GETLINK, RTM_GETADDR, RTM_GETTFILTER of linux/rtnetlink.h
TRIES = 10
"""How often a list is asked for that changes while it is told."""

_REQUEST_DUMP, _INTERRUPTED = 0x301, 0x10  # NLM_F_REQUEST | NLM_F_DUMP, NLM_F_DUMP_INTR
_ERROR, _DONE = 2, 3
_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_IFLA_IFNAME = 3
_IFA = {1: "IFA_ADDRESS", 2: "IFA_LOCAL", 4: "IFA_BROADCAST"}
_LINK, _ADDRESS, _TC = struct.Struct("=BxHiII"), struct.Struct("=BBBBI"), struct.Struct("=BxxxiIII")
_MESSAGE_BYTES = 1 << 16


class _Changed(Exception):
    """The list changed while it was told: it may have neither what was nor what is."""


def links() -> list[dict[str, Any]]:
    """Every adapter of this network namespace: ``index``, and ``attrs`` with its name. Raises OSError."""
    found = []
    for body in _listed(LINKS, _LINK.pack(socket.AF_UNSPEC, 0, 0, 0, 0)):
        index = _LINK.unpack_from(body)[2]
        names = [value for kind, value in _attributes(body[_LINK.size :]) if kind == _IFLA_IFNAME]
        found.append({"index": index, "attrs": [("IFLA_IFNAME", os.fsdecode(name.rstrip(b"\0"))) for name in names]})
    return found


def addresses() -> list[dict[str, Any]]:
    """Every address: ``index`` of its adapter, ``prefixlen``, and ``attrs`` in words. Raises OSError."""
    found = []
    for body in _listed(ADDRESSES, _ADDRESS.pack(socket.AF_UNSPEC, 0, 0, 0, 0)):
        family, length, _, _, index = _ADDRESS.unpack_from(body)
        if family in (socket.AF_INET, socket.AF_INET6):
            told = [
                (_IFA[kind], socket.inet_ntop(family, value))
                for kind, value in _attributes(body[_ADDRESS.size :])
                if kind in _IFA
            ]
            found.append({"index": index, "prefixlen": length, "attrs": told})
    return found


def preferences(index: int, parent: int) -> set[int]:
    """The preferences of the filters at an adapter's ``parent``; none where there is nothing. Raises OSError."""
    listed = _listed(FILTERS, _TC.pack(socket.AF_UNSPEC, index, 0, parent, 0))
    return {_TC.unpack_from(body)[4] >> 16 for body in listed}


def _listed(kind: int, question: bytes) -> list[bytes]:
    for _ in range(TRIES):
        try:
            return list(_told(kind, question))
        except _Changed:
            continue
    raise OSError(errno.EAGAIN, "netlink's list changes faster than it is read")


def _told(kind: int, question: bytes) -> Iterator[bytes]:
    """The bodies of the messages that answer one question. Raises OSError where the kernel refuses."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE) as kernel:
        kernel.bind((0, 0))
        kernel.sendto(_HEADER.pack(_HEADER.size + len(question), kind, _REQUEST_DUMP, 1, 0) + question, (0, 0))
        while True:
            data, (sender, _) = kernel.recvfrom(_MESSAGE_BYTES)
            if sender != 0:
                continue  # another process, which has nothing to say here
            at = 0
            while at + _HEADER.size <= len(data):
                length, told, flags, _, _ = _HEADER.unpack_from(data, at)
                if flags & _INTERRUPTED:
                    raise _Changed
                body = data[at + _HEADER.size : at + length]
                if told in (_DONE, _ERROR):
                    number = -int.from_bytes(body[:4], "little", signed=True)
                    if number > 0:
                        raise OSError(number, os.strerror(number))
                    return
                yield body
                at += max(length + 3 & ~3, _HEADER.size)


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, at)
        yield kind & 0x3FFF, data[at + _ATTRIBUTE.size : at + length]
        at += max(length + 3 & ~3, _ATTRIBUTE.size)
