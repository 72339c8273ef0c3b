"""Sockets that belong to the firewalled cgroup, in the hands of a test that does not."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable, Iterator, Sequence

from tests.kernel.conftest import Kernel

RAW = 255
"""IPPROTO_RAW: packets are sent as they are, with their own header."""
IPV6_HDRINCL = 36


@contextlib.contextmanager
def made_within(kernel: Kernel, make: Callable[[], Sequence[socket.socket]]) -> Iterator[list[socket.socket]]:
    """Give the sockets that a child of this process makes inside the cgroup: a socket belongs to where it was made."""
    here, there = socket.socketpair()
    child = os.fork()
    if not child:
        with contextlib.suppress(BaseException):
            (kernel.cgroup / "cgroup.procs").write_text(str(os.getpid()))
            made = make()
            socket.send_fds(there, [b"made"], [one.fileno() for one in made])
        os._exit(0)
    there.close()
    with here:
        words, descriptors, _, _ = socket.recv_fds(here, 10, 100)
    os.waitpid(child, 0)
    assert words == b"made", "the child could not make its sockets"
    with contextlib.ExitStack() as opened:
        yield [opened.enter_context(socket.socket(fileno=one)) for one in descriptors]


def raw_senders() -> list[socket.socket]:
    """Make a raw socket of each family, IPv4 first, to which a packet is given with its header."""
    four, six = (socket.socket(family, socket.SOCK_RAW, RAW) for family in (socket.AF_INET, socket.AF_INET6))
    six.setsockopt(socket.IPPROTO_IPV6, IPV6_HDRINCL, 1)
    return [four, six]


def receivers(ports: Sequence[int]) -> list[socket.socket]:
    """Make what can receive on this host: UDP and TCP of both families at each port."""
    made = []
    for port in ports:
        for family in (socket.AF_INET, socket.AF_INET6):
            for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
                one = socket.socket(family, kind | socket.SOCK_NONBLOCK)
                if family == socket.AF_INET6:
                    one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                one.bind(("", port))
                if kind == socket.SOCK_STREAM:
                    one.listen()
                made.append(one)
    return made


def raw_receivers(protocols: Sequence[int]) -> list[socket.socket]:
    """Make raw sockets of IPv4, which receive whole packets."""
    return [socket.socket(socket.AF_INET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, one) for one in protocols]


def drained(one: socket.socket) -> list[bytes]:
    """Take everything that a socket has received; of a listener, something for each connection."""
    found = []
    with contextlib.suppress(BlockingIOError):
        while True:
            if one.type & 0xF == socket.SOCK_STREAM:
                made, _ = one.accept()
                made.close()
                found.append(b"connection")
            else:
                found.append(one.recv(65535))
    return found
