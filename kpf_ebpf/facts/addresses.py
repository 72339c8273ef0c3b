"""IP address literals as integers of the 128-bit space of ``kpf_ebpf.policy.model``, and back."""

from __future__ import annotations

import ipaddress

from kpf_ebpf.policy.model import V4_BASE

MAX_LITERAL = 128
"""Characters; a longer word is no address literal (the longest IPv6 one with a scope id is far shorter)."""

_LOOPBACK_V4 = (V4_BASE + (127 << 24), V4_BASE + (128 << 24) - 1)
_THIS_NETWORK_V4 = (V4_BASE, V4_BASE + (1 << 24) - 1)
_MULTICAST_V4 = (V4_BASE + (224 << 24), V4_BASE + (240 << 24) - 1)
_BROADCAST_V4 = V4_BASE + 0xFFFFFFFF
_MULTICAST_V6_TOP = 0xFF


def number(text: str) -> int | None:
    """Give an address literal's place in the 128-bit space; None for anything else, such as a host name.

    Brackets around an IPv6 literal and its scope id ("%eth0") are stripped. Short IPv4 forms ("127.1") are refused.
    """
    if len(text) > MAX_LITERAL:
        return None
    if text.startswith("[") and text.endswith("]"):
        text = text[1:-1]
    try:
        address = ipaddress.ip_address(text.partition("%")[0] if ":" in text else text)
    except ValueError:
        return None
    return int(address) + (V4_BASE if address.version == 4 else 0)


def shown(address: int) -> str:
    """Write an address of the 128-bit space as people do (v4-mapped ones as IPv4)."""
    if address >> 32 == V4_BASE >> 32:
        return str(ipaddress.IPv4Address(address - V4_BASE))
    return str(ipaddress.IPv6Address(address))


def is_loopback(address: int) -> bool:
    """Say whether an address is ::1 or in 127.0.0.0/8 (v4-mapped included)."""
    return address == 1 or _LOOPBACK_V4[0] <= address <= _LOOPBACK_V4[1]


def is_unspecified(address: int) -> bool:
    """Say whether an address is :: or in 0.0.0.0/8: a connection to it ends on this host."""
    return address == 0 or _THIS_NETWORK_V4[0] <= address <= _THIS_NETWORK_V4[1]


def is_multicast(address: int) -> bool:
    """Say whether an address is multicast, or the limited broadcast 255.255.255.255."""
    return (
        address >> 120 == _MULTICAST_V6_TOP
        or _MULTICAST_V4[0] <= address <= _MULTICAST_V4[1]
        or address == _BROADCAST_V4
    )
