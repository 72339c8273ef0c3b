"""Prefixes cover exactly the addresses of the ranges they are made from, and few stand around IPv4."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from kpf_ebpf.image.prefixes import BITS, nested, place, to_prefixes
from kpf_ebpf.policy.model import V4_BASE, Range

V4_LAST, LAST = V4_BASE + 2**32 - 1, 2**128 - 1
EDGES = [0, 1, V4_BASE - 1, V4_BASE, V4_BASE + 1, V4_LAST, V4_LAST + 1, LAST]
ADDRESSES = st.one_of(st.sampled_from(EDGES), st.integers(V4_BASE, V4_LAST), st.integers(0, LAST))
RANGES = st.lists(st.tuples(ADDRESSES, ADDRESSES).map(lambda pair: (min(pair), max(pair))), max_size=6)


def covers(prefixes: list[tuple[int, int]], address: int) -> bool:
    """Whether a prefix is around the place of an address."""
    return any(place(address) >> BITS - bits == start >> BITS - bits for bits, start in prefixes)


@example([(0, V4_BASE - 1), (V4_LAST + 1, LAST)], V4_BASE)
@example([(0, V4_BASE - 1), (5, V4_BASE - 1), (V4_LAST + 1, LAST)], 2)
@given(RANGES, ADDRESSES)
def test_an_address_is_covered_if_it_is_in_a_range(ranges: list[Range], address: int) -> None:
    """Of any ranges, within a family or over both, and for any address, IPv4 or IPv6."""
    assert covers(to_prefixes(ranges), address) is any(first <= address <= last for first, last in ranges)


def test_all_of_a_family_is_one_prefix() -> None:
    """All IPv6, which is what surrounds IPv4 in the 128 bits of policies, is one prefix, and so is all IPv4."""
    assert to_prefixes([(0, V4_BASE - 1), (V4_LAST + 1, LAST)]) == [(1, 0)]
    assert to_prefixes([(V4_BASE, V4_LAST)]) == [(1, 1 << 128)]
    assert sorted(to_prefixes([(0, LAST)])) == [(1, 0), (1, 1 << 128)]


def test_a_prefix_knows_the_narrowest_around_it() -> None:
    """Which comes before it, in whatever order they are given; beside one another they are not around."""
    wide, narrow, beside = (BITS - 8, 256), (BITS, 300), (BITS, 301)
    found = list(nested([beside, narrow, (0, 0), wide]))
    assert found == [((0, 0), None), (wide, (0, 0)), (narrow, wide), (beside, wide)]
