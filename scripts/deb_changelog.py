"""Prints debian/changelog: CHANGELOG.md's newest part, as Debian wants it. Nothing is written down twice."""

from __future__ import annotations

import re
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MAINTAINER = r"^Maintainer: (.+)$"


def newest_changes(text: str) -> list[str]:
    """Give the points of a changelog's first version, each on one line."""
    newest = re.split(r"^## ", text, flags=re.MULTILINE)[1]
    points = re.split(r"^- ", newest, flags=re.MULTILINE)[1:]
    return [" ".join(point.split("\n\n")[0].split()) for point in points]


def changelog(version: str, date: str) -> str:
    """Give the one entry that Debian's tools read: the version, what changed, who built it, when."""
    maintainer = re.search(MAINTAINER, (ROOT / "debian" / "control").read_text(), re.MULTILINE)
    assert maintainer, "debian/control names no maintainer"
    changes = newest_changes((ROOT / "CHANGELOG.md").read_text())
    shown = [textwrap.fill(f"* {change}", 78, initial_indent="  ", subsequent_indent="    ") for change in changes]
    lines = [f"kpf-ebpf ({version}) unstable; urgency=medium", "", *shown, "", f" -- {maintainer[1]}  {date}"]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(changelog(sys.argv[1], sys.argv[2]), end="")
