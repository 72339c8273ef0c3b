"""DNS messages: what is read of an answer, and what is not believed."""

from __future__ import annotations

import struct
from collections.abc import Callable

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kpf_ebpf.facts.addresses import shown
from kpf_ebpf.facts.names import MAX_ADDRESSES
from kpf_ebpf.names import wire
from kpf_ebpf.names.wire import AAAA, NO_ERROR, NO_SUCH_NAME, A, BadAnswer, Reply, absolute, read_reply, write_query
from tests.unit.names.helpers import dns_name, numbers

NUMBER = 0x1234
NAME = dns_name("a.example")
QUERY = write_query(NUMBER, NAME, A)
HEAD = struct.Struct("!6H")


def answer(*records: str, query: bytes = QUERY, edit: Callable[[dns.message.Message], None] | None = None) -> bytes:
    """Give an answer's bytes by its records, one text each: "owner ttl kind data"."""
    reply = dns.message.make_response(dns.message.from_wire(query), recursion_available=True)
    for text in records:
        owner, ttl, kind, data = text.split(maxsplit=3)
        reply.answer.append(dns.rrset.from_text(owner, int(ttl), "IN", kind, data))
    if edit:
        edit(reply)
    return reply.to_wire(max_size=65535)


def read(message: bytes, kind: int = A, *, limit: int = 65535) -> Reply:
    """Read an answer to the test's query."""
    return read_reply(message, NUMBER, NAME, kind, limit=limit)


def bad(message: bytes, kind: int = A, *, limit: int = 65535) -> BadAnswer:
    """Give what is wrong with an answer."""
    with pytest.raises(BadAnswer) as caught:
        read(message, kind, limit=limit)
    return caught.value


def raw(*records: bytes, flags: int = 0x8180, name: bytes = b"\1a\7example\0", count: int | None = None) -> bytes:
    """Give an answer's bytes by the bytes of its records."""
    head = HEAD.pack(NUMBER, flags, 1, len(records) if count is None else count, 0, 0)
    return head + name + b"\0\1\0\1" + b"".join(records)


def record(owner: bytes, kind: int, data: bytes, *, of_class: int = 1, ttl: int = 60) -> bytes:
    """Give a record's bytes."""
    return owner + struct.pack("!HHIH", kind, of_class, ttl, len(data)) + data


POINTER = b"\xc0\x0c"  # to the question's name


def test_a_query_is_what_others_read_too() -> None:
    """One question, recursion desired, nothing else: another implementation understands it."""
    for kind, word in ((A, "A"), (AAAA, "AAAA")):
        expected = dns.message.make_query("a.example.", word, id=NUMBER)
        assert dns.message.from_wire(write_query(NUMBER, NAME, kind)) == expected
        assert dns.message.from_wire(write_query(NUMBER, NAME, kind)).flags == dns.flags.RD


def test_addresses_are_sorted_and_have_the_least_time_to_live() -> None:
    """The set is worth as much as its shortest-lived record."""
    reply = read(answer("a.example. 60 A 192.0.2.2", "a.example. 50 A 192.0.2.1", "b.example. 1 A 192.0.2.3"))
    assert reply == Reply(NO_ERROR, numbers("192.0.2.1", "192.0.2.2"), 50, None, (NAME,))


def test_both_families_have_their_place() -> None:
    """IPv6 addresses are as they are; only what was asked for is taken."""
    query = write_query(NUMBER, NAME, AAAA)
    reply = read(answer("a.example. 60 AAAA 2001:db8::1", "a.example. 60 A 192.0.2.1", query=query), AAAA)
    assert [shown(address) for address in reply.addresses] == ["2001:db8::1"]


def test_names_are_compared_without_regard_to_case() -> None:
    """RFC 4343: a server may write a name as it likes."""
    assert read(raw(record(b"\1A\7eXample\0", A, b"\xc0\0\2\1"), name=b"\1A\7EXAMPLE\0")).addresses


def test_a_chain_of_aliases_is_followed_in_any_order() -> None:
    """The chain's shortest time to live counts."""
    records = ("c.example. 60 A 192.0.2.1", "a.example. 60 CNAME b.example.", "b.example. 7 CNAME c.example.")
    reply = read(answer(*records))
    assert (reply.addresses, reply.ttl, len(reply.hops)) == (numbers("192.0.2.1"), 7, 3)


def test_a_chain_that_ends_early_is_asked_further() -> None:
    """A server that does not ask others itself tells only what it knows."""
    reply = read(answer("a.example. 60 CNAME b.example."))
    assert reply == Reply(NO_ERROR, (), 60, dns_name("b.example"), (NAME, dns_name("b.example")))


