"""Tables for people: fitted to the terminal, colour only on one, and nothing a policy says is taken for markup."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from kpf_ebpf.events.render import escaped

WIDE = 240
"""Columns where the output is no terminal."""
_STYLES = {"permit": "green", "deny": "red", "yes": "green", "no": "red", "modified": "red", "accepted": "green"}


def console() -> Console:
    """Standard output, as a terminal or not."""
    return Console(width=None if sys.stdout.isatty() else WIDE, highlight=False, soft_wrap=False)


def styled(word: str) -> Text:
    """A word, in its colour if it has one."""
    return Text(escaped(word), style=_STYLES.get(word, ""))


def table(headings: Sequence[str], rows: Iterable[Sequence[object]], *, right: Sequence[str] = ()) -> None:
    """Prints a table; the columns named in ``right`` are numbers."""
    made = Table(box=None, pad_edge=False, header_style="bold", show_edge=False)
    for heading in headings:
        made.add_column(heading, justify="right" if heading in right else "left", overflow="fold")
    for row in rows:
        made.add_row(*(styled(str(cell)) for cell in row))
    console().print(made)


def line(text: str, style: str = "") -> None:
    """Prints one line."""
    console().print(Text(text, style=style))


def warn(text: str) -> None:
    """Prints a warning to standard error."""
    Console(stderr=True, highlight=False, width=None if sys.stderr.isatty() else WIDE * 10).print(
        Text(f"warning: {escaped(text)}", style="yellow")
    )
