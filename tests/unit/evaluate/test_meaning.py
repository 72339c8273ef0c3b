"""The evaluator over a compiled image decides every flow as the policy plainly means it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, note, settings

from kpf_ebpf.evaluate.evaluator import Flow, evaluate
from kpf_ebpf.facts.model import Facts, NameFact
from kpf_ebpf.image.compile import compile_image
from kpf_ebpf.policy.model import (
    Action,
    AddressSet,
    ApplicationRule,
    Cells,
    Components,
    Default,
    Direction,
    Endpoint,
    PacketFilterRule,
    Policy,
    Preferences,
    Proxy,
    Syslog,
    TrustedItem,
)
from kpf_ebpf.resolve.resolve import resolve
from tests.unit.evaluate.flows import cases
from tests.unit.evaluate.meaning import Verdict, meaning
from tests.unit.evaluate.strategies import ELSEWHERE, ETH0, ETH1, HOME, LO, PROGRAMS, WHERE, number, ranges

PERMIT, DENY = Action.PERMIT, Action.DENY
CLOSED = Default(DENY, DENY, DENY, DENY)
CURL = PROGRAMS["/usr/bin/curl"]
ANY_PORT = Endpoint(ports=((1, 65535),))
WORLD = Facts(
    applications={path: (fact,) for path, fact in PROGRAMS.items()},
    names={
        "secure.kerio.com": NameFact("secure.kerio.com", (number("203.0.113.9"),)),
        "proxy.example": NameFact("proxy.example", (number("10.0.0.1"), number("2001:db8::1"))),
        "192.0.2.10": NameFact("192.0.2.10", (number("192.0.2.10"),)),
    },
    adapters=(LO, ETH0, ETH1),
    users={"alice": 1000},
    netns_cookie=HOME,
)
WEB = Flow("out", 6, number("192.168.1.10"), number("198.51.100.7"), 50000, 443, ifindex=2, netns_cookie=HOME, uid=1000)
HELLO = replace(WEB, local=number("127.0.0.1"), remote=number("127.0.0.1"), ifindex=1)


def decided(policy: Policy, facts: Facts, flow: Flow) -> Verdict:
    """What the product says of a flow."""
    rule = evaluate(compile_image(resolve(policy, facts)), flow)
    return Verdict(rule.id, rule.action)


@settings(deadline=None, max_examples=300, derandomize=False, suppress_health_check=[HealthCheck.too_slow])
@given(cases(16))
def test_every_flow_is_decided_by_the_rule_that_means_it(case: tuple[Policy, Facts, list[Flow]]) -> None:
    """Whatever the policy, the world and the flow: rule and action are those of the first rule that speaks of it."""
    policy, facts, flows = case
    image = compile_image(resolve(policy, facts))
    for flow in flows:
        rule = evaluate(image, flow)
        note(f"{flow}")
        assert (rule.id, rule.action) == meaning(policy, facts, flow)


EXAMPLES: dict[str, tuple[Policy, Flow, Verdict]] = {
    "nothing said": (Policy(), WEB, Verdict("default/internet-out", PERMIT)),
    "nothing said, from outside": (
        Policy(),
        replace(WEB, direction="in", local_port=22, remote_port=50000),
        Verdict("default/internet-in", DENY),
    ),
    "an application's own cell": (
        Policy(applications=(ApplicationRule(CURL.path, WHERE, Cells(internet_out=DENY)),)),
        replace(WEB, application=CURL.key),
        Verdict("application//usr/bin/curl/internet-out", DENY),
    ),
    "a cell left out": (
        Policy(applications=(ApplicationRule(CURL.path, WHERE, Cells(internet_in=PERMIT)),), default=CLOSED),
        replace(WEB, application=CURL.key),
        Verdict("default/internet-out", DENY),
    ),
    "a changed program": (
        Policy(applications=(ApplicationRule(CURL.path, WHERE, Cells(internet_out=PERMIT)),)),
        replace(WEB, application=replace(CURL.key, ctime_nanoseconds=2)),
        Verdict("modified//usr/bin/curl", DENY),
    ),
    "a changed program's pop-up": (
        Policy(applications=(ApplicationRule(CURL.path, WHERE),), default=CLOSED),
        replace(HELLO, remote_port=44501, application=replace(CURL.key, ctime_nanoseconds=2)),
        Verdict("internal/popup-log", PERMIT),
    ),
    "a pop-up to another host": (
        Policy(default=CLOSED),
        replace(WEB, remote_port=44501),
        Verdict("default/internet-out", DENY),
    ),
    "the guard before the user": (
        Policy(packet_filter=(PacketFilterRule("open", PERMIT, WHERE),)),
        replace(WEB, direction="in", local_port=44334, remote_port=50000),
        Verdict("guard/44334", DENY),
    ),
    "the guard's port elsewhere": (
        Policy(packet_filter=(PacketFilterRule("open", PERMIT, WHERE),)),
        replace(WEB, direction="in", local_port=44334, remote_port=50000, netns_cookie=ELSEWHERE),
        Verdict("packet-filter/open", PERMIT),
    ),
    "the GUI to its Engine": (
        Policy(components=Components(gui="/opt/gui"), default=CLOSED),
        replace(HELLO, remote_port=44334, application=PROGRAMS["/opt/gui"].key),
        Verdict("internal/gui-to-engine", PERMIT),
    ),
    "the GUI to another Engine": (
        Policy(components=Components(gui="/opt/gui"), default=CLOSED),
        replace(WEB, remote_port=44334, application=PROGRAMS["/opt/gui"].key),
        Verdict("default/internet-out", DENY),
    ),
    "what only comes from port 53": (
        Policy(default=CLOSED),
        replace(WEB, direction="in", protocol=17, remote_port=53, component=1),
        Verdict("default/internet-in", DENY),
    ),
    "the Engine's registration": (
        Policy(preferences=Preferences(proxy="none"), default=CLOSED),
        replace(WEB, remote=number("203.0.113.9"), component=1),
        Verdict("internal/registration/direct", PERMIT),
    ),
    "the Engine's registration by a proxy": (
        Policy(preferences=Preferences(proxy=Proxy("proxy.example", 3128)), default=CLOSED),
        replace(WEB, remote=number("10.0.0.1"), remote_port=3128, component=1),
        Verdict("internal/registration/proxy", PERMIT),
    ),
    "the Engine past its proxy": (
        Policy(preferences=Preferences(proxy=Proxy("proxy.example", 3128)), default=CLOSED),
        replace(WEB, remote=number("203.0.113.9"), component=1),
        Verdict("default/internet-out", DENY),
    ),
    "the Engine's log": (
        Policy(preferences=Preferences(syslog=Syslog(enabled=True)), default=CLOSED),
        replace(WEB, protocol=17, remote=number("192.0.2.10"), remote_port=514, component=1),
        Verdict("internal/syslog", PERMIT),
    ),
    "ports that cannot be read": (
        Policy(packet_filter=(PacketFilterRule("all", DENY, WHERE, protocols=(6,), remote=ANY_PORT),)),
        replace(WEB, local_port=None, remote_port=None),
        Verdict("default/internet-out", PERMIT),
    ),
    "neighbour discovery from afar": (
        Policy(),
        Flow("in", 58, number("2001:db8::10"), number("fe80::99"), icmp=512 + 135, netns_cookie=HOME),
        Verdict("predefined/other-icmp/internet", DENY),
    ),
    "the predefined before the cells": (
        Policy(default=CLOSED),
        replace(WEB, protocol=17, remote_port=53),
        Verdict("predefined/dns/internet", PERMIT),
    ),
    "the Trusted area by adapter": (
        Policy(trusted=(TrustedItem("home", AddressSet(ranges=ranges("198.51.100.7")), WHERE, "eth1"),)),
        replace(WEB, ifindex=3),
        Verdict("default/trusted-out", PERMIT),
    ),
    "a trusted address on another adapter": (
        Policy(trusted=(TrustedItem("home", AddressSet(ranges=ranges("198.51.100.7")), WHERE, "eth1"),)),
        WEB,
        Verdict("default/internet-out", PERMIT),
    ),
    "a user of one's own": (
        Policy(packet_filter=(PacketFilterRule("hers", DENY, WHERE, users=("alice",), direction=Direction.OUT),)),
        WEB,
        Verdict("packet-filter/hers", DENY),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_examples_are_decided_as_written(name: str) -> None:
    """The readings that matter most, each by one flow, for the product and for the plain meaning alike."""
    policy, flow, expected = EXAMPLES[name]
    assert meaning(policy, WORLD, flow) == expected
    assert decided(policy, WORLD, flow) == expected


def test_port_ranges_that_overlap_add_up() -> None:
    """A port in two of a point's ranges is in the point."""
    wanted = Endpoint(ports=((1, 1023), (443, 443)))
    policy = Policy(packet_filter=(PacketFilterRule("web", DENY, WHERE, protocols=(6,), remote=wanted),))
    assert decided(policy, WORLD, WEB) == meaning(policy, WORLD, WEB) == Verdict("packet-filter/web", DENY)


