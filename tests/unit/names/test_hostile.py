"""Answers that are wrong, by accident or on purpose: counted, and never taken."""

from __future__ import annotations

import socket
from collections.abc import Sequence

import dns.message
import dns.rrset
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kpf_ebpf.names.asker import MAX_IGNORED, Question
from kpf_ebpf.names.link import resolver_words
from kpf_ebpf.names.model import Failed, Found, Outcome
from kpf_ebpf.names.wire import MAX_DATAGRAM, MAX_HOPS, A
from tests.unit.names.helpers import dns_name, numbers, wait_for
from tests.unit.names.inquiry import Inquiry, one_alias_at_a_time, truncated
from tests.unit.names.server import Asked, Server


def test_an_endless_chain_ends(server: Server, inquiry: Inquiry) -> None:
    """Eight aliases, over however many answers; then the next try, and then it has failed."""
    server.behave = one_alias_at_a_time
    outcome = inquiry.ask("n0.example")
    assert outcome == Failed(f"more than {MAX_HOPS} aliases from {resolver_words(server.resolver)}")
    assert inquiry.counts["looping"] == 2
    assert len(server.asked) <= MAX_HOPS + 2


def test_a_loop_of_aliases_fails(server: Server, inquiry: Inquiry) -> None:
    """Counted, and no address."""
    server.put("b.example", "CNAME", 60, "c.example.")
    server.put("c.example", "CNAME", 60, "b.example.")
    assert isinstance(inquiry.ask("b.example"), Failed)
    assert inquiry.counts["looping"] == 2


def test_what_is_truncated_by_tcp_too_fails(server: Server, inquiry: Inquiry) -> None:
    """Its part of the addresses is never taken."""
    server.behave = truncated
    assert inquiry.ask() == Failed(f"an answer that is not complete from {resolver_words(server.resolver)}")
    assert inquiry.counts == {"truncated": 4}


def test_tcp_that_is_refused_fails(inquiry: Inquiry) -> None:
    """A server that truncates and does not listen by TCP."""
    with Server(listens=False) as mute:
        mute.behave = truncated
        inquiry.asker.use((mute.resolver,))
        assert inquiry.ask() == Failed(f"{resolver_words(mute.resolver)}: Connection refused")


@pytest.mark.parametrize(
    ("hurt", "count"),
    [
        (lambda framed: framed[:-1], "malformed"),
        (lambda framed: framed[:1], "malformed"),
        (lambda framed: b"", "malformed"),
        (lambda framed: b"\0\0" + framed[2:], "malformed"),
        (lambda framed: framed[:2] + b"\xff\xff" + framed[4:], "mismatched"),
    ],
    ids=["ends early", "half a length", "nothing", "empty", "another id"],
)
def test_what_is_wrong_by_tcp_fails(server: Server, inquiry: Inquiry, hurt: object, count: str) -> None:
    """By TCP nobody else can have sent it, so there is nothing better to wait for."""
    server.put("many.example", "A", 60, *[f"192.0.2.{index}" for index in range(60)])
    server.hurt_stream = hurt  # type: ignore[assignment]
    assert isinstance(inquiry.ask("many.example"), Failed)
    assert inquiry.counts[count] == 2


def test_answers_to_something_else_are_ignored_until_the_true_one_comes(server: Server, inquiry: Inquiry) -> None:
    """Another id, another name, another kind, no answer at all, no header: counted, and waited on."""

    def behave(query: dns.message.Message, asked: Asked) -> Sequence[bytes]:
        true = server.reply(query).to_wire()
        number = bytes([true[0] ^ 1]) + true[1:]
        name, kind = (
            dns.message.make_response(dns.message.make_query(name, kind, id=query.id)).to_wire()
            for name, kind in (("b.example.", "A"), ("a.example.", "AAAA"))
        )
        return [number, name, kind, query.to_wire(), b"", b"\1\2\3", true]

    server.behave = behave
    assert inquiry.ask() == Found(numbers("192.0.2.1"), 60)
    assert inquiry.counts == {"mismatched": 4, "malformed": 2}
    assert len(server.asked) == 1


