"""The whole of it: names kept true by a thread, from a real server on this host."""

from __future__ import annotations

import gc
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import dns.message
import dns.rcode
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kpf_ebpf.facts.model import NameFact
from kpf_ebpf.names import NameKeeper, keeper, link
from kpf_ebpf.names.asker import MAX_RUNNING, Asker
from kpf_ebpf.names.model import Counts, NameState, Pace, Resolver
from tests.unit.names.helpers import QUICK, descriptors, numbers, wait_for
from tests.unit.names.server import Asked, Server

NAME = "a.example"
Make = Callable[..., NameKeeper]


@pytest.fixture
def make(server: Server, tmp_path: Path) -> Iterator[Make]:
    """Makes keepers that ask the server, with a hosts file of their own; ends them."""
    made: list[NameKeeper] = []

    def build(
        resolvers: str | Sequence[Resolver] = (server.resolver,), grace: float = 100.0, pace: Pace = QUICK
    ) -> NameKeeper:
        hosts, resolv_conf = str(tmp_path / "hosts"), str(tmp_path / "resolv.conf")
        made.append(NameKeeper(resolvers, grace, pace=pace, hosts=hosts, resolv_conf=resolv_conf))
        return made[-1]

    yield build
    for one in made:
        one.close()


def has(keeper: NameKeeper, *addresses: str, name: str = NAME) -> Callable[[], bool]:
    """Give the condition that a name means this."""
    return lambda: keeper.states()[name].addresses == numbers(*addresses)


def silent(query: dns.message.Message, asked: Asked) -> Sequence[bytes]:
    """Answer nothing."""
    return []


def our_threads() -> int:
    """How many threads resolve names."""
    return sum(thread.name == "kpf-names" for thread in threading.enumerate())


def test_a_name_is_resolved(server: Server, make: Make) -> None:
    """Both kinds, one set, with its time to live, and without an error."""
    server.put(NAME, "A", 60, "192.0.2.1")
    server.put(NAME, "AAAA", 60, "2001:db8::1")
    kept = make()
    assert not kept.changed()
    kept.retarget([NAME])
    wait_for(lambda: kept.changed() and has(kept, "192.0.2.1", "2001:db8::1")())
    state = kept.states()[NAME]
    assert 0 < (state.ttl or 0) <= 60
    assert (state.grace, state.error) == (None, None)
    assert not kept.changed()
    assert kept.counts() == Counts(asked=2, answered=2)


def test_a_state_is_a_fact_for_resolving_a_policy() -> None:
    """Whole seconds, and "" for no error."""
    assert NameState(NAME, (1,), 59.2).fact() == NameFact(NAME, (1,), 60, "")
    assert NameState(NAME, error="no such name").fact() == NameFact(NAME, (), None, "no such name")


def test_a_changed_answer_replaces_the_old_one(server: Server, make: Make) -> None:
    """Within the time to live of a second the new address is there and the old one is not."""
    server.put(NAME, "A", 1, "192.0.2.1")
    kept = make()
    kept.retarget([NAME])
    wait_for(has(kept, "192.0.2.1"))
    server.put(NAME, "A", 1, "192.0.2.2")
    wait_for(has(kept, "192.0.2.2"))
    assert kept.changed()


def test_a_name_that_is_gone_lives_on_grace_and_heals(server: Server, make: Make) -> None:
    """Its last good set stays, then it has none and says so, then it is back."""
    server.put(NAME, "A", 1, "192.0.2.1")
    kept = make(grace=1.5)
    kept.retarget([NAME])
    wait_for(has(kept, "192.0.2.1"))
    server.drop(NAME)
    wait_for(lambda: kept.states()[NAME].grace)
    assert kept.states()[NAME].error == "no such name"
    wait_for(has(kept))
    assert (kept.states()[NAME].grace, kept.states()[NAME].error) == (0.0, "no such name")
    server.put(NAME, "A", 60, "192.0.2.1")
    wait_for(has(kept, "192.0.2.1"))
    assert kept.states()[NAME].error is None


def test_five_hundred_names_fill(server: Server, make: Make) -> None:
    """All of them, by one thread and a bounded number of sockets."""
    names = [f"n{index}.example" for index in range(500)]
    for index, name in enumerate(names):
        server.put(name, "A", 600, f"198.51.{index // 250}.{index % 250 + 1}")
    kept = make()
    kept.retarget(names)
    wait_for(lambda: kept.counts().answered == 1000)
    states = kept.states()
    assert all(len(states[name].addresses) == 1 and states[name].error is None for name in names)
    assert len({states[name].addresses for name in names}) == 500


