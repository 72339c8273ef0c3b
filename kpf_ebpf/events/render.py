"""Records as text for people and as JSON for programs; both are one line, whatever a file name or user name holds."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from datetime import UTC, datetime, tzinfo
from types import MappingProxyType
from typing import Any

from kpf_ebpf.events.model import LogRecord

MAX_LINE = 65536
"""Characters of the longest JSON line that is read."""

_KEYS = tuple(field.name for field in fields(LogRecord))
_WIDTHS = (6, 5, 19, 36, 28, 9, 21, 21, 8, 6)
_HEADINGS = ("line", "count", "date", "rule", "application", "direction", "local", "remote", "protocol", "action")
_TYPES: Mapping[str, tuple[type, ...]] = MappingProxyType(
    {
        "line": (int,),
        "count": (int,),
        "pid": (int, type(None)),
        "user": (str, type(None)),
        "alert": (bool,),
    }
)
_WORDS: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "direction": frozenset({"in", "out"}),
        "action": frozenset({"permit", "deny"}),
        "hook": frozenset({"connect", "sendmsg", "egress", "ingress", "adapter-egress", "adapter-ingress", "names"}),
    }
)


def heading() -> str:
    """Give the line of headings above text lines."""
    return _columns(_HEADINGS)


def text_line(record: LogRecord, zone: tzinfo | None = None) -> str:
    """Write a record as columns, two spaces or more apart, without a newline; the date in ``zone`` (None: local)."""
    return _columns(
        (
            str(record.line),
            str(record.count),
            record.date.astimezone(zone).strftime("%Y-%m-%d %H:%M:%S"),
            escaped(record.rule),
            escaped(record.application),
            record.direction,
            escaped(record.local),
            escaped(record.remote),
            escaped(record.protocol),
            record.action,
        )
    )


def escaped(text: str) -> str:
    r"""Make text fit for a column: unprintable characters, backslashes and all but single spaces as ``\xNN``."""
    out: list[str] = []
    for char in text:
        if char == "\\":
            out.append("\\\\")
        elif not char.isprintable() or (char == " " and (not out or out[-1] == " ")):
            out.append(_code(ord(char)))
        else:
            out.append(char)
    if out and out[-1] == " ":
        out[-1] = _code(ord(" "))
    return "".join(out)


def json_line(record: LogRecord) -> str:
    """Write a record as one JSON object of ASCII characters, without a newline; the keys are those of the contract."""
    values = {key: getattr(record, key) for key in _KEYS} | {"date": record.date.isoformat(timespec="milliseconds")}
    return json.dumps(values, ensure_ascii=True).replace("\x7f", "\\u007f")


def parse_json(line: str | bytes) -> LogRecord:
    """Read what ``json_line`` wrote; raises ValueError for anything else."""
    if len(line) > MAX_LINE:
        raise ValueError("a log line is too long")
    try:
        values = json.loads(line)
    except RecursionError:
        raise ValueError("a log line is nested too deeply") from None
    if not isinstance(values, dict) or set(values) != set(_KEYS):
        raise ValueError("a log line is not a record")
    for key, value in values.items():
        _check(key, value)
    date = datetime.fromisoformat(values["date"])
    try:
        date.astimezone(UTC)
    except OverflowError:
        raise ValueError("a log line's date is none of this calendar") from None
    return LogRecord(**(values | {"date": date}))


def _check(key: str, value: Any) -> None:
    types = _TYPES.get(key, (str,))
    if type(value) not in types:
        raise ValueError(f"a log line's {key} is of the wrong type")
    if isinstance(value, int) and not 0 <= value < 1 << 63:
        raise ValueError(f"a log line's {key} is out of range")
    if key in _WORDS and value not in _WORDS[key]:
        raise ValueError(f"a log line's {key} is none of {', '.join(sorted(_WORDS[key]))}")


def _code(number: int) -> str:
    if number < 0x100:
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def _columns(words: tuple[str, ...]) -> str:
    line, count, *rest = words
    cells = [line.rjust(_WIDTHS[0]), count.rjust(_WIDTHS[1])]
    cells += [word.ljust(width) for word, width in zip(rest, _WIDTHS[2:], strict=True)]
    return "  ".join(cells).rstrip(" ")