def test_the_ports_of_dhcpv6_mean_nothing_in_ipv4() -> None:
    """IPv4 UDP from 547 to 546 is no DHCP."""
    policy, flow = Policy(), replace(WEB, direction="in", protocol=17, local_port=546, remote_port=547)
    assert decided(policy, WORLD, flow) == meaning(policy, WORLD, flow) == Verdict("default/internet-in", DENY)


def test_the_ports_of_ipsec_are_those_connected_to() -> None:
    """A datagram that merely comes from port 500 is not IPsec."""
    policy, flow = Policy(), replace(WEB, direction="in", protocol=17, local_port=5353, remote_port=500)
    assert decided(policy, WORLD, flow) == meaning(policy, WORLD, flow) == Verdict("default/internet-in", DENY)


def test_of_two_entries_for_one_file_the_first_counts() -> None:
    """The order of the entries decides, not the length of the paths that lead to the file."""
    entries = [
        ApplicationRule("/bin/curl", WHERE, Cells(internet_out=DENY)),
        ApplicationRule("/usr/bin/curl", WHERE, Cells(internet_out=PERMIT)),
    ]
    policy, flow = Policy(applications=tuple(entries)), replace(WEB, application=CURL.key)
    expected = Verdict("application//usr/bin/curl/internet-out", DENY)
    assert decided(policy, WORLD, flow) == meaning(policy, WORLD, flow) == expected


def test_an_adapters_broadcast_is_an_address_like_any_other_elsewhere() -> None:
    """Adapters are those of the namespace of `up`: in another one their directed broadcasts may be anybody's."""
    policy, flow = Policy(default=CLOSED), replace(WEB, remote=number("192.168.1.255"), netns_cookie=ELSEWHERE)
    assert decided(policy, WORLD, flow) == meaning(policy, WORLD, flow) == Verdict("default/internet-out", DENY)


def test_multicast_of_a_wholly_trusted_adapter_is_trusted_before_it_has_an_address() -> None:
    """An adapter all of which is trusted sends from the Trusted area, be its own address still unspecified."""
    policy = Policy(trusted=(TrustedItem("home", AddressSet(any=True), WHERE, "eth1"),))
    flow = replace(WEB, protocol=17, local=number("::"), remote=number("ff02::fb"), remote_port=5353, ifindex=3)
    assert decided(policy, WORLD, flow) == meaning(policy, WORLD, flow) == Verdict("default/trusted-out", PERMIT)
