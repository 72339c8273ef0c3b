"""All names together: which are kept, what they may never mean, and how much is asked at once."""

from __future__ import annotations

import pytest

from kpf_ebpf.facts.model import NameFact
from kpf_ebpf.names import book as book_module
from kpf_ebpf.names.book import is_local
from kpf_ebpf.names.model import Found, NameState
from tests.unit.names.helpers import numbers
from tests.unit.names.life import NAME, SILENCE, Life, found


def test_a_known_set_with_a_local_address_is_a_change() -> None:
    """What may not be believed now is dropped, though it was believed before."""
    life = Life()
    life.retarget([NAME], {NAME: NameFact(NAME, numbers("192.0.2.1", "10.0.0.1"))}, own_addresses=numbers("10.0.0.1"))
    assert life.addresses() == numbers("192.0.2.1")
    assert life.changed()


LOCAL = ["127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.1", "0.0.0.0", "::", "224.0.0.1", "ff02::1", "169.254.1.1"]
LOCAL += ["fe80::1", "255.255.255.255", "10.0.0.1"]
OWN = numbers("10.0.0.1")


@pytest.mark.parametrize("address", LOCAL)
def test_an_answer_cannot_mean_this_host(address: str) -> None:
    """Loopback, unspecified, multicast, link-local, and own addresses are dropped, counted, and told."""
    life = Life()
    life.answer(found(60, address))
    life.retarget([NAME], own_addresses=OWN)
    life.step()
    assert life.addresses() == ()
    assert (life.state().error or "").startswith("A: only addresses of this host or its link were answered: ")
    assert life.refused == 1


@pytest.mark.parametrize("address", ["10.0.0.2", "172.16.0.1", "192.168.1.1", "fd00::1", "169.253.0.1", "100.64.0.1"])
def test_private_addresses_are_legitimate(address: str) -> None:
    """The names of a local network mean such addresses."""
    assert not is_local(numbers(address)[0], frozenset(OWN))


def test_a_local_address_beside_others_is_dropped_alone() -> None:
    """The rest of the answer is good."""
    life = Life(NAME)
    life.answer(found(60, "127.0.0.1", "192.0.2.1"))
    life.step()
    assert life.state() == NameState(NAME, numbers("192.0.2.1"), 60.0)
    assert life.refused == 1


def test_an_answer_of_local_addresses_only_leaves_the_last_good_set() -> None:
    """It is a failure like others."""
    life = Life(NAME, grace=100.0)
    life.answer(found(50, "192.0.2.1"))
    life.step()
    life.answer(found(50, "127.0.0.1"))
    life.run(60)
    assert life.addresses() == numbers("192.0.2.1")
    assert life.state().grace == 90.0


def test_a_name_may_mean_this_host_if_a_rule_says_so() -> None:
    """Once it is allowed it is asked for at once; once it is not, the address goes at once."""
    life = Life(NAME, "b.example")
    life.answer(found(1000, "127.0.0.1"))
    life.answer(found(1000, "127.0.0.1"), name="b.example")
    life.run(500)
    life.retarget([NAME, "b.example"], allowed_local=[NAME])
    life.step()
    assert (life.addresses(), life.addresses("b.example")) == (numbers("127.0.0.1"), ())
    assert life.changed()
    life.retarget([NAME, "b.example"])
    assert life.addresses() == ()
    assert life.changed()


def test_own_addresses_may_change() -> None:
    """An address that becomes this host's goes at once, one that is not any more is asked for at once."""
    life = Life(NAME)
    life.answer(found(1000, "10.0.0.1", "192.0.2.1"))
    life.step()
    life.retarget([NAME], own_addresses=OWN)
    assert life.addresses() == numbers("192.0.2.1")
    life.step()
    life.retarget([NAME])
    life.step()
    assert life.addresses() == numbers("10.0.0.1", "192.0.2.1")
    assert len(life.times()) == 3


def test_another_policy_is_no_reason_to_ask_again() -> None:
    """A name that fails waits for its turn, however often the policy is read."""
    life = Life(NAME, "b.example")
    life.answer(found(1000, "127.0.0.1"))
    life.run(500)
    life.asked.clear()
    for _ in range(10):
        life.retarget([NAME, "b.example"])
        life.step()
    assert not life.asked


def test_a_hosts_file_goes_before_dns() -> None:
    """A listed name is not asked for, may be anything, and has no time to live."""
    life = Life()
    life.hosts = "127.0.1.1 a.example\n192.0.2.9 A.EXAMPLE\n"
    life.retarget([NAME])
    life.run(1000)
    assert life.state() == NameState(NAME, numbers("127.0.1.1", "192.0.2.9"))
    assert not life.asked


def test_a_name_that_comes_and_goes_in_the_hosts_file() -> None:
    """Each change counts at once; what DNS said before is not remembered."""
    life = Life(NAME)
    life.answer(found(1000, "192.0.2.1"))
    life.step()
    life.hosts = "192.0.2.9 a.example"
    life.place()
    assert life.addresses() == numbers("192.0.2.9")
    life.hosts = "192.0.2.8 a.example"
    life.place()
    assert life.addresses() == numbers("192.0.2.8")
    life.hosts = ""
    life.place()
    assert life.addresses() == ()
    life.step()
    assert life.addresses() == numbers("192.0.2.1")
    assert len(life.times()) == 2


