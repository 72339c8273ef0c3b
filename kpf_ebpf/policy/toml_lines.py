"""Which line of a TOML document a key or list element stands on, which tomllib does not tell.

``read_toml`` lets tomllib judge the document, unless it is as policies usually are; ``line_numbers`` then walks the
accepted text once more, knowing that it is valid, and only has to find its way.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from typing import Any

from kpf_ebpf.policy.errors import Finding, PolicyError
from kpf_ebpf.policy.limits import MAX_KEY_PARTS, MAX_PLACES, MAX_POLICY_BYTES
from kpf_ebpf.policy.model import Where
from kpf_ebpf.policy.toml_usual import Heads, read_usual

KeyPath = tuple[str | int, ...]
"""Keys and list indexes from the document's root, such as ("packet-filter", 3, "remote", "port")."""

DEEPEST = 6
"""Paths longer than this are not remembered; no key of a policy lies deeper."""

_BLANK = re.compile(r"[ \t\n]*+(?:#[^\n]*+[ \t\n]*+)*+")
_SPACE = re.compile(r"[ \t]*+")
_BARE = re.compile(r"[A-Za-z0-9_-]++")
_BASIC = re.compile(r'"[^"\\\n]*+(?:\\.[^"\\\n]*+)*+"')
_LITERAL = re.compile(r"'[^'\n]*+'")
_LONG_BASIC_END = re.compile(r'\\.|"{3,5}', re.DOTALL)
_LONG_LITERAL_END = re.compile(r"'{3,5}")
_SCALAR = re.compile(r"[^,\]}#\n]++")
_PART = r"""(?:[A-Za-z0-9_-]++|"[^"\\\n]*+(?:\\.[^"\\\n]*+)*+"|'[^'\n]*+')"""
_LONG_KEY = re.compile(
    rf"(?:^[ \t]*+\[{{0,2}}|[{{,])[ \t]*+{_PART}(?:[ \t]*+\.[ \t]*+{_PART}){{{MAX_KEY_PARTS}}}", re.M
)
_FLAT = r"""[^\[\]{}"'#\n]*+(?:"[^"\\\n]*+"[^\[\]{}"'#\n]*+)*+"""
_USUAL = re.compile(
    rf"""([A-Za-z0-9_-]++)[ \t]*+=[ \t]*+(?:"[^"\\\n]*+"|[A-Za-z0-9_.+-]++|\{{{_FLAT}\}}|\[{_FLAT}\])[ \t]*+(?=[#\n])"""
)
"""A pair on one line, as nearly all of a policy are: a bare key, and no value in whose inside a line can begin."""
_AT_LINE = re.compile(r" \(at (?:line (\d+), column \d+|end of document)\)$")


def read_toml(data: bytes, file: str) -> tuple[dict[str, Any], Mapping[KeyPath, int]]:
    """Return the document in ``data`` and the line of each of its keys, see ``line_numbers``.

    ``file`` is the name for messages. Raises PolicyError with one Finding, on its line, when the bytes are too many,
    are not UTF-8, or are not TOML.
    """
    text = _decoded(data, file)
    usual = read_usual(text)
    if usual is not None:
        document, heads = usual
        return document, _LinesWhenAsked(heads, text)
    long_key = _LONG_KEY.search(text)
    if long_key:
        line = text.count("\n", 0, long_key.end()) + 1
        raise _refusal(file, line, f"a key of at most {MAX_KEY_PARTS} parts")
    try:
        return tomllib.loads(text), line_numbers(text)
    except RecursionError:
        raise _refusal(file, 0, "lists and tables nested less deeply") from None
    except ValueError as error:  # TOMLDecodeError is one; a number of 5,000 digits is another
        message = str(error)
        place = _AT_LINE.search(message)
        line = int(place[1]) if place and place[1] else text.rstrip("\n").count("\n") + 1
        reason = message[: place.start() if place else None]
        if "digits" in message:
            reason = "a number has too many digits"
        raise _refusal(file, line, f"a TOML document ({_printable(reason)})") from None


def line_numbers(text: str) -> Mapping[KeyPath, int]:
    """Return the line, from 1, of every key, table header and list element in a valid TOML document.

    What stands in a list or inline table, on its line, may be left out: ask ``line_of``. Text that is not valid TOML
    gives a meaningless answer or ValueError.
    """
    scanner = _Scanner(text.replace("\r\n", "\n"))
    scanner.document()
    return scanner.lines


class _LinesWhenAsked(Mapping[KeyPath, int]):
    """``line_numbers`` of a text of which the ``heads`` are known: all are found once another one is asked for."""

    def __init__(self, heads: Heads, text: str) -> None:
        self._heads = heads
        self._text = text
        self._all: Mapping[KeyPath, int] | None = None

    def __getitem__(self, path: KeyPath) -> int:
        line = self._heads.get(path)
        return self._found()[path] if line is None else line

    def __iter__(self) -> Iterator[KeyPath]:
        return iter(self._found())

    def __len__(self) -> int:
        return len(self._found())

    def _found(self) -> Mapping[KeyPath, int]:
        if self._all is None:
            self._all = line_numbers(self._text)
        return self._all


