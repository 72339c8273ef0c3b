"""Keeps what is enforced true while programs come, change and go: the policy is resolved anew when their files move."""

from __future__ import annotations

import sys
from dataclasses import replace

from kpf_ebpf.engine.control import resolve_again
from kpf_ebpf.engine.errors import Busy, EngineError
from kpf_ebpf.engine.folders import ENGINE, Instance
from kpf_ebpf.engine.prints import Print, Prints
from kpf_ebpf.engine.records import Enforced
from kpf_ebpf.engine.snapshot import read_again
from kpf_ebpf.facts.gather import application_words
from kpf_ebpf.policy.errors import PolicyError
from kpf_ebpf.resolve.model import ResolvedApplication

PERIOD = 1.0
"""Seconds between looks at the files that the policy names."""
WALK_PERIOD = 5.0
"""Seconds between walks for new matches of wildcards."""


class Refresher:
    """Looks at the programs of a policy, and makes an image anew when one of them is not what it was."""

    def __init__(self, instance: Instance) -> None:
        self._instance = instance
        self._prints = Prints(())
        self._seen: dict[str, Print] = {}
        self._due = self._walk_due = 0.0

    def retarget(self, enforced: Enforced) -> None:
        """Compares with what was there when this was resolved, from now on."""
        self._prints = Prints(application_words(read_again(enforced.snapshot).policy))
        self._seen = enforced.prints
        self._walk_due = 0.0

    def look(self, now: float) -> None:
        """If it is time to: looks at every file; resolves anew if one moved. Another command at work: the next time."""
        if now < self._due:
            return
        self._due, walk = now + PERIOD, now >= self._walk_due
        if walk:
            self._walk_due = now + WALK_PERIOD
        seen = self._prints.take(walk=walk)
        if seen != self._seen and self._resolve():
            self._seen = seen

    def _resolve(self) -> bool:
        """False: another command is changing this instance."""
        try:
            before, made = resolve_again(self._instance, ENGINE, names=False)
        except Busy:
            return False
        except (EngineError, PolicyError) as problem:
            _say(str(problem))
            return True
        for line in changes(before.resolved.applications, made.resolved.applications):
            _say(line)
        return True


def changes(before: tuple[ResolvedApplication, ...], after: tuple[ResolvedApplication, ...]) -> list[str]:
    """What became of the programs, in words."""
    known = {one.path: one for one in before}
    lines = []
    for one in after:
        old = known.pop(one.path, None)
        if old is None:
            lines.append(f"{one.path}: found, SHA-256 {one.sha256}")
        elif one.sha256 != old.sha256:
            lines.append(f"{one.path}: accepted as changed by root, SHA-256 {old.sha256} -> {one.sha256}")
        elif one.key.ctime_seconds == -1 and old.key.ctime_seconds != -1:
            lines.append(f"{one.path}: modified, denied until accepted; SHA-256 was {old.sha256}")
        elif old.key.ctime_seconds == -1 and one.key.ctime_seconds != -1:
            lines.append(f"{one.path}: is again what was accepted, SHA-256 {one.sha256}")
        elif replace(one.key, ctime_seconds=0) == replace(old.key, ctime_seconds=0) and one.key != old.key:
            lines.append(f"{one.path}: touched, its content is the same")
    return lines + [f"{path}: gone" for path in known]


def _say(line: str) -> None:
    """A line for the Engine's own log."""
    print(line, file=sys.stderr, flush=True)
