"""Ranges to prefixes, and the class of every prefix: what all the ranges covering it add up to.

A place is an address in a space of 129 bits, whose first says IPv4 (its 32 follow) or IPv6: in the 128 bits that
policies have, all of IPv6 but IPv4's corner would be 96 prefixes, on the way to every IPv4 address.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from kpf_ebpf.policy.addresses import is_v4
from kpf_ebpf.policy.model import V4_BASE, Range

BITS = 129
_V4_SHIFT, _V4_END = 96, V4_BASE + 2**32
_V4_PLACE = (1 << 128) - (V4_BASE << _V4_SHIFT)
_SPANS = tuple((1 << BITS - bits) - 1 for bits in range(BITS + 1))


def place(address: int) -> int:
    """Where an address (IPv4 as ::ffff:a.b.c.d) is in the space of 129 bits."""
    return 1 << 128 | (address - V4_BASE) << _V4_SHIFT if is_v4(address) else address


def _places(ranges: Iterable[Range]) -> Iterable[Range]:
    """Ranges of addresses as ranges of places. What reaches IPv4's corner of IPv6 from both sides, reaches through."""
    below = None
    for first, last in sorted(ranges):
        if first >= V4_BASE and last < _V4_END:  # nearly all of a long list
            yield _V4_PLACE + (first << _V4_SHIFT), _V4_PLACE + (last + 1 << _V4_SHIFT) - 1
            continue
        if first < _V4_END and last >= V4_BASE:
            yield place(max(first, V4_BASE)), place(min(last, _V4_END - 1)) + (1 << _V4_SHIFT) - 1
        if first < V4_BASE:
            if last < V4_BASE - 1:
                yield first, last
                continue
            below = first if below is None else below
        if last >= _V4_END:
            first = max(first, _V4_END)
            yield (below if below is not None and first == _V4_END else first), last
            below = None if first == _V4_END else below
    if below is not None:
        yield below, V4_BASE - 1


def to_prefixes(ranges: Iterable[Range]) -> set[tuple[int, int]]:
    """The fewest (bits, place) prefixes that make up inclusive ranges of addresses."""
    found: set[tuple[int, int]] = set()
    for first, last in _places(ranges):
        while first <= last:
            size = (first & -first).bit_length() - 1 if first else 128
            size = min(size, (last - first + 1).bit_length() - 1)
            found.add((BITS - size, first))
            first += 1 << size
    return found


def accumulate(members: Mapping[tuple[int, int], int]) -> dict[tuple[int, int], int]:
    """For each prefix the OR of its own bits and those of every prefix around it."""
    result: dict[tuple[int, int], int] = {}
    around: list[tuple[int, int]] = []  # last address, bits so far: the open prefixes, widest first
    for address, bits, own in sorted([(address, bits, own) for (bits, address), own in members.items()]):
        while around and around[-1][0] < address:
            around.pop()
        total = own | around[-1][1] if around else own
        result[bits, address] = total
        around.append((address + _SPANS[bits], total))
    return result
