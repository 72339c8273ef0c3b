"""The names of rules, kept in little room."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kpf_ebpf.engine.rule_book import RuleBook
from kpf_ebpf.events.enrich import RuleName

WORDS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]) | st.just("\udcff"))
NAMES = st.dictionaries(st.integers(0, 65535), st.builds(RuleName, WORDS, WORDS, WORDS), max_size=8)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(NAMES)
def test_a_book_is_the_mapping_that_it_was_made_from(names: dict[int, RuleName]) -> None:
    """Whatever words a path on disk brings with it."""
    book = RuleBook(names)
    assert dict(book) == names
    assert len(book) == len(names)
    assert list(book) == sorted(names)


@pytest.mark.parametrize("counter", [-1, 0, 2, 4, 70000])
def test_a_counter_without_a_rule_has_no_name(counter: int) -> None:
    """Below, between and above those that have one."""
    book = RuleBook({1: RuleName("a", "b", "c"), 3: RuleName("d", "e", "f")})
    assert book.get(counter) is None


def test_books_are_equal_if_all_rules_are_named_alike() -> None:
    """So that the next generation of a policy shares it."""
    name = RuleName("a", "b", "c")
    assert RuleBook({1: name}) == RuleBook({1: name})
    assert RuleBook({1: name}) != RuleBook({2: name})
    assert RuleBook({1: name}) != RuleBook({1: RuleName("a", "bc", "")})
    assert RuleBook({1: name}) == {1: name}
