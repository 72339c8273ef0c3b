"""Ranges to prefixes, and the prefixes around each prefix.

A place is an address in a space of 129 bits, whose first says IPv4 (its 32 follow) or IPv6: in the 128 bits that
policies have, all of IPv6 but IPv4's corner would be 96 prefixes, on the way to every IPv4 address.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

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


def to_prefixes(ranges: Iterable[Range]) -> list[tuple[int, int]]:
    """The fewest (bits, place) prefixes that make up inclusive ranges of addresses, by place where no two overlap."""
    found: list[tuple[int, int]] = []
    for first, last in _places(ranges):
        while first <= last:
            size = (first & -first).bit_length() - 1 if first else 128
            size = min(size, (last - first + 1).bit_length() - 1)
            found.append((BITS - size, first))
            first += 1 << size
    return found


def nested(prefixes: Iterable[tuple[int, int]]) -> Iterator[tuple[tuple[int, int], tuple[int, int] | None]]:
    """Each prefix with the narrowest one around it (None: there is none), which comes before it."""
    around: list[tuple[int, tuple[int, int]]] = []  # last address, prefix: the open ones, widest first
    for address, bits in sorted([(address, bits) for bits, address in prefixes]):
        while around and around[-1][0] < address:
            around.pop()
        prefix = bits, address
        yield prefix, around[-1][1] if around else None
        around.append((address + _SPANS[bits], prefix))
