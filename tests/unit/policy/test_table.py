"""Reading tables and collecting mistakes."""

from __future__ import annotations

import pytest

from kpf_ebpf.policy import limits, words
from kpf_ebpf.policy.errors import PolicyError
from kpf_ebpf.policy.model import Where
from kpf_ebpf.policy.table import Report, Table
from kpf_ebpf.policy.words import WordError


def a_report() -> Report:
    """A report about p.toml in which "t" stands on line 1, its "key" on line 2 and the key's second word on 3."""
    return Report("p.toml", {("t",): 1, ("t", "key"): 2, ("t", "key", 1): 3})


def a_table(report: Report, value: object) -> Table:
    """The table "t"."""
    return Table(report, ("t",), "rule t", value)


def test_a_wrong_word_is_noted_and_reading_goes_on() -> None:
    """With the default in its place."""
    report = a_report()
    table = a_table(report, {"key": "yes"})
    assert table.take("key", words.switch, False) is False
    (finding,) = report.errors()
    assert (str(finding.where), finding.rule, finding.key, finding.word) == ("p.toml:2", "rule t", "key", "yes")
    assert table.broken


def test_a_list_is_judged_word_by_word_on_each_words_line() -> None:
    """One bad word does not hide the next."""
    report = a_report()
    assert a_table(report, {"key": ["", "x", ""]}).words("key", words.user) is None
    assert [finding.where.line for finding in report.errors()] == [2, 2]
    report = a_report()
    a_table(report, {"key": ["x", ""]}).words("key", words.user)
    assert [finding.where.line for finding in report.errors()] == [3]


@pytest.mark.parametrize("value", [[], ["any", "x"], ["any"], ["x"] * (limits.MAX_WORDS + 1)])
def test_lists_that_could_be_misread_are_refused(value: list[str]) -> None:
    """Empty: nothing or anything? "any" in a list: then why the rest?"""
    report = a_report()
    assert a_table(report, {"key": value}).words("key", words.user) is None
    assert len(report.errors()) == 1


def test_a_word_alone_is_a_list_of_one_and_any_is_none() -> None:
    """So is a key that is not there."""
    report = a_report()
    assert a_table(report, {"key": "x"}).words("key", words.user) == ["x"]
    assert a_table(report, {"key": "any"}).words("key", words.user) == []
    assert a_table(report, {}).words("key", words.user) == []
    assert report.errors() == ()


def test_a_missing_key_is_told_on_the_tables_line() -> None:
    """There is no other."""
    report = a_report()
    assert a_table(report, {}).require("key", words.user, "a user") is None
    (finding,) = report.errors()
    assert (finding.where.line, finding.key, finding.expected) == (1, "key", "a user")


def test_keys_nobody_took_are_told_with_the_near_one() -> None:
    """Unknown keys are never ignored."""
    report = a_report()
    table = a_table(report, {"key": "x", "kez": 1})
    table.take("key", words.adapter, "")
    table.finish()
    (finding,) = report.errors()
    assert (finding.key, finding.suggestion) == ("kez", "key")


def test_a_key_that_is_no_table_is_told_so() -> None:
    """And reads as an empty one."""
    report = a_report()
    assert a_table(report, 3).take("key", words.adapter, "none") == "none"
    assert [finding.expected for finding in report.errors()] == ["a table"]


def test_entries_are_a_bounded_list_of_tables() -> None:
    """[t] instead of [[t]], and too many."""
    report = a_report()
    root = Table(report, (), "", {"t": {}, "u": [1, 2, 3]})
    assert list(root.entries("t", 5)) == []
    assert list(root.entries("u", 2)) == [(0, 1), (1, 2)]
    assert len(report.errors()) == 2


def test_findings_are_sorted_with_the_policy_before_other_files() -> None:
    """Whatever order they were made in."""
    report = a_report()
    for file, line in (("a.txt", 1), ("p.toml", 9), ("p.toml", 2), ("a.txt", 0)):
        report.error(Where(file, line), "", "", WordError("w", "e"))
    assert [str(finding.where) for finding in report.errors()] == ["p.toml:2", "p.toml:9", "a.txt", "a.txt:1"]


def test_reading_ends_at_more_findings_than_anybody_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a hostile file costs little; the last finding says so."""
    monkeypatch.setattr(limits, "MAX_FINDINGS", 2)
    report = a_report()
    table = a_table(report, {"a": 1, "b": 2, "c": 3, "d": 4})
    with pytest.raises(PolicyError) as caught:
        table.finish()
    assert [finding.word for finding in caught.value.findings] == ["a", "b", "and more"]


def test_keys_are_shown_without_control_characters() -> None:
    """A quoted key may hold any character."""
    report = a_report()
    a_table(report, {"\x1b[31m": 1}).finish()
    assert "\x1b" not in str(report.errors()[0])
