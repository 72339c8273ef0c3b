"""All names that are kept: what to ask when, what answers change, and what a name may never mean.

Plain values and the time as an argument: no clock, no thread, no network.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections import deque
from collections.abc import Iterable, Mapping, Set
from functools import partial

from kpf_ebpf.facts.addresses import is_loopback, is_multicast, is_unspecified, number, shown
from kpf_ebpf.facts.model import NameFact
from kpf_ebpf.facts.names import MAX_ADDRESSES, MAX_NAMES
from kpf_ebpf.names.asker import Question
from kpf_ebpf.names.entry import NEVER, Entry
from kpf_ebpf.names.files import this_host
from kpf_ebpf.names.model import Failed, Found, NameState, Outcome, Pace
from kpf_ebpf.names.wire import absolute
from kpf_ebpf.policy.model import V4_BASE

MAX_AT_ONCE = 200
"""Names that one call works on where it must be quick; what is left over is due still."""
NOT_A_NAME = "not a host name"
_LINK_LOCAL_V4 = (V4_BASE + (169 << 24) + (254 << 16)) >> 16  # 169.254.0.0/16, RFC 3927
_LINK_LOCAL_V6 = 0xFE80 >> 6  # fe80::/10, RFC 4291
_REFUSED_SHOWN = 3
_SPARE_ALARMS = 64


def is_local(address: int, own: Set[int] = frozenset()) -> bool:
    """Tell whether an address means this host or its link, and so nothing that an answer from elsewhere may give."""
    return (
        is_loopback(address)
        or is_unspecified(address)
        or is_multicast(address)
        or address >> 16 == _LINK_LOCAL_V4
        or address >> 118 == _LINK_LOCAL_V6
        or address in own
    )


class Book:
    """The names and their address sets. ``chance`` spreads look-ups in time; ``grace`` is in seconds."""

    def __init__(self, grace: float, pace: Pace, chance: random.Random) -> None:
        self._grace, self._pace, self._chance = grace, pace, chance
        self._entries: dict[str, Entry] = {}
        self._allowed: frozenset[str] = frozenset()
        self._own: frozenset[int] = frozenset()
        self._refused: set[str] = set()
        self._alarms: list[tuple[float, int, Entry]] = []
        self._order = itertools.count()
        self._ready: deque[Question] = deque()
        self._askers: dict[Question, Entry] = {}
        self._changed = False

    def retarget(
        self,
        names: Iterable[str],
        known: Mapping[str, NameFact | NameState],
        now: float,
        *,
        grace: float | None = None,
        allowed_local: Iterable[str] = (),
        own_addresses: Iterable[int] = (),
    ) -> None:
        """Keep these names from now on: new ones begin with what is ``known``, and wait for ``place``.

        ``allowed_local``: names that may mean this host; ``own_addresses``: what else this host is.
        """
        self._grace = self._grace if grace is None else grace
        was_allowed, was_own = self._allowed, self._own
        self._allowed, self._own = frozenset(allowed_local), frozenset(own_addresses)
        entries: dict[str, Entry] = {}
        for name in dict.fromkeys(names):
            kept = self._entries.get(name)
            if kept is None or kept.problem is not None or len(entries) >= MAX_NAMES:
                kept = self._begin(name, known.get(name), now, len(entries) >= MAX_NAMES)
            entries[name] = kept
        self._entries = entries
        for name, entry in entries.items():
            is_other = (name in self._allowed) != (name in was_allowed) or (
                name in self._refused and self._own != was_own
            )
            if entry.strip(partial(self._is_refused, name)) or is_other:
                entry.hurry(now)
            self._touch(entry, now)
        self._refused &= entries.keys()

    def place(self, names: Iterable[str], hosts: Mapping[str, frozenset[int]], now: float) -> None:
        """Take what /etc/hosts says of these names: it goes before DNS. Names it does not have are asked for."""
        for name in names:
            entry = self._entries.get(name)
            if entry is not None and entry.problem is None and number(name) is None:
                listed = hosts.get(name) or this_host(name)
                entry.fix(tuple(sorted(listed)[:MAX_ADDRESSES]) or None, now)
                self._touch(entry, now)

    def names(self) -> tuple[str, ...]:
        """The names that are kept."""
        return tuple(self._entries)

    def hurry(self, now: float) -> None:
        """Ask at once for every name whose last look-up failed."""
        for entry in self._entries.values():
            if entry.is_failing():
                entry.hurry(now)
                self._touch(entry, now)

    def questions(self, room: int, now: float) -> list[Question]:
        """Give what is to be asked now, ``room`` questions at most. Each must be answered by ``take`` or ``again``."""
        self._tick(now, MAX_AT_ONCE)
        questions: list[Question] = []
        while self._ready and len(questions) < room:
            question = self._ready.popleft()
            if self._is_kept(self._askers[question]):
                questions.append(question)
            else:
                del self._askers[question]
        return questions

    def again(self, questions: Iterable[Question]) -> None:
        """Take questions back that were not answered, to be asked before all others."""
        self._ready.extendleft(questions)

    def take(self, question: Question, outcome: Outcome, now: float) -> int:
        """Take a question's outcome; give how many of its addresses were refused."""
        entry = self._askers.pop(question)
        if not self._is_kept(entry) or entry.fixed is not None:
            return 0
        refused: list[int] = []
        if isinstance(outcome, Found):
            refused = [address for address in outcome.addresses if self._is_refused(entry.name, address)]
            if refused:
                self._refused.add(entry.name)
                outcome = _without(outcome, refused)
        entry.take(question.kind, outcome, now, self._pace, self._chance)
        self._touch(entry, now)
        return len(refused)

    def next_time(self) -> float:
        """When there is something to do again; now or before, if there is already."""
        return -NEVER if self._ready else self._alarms[0][0] if self._alarms else NEVER

    def changed(self, now: float) -> bool:
        """Tell whether any address set changed since the last call."""
        self._tick(now, MAX_AT_ONCE)
        changed, self._changed = self._changed, False
        return changed

    def states(self, now: float) -> dict[str, NameState]:
        """What there is to tell of every name."""
        self._tick(now, MAX_NAMES)
        return {name: entry.state(now, self._grace) for name, entry in self._entries.items()}

    def _begin(self, name: str, known: NameFact | NameState | None, now: float, is_too_many: bool) -> Entry:
        address = number(name)
        if address is not None:
            entry = Entry(name, None)
            entry.fix((address,), now)
        elif is_too_many:
            entry = Entry(name, None, f"more than {MAX_NAMES} names")
        else:
            found = absolute(name)
            entry = Entry(name, found, None if found else NOT_A_NAME)
        if known is not None:
            entry.shown = known.addresses
            if entry.absolute is not None:
                entry.seed(known.addresses[:MAX_ADDRESSES], now)
        return entry

    def _is_kept(self, entry: Entry) -> bool:
        return self._entries.get(entry.name) is entry

    def _is_refused(self, name: str, address: int) -> bool:
        return name not in self._allowed and is_local(address, self._own)

    def _touch(self, entry: Entry, now: float) -> None:
        """Something happened to a name: compare its address set, and set its alarm."""
        entry.lapse(now, self._grace)
        addresses = entry.addresses()
        if addresses != entry.shown:
            entry.shown, self._changed = addresses, True
        time = entry.next_time(self._grace)
        if time < entry.scheduled:
            entry.scheduled = time
            heapq.heappush(self._alarms, (time, next(self._order), entry))
            if len(self._alarms) > 2 * len(self._entries) + _SPARE_ALARMS:
                self._alarms = [alarm for alarm in self._alarms if self._rings(alarm)]
                heapq.heapify(self._alarms)

    def _rings(self, alarm: tuple[float, int, Entry]) -> bool:
        """Tell whether an alarm is the one its name waits for: an earlier one may have been set since."""
        time, _, entry = alarm
        return time == entry.scheduled and self._is_kept(entry)

    def _tick(self, now: float, most: int) -> None:
        """Do what is due, for a bounded number of names: sets lapse, questions become ready."""
        while most and self._alarms and self._alarms[0][0] <= now:
            alarm = heapq.heappop(self._alarms)
            if not self._rings(alarm):
                continue
            most -= 1
            entry = alarm[2]
            entry.scheduled = NEVER
            if entry.is_due(now) and entry.absolute is not None:
                for kind in entry.ask(now):
                    question = Question(entry.absolute, kind)
                    self._askers[question] = entry
                    self._ready.append(question)
            self._touch(entry, now)


def _without(found: Found, refused: list[int]) -> Found | Failed:
    kept = tuple(address for address in found.addresses if address not in refused)
    if kept:
        return Found(kept, found.ttl)
    words = ", ".join(shown(address) for address in refused[:_REFUSED_SHOWN])
    return Failed(f"only addresses of this host or its link were answered: {words}")
