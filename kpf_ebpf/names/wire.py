"""DNS messages (RFC 1035): a query's bytes from a question, a Reply from an answer's bytes.

An answer is hostile input. Reading one takes bounded work, and whatever does not fit raises BadAnswer.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Literal

import dns.exception
import dns.name
import dns.wire

from kpf_ebpf.facts.names import MAX_ADDRESSES
from kpf_ebpf.policy.model import V4_BASE

A, CNAME, AAAA = 1, 5, 28
IN = 1
TYPE_WORDS = {A: "A", AAAA: "AAAA"}

NO_ERROR, NO_SUCH_NAME = 0, 3
CODE_WORDS = {1: "FORMERR", 2: "SERVFAIL", 4: "NOTIMP", 5: "REFUSED"}
"""Response codes (RFC 1035, section 4.1.1) that tell of a resolver's failure, and may come without the question."""

MAX_DATAGRAM = 4096
"""Bytes of a UDP answer. 512 are legal without EDNS (RFC 1035, section 4.2.1), some servers send more."""
MAX_HOPS = 8
"""Aliases (CNAME records) from a name to its addresses."""
MAX_RECORDS = 256
"""Records in the answer section."""
MAX_STEPS = 10_000
"""Labels and pointers followed in one message. Compression can make a message far longer than its bytes."""

_HEADER = struct.Struct("!6H")  # id, flags, then the number of: questions, answers, authorities, additional records
_RECORD = struct.Struct("!HHIH")  # type, class, TTL, length of the data
_TYPE_CLASS = struct.Struct("!HH")
_RESPONSE, _OPCODE, _TRUNCATED, _RECURSE, _CODE = 0x8000, 0x7800, 0x0200, 0x0100, 0x000F
_MAX_TTL = 0x7FFFFFFF
_SHORTEST_RECORD = 1 + _RECORD.size

Bad = Literal["mismatched", "malformed", "truncated", "oversized", "looping"]


class BadAnswer(Exception):
    """An answer that changes nothing. ``kind`` is the counter it belongs to; str() says what is wrong.

    ``ours``: it names our query, so that it comes from whoever received that. Anybody may have sent another one.
    """

    def __init__(self, kind: Bad, words: str, *, ours: bool = True) -> None:
        super().__init__(words)
        self.kind = kind
        self.ours = ours


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer. ``addresses`` and ``ttl`` (seconds, the least of the chain) are there only for NO_ERROR.

    ``alias``: the chain goes on at this name, of which the answer says nothing. ``hops``: the names passed so far,
    the first one included.
    """

    code: int
    addresses: tuple[int, ...] = ()
    ttl: int = _MAX_TTL
    alias: dns.name.Name | None = None
    hops: tuple[dns.name.Name, ...] = ()


def absolute(name: str) -> dns.name.Name | None:
    """Give a host name as DNS has it, absolute whatever the machine's search domains are; None: it cannot be one."""
    if "\\" in name:  # escapes are for master files
        return None
    try:
        found = dns.name.from_text(name)
    except (dns.exception.DNSException, ValueError):  # a UnicodeError is a ValueError
        return None
    return None if found == dns.name.root else found


def write_query(number: int, name: dns.name.Name, kind: int) -> bytes:
    """Give the message that asks a recursive resolver for a name's records of one kind (A or AAAA)."""
    return _HEADER.pack(number, _RECURSE, 1, 0, 0, 0) + name.to_digestable() + _TYPE_CLASS.pack(kind, IN)


