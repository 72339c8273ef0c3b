"""Hosts in the kernel: a rule that names one follows its addresses, and nothing else has to be made anew for that."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from kpf_ebpf.engine.follow import rows_of
from kpf_ebpf.facts.gather import gather
from kpf_ebpf.facts.model import Adapter, NameFact
from kpf_ebpf.image.compile import compile_image
from kpf_ebpf.image.living import name_addresses, place_adapters
from kpf_ebpf.image.model import MapImage
from kpf_ebpf.kernel import abi, bpf
from kpf_ebpf.kernel.active import read_active
from kpf_ebpf.kernel.apply import apply, rename, spread
from kpf_ebpf.kernel.hooks import opened
from kpf_ebpf.policy.addresses import address
from kpf_ebpf.policy.parse import parse
from kpf_ebpf.resolve.predefined import BROADCASTS
from kpf_ebpf.resolve.resolve import resolve
from tests.kernel.conftest import DENY_ALL, Kernel

FIRST, SECOND, FIRST6, SECOND6 = "198.51.100.1", "198.51.100.2", "2001:db8::1", "2001:db8::2"
ONE, OTHER = "one.example", "other.example"
RULE = '[[packet-filter]]\ndescription = "{0}"\naction = "permit"\ndirection = "out"\nremote = {{ address = "{0}" }}\n'
POLICY = DENY_ALL + RULE.format(ONE) + RULE.format(OTHER)
DENIED = "default/internet-out"
ENDS, NEW_ENDS = ("192.0.2.1", "192.0.2.255"), ("198.51.100.1", "198.51.100.255")
"""An adapter's own address, and the broadcast of its network."""


def number(text: str) -> int:
    """An address as flows have it."""
    found = address(text)
    assert found is not None
    return found


def enforce(kernel: Kernel, hosts: dict[str, tuple[str, ...]]) -> MapImage:
    """The policy in every slot, where these are the addresses of its hosts."""
    facts = {name: NameFact(name, tuple(map(number, addresses))) for name, addresses in hosts.items()}
    policy, _ = parse(POLICY.encode(), "test.toml", lambda path: b"", Path("/"))
    known = gather(policy, kernel.programs.identify, netns_cookie=kernel.home, names=lambda wanted: facts)
    image = compile_image(resolve(policy, known), kernel.counters)
    apply(kernel.programs.pins, image)
    spread(kernel.programs.pins)
    kernel.counters = dict(image.counters)
    return image


def renamed(
    kernel: Kernel, image: MapImage, hosts: dict[str, tuple[str, ...]], adapters: tuple[Adapter, ...] | None = None
) -> bool:
    """Whether these became the addresses of the image's hosts, and these (None: the same) the adapters."""
    row, adapters = image.rows.numbers, image.policy.adapters if adapters is None else adapters
    named = name_addresses(image.hosts, {name: tuple(map(number, one)) for name, one in hosts.items()}, adapters)
    said = {place: (row[one.local], row[one.remote], one.flags) for place, one in named.items()}
    places = place_adapters(image.policy.trusted, adapters)
    return rename(kernel.programs.pins, said, places, lambda generation: None) is not None


def decided(kernel: Kernel, remote: str) -> str:
    """The rule that decides a flow to this address, in the kernel."""
    word = read_active(kernel.programs.pins)
    probe = abi.Probe(active=abi.active_word(word.generation, False, word.slot or 0))
    for name, place in (("local", "192.0.2.1"), ("remote", remote)):
        words = number(place).to_bytes(16, "big")
        for index in range(4):
            getattr(probe.flow, name)[index] = int.from_bytes(words[4 * index : 4 * index + 4], "little")
    probe.flow.netns_cookie, probe.flow.ifindex, probe.flow.protocol = kernel.home, 2, 6
    probe.flow.local_port, probe.flow.remote_port, probe.flow.known = 40000, 443, abi.KNOWS_ALL | abi.HAS_PORTS
    probe.flow.direction = abi.Direction.OUT
    with opened(kernel.programs.pins / "probes") as fd:
        bpf.update(fd, bytes(4), bytes(probe))
        bpf.run_marked(kernel.programs.descriptors["kpf_probe"], 0)
        answer = abi.Probe.from_buffer_copy(bpf.lookup(fd, bytes(4), len(bytes(probe))) or b"")
    assert answer.ok == 1
    return {counter: rule for rule, counter in kernel.counters.items()}[answer.rule.counter]


