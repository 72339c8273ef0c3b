"""Questions on their way to real servers on this host: turns, truncation, chains, and everything that goes wrong."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import replace

import dns.message
import dns.rcode
import pytest

from kpf_ebpf.facts.addresses import number
from kpf_ebpf.names import asker as asker_module
from kpf_ebpf.names.asker import MAX_RUNNING, Question
from kpf_ebpf.names.link import resolver_words
from kpf_ebpf.names.model import Failed, Found, Missing
from kpf_ebpf.names.wire import AAAA, A
from tests.unit.names.helpers import DEADLINE, descriptors, dns_name, numbers, wait_for
from tests.unit.names.inquiry import PATIENT, Inquiry, one_alias_at_a_time, silent, truncated
from tests.unit.names.server import Asked, Server


def test_both_kinds_are_answered(server: Server, inquiry: Inquiry) -> None:
    """Addresses with their time to live."""
    server.put("a.example", "AAAA", 50, "2001:db8::1", "2001:db8::2")
    assert inquiry.ask() == Found(numbers("192.0.2.1"), 60)
    assert inquiry.ask(kind=AAAA) == Found(numbers("2001:db8::1", "2001:db8::2"), 50)
    assert not inquiry.counts


def test_nothing_is_put_behind_a_name(server: Server, inquiry: Inquiry) -> None:
    """A name is absolute, also one without dots; nothing else is tried for it."""
    assert inquiry.ask("printer") == Missing("no such name")
    assert [asked.name for asked in server.asked] == ["printer"]


def test_no_such_name_and_no_address_are_answers(server: Server, inquiry: Inquiry) -> None:
    """No other resolver is asked then."""
    assert inquiry.ask("b.example") == Missing("no such name")
    assert inquiry.ask(kind=AAAA) == Missing("no address")
    assert len(server.asked) == 2


def test_each_query_has_a_port_and_an_id_of_its_own(server: Server, inquiry: Inquiry) -> None:
    """Who wants to guess an answer must guess both."""
    for _ in range(20):
        inquiry.ask()
    assert len({asked.port for asked in server.asked}) > 15
    assert len({asked.number for asked in server.asked}) > 15


def test_an_alias_is_followed_to_its_addresses(server: Server, inquiry: Inquiry) -> None:
    """One answer tells the whole chain; the shortest time to live counts."""
    server.put("b.example", "CNAME", 7, "c.example.")
    server.put("c.example", "CNAME", 9, "a.example.")
    assert inquiry.ask("b.example") == Found(numbers("192.0.2.1"), 7)
    assert inquiry.ask("b.example", AAAA) == Missing("no address")
    assert len(server.asked) == 2


def test_an_alias_alone_is_asked_further(server: Server, inquiry: Inquiry) -> None:
    """A server that does not ask others tells one link of a chain."""

    def behave(query: dns.message.Message, asked: Asked) -> Sequence[bytes]:
        return server.honest(query, asked) if asked.name == "n3.example" else one_alias_at_a_time(query, asked)

    server.put("n3.example", "A", 60, "192.0.2.3")
    server.behave = behave
    assert inquiry.ask("n0.example") == Found(numbers("192.0.2.3"), 57)
    assert [asked.name for asked in server.asked] == [f"n{index}.example" for index in range(4)]


def test_a_truncated_answer_is_asked_for_by_tcp(server: Server, inquiry: Inquiry) -> None:
    """What does not fit into a datagram comes whole by TCP."""
    many = [f"192.0.2.{index}" for index in range(1, 61)]
    server.put("many.example", "A", 60, *many)
    assert inquiry.ask("many.example") == Found(numbers(*many), 60)
    assert [asked.way for asked in server.asked] == ["udp", "tcp"]
    assert inquiry.counts == {"truncated": 1}


def test_a_lost_datagram_is_sent_again(server: Server, inquiry: Inquiry) -> None:
    """One resolver is tried twice."""
    server.behave = lambda query, asked: (server.honest if len(server.asked) > 1 else inquiry.silent)(query, asked)
    assert inquiry.ask() == Found(numbers("192.0.2.1"), 60)


def test_silence_fails_in_the_end(server: Server, inquiry: Inquiry) -> None:
    """After two tries, and the error names the resolver."""
    server.behave = inquiry.silent
    assert inquiry.ask() == Failed(f"no answer from {resolver_words(server.resolver)}")
    assert len(server.asked) == 2


def test_a_question_has_an_end(server: Server) -> None:
    """However many tries are left."""
    made = Inquiry(server.resolver, pace=replace(PATIENT, question_timeout=50.0))
    server.behave = made.silent
    assert made.ask() == Failed(f"no answer from {resolver_words(server.resolver)}")
    assert len(server.asked) == 1
    made.asker.close()


def test_without_resolvers_nothing_can_be_known(inquiry: Inquiry) -> None:
    """An empty resolv.conf is an error, not a crash."""
    inquiry.asker.use(())
    assert inquiry.ask() == Failed("no resolver is known")


def test_a_closed_port_fails_at_once(server: Server, inquiry: Inquiry) -> None:
    """The kernel tells that nobody listens there."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
    resolver = (numbers("127.0.0.1")[0], port)
    inquiry.asker.use((resolver,))
    assert inquiry.ask() == Failed(f"127.0.0.1:{port}: Connection refused")
    inquiry.asker.use((resolver, server.resolver))
    assert inquiry.ask() == Found(numbers("192.0.2.1"), 60)


