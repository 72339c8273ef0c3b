"""Makes the man pages by lowdown: build.py [--version VERSION] [--seconds SINCE_1970] FOLDER.

kpf-ebpf(8) is the page beside this file. kpf-ebpf-policy(5) is docs/policy.md itself in a frame: a terminal is narrow,
so its tables become lists of terms, and its headings rise by one, below the page's own.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
POLICY = HERE.parent / "policy.md"
PLACE = "<!-- docs/policy.md -->\n"
"""Where the frame takes in the language."""
PAGES = {
    "kpf-ebpf.8": ("kpf-ebpf.8.md", "System Manager's Manual"),
    "kpf-ebpf-policy.5": ("kpf-ebpf-policy.5.md", "File Formats Manual"),
}
_CELL = re.compile(r"(?<!\\)\|")
_LITERAL = re.compile(r"\\f(?:C|\(C.|\[C.\])(.*?)(?=\\f)", re.DOTALL)
_TERM = re.compile(r'^\.LP\n(.+)\n\.if n \\\n\.sp -1v\n\.if t \\\n\.sp -0\.25v\n\.IP "" 5n$', re.MULTILINE)
"""A term, as lowdown sets it: by going back a line, which goes wrong where a page begins. .TP does not."""
_EXAMPLE = re.compile(r"(?<=^\.EX\n).*?(?=^\.EE$)", re.DOTALL | re.MULTILINE)


def tables_as_lists(text: str) -> str:
    """Turns each table into terms with their meaning: the first column and the last, the others in brackets."""
    made: list[str] = []
    table: list[str] = []
    for line in [*text.splitlines(), ""]:
        if line.startswith("|"):
            table.append(line)
            continue
        if table:
            made += _as_list([_cells(row) for row in table])
            table = []
        made.append(line)
    return "\n".join(made)


def _cells(row: str) -> list[str]:
    return [cell.strip().replace(r"\|", "|") for cell in _CELL.split(row.strip().strip("|"))]


def _as_list(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    headings = rows[0]
    for term, *between, meaning in rows[2:]:
        if not meaning:
            between, meaning = [], ", ".join(between)
        if len(between) > 1:  # a lone one explains itself
            between = [f"{name.lower()}: {cell}" for name, cell in zip(headings[1:], between, strict=False)]
        yield from (f"{term} ({', '.join(between)})" if between else term, f": {meaning}", "")


def policy_page(frame: str, language: str) -> str:
    """Puts the policy's language into its frame."""
    return frame.replace(PLACE, tables_as_lists(re.sub(r"^##", "#", language.split("\n", 1)[1], flags=re.MULTILINE)))


def as_man(text: str, title: str, volume: str, version: str, date: str) -> str:
    """A page in man's language. Literals are bold, as man pages have them, and their hyphens can be copied."""
    name, section = title.rsplit(".", 1)
    facts = {"title": name.upper(), "section": section, "date": date, "volume": volume, "source": f"kpf-ebpf {version}"}
    given = [word for key, value in facts.items() for word in ("-M", f"{key}={value.strip()}")]
    command = ["lowdown", "-s", "-Tman", "--out-no-smarty", *given]
    roff = subprocess.run(command, input=text, capture_output=True, text=True, check=True).stdout
    roff = _TERM.sub(r".TP\n\1", roff)
    roff = _LITERAL.sub(lambda found: r"\fB" + _plain_hyphens(found[1]), roff)
    return _EXAMPLE.sub(lambda found: _plain_hyphens(found[0]), roff)


def _plain_hyphens(text: str) -> str:
    return text.replace("-", r"\-")


def pages() -> dict[str, tuple[str, str]]:
    """Every page in Markdown, with the volume it belongs to, by its file name."""
    found = {name: ((HERE / source).read_text(), volume) for name, (source, volume) in PAGES.items()}
    frame, volume = found["kpf-ebpf-policy.5"]
    return found | {"kpf-ebpf-policy.5": (policy_page(frame, POLICY.read_text()), volume)}


def main() -> None:
    """Writes all pages."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--version", default="")
    parser.add_argument("--seconds", type=int, default=time.time())
    parser.add_argument("folder", type=Path)
    asked = parser.parse_args()
    asked.folder.mkdir(parents=True, exist_ok=True)
    date = time.strftime("%Y-%m-%d", time.gmtime(asked.seconds))
    for name, (text, volume) in pages().items():
        (asked.folder / name).write_text(as_man(text, name, volume, asked.version, date))


if __name__ == "__main__":
    main()
