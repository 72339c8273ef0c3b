"""A name server for tests, on a random port of 127.0.0.1, by UDP and TCP: honest, until a test tells it how to be."""

from __future__ import annotations

import contextlib
import errno
import selectors
import socket
import struct
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset

from kpf_ebpf.facts.addresses import number
from kpf_ebpf.names.model import Resolver

MAX_CHAIN = 100
KINDS = ("A", "AAAA", "CNAME")
SOA = "ns.example. root.example. 1 3600 600 86400 60"


@dataclass(frozen=True)
class Asked:
    """A query as it came: the name as written, without its last dot; "udp" or "tcp"; the asker's port."""

    name: str
    kind: str
    way: str
    port: int
    number: int


Behaviour = Callable[[dns.message.Message, Asked], Sequence[bytes]]
"""Gives the messages that go back: none is silence. By TCP each has its length put before it."""


class Server:
    """Zones by ``put`` and ``drop``; ``behave`` replaces honesty; ``asked`` is what was asked so far.

    Unless it ``listens``, TCP is refused.
    """

    def __init__(self, *, listens: bool = True) -> None:
        self.asked: list[Asked] = []
        self.behave: Behaviour = self.honest
        self.hurt_stream: Callable[[bytes], bytes] = lambda framed: framed
        """What becomes of a message with its length before it goes to a TCP connection; it is closed afterwards."""
        self._records: dict[tuple[dns.name.Name, str], dns.rrset.RRset] = {}
        self._datagrams, self._listener = _one_port()
        address = number("127.0.0.1")
        assert address is not None
        self.resolver: Resolver = (address, self._datagrams.getsockname()[1])
        """Where it listens, as a policy has it."""
        self._end, self._bell = socket.socketpair()
        self._selector = selectors.DefaultSelector()
        if not listens:
            self._listener.close()
        for one in (self._datagrams, self._listener, self._end)[:: 1 if listens else 2]:
            self._selector.register(one, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._serve, name="test-name-server", daemon=True)
        self._thread.start()

    def put(self, name: str, kind: str, ttl: int, *data: str) -> None:
        """Answer this from now on."""
        owner = dns.name.from_text(name)
        self._records[owner, kind] = dns.rrset.from_text(owner, ttl, "IN", kind, *data)

    def drop(self, name: str, kind: str | None = None) -> None:
        """Know nothing of a name any more, or nothing of one kind."""
        owner = dns.name.from_text(name)
        self._records = {
            key: one for key, one in self._records.items() if key[0] != owner or kind not in (None, key[1])
        }

    def count(self, name: str, kind: str = "A") -> int:
        """How often this was asked for."""
        return sum((one.name, one.kind) == (name, kind) for one in self.asked)

    def reply(self, query: dns.message.Message) -> dns.message.Message:
        """The true answer, with the chain of aliases; if there is nothing, with the one who knows that."""
        reply = dns.message.make_response(query, recursion_available=True)
        question = query.question[0]
        kind, name = dns.rdatatype.to_text(question.rdtype), question.name
        for _ in range(MAX_CHAIN):
            found = self._records.get((name, kind)) or self._records.get((name, "CNAME"))
            if found is None:
                break
            reply.answer.append(found)
            if found.rdtype == question.rdtype:
                return reply
            name = found[0].target
        reply.authority.append(dns.rrset.from_text("example.", 60, "IN", "SOA", SOA))
        if not any((name, kind) in self._records for kind in KINDS):
            reply.set_rcode(dns.rcode.NXDOMAIN)
        return reply

    def honest(self, query: dns.message.Message, asked: Asked) -> Sequence[bytes]:
        """The true answer; what is longer than 512 bytes is truncated by UDP."""
        message = self.reply(query).to_wire(max_size=65535)
        if asked.way == "udp" and len(message) > 512:
            short = dns.message.make_response(query, recursion_available=True)
            short.flags |= dns.flags.TC
            return [short.to_wire()]
        return [message]

    def close(self) -> None:
        """End, and give all descriptors back."""
        self._bell.close()
        self._thread.join()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _serve(self) -> None:
        with contextlib.ExitStack() as held:
            for one in (self._selector, self._datagrams, self._listener, self._end):
                held.callback(one.close)
            while True:
                ready = [key.fileobj for key, _ in self._selector.select()]
                if self._end in ready:
                    return
                if self._datagrams in ready:
                    self._serve_datagram()
                if self._listener in ready:
                    self._serve_stream()

    def _serve_datagram(self) -> None:
        query, peer = self._datagrams.recvfrom(65535)
        for message in self._answers(query, "udp", peer[1]):
            self._datagrams.sendto(message, peer)

    def _serve_stream(self) -> None:
        """One connection after the other: enough for tests."""
        connection, peer = self._listener.accept()
        with connection, contextlib.suppress(OSError):
            connection.settimeout(10)
            stream = connection.makefile("rb")
            length = stream.read(2)
            query = stream.read(int.from_bytes(length, "big"))
            if not query:  # the asker did not stay
                return
            for message in self._answers(query, "tcp", peer[1]):
                connection.sendall(self.hurt_stream(struct.pack("!H", len(message)) + message))

    def _answers(self, wire: bytes, way: str, port: int) -> Sequence[bytes]:
        query = dns.message.from_wire(wire)
        question = query.question[0]
        name = question.name.to_text(omit_final_dot=True)
        asked = Asked(name, dns.rdatatype.to_text(question.rdtype), way, port, query.id)
        self.asked.append(asked)
        return self.behave(query, asked)


def _one_port() -> tuple[socket.socket, socket.socket]:
    """Sockets for UDP and TCP with the same free port."""
    while True:
        datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        datagrams.bind(("127.0.0.1", 0))
        try:
            return datagrams, socket.create_server(datagrams.getsockname(), backlog=128)
        except OSError as error:
            datagrams.close()
            if error.errno != errno.EADDRINUSE:
                raise
