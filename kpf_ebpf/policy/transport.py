"""The words for protocols, ports and ICMP types."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from kpf_ebpf.policy.model import Range
from kpf_ebpf.policy.words import WordError, near, number, text

ICMP, ICMPV6 = 1, 58

PROTOCOLS: Mapping[str, int] = MappingProxyType(
    {
        "icmp": 1,
        "igmp": 2,
        "ipip": 4,
        "tcp": 6,
        "egp": 8,
        "udp": 17,
        "dccp": 33,
        "ipv6": 41,
        "rsvp": 46,
        "gre": 47,
        "esp": 50,
        "ah": 51,
        "icmpv6": 58,
        "eigrp": 88,
        "ospf": 89,
        "pim": 103,
        "vrrp": 112,
        "l2tp": 115,
        "sctp": 132,
        "udplite": 136,
    }
)
"""Protocol names and their IP protocol numbers."""

WITH_PORTS = frozenset({6, 17, 132, 136})
"""The protocols whose ports are read: TCP, UDP, SCTP, UDP-Lite."""

_BOTH = {
    "destination-unreachable": (3, 1),
    "redirect": (5, 137),
    "echo-request": (8, 128),
    "echo-reply": (0, 129),
    "router-advertisement": (9, 134),
    "router-solicitation": (10, 133),
    "time-exceeded": (11, 3),
    "parameter-problem": (12, 4),
    "extended-echo-request": (42, 160),
    "extended-echo-reply": (43, 161),
}
_V4 = {
    "source-quench": 4,
    "timestamp-request": 13,
    "timestamp-reply": 14,
    "information-request": 15,
    "information-reply": 16,
    "address-mask-request": 17,
    "address-mask-reply": 18,
}
_V6 = {
    "packet-too-big": 2,
    "mld-query": 130,
    "mld-report": 131,
    "mld-done": 132,
    "neighbour-solicitation": 135,
    "neighbor-solicitation": 135,
    "neighbour-advertisement": 136,
    "neighbor-advertisement": 136,
    "mld2-report": 143,
}

ICMP_TYPES: Mapping[int, Mapping[str, int]] = MappingProxyType(
    {
        ICMP: MappingProxyType({name: pair[0] for name, pair in _BOTH.items()} | _V4),
        ICMPV6: MappingProxyType({name: pair[1] for name, pair in _BOTH.items()} | _V6),
    }
)
"""Per protocol number (1 or 58) the names of its types."""


def protocol(value: Any) -> int:
    """Return the number 0..255 of a protocol given by name or number. Raises WordError."""
    expected = "a protocol name such as tcp or icmpv6, or a number 0..255"
    if isinstance(value, str) and not value.isdigit():
        if value not in PROTOCOLS:
            raise WordError(value, expected, near(value, PROTOCOLS))
        return PROTOCOLS[value]
    return number(value, 0, 255, expected)


def port(value: Any) -> int:
    """Return a port number 1..65535. Raises WordError."""
    return number(value, 1, 65535, "a port from 1 to 65535")


def ports(value: Any) -> Range:
    """Return an inclusive range of ports from a number or an "a-b" range. Raises WordError."""
    expected = 'ports from 1 to 65535: a number, or a range such as "8000-8100"'
    if isinstance(value, str) and "-" in value:
        left, _, right = value.partition("-")
        try:
            first = number(left.strip(), 1, 65535, expected)
            last = number(right.strip(), 1, 65535, expected)
        except WordError:
            raise WordError(value, expected) from None
        if first > last:
            raise WordError(value, "a range whose first port is not above its last", f"{last}-{first}")
        return first, last
    single = number(value, 1, 65535, expected)
    return single, single


def icmp_type(value: Any, protocols: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """Return pairs (protocol, type), one for each of ``protocols`` (of 1 and 58) that knows the type.

    A number 0..255 is a type of each. Raises WordError for a name that none of them knows.
    """
    expected = "an ICMP type: a name such as echo-request, or a number 0..255"
    if isinstance(value, str) and not value.isdigit():
        word = text(value, expected)
        pairs = tuple((proto, ICMP_TYPES[proto][word]) for proto in protocols if word in ICMP_TYPES[proto])
        if not pairs:
            if any(word in names for names in ICMP_TYPES.values()):
                listed = " or ".join("icmp" if proto == ICMP else "icmpv6" for proto in protocols)
                raise WordError(word, f"a type that {listed} has")
            raise WordError(word, expected, near(word, {name for proto in protocols for name in ICMP_TYPES[proto]}))
        return pairs
    kind = number(value, 0, 255, expected)
    return tuple((proto, kind) for proto in protocols)