def test_an_address_without_a_way_fails(server: Server, inquiry: Inquiry) -> None:
    """A link-local resolver without its adapter cannot even be sent to."""
    resolver = (numbers("fe80::53")[0], 53)
    inquiry.asker.use((resolver, server.resolver))
    assert inquiry.ask() == Found(numbers("192.0.2.1"), 60)
    inquiry.asker.use((resolver,))
    outcome = inquiry.ask()
    assert isinstance(outcome, Failed)
    assert outcome.words.startswith("fe80::53: ")


def test_the_first_resolver_is_asked_while_it_answers(server: Server, other: Server, inquiry: Inquiry) -> None:
    """The others only wait."""
    inquiry.asker.use((server.resolver, other.resolver))
    for _ in range(3):
        assert inquiry.ask() == Found(numbers("192.0.2.1"), 60)
    assert not other.asked


def test_a_silent_resolver_is_passed_over_for_a_while(server: Server, other: Server, inquiry: Inquiry) -> None:
    """The next one is asked, from then on first; when the rest is over, one question tries the silent one."""
    inquiry.asker.use((server.resolver, other.resolver))
    server.behave = inquiry.silent
    assert inquiry.ask() == inquiry.ask() == Found(numbers("192.0.2.2"), 60)
    assert len(server.asked) == 1
    inquiry.now += PATIENT.rest
    server.behave = silent
    for _ in range(5):
        inquiry.asker.ask(Question(dns_name("a.example"), A))
    inquiry.outcomes(4)
    wait_for(lambda: len(server.asked) == 2)
    inquiry.now += 101
    inquiry.outcomes(1)
    assert len(server.asked) == 2
    server.behave = server.honest
    inquiry.now += PATIENT.rest
    assert inquiry.ask() == inquiry.ask() == Found(numbers("192.0.2.1"), 60)
    assert len(other.asked) == 7