@pytest.mark.parametrize(("before", "after"), [(FIRST, SECOND), (FIRST6, SECOND6), (FIRST, FIRST6)])
def test_a_hosts_new_address_is_the_rules_and_the_old_one_is_not(kernel: Kernel, before: str, after: str) -> None:
    """However often it changes: each time another slot has it, and no other address gains anything."""
    image = enforce(kernel, {ONE: (before,), OTHER: ("203.0.113.9",)})
    assert decided(kernel, before) == f"packet-filter/{ONE}"
    for turn in range(5):
        now, then = (after, before) if turn % 2 == 0 else (before, after)
        assert renamed(kernel, image, {ONE: (now,), OTHER: ("203.0.113.9",)})
        assert decided(kernel, now) == f"packet-filter/{ONE}"
        assert decided(kernel, then) == DENIED
        assert decided(kernel, "203.0.113.9") == f"packet-filter/{OTHER}"


def test_an_address_of_two_hosts_is_the_first_rules(kernel: Kernel) -> None:
    """The rules of both accept it; the first of them decides, and the other once it is the first host's no more."""
    image = enforce(kernel, {ONE: (FIRST,), OTHER: (FIRST,)})
    assert decided(kernel, FIRST) == f"packet-filter/{ONE}"
    assert renamed(kernel, image, {ONE: (SECOND,), OTHER: (FIRST,)})
    assert decided(kernel, FIRST) == f"packet-filter/{OTHER}"
    assert decided(kernel, SECOND) == f"packet-filter/{ONE}"


def test_the_record_has_the_rows_of_hosts_and_of_those_that_share_an_address(kernel: Kernel) -> None:
    """By them the addresses can be followed without the policy: they are the rows that the image has."""
    image = enforce(kernel, {ONE: (FIRST, SECOND), OTHER: (SECOND,)})
    rows, row = rows_of(image), image.rows.numbers
    assert {ONE, OTHER, f"{ONE} {OTHER}"} <= set(rows)
    assert rows[ONE][1] == row[image.hosts[ONE][1]]
    assert rows[f"{ONE} {OTHER}"][1] == row[image.named[number(SECOND)].remote]


def test_hosts_are_not_followed_where_another_slot_has_another_image(kernel: Kernel) -> None:
    """An image that is not in every slot yet has to be applied as a whole."""
    image = enforce(kernel, {ONE: (FIRST,), OTHER: (SECOND,)})
    other = POLICY.replace('action = "permit"', 'action = "deny"', 1)
    policy, _ = parse(other.encode(), "test.toml", lambda path: b"", Path("/"))
    facts = gather(policy, kernel.programs.identify, netns_cookie=kernel.home)
    apply(kernel.programs.pins, compile_image(resolve(policy, facts), kernel.counters))
    assert not renamed(kernel, image, {ONE: (SECOND,), OTHER: (FIRST,)})


def test_an_adapters_new_address_counts_and_the_old_one_does_not(kernel: Kernel) -> None:
    """Its broadcast is the predefined rules' own, whichever it is now; all other addresses are what they were."""
    text = DENY_ALL.replace("enabled = false", 'broadcasts = { trusted = "permit", internet = "permit" }')
    policy, _ = parse(text.encode(), "test.toml", lambda path: b"", Path("/"))
    facts = gather(policy, kernel.programs.identify, netns_cookie=kernel.home)
    first, second = (Adapter("v0", 2, (number(own),), (number(to_all),)) for own, to_all in (ENDS, NEW_ENDS))
    image = compile_image(resolve(policy, replace(facts, adapters=(first,))), kernel.counters)
    apply(kernel.programs.pins, image)
    spread(kernel.programs.pins)
    kernel.counters = dict(image.counters)
    for now, then in ((ENDS, NEW_ENDS), (NEW_ENDS, ENDS)):
        if now is NEW_ENDS:
            hosts = {BROADCASTS: (NEW_ENDS[1],)}
            assert renamed(kernel, image, hosts, (second,))
        assert decided(kernel, now[1]) == "predefined/broadcasts/internet"
        assert decided(kernel, then[1]) == DENIED
        assert decided(kernel, "255.255.255.255") == "predefined/broadcasts/internet"