def read_reply(
    message: bytes,
    number: int,
    name: dns.name.Name,
    kind: int,
    passed: tuple[dns.name.Name, ...] = (),
    *,
    limit: int = MAX_DATAGRAM,
) -> Reply:
    """Read the answer to ``write_query(number, name, kind)``; ``passed`` are the aliases that led to ``name``.

    It may have ``limit`` bytes. Only its header, question and answer section are read. Raises BadAnswer.
    """
    if len(message) < _HEADER.size:
        raise BadAnswer("malformed", "an answer without a header", ours=False)
    found, flags, questions, answers, authorities, _ = _HEADER.unpack_from(message)
    if found != number or not flags & _RESPONSE or flags & _OPCODE:
        raise BadAnswer("mismatched", "an answer to something else", ours=False)
    code = flags & _CODE
    if questions == 0 and code in CODE_WORDS:
        return Reply(code)
    parser = _Parser(message, _HEADER.size)
    try:
        asked = (_name(parser), *parser.get_struct(_TYPE_CLASS.format)) if questions == 1 else None
        if asked != (name, kind, IN):
            raise BadAnswer("mismatched", "an answer to another question", ours=False)
        if len(message) > limit:
            raise BadAnswer("oversized", f"an answer of more than {limit} bytes")
        if flags & _TRUNCATED:
            raise BadAnswer("truncated", "an answer that is not complete")
        if code != NO_ERROR:
            return Reply(code)
        if answers * _SHORTEST_RECORD > parser.remaining():
            raise BadAnswer("malformed", "an answer with fewer records than it says")
        if answers > MAX_RECORDS:
            raise BadAnswer("oversized", f"an answer of more than {MAX_RECORDS} records")
        records = _Records(parser, answers, kind)
    except dns.exception.DNSException as error:
        raise BadAnswer("malformed", "an answer that cannot be read") from error
    return _follow(records, (*passed, name), complete=authorities > 0)


class _Parser(dns.wire.Parser):
    """A parser that gives up after MAX_STEPS: every label and pointer of a name begins with such a byte."""

    steps = 0

    def get_uint8(self) -> int:
        self.steps += 1
        if self.steps > MAX_STEPS:
            raise dns.exception.FormError
        return super().get_uint8()


def _name(parser: _Parser) -> dns.name.Name:
    return dns.name.from_wire_parser(parser)  # get_name() of later versions does not follow pointers by itself


class _Records:
    """The aliases and the addresses of an answer section, by owner, each with its time to live."""

    def __init__(self, parser: _Parser, count: int, kind: int) -> None:
        self.aliases: dict[dns.name.Name, tuple[dns.name.Name, int]] = {}
        self.addresses: dict[dns.name.Name, tuple[set[int], int]] = {}
        for _ in range(count):
            owner = _name(parser)
            found, of_class, ttl, length = parser.get_struct(_RECORD.format)
            ttl = ttl if ttl <= _MAX_TTL else 0  # RFC 2181, section 8
            with parser.restrict_to(length):
                if (found, of_class) == (CNAME, IN):
                    self._add_alias(owner, _name(parser), ttl)
                elif (found, of_class) == (kind, IN):
                    self._add_address(owner, parser.get_remaining(), kind, ttl)
                else:
                    parser.get_remaining()

    def _add_alias(self, owner: dns.name.Name, target: dns.name.Name, ttl: int) -> None:
        if self.aliases.setdefault(owner, (target, ttl))[0] != target:
            raise dns.exception.FormError  # RFC 2181, section 10.1: an alias has one target

    def _add_address(self, owner: dns.name.Name, data: bytes, kind: int, ttl: int) -> None:
        if len(data) != (4 if kind == A else 16):
            raise dns.exception.FormError
        addresses, least = self.addresses.get(owner, (set[int](), ttl))
        addresses.add(int.from_bytes(data, "big") + (V4_BASE if kind == A else 0))
        self.addresses[owner] = (addresses, min(least, ttl))


def _follow(records: _Records, hops: tuple[dns.name.Name, ...], *, complete: bool) -> Reply:
    """Go from alias to alias to the addresses, from the last of ``hops``.

    A chain without addresses at its end is to be asked for further; not if the answer is ``complete``: it says who
    knows that there are none (RFC 2308, section 2.2).
    """
    begin, ttl = len(hops), _MAX_TTL
    while hops[-1] not in records.addresses and hops[-1] in records.aliases:
        target, of_alias = records.aliases[hops[-1]]
        ttl = min(ttl, of_alias)
        if target in hops:
            raise BadAnswer("looping", "an alias of itself")
        if len(hops) > MAX_HOPS:
            raise BadAnswer("looping", f"more than {MAX_HOPS} aliases")
        hops = (*hops, target)
    found = records.addresses.get(hops[-1])
    if found is None:
        return Reply(NO_ERROR, (), ttl, hops[-1] if len(hops) > begin and not complete else None, hops)
    addresses, of_addresses = found
    if len(addresses) > MAX_ADDRESSES:
        raise BadAnswer("oversized", f"more than {MAX_ADDRESSES} addresses")
    return Reply(NO_ERROR, tuple(sorted(addresses)), min(ttl, of_addresses), None, hops)
