"""Keeps what is enforced true while the world changes: the policy is resolved anew when something of it moves."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import replace

from kpf_ebpf.engine import watch
from kpf_ebpf.engine.control import resolve_again
from kpf_ebpf.engine.enforce import View
from kpf_ebpf.engine.errors import Busy, EngineError
from kpf_ebpf.engine.folders import ENGINE, Instance
from kpf_ebpf.engine.follow import Followed, follow, followed_of
from kpf_ebpf.engine.naming import Naming
from kpf_ebpf.engine.prints import Print, Prints
from kpf_ebpf.engine.records import Enforced
from kpf_ebpf.engine.session import is_alive
from kpf_ebpf.engine.snapshot import ReadPolicy, Snapshot, groups_differ, read_groups_again
from kpf_ebpf.facts.adapters import AdapterEvents
from kpf_ebpf.facts.gather import EVERYTHING, gather_adapters
from kpf_ebpf.facts.model import Facts, NameFact, Part, Session
from kpf_ebpf.policy.errors import PolicyError
from kpf_ebpf.resolve.model import ResolvedApplication

PERIOD = 1.0
"""Seconds between looks at the files that the policy names."""
WALK_PERIOD = 5.0
"""Seconds between walks for new matches of wildcards."""
SESSION_PERIOD = 2.0
"""Seconds between looks at the session that lives on."""
REST = 6
"""Times as much processor time as it took to resolve the policy, the Engine rests before it does it again."""
RETRY = 10.0
"""Seconds after which what could not be done is tried again."""

NameChange = Callable[[NameFact, NameFact], None]
"""Is told of a name whose address set changed: before, after."""


class Refresher:
    """Looks at everything that a policy speaks of, and makes an image anew when something is not what it was.

    ``refused``: what was not taken, in words, as long as that stands.
    """

    def __init__(self, instance: Instance, on_name: NameChange) -> None:
        self._instance = instance
        self._on_name = on_name
        self._naming = Naming(instance)
        self._adapters, self._filters = AdapterEvents(), watch.AdapterFilters(instance)
        self._watched = {
            Part.PROXY: watch.proxy_settings(),
            Part.USERS: watch.users(),
            Part.RESOLVERS: watch.resolvers(),
        }
        self._group_files: frozenset[str] = frozenset()
        self._groups = watch.files(())
        self._groups_moved = False
        self._prints = Prints(())
        self._seen: dict[str, Print] = {}
        self._snapshot: Snapshot | None = None
        self._facts: Facts | None = None
        self._followed: Followed | None = None
        self._generation = -1
        self._session: Session | None = None
        self._session_over = False
        self._session_due = 0.0
        self._moved: set[Part] = set()
        self._again = False
        self._due = self._walk_due = self._rested = 0.0
        self.refused: tuple[str, ...] = ()
        self._filters.look()

    def retarget(self, enforced: Enforced) -> None:
        """Compares with what was there when this was resolved, from now on."""
        self._snapshot = enforced.snapshot
        self._watch_groups(enforced.snapshot)
        self._prints = Prints(enforced.words)
        self._seen = enforced.prints
        self._walk_due = 0.0
        self._naming.retarget(enforced)
        self._followed = followed_of(self._instance, enforced)
        self._session = enforced.session
        if enforced.generation != self._generation:
            self._facts, self._generation, self.refused = None, enforced.generation, ()  # another command's work

    def _watch_groups(self, snapshot: Snapshot) -> None:
        """The files that are watched already stay so: an edit since the last look must not be forgotten.

        Of others, an edit since they were read is found by what they say.
        """
        files = frozenset(snapshot.groups)
        if files != self._group_files:
            self._group_files, self._groups = files, watch.files(sorted(files))
            self._groups_moved |= groups_differ(snapshot)

    def look(self, now: float) -> None:
        """Looks at what it is time to look at; resolves anew if something moved. Never waits for the network."""
        self._look_at_programs(now)
        self._look_at_session(now)
        self._moved |= {part for part, one in self._watched.items() if one.moved(now)}
        if self._adapters.heard():
            self._moved.add(Part.ADAPTERS)
            self._filters.look()
        self._groups_moved |= self._groups.moved(now)
        self._again |= self._naming.changed()
        self._naming.look(now)
        if (self._moved or self._again or self._groups_moved) and now >= self._rested:
            began = time.process_time()
            done = self._resolve()
            self._rested = now + (REST * (time.process_time() - began) if done else RETRY)

    def close(self) -> None:
        """Looks no more."""
        self._naming.close()
        self._adapters.close()

    def _look_at_session(self, now: float) -> None:
        """A session that lived on whatever the policy says, and is closed: its points are anybody's again."""
        if self._session is None or now < self._session_due:
            return
        self._session_due = now + SESSION_PERIOD
        if not is_alive(self._session):
            self._session_over = self._again = True

    def _look_at_programs(self, now: float) -> None:
        if now < self._due:
            return
        self._due, walk = now + PERIOD, now >= self._walk_due
        if walk:
            self._walk_due = now + WALK_PERIOD
        seen = self._prints.take(walk=walk)
        if seen != self._seen:
            self._seen = seen
            self._moved.add(Part.APPLICATIONS)

    def _resolve(self) -> bool:
        """False: it could not be done, and what moved is looked at again. Another command at work: at once."""
        if not (self._moved - {Part.ADAPTERS} or self._groups_moved or self._session_over) and self._follow():
            return True
        read = self._read_groups() if self._groups_moved else None
        view = View(self._naming.facts, self._facts, frozenset(self._moved) if self._facts else EVERYTHING)
        try:
            made = resolve_again(self._instance, ENGINE, view, read, session_over=self._session_over)
        except Busy:
            return True
        except (EngineError, PolicyError, OSError) as problem:
            _say(str(problem))
            return False
        self._facts, self._generation = made.facts, made.enforced.generation
        if made.before is not None:
            self._tell(made.before, made.enforced)
        self._moved, self._again, self._groups_moved, self._session_over = set(), False, False, False
        return True

    def _follow(self) -> bool:
        """Whether hosts and adapters are all that changed, and are followed; or another command is at work."""
        before, adapters = self._followed, None
        if before is None:
            return False
        if Part.ADAPTERS in self._moved:
            adapters, warnings = gather_adapters()
            if warnings or (self._facts and self._facts.told.get(Part.ADAPTERS)):
                return False  # a warning comes, or goes
        facts = self._naming.facts(tuple(fact.name for fact in before.names))
        try:
            now = follow(self._instance, before, facts.values(), adapters)
        except Busy:
            return True
        if now is None:
            return False
        self._followed, self._generation, self._again = now, now.generation, False
        self._moved.discard(Part.ADAPTERS)
        if self._facts is not None:
            names = {**self._facts.names, **facts}
            self._facts = replace(self._facts, names=names, adapters=now.adapters)
        if adapters is not None:
            self._naming.move(adapters)
        self._tell_names(before.names, now.names)
        return True

    def _read_groups(self) -> ReadPolicy | None:
        """The policy with its group files as they are now; None: they are no good, the old ones stand."""
        if self._snapshot is None:
            return None
        try:
            read = read_groups_again(self._snapshot)
        except PolicyError as problem:
            self.refused = tuple(f"{finding}; what was there before stands" for finding in problem.findings)
            for line in self.refused:
                _say(line)
            return None
        self.refused = ()
        return read

    def _tell(self, before: Enforced, after: Enforced) -> None:
        for line in changes(before.resolved.applications, after.resolved.applications):
            _say(line)
        self._tell_names(before.names, after.names)

    def _tell_names(self, before: tuple[NameFact, ...], after: tuple[NameFact, ...]) -> None:
        known = {fact.name: fact for fact in before}
        for fact in after:
            former = known.get(fact.name, NameFact(fact.name))
            if former.addresses != fact.addresses:
                self._on_name(former, fact)


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