@pytest.mark.parametrize("code", [dns.rcode.SERVFAIL, dns.rcode.REFUSED, dns.rcode.FORMERR, dns.rcode.NOTIMP])
def test_a_resolver_that_cannot_tell_leaves_it_to_the_next(
    server: Server, other: Server, inquiry: Inquiry, code: dns.rcode.Rcode
) -> None:
    """It answers, so it is asked first for other names still."""

    def behave(query: dns.message.Message, asked: Asked) -> Sequence[bytes]:
        reply = dns.message.make_response(query)
        reply.set_rcode(code)
        return [reply.to_wire()]

    server.behave = behave
    inquiry.asker.use((server.resolver, other.resolver))
    assert inquiry.ask() == inquiry.ask() == Found(numbers("192.0.2.2"), 60)
    assert len(server.asked) == 2
    inquiry.asker.use((server.resolver,))
    words = f"{dns.rcode.to_text(code)} from {resolver_words(server.resolver)}"
    assert inquiry.ask() == Failed(words)


def test_every_error_of_a_question_is_told_once(server: Server, other: Server, inquiry: Inquiry) -> None:
    """Two resolvers, two reasons."""
    inquiry.asker.use((server.resolver, other.resolver))
    server.behave = inquiry.silent
    other.behave = lambda query, asked: [dns.message.make_response(query).to_wire()[:-1]]
    words = f"an answer that cannot be read from {resolver_words(other.resolver)}"
    assert inquiry.ask() == Failed(f"no answer from {resolver_words(server.resolver)}; {words}")


def test_questions_on_their_way_are_bounded_and_given_back(server: Server, inquiry: Inquiry) -> None:
    """Each holds one socket; other resolvers make all of them begin again."""
    server.behave = silent
    before = descriptors()
    questions = [Question(dns_name("a.example"), A) for _ in range(MAX_RUNNING)]
    for question in questions:
        inquiry.asker.ask(question)
    assert inquiry.asker.room == 0
    assert len(descriptors() - before) <= MAX_RUNNING + 1
    assert inquiry.asker.use((server.resolver,)) == questions
    assert inquiry.asker.room == MAX_RUNNING
    assert len(descriptors() - before) <= 1


def test_closing_gives_everything_back(server: Server) -> None:
    """Also with questions on their way, by UDP and by TCP."""
    server.behave = lambda query, asked: truncated(query, asked) if asked.way == "udp" else []
    before = len(descriptors())
    made = Inquiry(server.resolver)
    for _ in range(10):
        made.asker.ask(Question(dns_name("a.example"), A))
    made.asker.wait(0.1)
    made.asker.close()
    made = Inquiry(server.resolver)
    made.asker.close()
    server.close()
    assert len(descriptors()) <= before


def test_it_can_be_woken(inquiry: Inquiry) -> None:
    """Waiting ends at once, and the next one is a true one again."""
    inquiry.asker.wake()
    inquiry.asker.wake()
    assert inquiry.asker.wait(DEADLINE) == []
    assert inquiry.asker.wait(0.0) == []


def test_a_selector_that_is_full_is_an_error_of_one_try(
    server: Server, inquiry: Inquiry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The socket is closed again, and the question fails like others."""

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    before = len(descriptors())
    monkeypatch.setattr(inquiry.asker._selector, "register", refuse)
    assert inquiry.ask() == Failed(f"{resolver_words(server.resolver)}: No space left on device")
    assert len(descriptors()) == before


def test_no_descriptor_left_is_an_error_of_one_question(
    server: Server, inquiry: Inquiry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It passes; the next question is asked."""

    def refuse(*_: object) -> None:
        raise OSError(24, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(asker_module, "Datagram", refuse)
        assert inquiry.ask() == Failed(f"{resolver_words(server.resolver)}: Too many open files")
    assert inquiry.ask() == Found(numbers("192.0.2.1"), 60)


def test_a_resolver_is_written_as_in_a_policy() -> None:
    """The usual port is left out."""
    words = {"192.0.2.53": 53, "192.0.2.53:5353": 5353, "2001:db8::53": 53, "[2001:db8::53]:5353": 5353}
    for text, port in words.items():
        address = number(text.strip("[").partition("]")[0] if "[" in text else text.partition(":5353")[0])
        assert address is not None
        assert resolver_words((address, port)) == text
