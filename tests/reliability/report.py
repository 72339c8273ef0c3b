"""What the experiments found: rows with numbers, a table that fits the terminal, the page docs/reliability.md."""

from __future__ import annotations

import platform
import shutil
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field

HEAD = ("experiment", "what was tried", "times", "what was found", "")


@dataclass(frozen=True, slots=True)
class Row:
    """One thing that was tried. ``good`` None: a number only, nothing was expected of it."""

    what: str
    times: str
    found: str
    good: bool | None

    @property
    def verdict(self) -> str:
        """In a word."""
        return {True: "as expected", False: "NOT EXPECTED", None: "measured"}[self.good]


@dataclass(slots=True)
class Report:
    """What one experiment found."""

    name: str
    story: str
    rows: list[Row] = field(default_factory=list)

    def expect(self, good: bool, what: str, times: object, found: object) -> bool:
        """Write down what had to be so, and whether it was; print it at once."""
        self._add(Row(what, _text(times), _text(found), bool(good)))
        return bool(good)

    def measure(self, what: str, times: object, found: object) -> None:
        """Write down a number."""
        self._add(Row(what, _text(times), _text(found), None))

    @property
    def good(self) -> bool:
        """Whether something was found, and all of it was as expected."""
        return bool(self.rows) and all(row.good is not False for row in self.rows)

    def _add(self, row: Row) -> None:
        self.rows.append(row)
        print(f"  {row.verdict}: {row.what}: {row.times}: {row.found}", flush=True)


def _text(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def summed(rows: Sequence[Row]) -> list[Row]:
    """One row for what was tried over and over, and found the same each time; the times add up."""
    found: dict[tuple[str, str, bool | None], int | str] = {}
    for row in rows:
        key = row.what, row.found, row.good
        times = int(row.times.replace(",", "")) if row.times.replace(",", "").isdigit() else row.times
        before = found.get(key, 0)
        found[key] = before + times if isinstance(before, int) and isinstance(times, int) else times
    return [Row(what, _text(times), text, good) for (what, text, good), times in found.items()]


def table(reports: Sequence[Report], width: int | None = None) -> str:
    """All rows in columns; the long ones are folded so that the table fits the terminal."""
    width = width or max(72, min(shutil.get_terminal_size((100, 24)).columns, 160))
    rows = [
        HEAD,
        *((one.name, row.what, row.times, row.found, row.verdict) for one in reports for row in summed(one.rows)),
    ]
    name, times, verdict = (max(len(row[column]) for row in rows) for column in (0, 2, 4))
    times = min(times, 12)
    rest = width - name - times - verdict - 8
    widths = (name, rest // 2, times, rest - rest // 2, verdict)
    lines: list[str] = []
    for row in rows:
        cells = [textwrap.wrap(cell, room) or [""] for cell, room in zip(row, widths, strict=True)]
        for number in range(max(map(len, cells))):
            texts = (cell[number] if number < len(cell) else "" for cell in cells)
            lines.append("  ".join(text.ljust(room) for text, room in zip(texts, widths, strict=True)).rstrip())
    return "\n".join(lines)


def page(reports: Sequence[Report], date: str, command: str, cpus: int) -> str:
    """The page: for each experiment what was done, and every number."""
    system = f"Linux {platform.release().split('-')[0]}, {platform.machine()}, {cpus} processors"
    lines = [
        "# Reliability",
        "",
        f"Written by `{command}` on {date}, {system}; not by hand.",
        "Counts are exact; rates depend on the machine and on what else it does. Of a *measured* number nothing is",
        "expected.",
    ]
    for one in reports:
        lines += ["", f"## {one.name.capitalize()}", "", *textwrap.wrap(one.story, 120), ""]
        rows = [("Tried", "Times", "Found", ""), ("---", "---:", "---", "---")]
        rows += [(row.what, row.times, row.found, row.verdict) for row in summed(one.rows)]
        lines += [f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in rows]
    return "\n".join([*lines, ""])
