"""Perf events and log lines of any bytes: an error that is expected, or a record that is one harmless line."""

from __future__ import annotations

import json
from dataclasses import replace
from random import Random

from kpf_ebpf.engine.run import clock
from kpf_ebpf.events.decode import SIZE, SIZES, decode
from kpf_ebpf.events.enrich import RuleName, enrich
from kpf_ebpf.events.model import LogRecord
from kpf_ebpf.events.render import json_line, parse_json, text_line
from tests.fuzz.campaign import Campaign
from tests.fuzz.mutate import mutated, spliced
from tests.unit.events.factories import RECORD, an_event

KNOWN_EVENTS: tuple[bytes, ...] = ()
KNOWN_LINES: tuple[bytes, ...] = tuple(
    json_line(RECORD).replace("2026-11-24T06:30:15.250+00:00", date).encode()
    for date in ("0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59")
)
"""Events and log lines that once broke a rule of this module."""

HOSTILE = (
    "\n", "\r\n", "\x00", "\x1b[2J\x1b]0;x\x07", "\u2028", "\u202egnp", "\udcff", "\x7f", "\x85", "  ", "", "\\x0a",
    '"', "\U0001f600", "/" * 300, "a\tb", "\u200b", "\ufeff", "\U000e0001",
)  # fmt: skip
"""What a file name, a user name or a description may hold; of surrogates those that stand for a byte."""
VALUES = (
    "null", "true", "-1", "0", "9223372036854775807", "9223372036854775808", "1e3", "1E400", "NaN", "[]", "{}", '""',
    "Infinity", '"\\udcff"', '"2026-11-24"', '"2026-W01-1"', '"2026-11-24T24:00"',
    "1" * 5000, "[" * 3000, '"in"', '"names"', '"2026-11-24T06:30:15.123456789+00:00:00.5"', '"20261124T063015Z"',
)  # fmt: skip
"""JSON values that something may stumble over."""


def an_event_of_bytes(chance: Random) -> bytes:
    """Make the bytes of an event: nearly valid, or of one of the sizes, or any."""
    valid = bytes(
        an_event(**{name: chance.choice((0, 1, 2, 3, 7, 15, 255)) for name in _FIELDS if chance.random() < 0.3})
    )
    way = chance.random()
    if way < 0.6:
        changed = bytearray(valid + bytes(chance.choice((0, 0, max(SIZES) - SIZE))))
        for _ in range(chance.randint(0, 6)):
            changed[chance.randrange(len(changed))] = chance.choice((0, 1, 2, 255, chance.randrange(256)))
        return bytes(changed)
    if way < 0.8:
        return mutated(valid, chance)
    return chance.randbytes(chance.choice((*SIZES, *SIZES, chance.randint(0, 2 * SIZE))))


_FIELDS = (
    "uid",
    "ifindex",
    "protocol",
    "icmp",
    "direction",
    "known",
    "component",
    "counter",
    "pid",
    "action",
    "hook",
    "flags",
)


def _hostile(chance: Random) -> str:
    return "".join(chance.choice((*HOSTILE, "/usr/bin/x", "name")) for _ in range(chance.randint(0, 3)))


def is_harmless(line: str) -> bool:
    """Tell whether text is one line without anything that a terminal would obey."""
    return line.isprintable() and len(line.splitlines()) == 1


def checked_record(record: LogRecord) -> None:
    """A record is one line as text; as JSON it is one line of ASCII that gives the record back."""
    assert is_harmless(text_line(record)), text_line(record)
    line = json_line(record)
    assert line.isascii() and is_harmless(line), line
    again = parse_json(line)
    assert json_line(again) == line
    kept = record.date.replace(microsecond=record.date.microsecond // 1000 * 1000)
    assert again == replace(record, date=kept)


def checked_event(made: tuple[bytes, int]) -> None:
    """Decode an event and let it become a record, with hostile words of everything that gives words."""
    raw, seed = made
    chance = Random(seed)
    try:
        event = decode(raw)
    except ValueError:
        return
    assert len(raw) in SIZES
    words = RuleName(_hostile(chance), _hostile(chance), _hostile(chance))
    rules = {event.counter: words} if chance.random() < 0.8 else {}
    checked_record(
        enrich(
            event,
            rules,
            lambda key, pid: chance.choice((None, _hostile(chance))),
            lambda uid: chance.choice((None, _hostile(chance))),
            clock,
        )
    )


def a_line(chance: Random) -> bytes:
    """Make a line of the log that something went over."""
    values = json.loads(json_line(RECORD))
    parts = [f"{json.dumps(key)}: {chance.choice(VALUES)}" for key in values if chance.random() < 0.15]
    parts += [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in values.items()]
    if chance.random() < 0.7:  # the last of two equal keys counts
        parts.reverse()
    line = ("{" + ", ".join(parts) + "}").encode()
    way = chance.random()
    if way < 0.3:
        return mutated(line, chance)
    return spliced(line, line, chance) if way < 0.4 else line


def checked_line(line: bytes) -> None:
    """Read a line: ValueError, or a record that can be shown and written like any other."""
    try:
        record = parse_json(line)
    except ValueError:
        return
    assert is_harmless(text_line(record))
    checked_record(parse_json(json_line(record)))


def test_any_event_is_an_error_or_a_harmless_line(campaign: Campaign) -> None:
    """Whatever an event holds: ValueError, or a record that survives JSON, one line each way, no control characters."""
    campaign.run(lambda chance: (an_event_of_bytes(chance), chance.getrandbits(32)), checked_event)


def test_any_log_line_is_an_error_or_a_harmless_record(campaign: Campaign) -> None:
    """Whatever a line of the log holds: ValueError, or a record that is shown as one harmless line."""
    campaign.run(a_line, checked_line)


def test_what_once_was_wrong_is_right() -> None:
    """Each event and line that a campaign once found is read as any other."""
    for raw in KNOWN_EVENTS:
        checked_event((raw, 0))
    for line in KNOWN_LINES:
        checked_line(line)
