"""One query on its way to a resolver, by UDP or TCP. Nothing here waits: a selector tells when to go on."""

from __future__ import annotations

import ipaddress
import os
import selectors
import socket
from typing import Protocol

from kpf_ebpf.facts.addresses import shown
from kpf_ebpf.facts.system import DNS_PORT
from kpf_ebpf.names.model import Resolver
from kpf_ebpf.names.wire import MAX_DATAGRAM, BadAnswer
from kpf_ebpf.policy.model import V4_BASE

_FLAGS = socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
_LENGTH_BYTES = 2


def resolver_words(resolver: Resolver) -> str:
    """A resolver as a policy writes it; the port only where it is not 53."""
    address, port = resolver
    if port == DNS_PORT:
        return shown(address)
    return f"[{shown(address)}]:{port}" if ":" in shown(address) else f"{shown(address)}:{port}"


class Link(Protocol):
    """A query on its way. ``events`` are those to wait for; they change when the query is sent.

    ``limit``: bytes of the longest answer that is read.
    """

    socket: socket.socket
    events: int
    is_stream: bool
    limit: int

    def receive(self) -> bytes | None:
        """Go on as far as it goes; give an answer's bytes, None while there are none. Raises OSError, BadAnswer."""


class Datagram:
    """A query by UDP, with a socket of its own: a new random port for each, and nobody but the resolver is heard.

    The kernel chooses the port and, since the socket is connected, drops what others send (RFC 5452, section 9).
    """

    is_stream = False
    limit = MAX_DATAGRAM
    events = selectors.EVENT_READ

    def __init__(self, resolver: Resolver, query: bytes) -> None:
        self.socket = _open(resolver, socket.SOCK_DGRAM)
        try:
            self.socket.connect(_place(resolver))
            self.socket.send(query)
        except BaseException:
            self.socket.close()
            raise

    def receive(self) -> bytes | None:
        """Give the next datagram, one byte more than MAX_DATAGRAM if it is longer; None: it was dropped again."""
        try:
            return self.socket.recv(MAX_DATAGRAM + 1)
        except BlockingIOError:  # a wrong checksum
            return None


class Stream:
    """A query by TCP; each message has its length before it (RFC 1035, section 4.2.2), at most 64 KiB."""

    is_stream = True
    limit = (1 << 8 * _LENGTH_BYTES) - 1

    def __init__(self, resolver: Resolver, query: bytes) -> None:
        self.events = selectors.EVENT_WRITE
        self._unsent = len(query).to_bytes(_LENGTH_BYTES, "big") + query
        self._received = bytearray()
        self.socket = _open(resolver, socket.SOCK_STREAM)
        try:
            self.socket.connect(_place(resolver))
        except BlockingIOError:
            pass
        except BaseException:
            self.socket.close()
            raise

    def receive(self) -> bytes | None:
        """Send what is unsent, then read. Raises BadAnswer for a message that ends early."""
        if self._unsent:
            self._send()
            return None
        needed = self._needed()
        try:
            part = self.socket.recv(needed - len(self._received))
        except BlockingIOError:
            return None
        if not part:
            raise BadAnswer("malformed", "an answer that ends early")
        self._received += part
        return None if len(self._received) < self._needed() else bytes(self._received[_LENGTH_BYTES:])

    def _send(self) -> None:
        error = self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            raise OSError(error, os.strerror(error))
        try:
            self._unsent = self._unsent[self.socket.send(self._unsent) :]
        except BlockingIOError:
            return
        if not self._unsent:
            self.events = selectors.EVENT_READ

    def _needed(self) -> int:
        """Bytes to be received in all, as far as known: never 0 more than there are, until the message is whole."""
        if len(self._received) < _LENGTH_BYTES:
            return _LENGTH_BYTES
        return _LENGTH_BYTES + int.from_bytes(self._received[:_LENGTH_BYTES], "big")


def _open(resolver: Resolver, kind: int) -> socket.socket:
    is_v4 = resolver[0] >> 32 == V4_BASE >> 32
    return socket.socket(socket.AF_INET if is_v4 else socket.AF_INET6, kind | _FLAGS)


def _place(resolver: Resolver) -> tuple[str, int]:
    address, port = resolver
    if address >> 32 == V4_BASE >> 32:
        return str(ipaddress.IPv4Address(address - V4_BASE)), port
    return str(ipaddress.IPv6Address(address)), port
