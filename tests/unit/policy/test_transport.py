"""Protocols, ports and ICMP types."""

from __future__ import annotations

import pytest

from kpf_ebpf.policy import transport

from .factories import refusal


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("tcp", 6),
        ("udp", 17),
        ("icmp", 1),
        ("icmpv6", 58),
        ("sctp", 132),
        ("udplite", 136),
        ("gre", 47),
        ("esp", 50),
        ("ah", 51),
        ("igmp", 2),
        (0, 0),
        (255, 255),
        ("47", 47),
    ],
)
def test_a_protocol_is_a_name_or_a_number(value: object, expected: int) -> None:
    """0 to 255."""
    assert transport.protocol(value) == expected


@pytest.mark.parametrize("value", ["tpc", "", "TCP ", 256, -1, True, "256", "²", None, 6.0])
def test_other_protocols_are_refused(value: object) -> None:
    """Whatever TOML may hold."""
    refusal(transport.protocol, value)


def test_a_mistyped_protocol_gets_a_suggestion() -> None:
    """difflib finds it."""
    assert refusal(transport.protocol, "icmp6").suggestion in ("icmpv6", "icmp")


@pytest.mark.parametrize(
    ("value", "expected"),
    [(1, (1, 1)), (65535, (65535, 65535)), ("80", (80, 80)), ("8000-8100", (8000, 8100)), ("1 - 2", (1, 2))],
)
def test_ports_are_numbers_and_ranges(value: object, expected: tuple[int, int]) -> None:
    """Inclusive."""
    assert transport.ports(value) == expected


@pytest.mark.parametrize("value", [0, 65536, 70000, -1, True, "", "http", "1-", "-1", "1-2-3", "0-5", "1-70000", 80.0])
def test_other_ports_are_refused(value: object) -> None:
    """Port 0 and all above 65535 included."""
    assert "1 to 65535" in refusal(transport.ports, value).expected


def test_a_reversed_range_of_ports_is_turned_round() -> None:
    """As a suggestion only."""
    assert refusal(transport.ports, "90-80").suggestion == "80-90"


def test_a_name_of_an_icmp_type_is_one_pair_for_each_protocol_that_has_it() -> None:
    """echo-request is 8 in IPv4 and 128 in IPv6; packet-too-big exists in IPv6 only."""
    assert transport.icmp_type("echo-request", [1, 58]) == ((1, 8), (58, 128))
    assert transport.icmp_type("packet-too-big", [1, 58]) == ((58, 2),)
    assert transport.icmp_type(13, [1, 58]) == ((1, 13), (58, 13))


def test_a_type_must_exist_in_a_listed_protocol() -> None:
    """Else the rule could never match."""
    assert "icmp has" in refusal(transport.icmp_type, "packet-too-big", [1]).expected
    assert refusal(transport.icmp_type, "echo-requst", [1]).suggestion == "echo-request"


@pytest.mark.parametrize("value", [256, -1, "", True, None])
def test_other_icmp_types_are_refused(value: object) -> None:
    """0 to 255."""
    refusal(transport.icmp_type, value, [1])
