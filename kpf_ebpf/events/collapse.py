"""Identical consecutive records become one record with a count."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from kpf_ebpf.events.model import LogRecord

HOLD = 1.0
"""Seconds a record is held back at most, waiting for others like it."""


class Collapser:
    """Holds the last record back until another one comes or its time is over.

    Records are identical if they differ in nothing but line, date, count, pid and, going out, the local port (which
    the system picks anew for every connection). The first one's date, pid and port stand for all. The hold time runs
    from the first: a flood gives a line a second.
    """

    def __init__(self, hold: float = HOLD) -> None:
        self._hold = hold
        self._held: LogRecord | None = None
        self._due = 0.0

    @property
    def due(self) -> float | None:
        """When ``flush`` has something to give at the latest; None: nothing is held."""
        return None if self._held is None else self._due

    def push(self, record: LogRecord, now: float) -> list[LogRecord]:
        """Take a record; give those that are finished by it, oldest first."""
        finished = self.flush(now)
        if self._held is not None and _identity(self._held) == _identity(record):
            self._held = replace(self._held, count=self._held.count + record.count)
            return finished
        finished += self.drain()
        self._held, self._due = record, now + self._hold
        return finished

    def flush(self, now: float) -> list[LogRecord]:
        """Give the held record if its time is over."""
        return self.drain() if self._held is not None and now >= self._due else []

    def drain(self) -> list[LogRecord]:
        """Give the held record whatever the time is (the end of the program)."""
        held, self._held = self._held, None
        return [] if held is None else [held]


def _identity(record: LogRecord) -> LogRecord:
    local = record.local if record.direction == "in" else _without_port(record.local)
    return replace(record, line=0, count=0, date=datetime.min, pid=None, local=local)


def _without_port(point: str) -> str:
    if point.startswith("["):
        return point[1 : point.rindex("]")] if "]" in point else point
    return point.partition(":")[0] if point.count(":") == 1 else point
