"""make_rows(vectors): equal rule vectors become one row, equal chunks of them one chunk, and both get numbers."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import compress

from kpf_ebpf.image.model import Rows

MAX_ROWS, MAX_CHUNKS = 32768, 65536
CHUNK_RULES = 256
_CHUNK_BYTES = CHUNK_RULES // 8
_POWERS = tuple(1 << number for number in range(64))


class TooManyRules(Exception):
    """More rules, or more alternatives of rules, than an image has room for."""


def make_rows(vectors: Iterable[int], positions: int) -> Rows:
    """The rows of all vectors, in the order they first appear; row 0 and chunk 0 are empty. Raises TooManyRules."""
    numbers: dict[int, int] = {0: 0}
    pool: dict[bytes, int] = {bytes(_CHUNK_BYTES): 0}
    size = -(-positions // CHUNK_RULES) * _CHUNK_BYTES
    cuts = [slice(at, at + _CHUNK_BYTES) for at in range(0, size, _CHUNK_BYTES)]
    rows: list[tuple[int, ...]] = [(0,) * len(cuts)]
    for vector in vectors:
        if vector in numbers:
            continue
        numbers[vector] = len(rows)
        data = vector.to_bytes(size, "little")
        rows.append(tuple([pool.setdefault(data[cut], len(pool)) for cut in cuts]))
        if len(rows) > MAX_ROWS or len(pool) > MAX_CHUNKS:
            raise TooManyRules(
                f"the rules tell too many addresses, ports and programs apart; expected at most {MAX_ROWS} different "
                f"combinations of rules: merge rules, or put addresses into groups"
            )
    return Rows(numbers, tuple(rows), tuple(pool))


def summary(row: tuple[int, ...]) -> int:
    """Bit n: chunk n of the row has a bit set."""
    return sum(compress(_POWERS, row))