def test_an_answer_on_its_way_does_not_overrule_the_hosts_file() -> None:
    """It was asked for before the file changed."""
    life = Life(NAME)
    questions = life.book.questions(10, life.now)
    life.hosts = "192.0.2.9 a.example"
    life.place()
    for question in questions:
        life.book.take(question, found(60, "192.0.2.1"), life.now)
    assert life.state() == NameState(NAME, numbers("192.0.2.9"))


def test_a_hosts_file_that_stays_changes_nothing() -> None:
    """Looking again does not ask again."""
    life = Life(NAME)
    life.answer(found(1000, "192.0.2.1"))
    life.step()
    life.place()
    life.run(100)
    assert len(life.times()) == 1


def test_localhost_is_this_host_and_never_asked_for() -> None:
    """RFC 6761; the hosts file may say otherwise."""
    life = Life("localhost", "a.localhost.")
    life.run(100)
    assert life.addresses("localhost") == life.addresses("a.localhost.") == numbers("127.0.0.1", "::1")
    assert not life.asked
    life.hosts = "127.0.0.1 localhost"
    life.place()
    assert life.addresses("localhost") == numbers("127.0.0.1")


def test_literals_are_what_they_say() -> None:
    """An address is no name: nobody is asked, and the user may well mean this host."""
    life = Life("127.0.0.1", "2001:db8::1")
    assert life.changed()
    life.run(100)
    assert life.book.states(life.now) == {text: NameState(text, numbers(text)) for text in ("127.0.0.1", "2001:db8::1")}
    assert not life.asked


def test_a_word_that_cannot_be_a_name_is_told() -> None:
    """And not asked for, whatever happens."""
    life = Life("a..b")
    life.book.hurry(life.now)
    life.run(100)
    assert life.state("a..b") == NameState("a..b", error=book_module.NOT_A_NAME)
    assert not life.asked


def test_the_number_of_names_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names beyond the bound are told; when there is room again they are asked for."""
    monkeypatch.setattr(book_module, "MAX_NAMES", 1)
    life = Life(NAME, "b.example", "192.0.2.9")
    life.step()
    assert life.state("b.example").error == "more than 1 names"
    assert life.addresses("192.0.2.9") == numbers("192.0.2.9")
    life.retarget(["b.example"])
    life.step()
    assert life.times(name="b.example")


def test_names_that_stay_keep_what_they_have() -> None:
    """Another policy with the same name does not ask again; names that went are forgotten."""
    life = Life(NAME, "b.example")
    life.answer(found(1000, "192.0.2.1"))
    life.step()
    assert life.changed()
    life.retarget([NAME], {NAME: NameFact(NAME, numbers("192.0.2.7"))})
    life.run(100)
    assert life.addresses() == numbers("192.0.2.1")
    assert list(life.book.states(life.now)) == [NAME]
    assert len(life.times()) == 1
    assert not life.changed()


def test_an_answer_for_a_name_that_went_is_nothing() -> None:
    """Nor for one that went and came back meanwhile: it is asked for anew."""
    life = Life(NAME)
    question = life.book.questions(1, life.now)[0]
    life.retarget([])
    life.retarget([NAME])
    life.book.take(question, found(60, "192.0.2.1"), life.now)
    assert life.addresses() == ()
    assert len(life.book.questions(10, life.now)) == 2


def test_the_grace_can_change() -> None:
    """It counts for the names that are living on it."""
    life = Life(NAME, grace=1000.0)
    life.answer(found(10, "192.0.2.1"))
    life.step()
    life.answer(SILENCE, SILENCE)
    life.run(60)
    life.retarget([NAME], grace=60.0)
    assert life.state().grace == 10.0
    life.run(10)
    assert life.addresses() == ()


def test_the_same_answer_is_no_change() -> None:
    """In whatever order its records come."""
    life = Life(NAME)
    life.answer(found(10, "192.0.2.1", "192.0.2.2"))
    life.step()
    assert life.changed()
    life.answer(Found(tuple(reversed(numbers("192.0.2.1", "192.0.2.2"))), 10))
    life.run(100)
    assert not life.changed()


def test_questions_wait_for_room() -> None:
    """No more are given than fit; what is given back comes first."""
    names = [f"n{index}.example" for index in range(10)]
    life = Life(*names)
    first = life.book.questions(3, life.now)
    assert len(first) == 3
    assert life.book.next_time() <= life.now
    life.book.again(first)
    again = life.book.questions(100, life.now)
    assert len(again) == 20
    assert set(again[:3]) == set(first)
    assert life.book.next_time() > life.now


def test_failing_names_can_be_hurried() -> None:
    """Other resolvers may know them: they are asked for now, good ones when their time comes."""
    life = Life(NAME, "good.example")
    life.answer(found(10_000, "192.0.2.1"), name="good.example")
    life.run(500)
    life.asked.clear()
    life.book.hurry(life.now)
    life.step()
    assert life.times() == [life.now]
    assert not life.times(name="good.example")


def test_a_long_life_needs_no_more_memory() -> None:
    """Names with short lives set many alarms; those that will not be needed are thrown away."""
    names = [f"n{index}.example" for index in range(20)]
    life = Life(*names, grace=100_000.0)
    for name in names:
        life.answer(found(1, "192.0.2.1"), name=name)
    life.run(500)
    assert len(life.asked) > 2 * 20 * 500
    assert len(life.book._alarms) <= 2 * 20 + 65
    assert not life.book._askers
