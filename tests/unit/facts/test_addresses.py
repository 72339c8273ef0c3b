"""Address literals and their place in the 128-bit space."""

from __future__ import annotations

import pytest

from kpf_ebpf.facts.addresses import is_loopback, is_multicast, is_unspecified, number, shown
from kpf_ebpf.policy.model import V4_BASE


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0.0.0.1", V4_BASE + 1),
        ("::ffff:0.0.0.1", V4_BASE + 1),
        ("::1", 1),
        ("[2001:db8::1]", (0x20010DB8 << 96) + 1),
        ("fe80::1%eth0", (0xFE80 << 112) + 1),
    ],
)
def test_a_literal_becomes_a_number_of_the_128_bit_space(text: str, value: int) -> None:
    """IPv4 and its v4-mapped form are one address; brackets and scope ids do not count."""
    assert number(text) == value


@pytest.mark.parametrize("word", ["", "example.org", "127.1", "1.2.3.4%eth0", "1.2.3.4/8", "01.2.3.4", "1" * 10_000])
def test_what_is_no_literal_gives_none(word: str) -> None:
    """Names, short forms, networks and overlong words are not address literals."""
    assert number(word) is None


@pytest.mark.parametrize("text", ["192.0.2.1", "2001:db8::1", "::1", "255.255.255.255"])
def test_an_address_is_shown_as_it_was_written(text: str) -> None:
    """Shown is the inverse of number for addresses in canonical form."""
    value = number(text)
    assert value is not None
    assert shown(value) == text


@pytest.mark.parametrize(
    ("text", "loopback", "unspecified", "multicast"),
    [
        ("127.0.0.53", True, False, False),
        ("::ffff:127.0.0.1", True, False, False),
        ("::1", True, False, False),
        ("0.0.0.0", False, True, False),
        ("::", False, True, False),
        ("224.0.0.1", False, False, True),
        ("239.255.255.255", False, False, True),
        ("255.255.255.255", False, False, True),
        ("ff02::1", False, False, True),
        ("128.0.0.0", False, False, False),
        ("240.0.0.0", False, False, False),
        ("::2", False, False, False),
    ],
)
def test_addresses_of_this_host_and_multicast_are_recognised(
    text: str, loopback: bool, unspecified: bool, multicast: bool
) -> None:
    """Both families, and v4-mapped addresses count as IPv4."""
    value = number(text)
    assert value is not None
    assert (is_loopback(value), is_unspecified(value), is_multicast(value)) == (loopback, unspecified, multicast)
