"""Wildcards of program paths: which files they match, and whom a file must belong to for that.

``*`` matches within one path component, ``**`` crosses components; every other character is itself. Only root may
have a say in what a wildcard matches: files and all folders above them belong to root and nobody else may write them.
"""

from __future__ import annotations

import itertools
import os
import re
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

MAX_MATCHES = 10_000
"""Program files one wildcard may stand for."""
MAX_VISITED = 200_000
"""Folder entries looked at for one wildcard."""
PSEUDO_FOLDERS = frozenset({"/proc", "/sys", "/dev"})
"""Folders that no wildcard enters: what lies there is no installed program."""

Trusts = Callable[[os.stat_result], bool]
"""Says of a file's or folder's status whether a wildcard may trust it."""

_EXECUTABLE = stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH


def is_roots(status: os.stat_result) -> bool:
    """Say whether a file or folder belongs to root and nobody else may write it.

    Any group write bit counts as others: with an access list, it is the list's mask.
    """
    return status.st_uid == 0 and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def is_wildcard(word: str) -> bool:
    """Say whether an application word is a wildcard rather than the path of one file."""
    return "*" in word


def compile_pattern(pattern: str) -> re.Pattern[str]:
    """Translate a wildcard to an expression for ``fullmatch``; ``/**/`` matches ``/``, too."""
    pieces = re.split(r"(/\*\*/|\*\*+|\*)", pattern)
    special = {"/**/": "/(?:.*/)?", "*": "[^/]*"}
    return re.compile(
        "".join(special.get(piece, ".*") if "*" in piece else re.escape(piece) for piece in pieces), re.DOTALL
    )


def in_roots_folders(path: str, trusts: Trusts = is_roots) -> bool:
    """Say whether every folder above a resolved path is trusted (by default: only root may write it)."""
    return all(str(folder) not in PSEUDO_FOLDERS and trusts(folder.stat()) for folder in Path(path).parents)


def expand(
    pattern: str,
    trusts: Trusts = is_roots,
    *,
    max_matches: int = MAX_MATCHES,
    max_visited: int = MAX_VISITED,
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Find the program files that an absolute wildcard matches now.

    Gives their paths (symlinks resolved, each once, sorted) and warnings. Programs are executable regular files that
    ``trusts`` accepts, in folders it accepts. Symlinks to folders are followed for ``*``, not for ``**``.
    Folders that cannot be read match nothing.
    """
    walk = _Walk(pattern, trusts, max_visited)
    found: dict[str, None] = {}
    warnings = []
    for path in walk.paths():
        program = walk.program(path)
        if program is None or program in found:
            continue
        if len(found) == max_matches:
            warnings.append(f"application {pattern}: more than {max_matches} programs match, the rest is left out")
            break
        found[program] = None
    if walk.left_out:
        warnings.append(f"application {pattern}: more than {max_visited} files to look at, the rest is left out")
    return tuple(sorted(found)), tuple(warnings)


class _Walk:
    """One search below the literal beginning of a pattern."""

    def __init__(self, pattern: str, trusts: Trusts, max_visited: int) -> None:
        self._parts = [part for part in pattern.split("/") if part]
        self._whole = compile_pattern("/" + "/".join(self._parts))
        self._trusts = trusts
        self._budget = max_visited
        self._folders: dict[str, bool] = {}
        self.left_out = False

    def paths(self) -> Iterator[str]:
        """Yield the paths, symlinks unresolved, that the pattern matches and that are files."""
        literal = list(itertools.takewhile(lambda part: not is_wildcard(part), self._parts))
        base = "/" + "/".join(literal)
        if self._enters(base):
            yield from self._below(base, self._parts[len(literal) :])

    def program(self, path: str) -> str | None:
        """Resolve a matched path; None unless it is a trusted program in trusted folders."""
        try:
            resolved = Path(path).resolve(strict=True)
            status = resolved.stat()
        except (OSError, RuntimeError):
            return None
        executable = stat.S_ISREG(status.st_mode) and status.st_mode & _EXECUTABLE
        if not executable or not self._trusts(status) or not self._enters(str(resolved.parent)):
            return None
        return str(resolved)

    def _below(self, folder: str, parts: list[str]) -> Iterator[str]:
        if "**" in parts[0]:
            yield from self._far_below(folder)
            return
        part = compile_pattern(parts[0])
        for entry in self._entries(folder):
            if not part.fullmatch(entry.name):
                continue
            if len(parts) == 1:
                yield entry.path
            elif self._enters(entry.path):
                yield from self._below(entry.path, parts[1:])

    def _far_below(self, top: str) -> Iterator[str]:
        folders = [top]
        while folders:
            for entry in self._entries(folders.pop()):
                if self._whole.fullmatch(entry.path):
                    yield entry.path
                if _is_folder(entry) and self._enters(entry.path):
                    folders.append(entry.path)

    def _entries(self, folder: str) -> list[os.DirEntry[str]]:
        try:
            with os.scandir(folder) as found:
                entries = list(itertools.islice(found, self._budget + 1))
        except OSError:
            return []
        if len(entries) > self._budget:
            self.left_out = True
            del entries[self._budget :]
        self._budget -= len(entries)
        return sorted(entries, key=lambda entry: entry.name)

    def _enters(self, path: str) -> bool:
        """Say whether a path is a folder that is trusted with all above it; each is judged once."""
        if path not in self._folders:
            try:
                folder = Path(path).resolve(strict=True)
                self._folders[path] = folder.is_dir() and in_roots_folders(str(folder / "-"), self._trusts)
            except (OSError, RuntimeError):
                self._folders[path] = False
        return self._folders[path]


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir(follow_symlinks=False)
    except OSError:
        return False