def test_a_chain_that_is_known_to_end_is_not_asked_further() -> None:
    """Who knows that there is nothing says so beside the answer (RFC 2308)."""

    def edit(reply: dns.message.Message) -> None:
        reply.authority.append(dns.rrset.from_text("example.", 60, "IN", "SOA", "a. b. 1 2 3 4 5"))

    reply = read(answer("a.example. 60 CNAME b.example.", edit=edit))
    assert (reply.addresses, reply.alias) == ((), None)


def test_eight_aliases_are_followed_and_nine_are_not() -> None:
    """A chain is bounded."""
    links = [f"n{index}.example. 60 CNAME n{index + 1}.example." for index in range(wire.MAX_HOPS)]
    names = ["a.example. 60 CNAME n1.example.", *links[1:], f"n{wire.MAX_HOPS}.example. 60 A 192.0.2.1"]
    assert read(answer(*names)).addresses == numbers("192.0.2.1")
    longer = [*names[:-1], f"n{wire.MAX_HOPS}.example. 60 CNAME z.example.", "z.example. 60 A 192.0.2.1"]
    assert bad(answer(*longer)).kind == "looping"


def test_a_loop_of_aliases_is_no_answer() -> None:
    """Round and round, also by way of what earlier answers told."""
    assert bad(answer("a.example. 60 CNAME a.example.")).kind == "looping"
    assert bad(answer("a.example. 60 CNAME b.example.", "b.example. 60 CNAME a.example.")).kind == "looping"
    with pytest.raises(BadAnswer) as caught:
        read_reply(answer("a.example. 60 CNAME before.example."), NUMBER, NAME, A, (dns_name("before.example"),))
    assert caught.value.kind == "looping"


def test_an_alias_with_two_targets_is_malformed() -> None:
    """RFC 2181, section 10.1."""
    message = answer("a.example. 60 CNAME b.example.", "a.example. 60 CNAME c.example.")
    assert bad(message).kind == "malformed"


def test_an_unrelated_address_is_not_taken() -> None:
    """What nobody asked for could be anybody's address."""
    assert read(answer("other.example. 60 A 192.0.2.1")).addresses == ()


def test_a_record_of_another_class_is_not_taken() -> None:
    """CHAOS is not the Internet."""
    assert read(raw(record(POINTER, A, b"\xc0\0\2\1", of_class=3))).addresses == ()


def test_a_negative_time_to_live_is_none() -> None:
    """RFC 2181, section 8: with the top bit set it counts as 0."""
    assert read(raw(record(POINTER, A, b"\xc0\0\2\1", ttl=0x80000000))).ttl == 0


def test_no_such_name_is_an_answer() -> None:
    """The code is passed on; nothing else of such an answer is believed."""
    message = answer("a.example. 60 A 192.0.2.1", edit=lambda reply: reply.set_rcode(dns.rcode.NXDOMAIN))
    assert read(message) == Reply(NO_SUCH_NAME)


def test_a_failing_server_need_not_repeat_the_question() -> None:
    """Some answer with a bare header when they fail; without failure nobody may."""
    assert read(HEAD.pack(NUMBER, 0x8182, 0, 0, 0, 0)) == Reply(2)
    assert bad(HEAD.pack(NUMBER, 0x8180, 0, 0, 0, 0)).kind == "mismatched"


@pytest.mark.parametrize(
    "message",
    [
        answer("a.example. 60 A 192.0.2.1", query=write_query(NUMBER + 1, NAME, A)),
        answer("b.example. 60 A 192.0.2.1", query=write_query(NUMBER, dns_name("b.example"), A)),
        answer("a.example. 60 AAAA 2001:db8::1", query=write_query(NUMBER, NAME, AAAA)),
        QUERY,
        raw(record(POINTER, A, b"\xc0\0\2\1"), flags=0x8180 | 0x2800),
        HEAD.pack(NUMBER, 0x8180, 2, 0, 0, 0) + QUERY[12:] * 2,
    ],
    ids=["id", "name", "kind", "a query", "opcode", "two questions"],
)
def test_an_answer_to_something_else_is_not_ours(message: bytes) -> None:
    """Anybody may have sent it, so it must not even end the waiting."""
    error = bad(message)
    assert (error.kind, error.ours) == ("mismatched", False)


def test_what_has_no_header_is_not_ours() -> None:
    """Too short to name a query."""
    error = bad(b"\x12\x34" + b"\0" * 9)
    assert (error.kind, error.ours) == ("malformed", False)


def test_a_truncated_answer_is_not_taken() -> None:
    """What is there may be half of it."""

    def edit(reply: dns.message.Message) -> None:
        reply.flags |= dns.flags.TC

    assert bad(answer("a.example. 60 A 192.0.2.1", edit=edit)).kind == "truncated"


