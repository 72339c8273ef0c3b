"""Tables for people: fitted to the terminal, colour only on one, and nothing a policy says is taken for markup."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING

from kpf_ebpf.events.render import escaped

if TYPE_CHECKING:  # imported where something is drawn: it takes longer than most commands
    from rich.console import Console
    from rich.text import Text

WIDE = 240
"""Columns where the output is no terminal."""
_STYLES = {"permit": "green", "deny": "red", "yes": "green", "no": "red", "modified": "red", "accepted": "green"}


def console() -> Console:
    """Standard output, as a terminal or not."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else WIDE, highlight=False, soft_wrap=False)


def styled(word: str) -> Text:
    """A word, in its colour if it has one."""
    from rich.text import Text

    return Text(escaped(word), style=_STYLES.get(word, ""))


def table(headings: Sequence[str], rows: Iterable[Sequence[object]], *, right: Sequence[str] = ()) -> None:
    """Prints a table; the columns named in ``right`` are numbers."""
    from rich.table import Table

    made = Table(box=None, pad_edge=False, header_style="bold", show_edge=False)
    for heading in headings:
        made.add_column(heading, justify="right" if heading in right else "left", overflow="fold")
    for row in rows:
        made.add_row(*(styled(str(cell)) for cell in row))
    console().print(made)


def line(text: str, style: str = "") -> None:
    """Prints one line."""
    if _is_plain(text, sys.stdout, WIDE):
        print(text, flush=True)
        return
    from rich.text import Text

    console().print(Text(text, style=style))


def warn(text: str) -> None:
    """Prints a warning to standard error."""
    told = f"warning: {escaped(text)}"
    if _is_plain(told, sys.stderr, WIDE * 10):
        print(told, file=sys.stderr, flush=True)
        return
    from rich.console import Console
    from rich.text import Text

    Console(stderr=True, highlight=False, width=None if sys.stderr.isatty() else WIDE * 10).print(
        Text(told, style="yellow")
    )


def _is_plain(text: str, stream: IO[str], width: int) -> bool:
    """Whether a line has neither colour nor anything to be fitted, and so needs nobody who can do that."""
    return not _is_drawn(stream) and text.isascii() and text.isprintable() and len(text) <= width


def _is_drawn(stream: IO[str]) -> bool:
    """Whether a stream gets colour: a terminal does, and whoever asks for it as rich understands it."""
    return stream.isatty() or any(name in os.environ for name in ("FORCE_COLOR", "TTY_COMPATIBLE"))


@contextmanager
def progress(begun: str) -> Iterator[Callable[[str], None]]:
    """Shows on a terminal what is being done, by the words that the function it gives is told."""
    if not _is_drawn(sys.stderr):
        yield lambda text: None
        return
    from rich.console import Console

    with Console(stderr=True).status(begun) as shown:
        yield lambda text: shown.update(text)
