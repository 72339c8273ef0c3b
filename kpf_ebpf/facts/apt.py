"""apt's configuration language, as far as its settings with values go."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

APT_FOLDER = "/etc/apt/apt.conf.d"
APT_FILE = "/etc/apt/apt.conf"
MAX_APT_CHARACTERS = 1 << 20
"""Characters of apt's configuration that are read, all files together."""
MAX_FILES = 200
"""Files of apt's folder that are read."""
MAX_DEPTH = 64
"""Nested scopes; settings below are ignored."""

_READ_NAME = re.compile(r"[A-Za-z0-9_-]+(\.conf)?")
_TOKEN = re.compile(r'(?://|#)[^\n]*|/\*.*?(?:\*/|\Z)|"([^"]*)(?:"|\Z)|([{};]|[^\s{};"]+)', re.DOTALL)


def read_apt(read: Callable[[str], str | None], list_folder: Callable[[str], Sequence[str]]) -> str:
    """Read the text of apt's configuration files in apt's order, each ended by a new line."""
    return "".join(f"{read(path) or ''}\n" for path in apt_files(list_folder))


def apt_files(list_folder: Callable[[str], Sequence[str]]) -> tuple[str, ...]:
    """List the files that apt reads, in its order (apt.conf(5)): names that it ignores are left out."""
    names = [name for name in list_folder(APT_FOLDER) if _READ_NAME.fullmatch(name)]
    return (*(f"{APT_FOLDER}/{name}" for name in sorted(names)[:MAX_FILES]), APT_FILE)


def parse_apt(text: str) -> dict[str, str]:
    """Parse apt's configuration: full setting name ("a::b::c", lower case) -> its last value. Never fails."""
    settings: dict[str, str] = {}
    scopes: list[str] = []
    words: list[str] = []
    for match in _TOKEN.finditer(text[:MAX_APT_CHARACTERS]):
        quoted, mark = match.groups()
        if mark == "{":
            scopes.append(words[0] if words else "")
            words = []
        elif mark in ("}", ";"):
            if mark == ";" and len(words) == 2 and len(scopes) <= MAX_DEPTH:
                settings["::".join([*scopes, words[0]]).lower()] = words[1]
            if mark == "}" and scopes:
                scopes.pop()
            words = []
        elif quoted is not None or mark is not None:
            words.append(mark if quoted is None else quoted)
    return settings