@pytest.mark.parametrize(
    "message",
    [
        raw(count=1),
        raw(record(POINTER, A, b"\xc0\0\2")),
        raw(record(POINTER, A, b"\xc0\0\2\1\1")),
        raw(record(POINTER, A, b"\xc0\0\2\1")[:-1]),
        raw(record(b"\xc0\xff", A, b"\xc0\0\2\1")),
        raw(record(b"\x80\0", A, b"\xc0\0\2\1")),
        raw(record(POINTER, wire.CNAME, b"\xc0\xff")),
        raw(record(POINTER, wire.CNAME, POINTER + b"\0")),
        raw(record(b"\x3f" + b"x" * 63, A, b"")),
        raw(name=b"\xc0\x0c"),
        raw(record((b"\x3f" + b"x" * 63) * 4 + b"\0", A, b"\xc0\0\2\1")),
    ],
    ids=str,
)
def test_what_cannot_be_read_is_malformed(message: bytes) -> None:
    """Records that end early, addresses of a wrong size, pointers forward, names too long."""
    assert bad(message).kind == "malformed"


def test_too_many_addresses_are_not_taken_in_part() -> None:
    """A set of a part of the addresses would be neither the old nor the new one."""
    fits = [record(POINTER, A, struct.pack("!I", 0xC0000200 + index)) for index in range(MAX_ADDRESSES)]
    assert len(read(raw(*fits)).addresses) == MAX_ADDRESSES
    assert bad(raw(*fits, record(POINTER, A, b"\xc6\x33\x64\1"))).kind == "oversized"


def test_too_many_records_are_not_read() -> None:
    """An answer of nothing but text has a bound, too."""
    assert bad(raw(*[record(POINTER, 16, b"\0")] * (wire.MAX_RECORDS + 1))).kind == "oversized"


def test_too_long_an_answer_is_not_read() -> None:
    """The way it came has a bound; who sent it is known by then."""
    message = raw(record(POINTER, 16, b"\0" * 5000))
    error = bad(message, limit=wire.MAX_DATAGRAM)
    assert (error.kind, error.ours) == ("oversized", True)
    assert bad(b"\0" * 5000, limit=wire.MAX_DATAGRAM).kind == "mismatched"


def test_compressed_names_cost_bounded_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pointers to pointers to pointers, in every record: reading gives up after MAX_STEPS, not after a million."""
    begin = len(raw()) + len(record(POINTER, 16, b""))
    labels = b"\1x" * 40 + b"\0"
    steps = [begin, *range(begin + len(labels), begin + len(labels) + 10, 2)]
    filler = record(POINTER, 16, labels + b"".join(struct.pack("!H", 0xC000 | step) for step in steps))
    message = raw(filler, *[record(struct.pack("!H", 0xC000 | steps[-1] + 2), 16, b"")] * 250)
    assert bad(message).kind == "malformed"
    monkeypatch.setattr(wire, "MAX_STEPS", 1_000_000)
    assert read(message).addresses == ()


@pytest.mark.parametrize("name", ["", ".", "x" * 64, "a..b", ".a", ("x" * 60 + ".") * 5, "\\300.example", "\ud800"])
def test_some_words_are_no_names(name: str) -> None:
    """They are refused before anybody is asked."""
    assert absolute(name) is None


def test_names_are_absolute() -> None:
    """No search domain is ever put behind them."""
    assert str(absolute("printer")) == "printer."
    assert absolute("a.example.") == absolute("A.example") == NAME


@given(st.text(max_size=300))
def test_any_word_is_a_name_or_none(word: str) -> None:
    """A proxy's name comes from the environment, not from a checked policy."""
    name = absolute(word)
    assert name is None or name.is_absolute()


def outcome(message: bytes) -> Reply | str:
    """Read an answer, whatever it is."""
    try:
        return read(message)
    except BadAnswer as error:
        return error.kind


@given(st.binary(max_size=600))
def test_arbitrary_bytes_are_never_an_answer(message: bytes) -> None:
    """They are counted, and change nothing."""
    assert outcome(message) in ("mismatched", "malformed")


@given(st.binary(max_size=300), st.integers(0, 0xFFFF), st.integers(0, 300), st.integers(0, 3))
def test_arbitrary_records_never_crash(tail: bytes, flags: int, count: int, authorities: int) -> None:
    """Who knows the query may send anything behind it: an answer within bounds, or none."""
    message = HEAD.pack(NUMBER, flags, 1, count, authorities, 0) + QUERY[12:] + tail
    found = outcome(message)
    assert isinstance(found, str) or len(found.addresses) <= MAX_ADDRESSES


TRUE = answer("a.example. 60 CNAME b.example.", "b.example. 60 CNAME c.example.", "c.example. 9 A 192.0.2.1")


@given(st.lists(st.tuples(st.integers(0, len(TRUE) - 1), st.integers(0, 255)), min_size=1, max_size=4))
def test_a_damaged_answer_never_crashes(changes: list[tuple[int, int]]) -> None:
    """A few bytes of a true answer are changed."""
    message = bytearray(TRUE)
    for place, value in changes:
        message[place] = value
    found = outcome(bytes(message))
    assert isinstance(found, str) or len(found.addresses) <= 1
