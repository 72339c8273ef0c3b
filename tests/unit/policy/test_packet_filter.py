"""Packet filter rules."""

from __future__ import annotations

import pytest

from kpf_ebpf.policy.addresses import address
from kpf_ebpf.policy.model import ANY_ADDRESS, Action, Direction, Endpoint

from .factories import a_rule, a_rule_text, mistakes, parsed, the_mistake


def test_what_is_left_out_means_any() -> None:
    """Only description and action are required."""
    rule = a_rule(description="Least", action="permit")
    assert (rule.description, rule.action, rule.direction) == ("Least", Action.PERMIT, Direction.BOTH)
    assert (rule.applications, rule.users, rule.cgroup, rule.protocols) == ((), (), None, ())
    assert rule.local == rule.remote == Endpoint(ANY_ADDRESS, ())
    assert (rule.log, rule.alert, rule.enabled) == (False, False, True)


def test_any_is_the_same_as_left_out() -> None:
    """For every key that knows the word."""
    keys = {key: '"any"' for key in ("application", "user", "cgroup", "protocol", "icmp_type")}
    assert a_rule(**keys, remote='{ address = "any", port = "any" }') == a_rule()


def test_lists_keep_their_order_without_repetitions() -> None:
    """Words, numbers and ranges."""
    rule = a_rule(
        application='["/b", "/a", "/b"]',
        user='["bob", 5]',
        protocol='["udp", "tcp", 17]',
        remote='{ address = ["10.0.0.0/8", "@trusted"], port = [443, "80-90"] }',
    )
    assert (rule.applications, rule.users, rule.protocols) == (("/b", "/a"), ("bob", 5), (17, 6))
    assert rule.remote.ports == ((443, 443), (80, 90))
    assert rule.remote.address.trusted


def test_rules_keep_their_order_and_their_lines() -> None:
    """The first match decides, so order is meaning."""
    policy, _ = parsed(a_rule_text("One") + a_rule_text("Two"))
    assert [(rule.description, rule.where.line) for rule in policy.packet_filter] == [("One", 1), ("Two", 4)]


def test_a_description_is_a_name_and_may_be_used_once() -> None:
    """The finding names the line of the first."""
    finding = the_mistake(a_rule_text("Same") + a_rule_text("Same"))
    assert (finding.where.line, finding.rule, finding.key) == (5, 'packet-filter "Same"', "description")
    assert "line 2" in finding.expected


def test_description_and_action_are_required() -> None:
    """A rule without them is told by its number."""
    found = mistakes('[[packet-filter]]\nprotocol = "tcp"\n')
    assert {(finding.key, finding.rule) for finding in found} == {
        ("description", "packet-filter #1"),
        ("action", "packet-filter #1"),
    }


def test_ask_is_refused_as_not_available_yet() -> None:
    """The word is known."""
    finding = the_mistake(a_rule_text(action="ask"))
    assert (finding.key, finding.word) == ("action", "ask")
    assert "not available yet" in finding.expected


def test_an_unknown_key_gets_the_near_one_suggested() -> None:
    """Inner keys too, with their table's name."""
    finding = the_mistake(a_rule_text(remote='{ adress = "10.0.0.1" }'))
    assert (finding.key, finding.suggestion) == ("remote.adress", "address")


def test_port_70000_is_an_error_with_its_line() -> None:
    """On the line of the word in a list over several lines."""
    finding = the_mistake(a_rule_text(protocol='"tcp"', remote="{ port = [80,\n  70000] }"))
    assert (finding.where.line, finding.key, finding.word) == (6, "remote.port", "70000")


@pytest.mark.parametrize(
    ("protocol", "culprit"),
    [('"gre"', "gre"), ('["tcp", "icmp"]', "icmp"), ('"any"', "any"), ("[6, 200]", "200")],
)
def test_ports_go_only_with_protocols_that_have_ports(protocol: str, culprit: str) -> None:
    """tcp, udp, sctp and udplite; "any" is more than these."""
    finding = the_mistake(a_rule_text(protocol=protocol, local="{ port = 53 }"))
    assert finding.key == "local.port"
    assert f"{culprit} has none" in finding.expected
    assert a_rule(protocol='["tcp", "udp", "sctp", "udplite"]', local="{ port = 53 }").local.ports == ((53, 53),)


