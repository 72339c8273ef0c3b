"""Addresses, networks, ranges; group files."""

from __future__ import annotations

import ipaddress
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kpf_ebpf.policy import addresses, limits
from kpf_ebpf.policy.model import V4_BASE, Range
from kpf_ebpf.policy.words import WordError

from .factories import refusal


def v4(text: str) -> int:
    """Return the place of an IPv4 address, by the standard library."""
    return V4_BASE + int(ipaddress.IPv4Address(text))


def v6(text: str) -> int:
    """Return the place of an IPv6 address, by the standard library."""
    return int(ipaddress.IPv6Address(text))


@pytest.mark.parametrize(
    ("word", "first", "last"),
    [
        ("192.0.2.1", v4("192.0.2.1"), v4("192.0.2.1")),
        ("10.0.0.0/8", v4("10.0.0.0"), v4("10.255.255.255")),
        ("0.0.0.0/0", v4("0.0.0.0"), v4("255.255.255.255")),
        ("192.0.2.5-192.0.2.9", v4("192.0.2.5"), v4("192.0.2.9")),
        ("2001:db8::/32", v6("2001:db8::"), v6("2001:db8:ffff:ffff:ffff:ffff:ffff:ffff")),
        ("::1 - ::5", v6("::1"), v6("::5")),
    ],
)
def test_a_word_becomes_an_inclusive_range(word: str, first: int, last: int) -> None:
    """In one space for both families."""
    assert addresses.address_ranges(word) == ((first, last),)


def test_a_mapped_address_is_ipv4() -> None:
    """::ffff:192.0.2.1 is 192.0.2.1, networks alike."""
    assert addresses.address_ranges("::ffff:192.0.2.1") == addresses.address_ranges("192.0.2.1")
    assert addresses.address_ranges("::ffff:10.0.0.0/104") == addresses.address_ranges("10.0.0.0/8")


def test_all_of_ipv6_is_not_also_all_of_ipv4() -> None:
    """::/0 goes around the place of IPv4."""
    assert addresses.address_ranges("::/0") == ((0, V4_BASE - 1), (V4_BASE + (1 << 32), (1 << 128) - 1))
    assert addresses.families(addresses.address_ranges("::/64") or ()) == {6}


@pytest.mark.parametrize(
    ("word", "suggestion"),
    [
        ("192.168.1.5/24", "192.168.1.0/24"),
        ("2001:db8::1/32", "2001:db8::/32"),
        ("10.0.0.0/255.0.0.0", "10.0.0.0/8"),
        ("10.0.0.9-10.0.0.1", "10.0.0.1-10.0.0.9"),
    ],
)
def test_a_near_miss_gets_the_right_writing_suggested(word: str, suggestion: str) -> None:
    """Host bits, netmasks, reversed ranges."""
    assert refusal(addresses.address_ranges, word).suggestion == suggestion


@pytest.mark.parametrize(
    "word",
    [
        "1.2.3.4/33",
        "::/129",
        "1.2.3.4/-1",
        "1.2.3.4/",
        "/8",
        "1.2.3",
        "1.2.3.400",
        "01.2.3.4",
        ":::",
        "1.2.3.4-",
        "1.2.3.4-::1",
        "fe80::1%eth0",
        "1.2.3.4-host",
        "1.2.3.4/٣",
        "",
        ".",
    ],
)
def test_a_wrongly_written_address_is_an_error_and_no_name(word: str) -> None:
    """Mixed families, bad lengths, scopes, leading zeros."""
    refusal(addresses.address_ranges, word)


@pytest.mark.parametrize("word", ["example.org", "a-b.example", "@group", "1.2.3.x", "x" * 500])
def test_what_has_another_shape_is_left_to_others(word: str) -> None:
    """None, not an error."""
    assert addresses.address_ranges(word) is None


@settings(max_examples=200, deadline=None)
@given(st.text(st.sampled_from("0123456789abcdef.:/-% \0é"), max_size=24))
def test_any_word_is_a_range_or_refused_or_left(word: str) -> None:
    """And ranges lie in one family, first before last."""
    try:
        ranges = addresses.address_ranges(word) or ()
    except WordError:
        return
    for first, last in ranges:
        assert 0 <= first <= last < 1 << 128
        assert addresses.is_v4(first) == addresses.is_v4(last)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(-20, 20), st.integers(0, 8)), max_size=12))
def test_merged_ranges_hold_the_same_addresses_sorted_and_apart(pairs: list[tuple[int, int]]) -> None:
    """Checked against sets, around the border of IPv4."""
    ranges = [part for low, size in pairs for part in addresses.around_v4(V4_BASE + low, V4_BASE + low + size)]
    done = addresses.merged(ranges)

    def members(items: tuple[Range, ...] | list[Range]) -> set[int]:
        return {value for first, last in items for value in range(first, last + 1)}

    assert members(done) == members(ranges)
    for (_, last), (first, _) in pairwise(done):
        assert first > last + 1 or first == V4_BASE


def test_an_address_is_written_as_usual() -> None:
    """IPv4 with dots, IPv6 shortened."""
    assert addresses.address_text(v4("192.0.2.1")) == "192.0.2.1"
    assert addresses.address_text(v6("2001:DB8:0:0::1")) == "2001:db8::1"


def test_a_group_file_has_one_entry_a_line_with_comments() -> None:
    """Blank lines, comments, line ends of Windows, and a last line without an end."""
    data = b"# list\n\n192.0.2.0/24 # a network\r\n  2001:db8::1\n10.0.0.1 - 10.0.0.3\n192.0.3.0/24"
    ranges, bad, count = addresses.group_lines(data)
    assert ranges == (
        (v4("10.0.0.1"), v4("10.0.0.3")),
        (v4("192.0.2.0"), v4("192.0.3.255")),
        (v6("2001:db8::1"), v6("2001:db8::1")),
    )
    assert (bad, count) == ((), 0)


def test_bad_lines_of_a_group_file_are_told_up_to_a_number() -> None:
    """Host bits, names, bytes of all kinds; the rest is counted."""
    lines = [b"192.0.2.1/24", b"example.org", b"\xff\xfe\0", b"x" * 100_000] + [b"?"] * 40
    ranges, bad, count = addresses.group_lines(b"\n".join(lines))
    assert ranges == ()
    assert [item.line for item in bad] == list(range(1, limits.MAX_GROUP_FINDINGS + 1))
    assert bad[0].error.suggestion == "192.0.2.0/24"
    assert count == len(lines)


def test_a_group_file_may_not_have_more_than_its_most_entries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading stops there."""
    monkeypatch.setattr(limits, "MAX_GROUP_ENTRIES", 2)
    _, bad, count = addresses.group_lines(b"1.1.1.1\n1.1.1.2\n1.1.1.3\n1.1.1.4\n")
    assert [item.line for item in bad] == [3]
    assert "at most 2" in bad[0].error.expected
    assert count == 1
