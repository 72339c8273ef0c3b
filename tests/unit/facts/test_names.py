"""Host names: bounded in time, and not believed when they claim to be this host."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType

import pytest

from kpf_ebpf.facts import names
from kpf_ebpf.facts.addresses import number
from kpf_ebpf.facts.model import NameFact, ProxyFact
from kpf_ebpf.facts.names import literals, look_up, names_of, parse_hosts, system_lookup
from kpf_ebpf.policy.model import (
    Action,
    AddressSet,
    Endpoint,
    Group,
    PacketFilterRule,
    Policy,
    Preferences,
    Syslog,
    Where,
)

WHERE = Where("policy.toml")


def numbers(*texts: str) -> tuple[int, ...]:
    """Give addresses as sorted numbers."""
    return tuple(sorted(value for value in map(number, texts) if value is not None))


def ask(name: str, *answer: str, hosts: Mapping[str, frozenset[int]] | None = None) -> NameFact:
    """Look up one name that the resolver answers as told."""
    return look_up([name], lookup=lambda asked: answer, hosts=hosts)[name]


def test_both_families_are_taken_sorted_and_once() -> None:
    """A and AAAA records make one set; the resolver does not tell a time to live."""
    fact = ask("a.example", "2001:db8::1", "192.0.2.1", "192.0.2.1")
    assert fact == NameFact("a.example", numbers("192.0.2.1", "2001:db8::1"), None, "")


def test_scope_ids_are_stripped() -> None:
    """The resolver may add the adapter to a link-local address."""
    assert ask("a.example", "fe80::1%eth0").addresses == numbers("fe80::1")


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "::ffff:127.0.0.1", "0.0.0.0", "::", "224.0.0.1", "ff02::1"])
def test_a_name_cannot_be_rebound_to_this_host(address: str) -> None:
    """Loopback, unspecified and multicast answers are dropped, and the error says so when nothing remains."""
    fact = ask("evil.example", address)
    assert fact.addresses == ()
    assert fact.error.startswith("only loopback, unspecified or multicast addresses were answered: ")
    assert ask("evil.example", address, "192.0.2.1") == NameFact("evil.example", numbers("192.0.2.1"))


@pytest.mark.parametrize("name", ["localhost", "LocalHost."])
def test_localhost_is_this_host(name: str) -> None:
    """The one name that means loopback by definition."""
    assert ask(name, "127.0.0.1", "::1").addresses == numbers("127.0.0.1", "::1")


def test_a_name_of_the_hosts_file_may_be_this_host() -> None:
    """The machine's own file is not the network; other loopback addresses go with a listed one."""
    hosts = parse_hosts("127.0.1.1 Box.example box # me", ["box.example."])
    assert ask("box.example.", "127.0.1.1", "::1", hosts=hosts).addresses == numbers("127.0.1.1", "::1")


def test_a_listed_public_address_does_not_open_loopback() -> None:
    """Only what the file says is believed."""
    hosts = parse_hosts("192.0.2.1 a.example", ["a.example"])
    assert ask("a.example", "127.0.0.1", "192.0.2.1", hosts=hosts).addresses == numbers("192.0.2.1")


def test_a_hosts_file_is_read_tolerantly() -> None:
    """Comments, empty lines and nonsense are skipped; only wanted names are kept."""
    text = "\n# 10.0.0.1 a\nnonsense a\n10.0.0.2 b a\n10.0.0.3\nfe80::1%lo a\n"
    assert parse_hosts(text, ["a", "c"]) == {"a": frozenset(numbers("10.0.0.2", "fe80::1"))}


def test_an_unknown_name_is_an_error() -> None:
    """The resolver's own words are kept."""

    def refuse(name: str) -> list[str]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    fact = look_up(["no.example"], lookup=refuse)["no.example"]
    assert fact == NameFact("no.example", error="no address: Name or service not known")


