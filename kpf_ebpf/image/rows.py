"""make_rows(vectors): equal rule vectors become one row, equal chunks of them one chunk, and both get numbers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import compress

from kpf_ebpf.image.model import Rows

MAX_ROWS, MAX_CHUNKS = 32768, 65536
CHUNK_RULES = 256
_CHUNK_BYTES = CHUNK_RULES // 8
_POWERS = tuple(1 << number for number in range(64))


class TooManyRules(Exception):
    """More rules, or more alternatives of rules, than an image has room for."""


def key_of(vector: int) -> bytes:
    """What stands for a rule vector in a dictionary.

    An integer's own hash is its remainder by 2**61 - 1: of vectors that differ in one rule it has 61 values.
    """
    return vector.to_bytes(vector.bit_length() + 7 >> 3, "little")


class Numbers(Mapping[int, int]):
    """The numbers of rule vectors."""

    def __init__(self, by_key: Mapping[bytes, int]) -> None:
        self._by_key = by_key

    def __getitem__(self, vector: int) -> int:
        return self._by_key[key_of(vector)]

    def __iter__(self) -> Iterator[int]:
        return (int.from_bytes(key, "little") for key in self._by_key)

    def __len__(self) -> int:
        return len(self._by_key)


def make_rows(vectors: Iterable[int], positions: int) -> Rows:
    """The rows of all vectors, in the order they first appear; row 0 and chunk 0 are empty. Raises TooManyRules."""
    numbers: dict[bytes, int] = {key_of(0): 0}
    pool: dict[bytes, int] = {bytes(_CHUNK_BYTES): 0}
    before, chunks = 0, [0] * -(-positions // CHUNK_RULES)
    rows: list[tuple[int, ...]] = [tuple(chunks)]
    for vector in vectors:
        if numbers.setdefault(key_of(vector), len(rows)) < len(rows):
            continue
        first, changed = _changed(before, vector)
        for index, chunk in enumerate(changed, first):
            chunks[index] = pool.setdefault(chunk, len(pool))
        before = vector
        rows.append(tuple(chunks))
        if len(rows) > MAX_ROWS or len(pool) > MAX_CHUNKS:
            raise TooManyRules(
                f"the rules tell too many addresses, ports and programs apart; expected at most {MAX_ROWS} different "
                f"combinations of rules: merge rules, or put addresses into groups"
            )
    return Rows(Numbers(numbers), tuple(rows), tuple(pool))


def _changed(before: int, vector: int) -> tuple[int, list[bytes]]:
    """The chunks of a vector from the first to the last that are others than before, and the number of the first.

    Vectors of neighbours differ in a few rules, while each has thousands.
    """
    other = before ^ vector
    if not other:
        return 0, []
    first = ((other & -other).bit_length() - 1) // CHUNK_RULES
    count = (other.bit_length() - 1) // CHUNK_RULES - first + 1
    part = vector >> first * CHUNK_RULES & (1 << count * CHUNK_RULES) - 1
    data = part.to_bytes(count * _CHUNK_BYTES, "little")
    return first, [data[at : at + _CHUNK_BYTES] for at in range(0, len(data), _CHUNK_BYTES)]


def summary(row: tuple[int, ...]) -> int:
    """Bit n: chunk n of the row has a bit set."""
    return sum(compress(_POWERS, row))
