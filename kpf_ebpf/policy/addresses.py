"""The words for addresses: one address, a network, a range; what a group file holds; sets of ranges.

Everything becomes inclusive ranges in the 128-bit space of the model, in which IPv4 lies at its v4-mapped place. A word
in IPv6 writing that spans this place (``::/0``) means IPv6 only and so becomes the two ranges around it.
"""

from __future__ import annotations

import io
import socket
from collections.abc import Iterable
from dataclasses import dataclass

from kpf_ebpf.policy import limits
from kpf_ebpf.policy.model import V4_BASE, Range
from kpf_ebpf.policy.words import WordError, label

V4_LAST = V4_BASE + (1 << 32) - 1
"""The place of 255.255.255.255."""

ADDRESS_EXPECTED = 'an address, a network such as 192.0.2.0/24, or a range "a-b"'


def is_v4(value: int) -> bool:
    """Tell whether a place in the 128-bit space is an IPv4 address."""
    return V4_BASE <= value <= V4_LAST


def address_text(value: int) -> str:
    """Return the usual writing of the address at a place in the 128-bit space."""
    if is_v4(value):
        return socket.inet_ntop(socket.AF_INET, (value - V4_BASE).to_bytes(4, "big"))
    return socket.inet_ntop(socket.AF_INET6, value.to_bytes(16, "big"))


def address(word: str) -> int | None:
    """Return the place of the address that ``word`` writes, or None if it writes none."""
    try:
        if ":" in word:
            return int.from_bytes(socket.inet_pton(socket.AF_INET6, word), "big")
        return V4_BASE + int.from_bytes(socket.inet_pton(socket.AF_INET, word), "big")
    except (OSError, ValueError):
        return None


def address_ranges(word: str) -> tuple[Range, ...] | None:
    """Return the ranges of an address, a network or an "a-b" range; None if ``word`` has no such shape.

    Raises WordError for one that is written wrongly: host bits set, mixed families, reversed, a bad prefix length.
    """
    if len(word) > limits.MAX_GROUP_LINE:
        return None
    single = address(word)
    if single is not None:
        return ((single, single),)
    if "/" in word:
        return _network(word)
    left, dash, right = word.partition("-")
    if dash:
        first, last = address(left.strip()), address(right.strip())
        if first is not None and last is not None:
            return _range(word, first, last)
        if first is not None or last is not None:
            raise WordError(word, "a range of two addresses")
    if "%" in word and ":" in word:
        raise WordError(word, "an address without an adapter")
    if ":" in word or all(char in "0123456789." for char in word):
        raise WordError(word, ADDRESS_EXPECTED)
    return None


def _network(word: str) -> tuple[Range, ...]:
    base, _, tail = word.partition("/")
    first = address(base)
    if first is None:
        raise WordError(word, ADDRESS_EXPECTED)
    width = 128 if ":" in base else 32
    if not (tail.isascii() and tail.isdigit() and len(tail) <= 3 and int(tail) <= width):
        raise WordError(word, f"a prefix length from 0 to {width} after the slash", _from_mask(base, tail))
    prefix = int(tail)
    span = (1 << (width - prefix)) - 1
    within = first - V4_BASE if width == 32 else first
    if within & span:
        raise WordError(word, "a network without host bits", f"{address_text(first - (within & span))}/{prefix}")
    return around_v4(first, first + span)


def _from_mask(base: str, tail: str) -> str:
    mask = address(tail)
    if mask is None or ":" in base or not is_v4(mask):
        return ""
    ones = bin(mask - V4_BASE).count("1")
    is_mask = mask - V4_BASE == (0xFFFFFFFF << (32 - ones)) & 0xFFFFFFFF
    return f"{base}/{ones}" if is_mask else ""


def _range(word: str, first: int, last: int) -> tuple[Range, ...]:
    if is_v4(first) != is_v4(last):
        raise WordError(word, "a range within one family, IPv4 or IPv6")
    if first > last:
        raise WordError(
            word, "a range whose first address is not above its last", f"{address_text(last)}-{address_text(first)}"
        )
    return around_v4(first, last)


def around_v4(first: int, last: int) -> tuple[Range, ...]:
    """Return the range as it is within one family; one that reaches over IPv4's place is cut down to its IPv6 parts."""
    if is_v4(first) and is_v4(last):
        return ((first, last),)
    parts = (first, min(last, V4_BASE - 1)), (max(first, V4_LAST + 1), last)
    return tuple(part for part in parts if part[0] <= part[1])


def merged(ranges: Iterable[Range]) -> tuple[Range, ...]:
    """Return the union of ``ranges``, each of one family, as sorted disjoint ranges, again each of one family."""
    borders = (V4_BASE, V4_LAST + 1)
    done: list[Range] = []
    low, high = 0, -2
    for first, last in sorted(ranges):
        if first <= high or (first == high + 1 and first not in borders):
            high = max(high, last)
            continue
        if high >= 0:
            done.append((low, high))
        low, high = first, last
    if high >= 0:
        done.append((low, high))
    return tuple(done)


def families(ranges: Iterable[Range]) -> frozenset[int]:
    """Return which of 4 and 6 have addresses in ``ranges``."""
    return frozenset(4 if is_v4(first) else 6 for first, _ in ranges)


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line of a group file that cannot be used: its number from 1 and what is wrong."""

    line: int
    error: WordError


def group_lines(data: bytes) -> tuple[tuple[Range, ...], tuple[BadLine, ...], int]:
    """Return the merged ranges of a group file, its first MAX_GROUP_FINDINGS bad lines, and the number of bad lines.

    One address, network or range a line; "#" begins a comment. Reading stops at MAX_GROUP_ENTRIES with a bad line.
    """
    ranges: list[Range] = []
    bad: list[BadLine] = []
    bad_count = 0
    append, pton, v4 = ranges.append, socket.inet_pton, socket.AF_INET
    from_bytes, base, most = int.from_bytes, V4_BASE, limits.MAX_GROUP_ENTRIES
    spans = {str(prefix): (1 << (32 - prefix)) - 1 for prefix in range(33)}
    for line, raw in enumerate(io.BytesIO(data), 1):
        entry = raw.partition(b"#")[0].strip()
        if not entry:
            continue
        try:
            if len(ranges) >= most:
                raise WordError(
                    label(entry[: limits.MAX_GROUP_LINE].decode("ascii", "replace")), f"at most {most} entries"
                )
            word = entry.decode("ascii")
            place, slash, prefix = word.partition("/")
            first = from_bytes(pton(v4, place), "big")
            span = spans[prefix] if slash else 0
            if first & span:
                raise ValueError
            append((base + first, base + first + span))
        except WordError as error:
            bad.append(BadLine(line, error))
            bad_count += 1
            break
        except (OSError, ValueError, KeyError):  # not plain IPv4: the careful way
            try:
                ranges.extend(_group_entry(entry))
            except WordError as error:
                bad_count += 1
                if bad_count <= limits.MAX_GROUP_FINDINGS:
                    bad.append(BadLine(line, error))
    return merged(ranges), tuple(bad), bad_count


def _group_entry(entry: bytes) -> tuple[Range, ...]:
    word = entry[: 4 * limits.MAX_GROUP_LINE].decode("utf-8", "replace")
    ranges = address_ranges(word)
    if ranges is None:
        raise WordError(word, f"{ADDRESS_EXPECTED}, one a line")
    return ranges