def test_a_word_that_is_no_host_name_is_an_error() -> None:
    """The real resolver refuses an overlong label before it asks anyone."""
    name = "x" * 70 + ".example"
    assert look_up([name], lookup=system_lookup)[name].error == "not a host name"


def test_an_empty_answer_is_an_error() -> None:
    """A name without addresses matches nothing."""
    assert ask("empty.example").error == "no address"


def test_the_addresses_of_a_name_are_bounded() -> None:
    """A hostile server may answer thousands."""
    answer = [f"192.0.{high}.{low}" for high in range(4) for low in range(256)]
    assert len(ask("many.example", *answer).addresses) == names.MAX_ADDRESSES


def test_a_dead_resolver_does_not_block() -> None:
    """The deadline holds for all names together; the names that were answered keep their answers."""
    release = threading.Event()

    def hang(name: str) -> Iterable[str]:
        if name != "good.example":
            release.wait()
        return ["192.0.2.1"]

    dead = [f"dead{index}.example" for index in range(3)]
    try:
        facts = look_up([*dead, "good.example"], lookup=hang, deadline=0.2)
    finally:
        release.set()
    assert facts["good.example"].addresses == numbers("192.0.2.1")
    assert [facts[name].error for name in dead] == ["no answer within 0.2 s"] * 3


def test_more_names_than_threads_are_all_answered() -> None:
    """Threads take the next name when they are done."""
    many = [f"n{index}.example" for index in range(names.NAME_THREADS * 5)]
    facts = look_up(many, lookup=lambda name: ["192.0.2.1"])
    assert list(facts) == many
    assert not any(fact.error for fact in facts.values())


def test_the_number_of_names_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names beyond the bound are errors, not silence."""
    monkeypatch.setattr(names, "MAX_NAMES", 1)
    facts = look_up(["a.example", "192.0.2.9", "b.example"], lookup=lambda name: ["192.0.2.1"])
    assert [fact.error for fact in facts.values()] == ["", "", "more than 1 names"]


def test_a_literal_is_never_asked_for() -> None:
    """Address literals need no resolver, and may well be loopback: the user wrote them."""

    def fail(name: str) -> Iterator[str]:
        raise AssertionError(name)

    facts = look_up(["127.0.0.1", "2001:db8::1"], lookup=fail)
    assert [fact.addresses for fact in facts.values()] == [numbers("127.0.0.1"), numbers("2001:db8::1")]


def test_without_looking_up_only_literals_are_known() -> None:
    """Other names carry an error instead of addresses."""
    assert literals(["192.0.2.1", "a.example"]) == {
        "192.0.2.1": NameFact("192.0.2.1", numbers("192.0.2.1")),
        "a.example": NameFact("a.example", error=names.NOT_LOOKED_UP),
    }


def test_every_name_of_a_policy_is_found_once() -> None:
    """Servers, the proxy, points of rules, and groups."""
    rule = PacketFilterRule(
        "r",
        Action.DENY,
        WHERE,
        local=Endpoint(AddressSet(names=("local.example",))),
        remote=Endpoint(AddressSet(names=("remote.example", "crashes.kerio.com"))),
    )
    policy = Policy(
        preferences=Preferences(syslog=Syslog(enabled=True, server="log.example")),
        groups=MappingProxyType({"g": Group("g", AddressSet(names=("group.example",)), WHERE)}),
        packet_filter=(rule,),
    )
    assert names_of(policy, ProxyFact("proxy.example", 3128)) == (
        "crashes.kerio.com",
        "secure.kerio.com",
        "proxy.example",
        "log.example",
        "group.example",
        "local.example",
        "remote.example",
    )


def test_servers_that_are_switched_off_are_not_asked_for() -> None:
    """No crash dumps, no syslog, no proxy: only the registration server remains."""
    policy = Policy(preferences=Preferences(send_crash_dumps=False))
    assert names_of(policy, ProxyFact()) == ("secure.kerio.com",)
