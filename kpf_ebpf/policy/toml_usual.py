"""TOML as nearly all policies are written, read some five times as fast as by tomllib, which is there for the rest.

Bare keys, headers of one or two of them, strings without escapes, switches, small numbers; one table within a line, and
lists. Whatever is anything else, or wrong, makes ``read_usual`` give up: it never gives a document that tomllib would
not give.
"""

from __future__ import annotations

import re
from typing import Any

_CONTROL = r"\x00-\x08\x0a-\x1f\x7f"
_COMMENT = rf"#[^{_CONTROL}]*+"
_GAP = rf"[ \t\n]*+(?:{_COMMENT}[ \t\n]*+)*+"
_END = rf"[ \t]*+(?:{_COMMENT})?+(?:\n|\Z)"
_KEY = r"([A-Za-z0-9_-]++)"
_SCALAR = rf"""(?:"([^"\\{_CONTROL}]*+)"|'([^'{_CONTROL}]*+)'|(true|false)|(0|[1-9][0-9]{{0,17}}+))"""
_STATEMENT = re.compile(
    rf"{_GAP}(?:{_KEY}[ \t]*+=[ \t]*+(?:{_SCALAR}{_END}|([\[{{]))|\[\[{_KEY}\]\]{_END}|\[{_KEY}(?:\.{_KEY})?+\]{_END})"
)
_FIRST_SCALAR, _OPENED, _ENTRY, _HEADER, _INNER_HEADER = 2, 6, 7, 8, 9
"""The groups of a statement, of which the last that matched tells what it is."""
_MEMBER = re.compile(rf"[ \t]*+{_KEY}[ \t]*+=[ \t]*+{_SCALAR}[ \t]*+[,}}]")
_ELEMENT = re.compile(rf"{_GAP}{_SCALAR}")
_AFTER_ELEMENT = re.compile(rf"{_GAP}(?:,{_GAP}(\])?+|(\]))")
_LINE_END = re.compile(_END)
_REST = re.compile(rf"{_GAP}\Z")

Heads = dict[tuple[str | int, ...], int]
"""Lines by path, as policy.toml_lines has them: of headers, and of keys that do not stand in a list of tables."""


class _Unusual(Exception):
    """Something that is for tomllib to read, or to complain of."""


def read_usual(text: str) -> tuple[dict[str, Any], Heads] | None:
    """The document, and as many lines as one without mistakes needs; None: it is not a usual one."""
    reader = _Reader(text)
    try:
        reader.read()
    except _Unusual:
        return None
    return reader.document, reader.heads


class _Reader:
    def __init__(self, text: str) -> None:
        self.text = text
        self.document: dict[str, Any] = {}
        self.heads: Heads = {}
        self._table = self.document
        self._path: tuple[str, ...] | None = ()
        """Of the table that keys go into; None within a list of tables, where they are too many to be noted."""
        self._lists, self._tables = set[str](), set[str]()
        self._counted, self._line = 0, 1

    def read(self) -> None:
        """Reads everything. Raises _Unusual."""
        at = 0
        while found := _STATEMENT.match(self.text, at):
            kind, at = found.lastindex or 0, found.end()
            if kind > _OPENED:
                self._header(found, kind)
                continue
            key = found[1]
            if key in self._table:
                raise _Unusual
            if self._path is not None:
                self.heads[*self._path, key] = self._line_at(found.start(1))
            if kind < _OPENED:
                self._table[key] = _scalar(kind - _FIRST_SCALAR, found[kind])
            else:
                inside = self._inline_table if found[kind] == "{" else self._list
                self._table[key], at = inside(at)
                at = _end_of(_LINE_END, self.text, at)
        _end_of(_REST, self.text, at)

    def _header(self, found: re.Match[str], kind: int) -> None:
        name = found[_HEADER if kind == _INNER_HEADER else kind]
        above: dict[str, Any] = self.document
        path: tuple[str, ...] = (name,)
        if kind == _INNER_HEADER and name in self._tables:
            above, path = self.document[name], (name, found[kind])
        key, line, table = path[-1], self._line_at(found.start(kind)), dict[str, Any]()
        if kind == _ENTRY and name in self._lists:
            self.document[name].append(table)
        elif key in above or (kind == _INNER_HEADER and len(path) == 1):
            raise _Unusual
        else:
            above[key], self.heads[path] = [table] if kind == _ENTRY else table, line
            (self._lists if kind == _ENTRY else self._tables).add(name)
        if kind == _ENTRY:
            self.heads[name, len(self.document[name]) - 1] = line
        self._table, self._path = table, None if kind == _ENTRY else path

    def _line_at(self, place: int) -> int:
        self._line += self.text.count("\n", self._counted, place)
        self._counted = place
        return self._line

    def _inline_table(self, at: int) -> tuple[dict[str, Any], int]:
        table: dict[str, Any] = {}
        while found := _MEMBER.match(self.text, at):
            kind, at = found.lastindex or 0, found.end()
            if found[1] in table:
                raise _Unusual
            table[found[1]] = _scalar(kind - _FIRST_SCALAR, found[kind])
            if self.text[at - 1] == "}":
                return table, at
        raise _Unusual

    def _list(self, at: int) -> tuple[list[Any], int]:
        listed = []
        while found := _ELEMENT.match(self.text, at):
            kind = found.lastindex or 0
            listed.append(_scalar(kind - 1, found[kind]))
            after = _AFTER_ELEMENT.match(self.text, found.end())
            if after is None:
                break
            at = after.end()
            if after.lastindex:
                return listed, at
        raise _Unusual


def _end_of(pattern: re.Pattern[str], text: str, at: int) -> int:
    found = pattern.match(text, at)
    if found is None:
        raise _Unusual
    return found.end()


def _scalar(kind: int, word: str) -> str | bool | int:
    """``kind``: which of the four of _SCALAR it is."""
    if kind < 2:
        return word
    return word == "true" if kind == 2 else int(word)
