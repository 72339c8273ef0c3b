"""Which content of a program was accepted: what is found later is held against it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from kpf_ebpf.facts.model import Facts, FileFact, FileKey
from kpf_ebpf.facts.wildcards import is_wildcard
from kpf_ebpf.resolve.model import ResolvedApplication

FORMER = 3
"""Contents of a program remembered beside the accepted one."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """Programs as they were accepted; ``digests``: what stood at each path of the policy, also if it is gone now."""

    programs: tuple[ResolvedApplication, ...] = ()
    digests: Mapping[str, str] = field(default_factory=dict)


def keep_accepted(facts: Facts, accepted: Accepted, on_modified: str) -> Facts:
    """The facts, with programs that changed since they were accepted marked so that they count as modified.

    A file with the digest it had is the same program (a chmod, a hard link). With ``on_modified`` "accept-system",
    what is only root's to write, folders included, is taken as it is. Processes that execute what was accepted before
    keep their rights then. What counts as modified keeps the digest that was accepted, and gets an impossible ctime.
    A file that cannot be looked at, and another one where one was deleted, is held against what was accepted, too.
    """
    programs = {application.path: application for application in accepted.programs}

    def judged(word: str, fact: FileFact) -> FileFact:
        known = programs.get(fact.path)
        digest = known.sha256 if known else accepted.digests.get(word)
        if digest is None:
            return fact
        keys = (known.key, *known.former) if known else ()
        if not fact.problem:
            same = fact.sha256 == digest
            if same and fact.key == (known.key if known else fact.key):
                return replace(fact, former=keys[1:])
            if same or (on_modified == "accept-system" and fact.root_owned and fact.roots_folders):
                former = [key for key in keys if key.ctime_seconds >= 0 and key != fact.key]
                return replace(fact, former=tuple(former[:FORMER]))
        gone = [replace(key, ctime_seconds=-1) for key in keys if _place(key) != _place(fact.key)]
        modified = replace(fact.key, ctime_seconds=-1)
        return replace(fact, problem="", sha256=digest, key=modified, former=tuple(gone[:FORMER]))

    found = {word: tuple(judged(word, fact) for fact in several) for word, several in facts.applications.items()}
    return replace(facts, applications=MappingProxyType(found))


def digests(facts: Facts, before: Mapping[str, str]) -> dict[str, str]:
    """What is accepted at each path that the policy names (wildcards are only root's to fill): now, or before."""
    found = {}
    for word, several in facts.applications.items():
        usable = [fact.sha256 for fact in several if not fact.problem]
        if not is_wildcard(word) and (usable or word in before):
            found[word] = usable[0] if usable else before[word]
    return found


def _place(key: FileKey) -> tuple[int, int, int]:
    return key.inode, key.device, key.generation
