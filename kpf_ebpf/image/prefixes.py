"""Ranges to prefixes, and the class of every prefix: what all the ranges covering it add up to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from kpf_ebpf.policy.model import Range

BITS = 128


def to_prefixes(ranges: Iterable[Range]) -> set[tuple[int, int]]:
    """The fewest (bits, address) prefixes that make up inclusive ranges of the 128-bit space."""
    found: set[tuple[int, int]] = set()
    for first, last in ranges:
        while first <= last:
            size = (first & -first).bit_length() - 1 if first else BITS
            size = min(size, (last - first + 1).bit_length() - 1)
            found.add((BITS - size, first))
            first += 1 << size
    return found


def accumulate(members: Mapping[tuple[int, int], int]) -> dict[tuple[int, int], int]:
    """For each prefix the OR of its own bits and those of every prefix around it."""
    result: dict[tuple[int, int], int] = {}
    around: list[tuple[int, int, int]] = []  # last address, own end, bits so far: the open prefixes, widest first
    for bits, address in sorted(members, key=lambda prefix: (prefix[1], prefix[0])):
        while around and around[-1][0] < address:
            around.pop()
        total = members[bits, address] | (around[-1][2] if around else 0)
        result[bits, address] = total
        around.append((address + (1 << (BITS - bits)) - 1, address, total))
    return result
