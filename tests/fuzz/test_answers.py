"""DNS answers of any bytes: a Reply or a BadAnswer, and never an address that the answer does not hold."""

from __future__ import annotations

import struct
from random import Random

from kpf_ebpf.facts.names import MAX_ADDRESSES
from kpf_ebpf.names.wire import AAAA, CNAME, MAX_HOPS, NO_ERROR, A, BadAnswer, read_reply
from kpf_ebpf.policy.model import V4_BASE
from tests.fuzz.campaign import Campaign
from tests.fuzz.mutate import mutated, spliced
from tests.unit.names.helpers import dns_name

NUMBER = 0x1234
NAME = dns_name("a.example")
WIRE = b"\1a\7example\0"
LIMIT = 65535
KNOWN: tuple[tuple[bytes, int], ...] = ()
"""Answers, and the kind that was asked for, that once broke a rule of this module."""


def _name(chance: Random) -> bytes:
    """The asked name, an alias, a pointer somewhere, or a hard one."""
    letters = b"abcd"
    way = chance.random()
    if way < 0.35:
        return b"\xc0\x0c"
    if way < 0.7:
        return bytes((1, chance.choice(letters))) + WIRE[2:]
    if way < 0.85:
        return bytes((1, chance.choice(letters), 0xC0, 14))
    if way < 0.95:
        return struct.pack("!H", 0xC000 | chance.choice((0, 12, 14, 30, 60, chance.randrange(0x4000))))
    hard = (b"", b"\x3f" + b"x" * 63, b"\x40", b"\x80\x01", b"\xc0", (b"\x3f" + b"y" * 63) * 4 + b"\0", b"\1" * 300)
    return chance.choice((*hard, chance.randbytes(9)))


def _record(chance: Random) -> bytes:
    kind = chance.choice((A, A, AAAA, AAAA, CNAME, CNAME, 6, 41, 46, 255, chance.randrange(65536)))
    data = {A: chance.randbytes(4), AAAA: chance.randbytes(16), CNAME: _name(chance)}.get(kind, chance.randbytes(9))
    if chance.random() < 0.05:
        data = data[: chance.randint(0, len(data))] + chance.randbytes(chance.choice((0, 1, 12)))
    length = len(data) if chance.random() < 0.97 else chance.choice((0, 3, 4, 5, 16, 65535))
    ttl = chance.choice((0, 60, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF))
    return _name(chance) + struct.pack("!HHIH", kind, chance.choice((1, 1, 1, 1, 1, 1, 3, 255)), ttl, length) + data


def an_answer(chance: Random) -> tuple[bytes, int]:
    """Make an answer, more often nearly right than not, and say what was asked for."""
    asked = chance.choice((A, AAAA))
    records = [_record(chance) for _ in range(chance.choice((0, 1, 2, 4, 8, 70, 300)))]
    count = len(records) if chance.random() < 0.9 else chance.choice((0, 1, 256, 257, 65535))
    flags = 0x8180 if chance.random() < 0.9 else chance.randrange(65536)
    question = (WIRE if chance.random() < 0.95 else _name(chance)) + struct.pack("!HH", asked, 1)
    number = NUMBER if chance.random() < 0.98 else chance.randrange(65536)
    authorities = chance.choice((0, 1))
    message = struct.pack("!6H", number, flags, int(chance.random() < 0.98), count, authorities, 0) + question
    message += b"".join(records)
    way = chance.random()
    if way < 0.4:
        kept = chance.choice((0, 12, 12 + len(question)))
        return message[:kept] + mutated(message[kept:], chance), asked
    if way < 0.5:
        return spliced(message, message, chance), asked
    return (message if way < 0.95 else chance.randbytes(chance.randint(0, 600))), asked


def is_literal(address: int, message: bytes, kind: int) -> bool:
    """Tell whether an address stands in a message, byte for byte, in the form of the kind that was asked for."""
    if kind == A:
        return V4_BASE <= address < V4_BASE + 2**32 and (address - V4_BASE).to_bytes(4, "big") in message
    return address.to_bytes(16, "big") in message


def checked(made: tuple[bytes, int]) -> None:
    """Read an answer, and see that what is believed of it is in it."""
    message, kind = made
    try:
        reply = read_reply(message, NUMBER, NAME, kind, limit=LIMIT)
    except BadAnswer as bad:
        assert bad.kind and str(bad).isprintable()
        return
    assert message[:2] == NUMBER.to_bytes(2, "big") and message[2] & 0x80, "an answer to something else was believed"
    assert all(is_literal(address, message[12:], kind) for address in reply.addresses)
    assert len(set(reply.addresses)) == len(reply.addresses) <= MAX_ADDRESSES
    assert not reply.addresses or reply.code == NO_ERROR
    assert not (reply.addresses and reply.alias) and len(reply.hops) <= MAX_HOPS + 1
    assert 0 <= reply.ttl <= 0x7FFFFFFF


def test_no_answer_makes_up_an_address(campaign: Campaign) -> None:
    """Whatever comes as an answer: BadAnswer, or a Reply whose addresses all stand in its bytes behind the header."""
    campaign.run(an_answer, checked)


def test_what_once_was_wrong_is_right() -> None:
    """Each answer that a campaign once found is read as any other."""
    for made in KNOWN:
        checked(made)