def test_icmp_types_are_pairs_for_each_listed_protocol() -> None:
    """A name that one of them lacks is not paired with it."""
    rule = a_rule(protocol='["icmp", "icmpv6"]', icmp_type='["echo-request", 13, "packet-too-big"]')
    assert rule.icmp_types == ((1, 8), (58, 128), (1, 13), (58, 13), (58, 2))


@pytest.mark.parametrize("protocol", ['"any"', '"tcp"', '["icmp", "udp"]'])
def test_icmp_types_go_only_with_icmp(protocol: str) -> None:
    """Else the key would mean nothing for some of the rule's packets."""
    assert the_mistake(a_rule_text(protocol=protocol, icmp_type='"echo-request"')).key == "icmp-type"


@pytest.mark.parametrize(
    ("keys", "key"),
    [
        ({"protocol": '"icmpv6"', "remote": '{ address = ["10.0.0.0/8", "192.0.2.1"] }'}, "remote.address"),
        ({"protocol": '"icmp"', "local": '{ address = "2001:db8::/32" }'}, "local.address"),
        ({"local": '{ address = "10.0.0.1" }', "remote": '{ address = "2001:db8::1" }'}, "remote.address"),
        ({"protocol": '"icmpv6"', "remote": '{ address = "@four" }'}, "remote.address"),
    ],
)
def test_a_rule_of_two_families_could_never_match(keys: dict[str, str], key: str) -> None:
    """So it is an error."""
    finding = the_mistake(a_rule_text(**keys) + '[groups]\nfour = ["10.0.0.0/8"]\n')
    assert finding.key == key
    assert "never match" in finding.expected


@pytest.mark.parametrize("word", ["any", "@trusted", "example.org", "@empty", "@named", "::1"])
def test_a_rule_that_may_match_one_family_is_fine(word: str) -> None:
    """Names may have addresses of either; an empty group is warned of elsewhere."""
    groups = '[groups]\nempty = []\nnamed = ["10.0.0.1", "example.org"]\n'
    policy, _ = parsed(a_rule_text(protocol='"icmpv6"', remote=f'{{ address = "{word}" }}') + groups)
    assert len(policy.packet_filter) == 1


def test_unknown_groups_are_told_and_broken_ones_are_not_told_twice() -> None:
    """A group with a mistake exists all the same."""
    finding = the_mistake(a_rule_text(remote='{ address = "@offise" }') + '[groups]\noffice = ["10.0.0.1"]\n')
    assert (finding.word, finding.suggestion) == ("@offise", "@office")
    finding = the_mistake(a_rule_text(remote='{ address = "@office" }') + '[groups]\noffice = ["10.0.0.300"]\n')
    assert finding.rule == 'group "office"'


def test_a_point_must_be_a_table() -> None:
    """Not an address alone."""
    assert the_mistake(a_rule_text(remote='"10.0.0.1"')).key == "remote"


def test_a_network_with_host_bits_names_the_right_one() -> None:
    """As suggestion."""
    assert the_mistake(a_rule_text(remote='{ address = "10.0.0.1/8" }')).suggestion == "10.0.0.0/8"


def test_inner_headers_and_dotted_keys_are_the_same_as_inline_tables() -> None:
    """TOML has three ways to write one table."""
    inline = a_rule(remote='{ address = "10.0.0.1" }')
    dotted = a_rule(remote__address='"10.0.0.1"')
    policy, _ = parsed(a_rule_text() + '[packet-filter.remote]\naddress = "10.0.0.1"\n')
    assert inline == dotted == policy.packet_filter[0]
    place = address("10.0.0.1")
    assert inline.remote.address.ranges == ((place, place),)
