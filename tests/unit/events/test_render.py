"""A record is one line of text and one JSON object, whatever its words hold."""

from __future__ import annotations

import json
import re
from datetime import UTC

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kpf_ebpf.events.render import MAX_LINE, escaped, heading, json_line, parse_json, text_line
from tests.unit.events.factories import RECORD, a_record

ANY_TEXT = st.text(st.characters(exclude_categories=()))
NOT_UTF8 = st.characters(min_codepoint=0xDC80, max_codepoint=0xDCFF)
FILE_NAMES = st.text(st.characters(exclude_categories=["Cs"]) | NOT_UTF8)
"""What Python makes of file names: any characters, and surrogates for bytes that are not UTF-8."""
KEYS = [
    "line",
    "count",
    "date",
    "rule",
    "id",
    "origin",
    "application",
    "pid",
    "user",
    "direction",
    "local",
    "remote",
    "protocol",
    "action",
    "hook",
    "alert",
]


def test_a_text_line_has_the_columns_of_the_network_log() -> None:
    """In their order, two spaces or more apart."""
    assert re.split(" {2,}", text_line(RECORD, UTC).strip()) == [
        "1",
        "1",
        "2026-11-24 06:30:15",
        "Web browsing",
        "/usr/bin/curl",
        "out",
        "192.0.2.1:40000",
        "198.51.100.7:443",
        "tcp",
        "permit",
    ]


def test_headings_stand_above_their_columns() -> None:
    """As long as the words fit."""
    for word, value in (("rule", "Web"), ("application", "/usr"), ("remote", "198."), ("action", "permit")):
        assert heading().index(word) == text_line(RECORD, UTC).index(value)


@given(ANY_TEXT, ANY_TEXT)
def test_no_word_can_break_or_forge_a_text_line(rule: str, application: str) -> None:
    """A line stays one line of ten columns of printable characters."""
    line = text_line(a_record(rule="r" + rule, application="a" + application), UTC)
    assert line.isprintable()
    assert len(re.split(" {2,}", line.strip())) == 10


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a b", "a b"),
        ("a\nb\x1b[31m", r"a\x0ab\x1b[31m"),
        ("a  b", r"a \x20b"),
        (" a ", r"\x20a\x20"),
        ("a\\x0a", r"a\\x0a"),
        ("\u202egpj", r"\u202egpj"),
        ("\udcff", r"\udcff"),
        ("\U000e0001", r"\U000e0001"),
        ("grün", "grün"),
    ],
)
def test_unprintable_characters_are_escaped(text: str, shown: str) -> None:
    """Terminals get no control, direction or broken characters."""
    assert escaped(text) == shown


def test_the_json_object_has_exactly_the_keys_of_the_contract() -> None:
    """In the contract's order."""
    assert list(json.loads(json_line(RECORD))) == KEYS
    assert json.loads(json_line(RECORD))["date"] == "2026-11-24T06:30:15.250+00:00"


@given(FILE_NAMES, FILE_NAMES, st.none() | FILE_NAMES, st.none() | st.integers(0, 1 << 22), st.booleans())
def test_a_record_survives_json(rule: str, application: str, user: str | None, pid: int | None, alert: bool) -> None:
    """And the line holds nothing but printable ASCII."""
    record = a_record(rule=rule, application=application, user=user, pid=pid, alert=alert)
    line = json_line(record)
    assert line.isascii()
    assert line.isprintable()
    assert parse_json(line) == record
    assert parse_json(line.encode()) == record


@pytest.mark.parametrize(
    "changes",
    [
        {"line": "1"},
        {"line": True},
        {"line": -1},
        {"count": 1.5},
        {"count": 1 << 63},
        {"pid": "1"},
        {"user": 5},
        {"alert": 1},
        {"rule": None},
        {"date": "yesterday"},
        {"direction": "both"},
        {"action": "maybe"},
        {"hook": ""},
        {"more": 1},
    ],
)
def test_an_object_with_wrong_values_is_refused(changes: dict[str, object]) -> None:
    """Wrong types, words and keys are a ValueError."""
    with pytest.raises(ValueError, match=r".+"):
        parse_json(json.dumps(json.loads(json_line(RECORD)) | changes))


@pytest.mark.parametrize("line", ["", "{", "[]", "{}", "null", "[" * 60000, " " * (MAX_LINE + 1), b"\xff\xfe\xff"])
def test_a_line_that_is_no_record_is_refused(line: str | bytes) -> None:
    """Broken, nested and huge lines are a ValueError."""
    with pytest.raises(ValueError, match=r".+"):
        parse_json(line)