def test_ten_thousand_names_need_one_thread_and_bounded_sockets(server: Server, make: Make) -> None:
    """While nobody answers, as many questions are on their way as may be, and no more."""
    server.behave = silent
    before, threads = descriptors(), our_threads()
    kept = make()
    kept.retarget(f"n{index}.example" for index in range(10_000))
    wait_for(lambda: len(server.asked) >= MAX_RUNNING)
    assert kept.counts().asked == MAX_RUNNING
    assert len(descriptors() - before) <= MAX_RUNNING + 3
    assert our_threads() == threads + 1
    assert len(kept.states()) == 10_000


def test_the_callers_thread_never_opens_a_socket(server: Server, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """All waiting is done elsewhere; with a silent server every method still returns."""
    opened: list[str] = []
    true = link._open

    def open_socket(resolver: Resolver, kind: int) -> socket.socket:
        opened.append(threading.current_thread().name)
        return true(resolver, kind)

    monkeypatch.setattr(link, "_open", open_socket)
    server.behave = silent
    kept = make()
    for names in ([], [NAME], [NAME, "b.example"]):
        kept.retarget(names)
        kept.changed()
        kept.states()
        kept.counts()
    wait_for(lambda: opened)
    kept.close()
    assert set(opened) == {"kpf-names"}


def test_the_hosts_file_goes_before_dns_and_is_read_again(server: Server, make: Make, tmp_path: Path) -> None:
    """A listed name may even be this host; once it is not listed any more, DNS is asked."""
    server.put(NAME, "A", 60, "192.0.2.1")
    (tmp_path / "hosts").write_text("127.0.0.1 a.example\n")
    kept = make()
    kept.retarget([NAME])
    wait_for(has(kept, "127.0.0.1"))
    assert not server.asked
    (tmp_path / "hosts").write_text("192.0.2.77 a.example\n")
    wait_for(has(kept, "192.0.2.77"))
    (tmp_path / "hosts").unlink()
    wait_for(has(kept, "192.0.2.1"))


def test_a_name_that_is_new_is_looked_for_in_the_hosts_file(server: Server, make: Make, tmp_path: Path) -> None:
    """The file did not change, but what is wanted of it did."""
    (tmp_path / "hosts").write_text("192.0.2.77 b.example\n")
    kept = make()
    kept.retarget([NAME])
    wait_for(lambda: kept.states()[NAME].error == "no such name")
    kept.retarget([NAME, "b.example"])
    wait_for(has(kept, "192.0.2.77", name="b.example"))
    assert not server.count("b.example")


def test_the_systems_resolvers_are_read_again(
    server: Server, make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A changed resolv.conf counts at once: names that fail are asked for without waiting for their turn."""
    server.put(NAME, "A", 60, "192.0.2.1")
    monkeypatch.setattr(
        keeper, "system_resolvers", lambda path: (server.resolver,) if Path(path).read_text() == "here" else ()
    )
    (tmp_path / "resolv.conf").write_text("nowhere")
    kept = make("system")
    kept.retarget([NAME])
    wait_for(lambda: kept.states()[NAME].error == "no resolver is known")
    (tmp_path / "resolv.conf").write_text("here")
    wait_for(has(kept, "192.0.2.1"))
    kept.retarget([NAME, "b.example"], resolvers=[])
    wait_for(lambda: kept.states()["b.example"].error == "no resolver is known")
    kept.retarget([NAME, "b.example"], resolvers="system")
    wait_for(lambda: kept.states()["b.example"].error == "no such name")


def test_other_resolvers_take_over_what_is_on_its_way(server: Server, make: Make) -> None:
    """Questions to a silent resolver are asked again at once when the policy names another one."""
    server.behave = silent
    kept = make()
    kept.retarget([NAME])
    wait_for(lambda: server.asked)
    with Server() as other:
        other.put(NAME, "A", 60, "192.0.2.2")
        kept.retarget([NAME], resolvers=[other.resolver])
        wait_for(has(kept, "192.0.2.2"))
        wait_for(lambda: kept.counts() == Counts(asked=2, answered=2))


def test_resolvers_are_asked_in_turn(server: Server, make: Make) -> None:
    """One that cannot tell leaves it to the next."""

    def behave(query: dns.message.Message, asked: Asked) -> Sequence[bytes]:
        reply = dns.message.make_response(query)
        reply.set_rcode(dns.rcode.SERVFAIL)
        return [reply.to_wire()]

    server.behave = behave
    with Server() as other:
        other.put(NAME, "A", 60, "192.0.2.2")
        kept = make([server.resolver, other.resolver])
        kept.retarget([NAME])
        wait_for(has(kept, "192.0.2.2"))


def test_a_name_cannot_be_rebound(server: Server, make: Make) -> None:
    """Addresses of this host are dropped and counted, unless a rule allows them."""
    server.put(NAME, "A", 60, "127.0.0.1", "10.9.9.9", "192.0.2.1")
    kept = make()
    kept.retarget([NAME], own_addresses=numbers("10.9.9.9"))
    wait_for(has(kept, "192.0.2.1"))
    assert kept.counts().refused == 2
    kept.retarget([NAME], allowed_local=[NAME], own_addresses=numbers("10.9.9.9"))
    wait_for(has(kept, "127.0.0.1", "10.9.9.9", "192.0.2.1"))


def test_a_previous_lifes_sets_are_kept_until_answered(server: Server, make: Make) -> None:
    """They are no change, and live on grace."""
    server.behave = silent
    kept = make()
    kept.retarget([NAME], {NAME: NameFact(NAME, numbers("192.0.2.1"), 60)})
    wait_for(lambda: server.asked)
    assert not kept.changed()
    state = kept.states()[NAME]
    assert (state.addresses, state.ttl) == (numbers("192.0.2.1"), 0.0)
    assert 0 < (state.grace or 0) <= 100


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=10)
@given(garbage=st.lists(st.binary(max_size=100), min_size=1, max_size=30))
def test_garbage_never_changes_a_set(server: Server, make: Make, garbage: list[bytes]) -> None:
    """Arbitrary bytes are counted, each of them; the last good set stays."""
    server.behave = server.honest
    server.put(NAME, "A", 0, "192.0.2.1")
    kept = make(pace=replace(QUICK, shortest_ttl=0.05))
    kept.retarget([NAME])
    wait_for(has(kept, "192.0.2.1"))
    assert kept.changed()
    server.behave = lambda query, asked: garbage
    wait_for(lambda: kept.counts().mismatched + kept.counts().malformed >= len(garbage))
    assert not kept.changed()
    assert has(kept, "192.0.2.1")()
    kept.close()


def test_closing_ends_the_thread_and_gives_all_descriptors_back(server: Server, tmp_path: Path) -> None:
    """With questions on their way, without any, and without ever having begun; twice does no harm."""
    server.behave = silent
    gc.collect()
    before, threads = descriptors(), our_threads()
    busy, idle, fresh = (NameKeeper([server.resolver], pace=QUICK, hosts=str(tmp_path / "none")) for _ in range(3))
    busy.retarget([f"n{index}.example" for index in range(100)])
    idle.retarget([])
    wait_for(lambda: len(server.asked) >= MAX_RUNNING)
    for one in (busy, idle, fresh, busy):
        one.close()
    assert our_threads() == threads
    assert len(descriptors()) <= len(before)
    assert len(busy.states()) == 100
    assert not busy.changed()
    busy.retarget([NAME])
    assert our_threads() == threads


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_died_does_not_look_healthy(server: Server, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever its reason, every name tells."""

    def die(*_: object) -> None:
        raise AssertionError("a mistake in the program")

    server.put(NAME, "A", 1, "192.0.2.1")
    kept = make()
    kept.retarget([NAME])
    wait_for(has(kept, "192.0.2.1"))
    monkeypatch.setattr(Asker, "wait", die)
    wait_for(lambda: kept.states()[NAME].error == keeper.ENDED)
    kept.close()


def test_the_clock_of_a_keeper_can_be_turned(server: Server, tmp_path: Path) -> None:
    """Hours of grace go by at once."""
    moment = [0.0]
    server.put(NAME, "A", 3600, "192.0.2.1")
    pace = replace(Pace(), look=0.05)
    kept = NameKeeper([server.resolver], 7200.0, clock=lambda: moment[0], pace=pace, hosts=str(tmp_path / "hosts"))
    kept.retarget([NAME])
    wait_for(lambda: kept.counts().answered == 2)
    server.drop(NAME)
    moment[0] = 3601.0
    wait_for(lambda: kept.states()[NAME].error == "no such name")
    assert kept.states()[NAME] == NameState(NAME, numbers("192.0.2.1"), 0.0, 7199.0, "no such name")
    moment[0] = 3600.0 + 7200.0
    assert kept.states()[NAME].addresses == ()
    assert kept.changed()
    kept.close()
