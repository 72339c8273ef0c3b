"""Cgroups: a mark for each path that the policy names, since a path outlives the cgroups that stand there in turn."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

from kpf_ebpf.resolve.model import ResolvedCgroup


def normalised(path: str) -> str:
    """A path as the kernel writes it: no slash at its end, none doubled; the root is "/"."""
    return "/" + "/".join(part for part in path.split("/") if part)


def mark_of(path: str) -> int:
    """The mark of a path: 64 bits of its digest, never 0. The same path has the same mark in every image."""
    return int.from_bytes(hashlib.sha256(normalised(path).encode()).digest()[:8], "big") | 1


def _is_below(path: str, above: str) -> bool:
    path, above = normalised(path), normalised(above)
    return path == above or above == "/" or path.startswith(above + "/")


def marks_below(path: str, named: Iterable[str]) -> frozenset[int]:
    """The marks of a path and of those the policy names below it: a rule for the one is for the others, too."""
    return frozenset({mark_of(path)} | {mark_of(other) for other in named if _is_below(other, path)})


def resolve_cgroups(found: Mapping[str, tuple[int, ...]]) -> tuple[ResolvedCgroup, ...]:
    """Each named path with the cgroups that are nearest to it; ``found`` are all ids at and below each path."""
    deepest_first = sorted(found, key=lambda path: -len(normalised(path)))
    taken: set[int] = set()
    made = []
    for path in deepest_first:
        own = tuple(number for number in found[path] if number not in taken)
        taken.update(own)
        made.append(ResolvedCgroup(normalised(path), mark_of(path), own))
    return tuple(made)