def test_a_flood_of_guesses_ends_the_try(server: Server, inquiry: Inquiry) -> None:
    """The next one has another port and another id."""

    def behave(query: dns.message.Message, asked: Asked) -> Sequence[bytes]:
        true = server.reply(query).to_wire()
        return [bytes([true[0] ^ 1]) + true[1:]] * MAX_IGNORED if len(server.asked) == 1 else [true]

    server.behave = behave
    assert inquiry.ask() == Found(numbers("192.0.2.1"), 60)
    assert inquiry.counts == {"mismatched": MAX_IGNORED}
    assert server.asked[0].port != server.asked[1].port


def test_nobody_but_the_resolver_is_heard(server: Server, inquiry: Inquiry) -> None:
    """The right answer from another port does not even reach the asker."""

    def behave(query: dns.message.Message, asked: Asked) -> Sequence[bytes]:
        forged = dns.message.make_response(query)
        forged.answer.append(dns.rrset.from_text("a.example.", 60, "IN", "A", "192.0.2.66"))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            stranger.sendto(forged.to_wire(), ("127.0.0.1", asked.port))
        return server.honest(query, asked)

    server.behave = behave
    assert inquiry.ask() == Found(numbers("192.0.2.1"), 60)


def test_an_oversized_datagram_fails(server: Server, inquiry: Inquiry) -> None:
    """Its header names the query, so its sender is the resolver."""
    server.behave = lambda query, asked: [server.reply(query).to_wire() + b"\0" * MAX_DATAGRAM]
    assert inquiry.ask() == Failed(
        f"an answer of more than {MAX_DATAGRAM} bytes from {resolver_words(server.resolver)}"
    )
    assert inquiry.counts == {"oversized": 2}


@pytest.mark.parametrize("count", [65, 300, 3000])
def test_too_many_addresses_fail(server: Server, inquiry: Inquiry, count: int) -> None:
    """Counted, whether they are too many addresses or too many records; none is taken."""
    server.put("many.example", "A", 60, *[f"192.0.{index // 256}.{index % 256}" for index in range(count)])
    assert isinstance(inquiry.ask("many.example"), Failed)
    assert inquiry.counts == {"truncated": 2, "oversized": 2}


def test_what_was_ignored_is_told(server: Server, inquiry: Inquiry) -> None:
    """A resolver that answers nonsense is something else than a silent one."""
    server.behave = lambda query, asked: [b"?"] * 3
    inquiry.asker.ask(Question(dns_name("a.example"), A))
    finished: list[tuple[Question, Outcome]] = []
    for tries in (1, 2):
        wait_for(lambda tries=tries: inquiry.asker.wait(0.1) or inquiry.counts["malformed"] == 3 * tries)  # type: ignore[misc]
        inquiry.now += 101
        finished = inquiry.asker.wait(0.0)
    words = f"no answer from {resolver_words(server.resolver)}, but 3 that do not belong to the question"
    assert [outcome for _, outcome in finished] == [Failed(words)]


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(garbage=st.lists(st.binary(max_size=200), max_size=5), keep=st.booleans())
def test_garbage_before_the_answer_changes_nothing(
    server: Server, inquiry: Inquiry, garbage: list[bytes], keep: bool
) -> None:
    """Arbitrary bytes, also behind a true id: the true answer is the one that counts."""

    def behave(query: dns.message.Message, asked: Asked) -> Sequence[bytes]:
        head = query.to_wire()[:2] if keep else b""
        return [*(head + one for one in garbage), server.reply(query).to_wire()]

    server.behave = behave
    outcome = inquiry.ask()
    assert outcome == Found(numbers("192.0.2.1"), 60) or (keep and isinstance(outcome, Failed))
