"""One name's life: when it is asked for again, what answers do to its address set, and how long that lives on."""

from __future__ import annotations

import pytest

from kpf_ebpf.facts.model import NameFact
from kpf_ebpf.facts.names import NOT_LOOKED_UP
from kpf_ebpf.names.entry import LAPSED
from kpf_ebpf.names.model import Failed, Missing, NameState
from kpf_ebpf.names.wire import AAAA, A
from tests.unit.names.helpers import numbers
from tests.unit.names.life import NAME, NO_ADDRESS, NO_NAME, SILENCE, Life, found


def test_a_name_that_was_never_asked_for_says_so() -> None:
    """No addresses, and an error instead of a time to live."""
    assert Life(NAME).state() == NameState(NAME, error=NOT_LOOKED_UP)


def test_both_kinds_make_one_set() -> None:
    """A and AAAA are asked at once; the set is sorted; its time to live is the shorter one."""
    life = Life(NAME)
    life.answer(found(60, "192.0.2.2", "192.0.2.1"), found(50, "2001:db8::1"))
    life.step()
    assert life.times(A) == life.times(AAAA) == [life.now]
    assert life.state() == NameState(NAME, numbers("192.0.2.1", "192.0.2.2", "2001:db8::1"), ttl=50.0)
    assert life.changed()
    assert not life.changed()


def test_a_name_without_ipv6_simply_has_none() -> None:
    """That is no failure, and it is asked again only together with A."""
    life = Life(NAME)
    life.answer(found(100, "192.0.2.1"))
    life.run(1000)
    assert life.state().error is None
    assert life.times(A) == life.times(AAAA)
    assert len(life.times(A)) <= 14


@pytest.mark.parametrize("first", [NO_ADDRESS, NO_NAME])
def test_the_order_of_two_answers_does_not_matter(first: Missing) -> None:
    """AAAA may well be answered before A: until then nothing is known, afterwards all is well."""
    life = Life(NAME)
    questions = sorted(life.book.questions(10, life.now), key=lambda question: -question.kind)
    life.book.take(questions[0], first, life.now)
    assert life.state().error == NOT_LOOKED_UP
    life.book.take(questions[1], found(60, "192.0.2.1"), life.now)
    assert life.state() == NameState(NAME, numbers("192.0.2.1"), ttl=60.0)


@pytest.mark.parametrize("seed", range(20))
def test_a_name_is_asked_for_again_before_its_time_is_over(seed: int) -> None:
    """After 80 to 90 percent of its time to live, by chance; so it never lives on grace while it is answered."""
    life = Life(NAME, seed=seed, grace=0.0)
    life.answer(found(100, "192.0.2.1"))
    life.run(2000)
    gaps = life.gaps()
    assert len(gaps) > 20
    assert all(80 <= gap <= 90 for gap in gaps)
    assert max(gaps) - min(gaps) > 1


def test_a_set_never_lapses_while_it_is_answered() -> None:
    """Without any grace the set is there all the time."""
    life = Life(NAME, grace=0.0)
    life.answer(found(10, "192.0.2.1"))
    life.step()
    assert life.changed()
    life.run(1000)
    assert not life.changed()
    assert life.addresses() == numbers("192.0.2.1")


def test_a_new_answer_replaces_the_old_one_within_the_time_to_live() -> None:
    """The new address is there, the old one is not: sets do not grow together."""
    life = Life(NAME)
    life.answer(found(100, "192.0.2.1", "192.0.2.2"))
    life.step()
    assert life.changed()
    life.answer(found(100, "192.0.2.2", "192.0.2.3"))
    life.run(100)
    assert life.changed()
    assert life.addresses() == numbers("192.0.2.2", "192.0.2.3")


def test_a_time_to_live_is_bounded_at_both_ends() -> None:
    """0 counts as a second, a year as a day."""
    life = Life(NAME)
    life.answer(found(0, "192.0.2.1"))
    life.run(100)
    assert all(0.8 <= gap <= 0.9 for gap in life.gaps())
    life.answer(found(365 * 86400, "192.0.2.1"))
    life.run(1)
    assert 86398 < (life.state().ttl or 0) <= 86400
    life.asked.clear()
    life.run(86400 * 0.9)
    assert len(life.times()) == 1


def test_failures_are_repeated_ever_more_slowly() -> None:
    """Between 1 s and 60 s, doubling, spread by chance."""
    life = Life(NAME)
    life.run(3000)
    gaps = life.gaps()
    ranges = [(1, 2), (2, 4), (4, 8), (8, 16), (16, 32), (30, 60)] + [(30, 60)] * len(gaps)
    assert all(low <= gap <= high for gap, (low, high) in zip(gaps, ranges, strict=False))
    assert len(set(gaps)) == len(gaps)


def test_success_forgets_earlier_failures() -> None:
    """After a good answer the first failure waits shortly again."""
    life = Life(NAME)
    life.run(500)
    life.answer(found(100, "192.0.2.1"))
    life.run(60)
    assert life.state().error is None
    life.answer(SILENCE, SILENCE)
    life.asked.clear()
    life.run(92)
    assert len(life.times()) >= 2
    assert life.gaps()[0] <= 2


