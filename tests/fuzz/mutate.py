"""Mutations of bytes that need no knowledge of what the bytes mean."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

EDGES = (0, 1, 0x7F, 0x80, 0xFF)


def _flip(data: bytearray, chance: Random) -> None:
    if data:
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)


def _set(data: bytearray, chance: Random) -> None:
    if data:
        data[chance.randrange(len(data))] = chance.choice(EDGES) if chance.random() < 0.6 else chance.randrange(256)


def _insert(data: bytearray, chance: Random) -> None:
    at = chance.randint(0, len(data))
    data[at:at] = chance.randbytes(chance.randint(1, 8))


def _remove(data: bytearray, chance: Random) -> None:
    at = chance.randint(0, len(data))
    del data[at : at + chance.randint(1, 16)]


def _truncate(data: bytearray, chance: Random) -> None:
    del data[chance.randint(0, len(data)) :]


def _repeat(data: bytearray, chance: Random) -> None:
    first, last = sorted((chance.randint(0, len(data)), chance.randint(0, len(data))))
    piece = data[first : min(last, first + 400)]
    at = chance.randint(0, len(data))
    data[at:at] = piece * chance.choice((1, 1, 2, 9))


def _number(data: bytearray, chance: Random) -> None:
    """Two bytes of an edge: lengths and counts are such."""
    if len(data) > 1:
        at = chance.randrange(len(data) - 1)
        data[at : at + 2] = chance.choice((0, 1, 0x7FFF, 0x8000, 0xFFFF, len(data) & 0xFFFF)).to_bytes(2, "big")


STEPS: Sequence[Callable[[bytearray, Random], None]] = (
    _flip,
    _flip,
    _set,
    _insert,
    _remove,
    _truncate,
    _repeat,
    _number,
)


def mutated(data: bytes, chance: Random, most: int = 4) -> bytes:
    """Give ``data`` after one to ``most`` random steps."""
    changed = bytearray(data)
    for _ in range(chance.randint(1, most)):
        chance.choice(STEPS)(changed, chance)
    return bytes(changed)


def spliced(one: bytes, other: bytes, chance: Random) -> bytes:
    """Give the beginning of one and the end of the other."""
    return one[: chance.randint(0, len(one))] + other[chance.randint(0, len(other)) :]
