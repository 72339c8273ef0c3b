"""Rows and chunks: what is equal is there once, and nothing gets lost."""

from __future__ import annotations

import time

from hypothesis import given
from hypothesis import strategies as st

from kpf_ebpf.image.rows import CHUNK_RULES, make_rows

POSITIONS = 3 * CHUNK_RULES - 5
VECTORS = st.lists(
    st.integers(0, 2**POSITIONS - 1) | st.sampled_from([0, 1, 2**300, 2**300 + 2**5, 2**POSITIONS - 1]), max_size=12
)


@given(VECTORS)
def test_every_vector_is_found_again_in_its_row(vectors: list[int]) -> None:
    """The chunks of its row, one after the other, are the vector."""
    made = make_rows(vectors, POSITIONS)
    for vector in vectors:
        chunks = [made.pool[number] for number in made.rows[made.numbers[vector]]]
        assert int.from_bytes(b"".join(chunks), "little") == vector


@given(VECTORS)
def test_equal_vectors_and_equal_chunks_are_there_once(vectors: list[int]) -> None:
    """Numbers are given in the order of appearance; row 0 and chunk 0 are the empty ones."""
    made = make_rows(vectors, POSITIONS)
    assert list(made.numbers) == list(dict.fromkeys([0, *vectors]))
    assert [made.numbers[vector] for vector in made.numbers] == list(range(len(made.rows)))
    assert len(set(made.rows)) == len(made.rows) == len(made.numbers)
    assert len(set(made.pool)) == len(made.pool)
    assert made.pool[0] == bytes(32)


def test_a_vector_that_is_not_there_has_no_number() -> None:
    """As in any mapping."""
    made = make_rows([1, 2], POSITIONS)
    assert 1 in made.numbers
    assert 3 not in made.numbers


def test_vectors_that_differ_in_one_rule_are_told_apart_quickly() -> None:
    """As integers they would have one of 61 hashes, and every look would compare with hundreds of others."""
    usual = int("10" * 5000, 2)
    vectors = [usual ^ 1 << position for position in range(10_000)]
    began = time.process_time()
    made = make_rows(vectors, 10_000)
    assert [made.numbers[vector] for vector in vectors] == list(range(1, 10_001))
    assert time.process_time() - began < 2