@pytest.mark.parametrize("outcome", [SILENCE, NO_ADDRESS, NO_NAME])
def test_a_failing_name_lives_on_grace_and_then_has_no_addresses(outcome: Missing | Failed) -> None:
    """Silence, no such name, and no addresses are alike: the last good set stays for the grace, not longer."""
    life = Life(NAME, grace=100.0)
    life.answer(found(50, "192.0.2.1"), found(50, "2001:db8::1"))
    life.step()
    assert life.changed()
    life.answer(outcome, outcome)
    life.run(49)
    assert (life.state().ttl, life.state().grace, life.state().error) == (1.0, None, outcome.words)
    life.run(31)
    assert life.state() == NameState(NAME, numbers("192.0.2.1", "2001:db8::1"), 0.0, 70.0, outcome.words)
    life.run(69)
    assert not life.changed()
    life.run(1)
    assert life.changed()
    assert life.state() == NameState(NAME, (), 0.0, 0.0, outcome.words)


def test_a_set_that_ends_while_the_answer_is_awaited_says_why() -> None:
    """Nothing failed yet, but nothing is known any more."""
    life = Life(NAME, grace=0.0)
    life.answer(found(10, "192.0.2.1"))
    life.step()
    life.now += 9.5
    assert life.book.questions(10, life.now)
    life.now += 0.5
    assert life.state() == NameState(NAME, (), 0.0, 0.0, LAPSED)


def test_a_healed_name_is_as_before() -> None:
    """From grace, and from nothing."""
    life = Life(NAME, grace=100.0)
    life.answer(found(50, "192.0.2.1"))
    life.step()
    for failing, grace in ((90, 60.0), (2000, 0.0)):
        life.answer(SILENCE, SILENCE)
        life.run(failing)
        assert life.state().grace == grace
        life.answer(found(100, "192.0.2.1"))
        life.run(60)
        assert (life.state().grace, life.state().error, life.addresses()) == (None, None, numbers("192.0.2.1"))


def test_a_name_that_vanishes_does_not_lose_one_kind_before_the_other() -> None:
    """Its two "no such name" come one after the other; the older good answer of the other kind proves nothing."""
    life = Life(NAME)
    life.answer(found(50, "192.0.2.1"), found(50, "2001:db8::1"))
    life.step()
    life.now += 45
    for question in life.book.questions(10, life.now):
        life.book.take(question, NO_NAME, life.now)
        assert life.addresses() == numbers("192.0.2.1", "2001:db8::1")


def test_a_kind_that_is_given_up_goes_at_once() -> None:
    """A name that still answers AAAA, and says that it has no A any more, has none."""
    life = Life(NAME)
    life.answer(found(50, "192.0.2.1"), found(50, "2001:db8::1"))
    life.step()
    life.answer(NO_ADDRESS, found(50, "2001:db8::2"))
    life.run(46)
    assert (life.addresses(), life.state().error) == (numbers("2001:db8::2"), None)


def test_a_kind_that_fails_does_not_hold_up_the_other() -> None:
    """A server that is silent about AAAA: A is replaced as ever, AAAA lives on grace, and the error names it."""
    life = Life(NAME, grace=100.0)
    life.answer(found(50, "192.0.2.1"), found(50, "2001:db8::1"))
    life.step()
    life.answer(found(50, "192.0.2.2"), SILENCE)
    life.run(60)
    assert life.addresses() == numbers("192.0.2.2", "2001:db8::1")
    assert (life.state().grace, life.state().error) == (90.0, f"AAAA: {SILENCE.words}")
    life.run(100)
    assert life.addresses() == numbers("192.0.2.2")


def test_a_kind_on_its_way_does_not_hold_up_the_other() -> None:
    """While AAAA is still awaited, A is taken, and asked for again when its time comes."""
    life = Life(NAME)
    first = {question.kind: question for question in life.book.questions(10, life.now)}
    life.book.take(first[A], found(10, "192.0.2.1"), life.now)
    assert life.addresses() == numbers("192.0.2.1")
    life.now += 9
    assert [question.kind for question in life.book.questions(10, life.now)] == [A]


def test_a_known_set_is_a_last_good_one_whose_grace_begins() -> None:
    """What a previous life knew is no change; it stays until it is answered anew or the grace is over."""
    life = Life(grace=100.0)
    life.retarget([NAME], {NAME: NameFact(NAME, numbers("192.0.2.1", "2001:db8::1"), 300)})
    assert not life.changed()
    assert life.state() == NameState(NAME, numbers("192.0.2.1", "2001:db8::1"), 0.0, 100.0, NOT_LOOKED_UP)
    life.run(99)
    assert not life.changed()
    life.run(1)
    assert life.changed()
    assert life.addresses() == ()


def test_a_known_set_is_replaced_by_the_first_answer() -> None:
    """And by the same answer it becomes a good one, without a change."""
    for answer, changes in (("192.0.2.1", False), ("192.0.2.2", True)):
        life = Life()
        life.retarget([NAME], {NAME: NameState(NAME, numbers("192.0.2.1"))})
        life.answer(found(60, answer))
        life.step()
        assert life.changed() is changes
        assert life.state() == NameState(NAME, numbers(answer), 60.0)