def line_of(lines: Mapping[KeyPath, int], path: KeyPath) -> int:
    """Return the line of ``path`` or of the nearest thing around it that has one; 0 if there is none."""
    for length in range(len(path), 0, -1):
        line = lines.get(path[:length])
        if line is not None:
            return line
    return 0


def _decoded(data: bytes, file: str) -> str:
    if len(data) > MAX_POLICY_BYTES:
        raise _refusal(file, 0, f"at most {MAX_POLICY_BYTES} bytes")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _refusal(file, data.count(b"\n", 0, error.start) + 1, "UTF-8 text") from None


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in text[:200])


def _refusal(file: str, line: int, expected: str) -> PolicyError:
    return PolicyError((Finding(Where(file, line), rule="", key="", word="", expected=expected),))


class _Scanner:
    """A cursor over valid TOML; ``lines`` fills as it moves."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.lines: dict[KeyPath, int] = {}
        self._sizes: dict[KeyPath, int] = {}
        self._counted_to = 0
        self._line = 1

    def document(self) -> None:
        """Walk the whole text: headers and key/value lines."""
        table: KeyPath = ()
        while True:
            self._skip(_BLANK)
            if self.at >= len(self.text):
                return
            if self.text[self.at] == "[":
                table = self._header()
            elif usual := _USUAL.match(self.text, self.at):
                self._note((*table, usual[1]), self._here())
                self.at = usual.end()
            else:
                self._pair(table)

    def _here(self) -> int:
        self._line += self.text.count("\n", self._counted_to, self.at)
        self._counted_to = self.at
        return self._line

    def _note(self, path: KeyPath, line: int) -> None:
        if len(path) <= DEEPEST and len(self.lines) < MAX_PLACES:
            self.lines.setdefault(path, line)

    def _skip(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self.text, self.at)
        if match is None:
            raise ValueError("not valid TOML")
        self.at = match.end()
        return match[0]

    def _header(self) -> KeyPath:
        line = self._here()
        is_list = self.text.startswith("[[", self.at)
        self.at += 2 if is_list else 1
        parts = self._key()
        self.at += 2 if is_list else 1
        path: KeyPath = ()
        for position, part in enumerate(parts):
            path = (*path, part)
            if is_list and position == len(parts) - 1:
                self._sizes[path] = self._sizes.get(path, 0) + 1
            self._note(path, line)
            if path in self._sizes:
                path = (*path, self._sizes[path] - 1)
                self._note(path, line)
        if not is_list:
            self.lines[path] = line
        return path

    def _pair(self, table: KeyPath) -> None:
        line = self._here()
        path = table
        for part in self._key():
            path = (*path, part)
            self._note(path, line)
        self.at += 1  # the equals sign
        self._skip(_SPACE)
        self._value(path)

    def _key(self) -> list[str]:
        parts = []
        while True:
            self._skip(_SPACE)
            parts.append(self._key_part())
            self._skip(_SPACE)
            if not self.text.startswith(".", self.at):
                return parts
            self.at += 1

    def _key_part(self) -> str:
        if self.text.startswith('"', self.at):
            quoted = self._skip(_BASIC)
            return str(tomllib.loads(f"key = {quoted}")["key"]) if "\\" in quoted else quoted[1:-1]
        if self.text.startswith("'", self.at):
            return self._skip(_LITERAL)[1:-1]
        return self._skip(_BARE)

    def _value(self, path: KeyPath) -> None:
        text, at = self.text, self.at
        if text.startswith('"""', at):
            self._long_string(_LONG_BASIC_END)
        elif text.startswith("'''", at):
            self._long_string(_LONG_LITERAL_END)
        elif text.startswith('"', at):
            self._skip(_BASIC)
        elif text.startswith("'", at):
            self._skip(_LITERAL)
        elif text.startswith("[", at):
            self._list(path)
        elif text.startswith("{", at):
            self._inline_table(path)
        else:
            self._skip(_SCALAR)

    def _long_string(self, end: re.Pattern[str]) -> None:
        for match in end.finditer(self.text, self.at + 3):
            if not match[0].startswith("\\"):
                self.at = match.end()
                return
        raise ValueError("not valid TOML")

    def _list(self, path: KeyPath) -> None:
        list_line = self._here()
        self.at += 1
        index = 0
        while True:
            self._skip(_BLANK)
            if self.text.startswith("]", self.at):
                break
            line = self._here()
            if line != list_line:
                self._note((*path, index), line)
            self._value((*path, index) if len(path) < DEEPEST else path)
            index += 1
            self._skip(_BLANK)
            if self.text.startswith(",", self.at):
                self.at += 1
        self.at += 1

    def _inline_table(self, path: KeyPath) -> None:
        self.at += 1
        while True:
            self._skip(_SPACE)
            if self.text.startswith("}", self.at):
                break
            self._pair(path)
            self._skip(_SPACE)
            if self.text.startswith(",", self.at):
                self.at += 1
        self.at += 1
