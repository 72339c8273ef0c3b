"""The predefined rules (domain: chapter 7 of the manual), as data: what each accepts, apart from its zone."""

from __future__ import annotations

from collections.abc import Iterable

from kpf_ebpf.facts.model import Adapter
from kpf_ebpf.policy.model import V4_BASE, Range
from kpf_ebpf.resolve.model import Match

_OUT, _IN = frozenset({"out"}), frozenset({"in"})
_TCP, _UDP, _ICMP, _ICMPV6 = 6, 17, 1, 58
_ECHO = frozenset({8, 256 + 128, 512 + 128})
_ECHO_REPLY = frozenset({0, 256 + 129, 512 + 129})

_IPV4 = ((V4_BASE, V4_BASE + 2**32 - 1),)
_IPV6 = ((0, V4_BASE - 1), (V4_BASE + 2**32, 2**128 - 1))

ESSENTIALS = Match(
    protocols=frozenset({_ICMPV6}),
    remote=_IPV6,
    icmp=frozenset(
        {256 + number for number in (1, 2, 3, 4, *range(130, 137), 143)}
        | {512 + number for number in (1, 2, 3, 4, *range(130, 133), 143)}
    ),
)
"""What IPv6 cannot do without; neighbour discovery (133-136) only with hop limit 255."""


def _ports(*numbers: int) -> tuple[Range, ...]:
    return tuple((number, number) for number in numbers)


BROADCASTS = "@broadcasts"
"""Stands for a host that has the adapters' directed broadcasts (no name begins so): like a host's, they change."""


def broadcasts_of(adapters: Iterable[Adapter]) -> tuple[int, ...]:
    """The directed broadcasts of all adapters, each once."""
    return tuple(dict.fromkeys(address for adapter in adapters for address in adapter.broadcasts))


def predefined_matches(name: str) -> tuple[Match, ...]:
    """The matches of a predefined rule."""
    icmp = frozenset({_ICMP, _ICMPV6})
    udp, tcp = frozenset({_UDP}), frozenset({_TCP})
    everywhere = tuple((address, address) for address in (V4_BASE + 0xFFFFFFFF, (0xFF02 << 112) + 1))
    table: dict[str, tuple[Match, ...]] = {
        "igmp": (Match(protocols=frozenset({2})),),
        "ping-in": (Match(directions=_IN, protocols=icmp, icmp=_ECHO),),
        "ping-out": (Match(directions=_OUT, protocols=icmp, icmp=_ECHO),),
        "other-icmp": (Match(protocols=icmp, icmp=frozenset(range(768)) - _ECHO - _ECHO_REPLY),),
        "dhcp": (
            Match(protocols=udp, local_ports=_ports(68), remote_ports=_ports(67), remote=_IPV4),
            Match(protocols=udp, local_ports=_ports(546), remote_ports=_ports(547), remote=_IPV6),
        ),
        "dns": (Match(directions=_OUT, protocols=udp | tcp, remote_ports=_ports(53)),),
        "vpn": (
            Match(directions=_OUT, protocols=tcp, remote_ports=_ports(1723)),
            Match(directions=_OUT, protocols=udp, remote_ports=_ports(1701, 1194, 51820)),
            Match(directions=_OUT, protocols=frozenset({47})),
        ),
        "ipsec": (
            Match(directions=_OUT, protocols=udp, remote_ports=_ports(500, 4500)),
            Match(directions=_IN, protocols=udp, local_ports=_ports(500, 4500)),
            Match(protocols=frozenset({50, 51})),
        ),
        "broadcasts": (
            Match(directions=_OUT, remote=everywhere),
            Match(directions=_IN, local=everywhere),
            Match(directions=_OUT, remote=(), remote_hosts=(BROADCASTS,), home=True),
            Match(directions=_IN, local=(), local_hosts=(BROADCASTS,), home=True),
        ),
    }
    return table[name]
