"""One name: its address set, until when it holds, and when it is asked for again. No clock: callers tell the time."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable

import dns.name

from kpf_ebpf.facts.names import NOT_LOOKED_UP
from kpf_ebpf.names.model import Failed, Found, Missing, NameState, Outcome, Pace
from kpf_ebpf.names.wire import AAAA, TYPE_WORDS, A
from kpf_ebpf.policy.model import V4_BASE

EARLY = (0.8, 0.9)
"""Between these parts of its time to live, by chance, a set is asked for again: before it ends, not all at once."""
LAPSED = "its time to live is over"
NEVER = float("inf")
_MOST_DOUBLINGS = 16


class _Half:
    """What is kept of a name's A or AAAA records.

    ``expires``: the end of the time to live. ``asked``, ``found``: when the last question was put, and when the last
    answer with addresses came. ``due``: when to ask next. ``settled``: there are none of this kind, and that is fine.
    """

    __slots__ = ("addresses", "asked", "asking", "due", "expires", "failures", "found", "lapsed", "last", "settled")

    def __init__(self) -> None:
        self.addresses: tuple[int, ...] = ()
        self.expires = -NEVER
        self.asked = -NEVER
        self.found = -NEVER
        self.due = NEVER
        self.asking = False
        self.lapsed = False
        self.settled = False
        self.failures = 0
        self.last: Outcome | None = None


class Entry:
    """One name that is kept. ``fixed`` addresses (a literal's, or from /etc/hosts) need no asking.

    ``absolute`` is the name as DNS has it; None: it is not asked for, and ``problem`` tells why.
    """

    def __init__(self, name: str, absolute: dns.name.Name | None, problem: str | None = None) -> None:
        self.name = name
        self.absolute = absolute
        self.problem = problem
        self.fixed: tuple[int, ...] | None = None
        self.placed = False
        """/etc/hosts was looked at."""
        self.shown: tuple[int, ...] = ()
        """The address set as it was when last compared."""
        self.scheduled = NEVER
        self._halves = {A: _Half(), AAAA: _Half()}

    def seed(self, addresses: Iterable[int], now: float) -> None:
        """Take the last good set of a previous life: its time to live is over, its grace begins."""
        for address in addresses:
            half = self._halves[A if address >> 32 == V4_BASE >> 32 else AAAA]
            half.addresses = (*half.addresses, address)
            half.expires = now

    def fix(self, addresses: tuple[int, ...] | None, now: float) -> None:
        """Take what /etc/hosts says; None: nothing, so ask from now on, and forget what it said."""
        if self.placed and addresses == self.fixed:
            return
        if addresses is not None or self.placed:
            self._halves = {A: _Half(), AAAA: _Half()}
        self.fixed, self.placed = addresses, True
        self.hurry(now)

    def hurry(self, now: float) -> None:
        """Ask now, whatever failed before."""
        for half in self._halves.values():
            half.failures = 0
            half.due = NEVER if half.asking or self.fixed is not None or self.absolute is None else now

    def is_failing(self) -> bool:
        """Tell whether the last look-up did not go well."""
        return any(half.failures for half in self._halves.values())

    def is_due(self, now: float) -> bool:
        """Tell whether it is time to ask."""
        return self.placed and any(half.due <= now for half in self._halves.values())

    def ask(self, now: float) -> list[int]:
        """Give the kinds to ask for now: both, so that a kind without addresses is judged by the other's answer."""
        kinds = []
        for kind, half in self._halves.items():
            if not half.asking:
                half.asking, half.asked, half.due = True, now, NEVER
                kinds.append(kind)
        return kinds

    def take(self, kind: int, outcome: Outcome, now: float, pace: Pace, chance: random.Random) -> None:
        """Take a question's outcome: a new set replaces the old one; a failure leaves it, and waits ever longer."""
        half = self._halves[kind]
        half.asking, half.settled, half.last = False, False, outcome
        if isinstance(outcome, Found):
            ttl = max(pace.shortest_ttl, min(outcome.ttl, pace.longest_ttl))
            half.addresses, half.found, half.expires = outcome.addresses, now, now + ttl
            half.failures, half.lapsed = 0, False
            half.due = now + ttl * chance.uniform(*EARLY)
        else:
            half.failures = min(half.failures + 1, _MOST_DOUBLINGS)
            longest = min(pace.last_retry, pace.first_retry * 2**half.failures)
            half.due = now + chance.uniform(longest / 2, longest)
        first, second = self._halves.values()
        _settle(first, second)
        _settle(second, first)

    def strip(self, is_refused: Callable[[int], bool]) -> bool:
        """Drop addresses that the name may not have any more; tell whether there were any."""
        is_less = False
        for half in self._halves.values():
            kept = tuple(address for address in half.addresses if not is_refused(address))
            is_less = is_less or kept != half.addresses
            half.addresses = kept
        return is_less

    def lapse(self, now: float, grace: float) -> None:
        """Drop what outlived its time to live by ``grace`` seconds."""
        for half in self._halves.values():
            if half.addresses and now >= half.expires + grace:
                half.addresses, half.lapsed = (), True

    def next_time(self, grace: float) -> float:
        """When there is something to do: to ask, or to lapse."""
        due = min(half.due for half in self._halves.values()) if self.placed else NEVER
        return min([due, *(half.expires + grace for half in self._halves.values() if half.addresses)])

    def addresses(self) -> tuple[int, ...]:
        """The address set, sorted."""
        if self.fixed is not None:
            return self.fixed
        return tuple(sorted({address for half in self._halves.values() for address in half.addresses}))

    def state(self, now: float, grace: float) -> NameState:
        """What there is to tell of this name; ``lapse`` goes before."""
        if self.fixed is not None or self.problem is not None:
            return NameState(self.name, self.addresses(), error=self.problem)
        halves = self._halves.values()
        lasting = [half.expires for half in halves if half.addresses]
        ended = [half.expires + grace - now for half in halves if half.addresses and half.expires <= now]
        is_gone = not lasting and any(half.lapsed for half in halves)
        return NameState(
            self.name,
            self.addresses(),
            ttl=max(0.0, min(lasting) - now) if lasting else 0.0 if is_gone else None,
            grace=min(ended) if ended else 0.0 if is_gone else None,
            error=self._error() or (LAPSED if is_gone else None),
        )

    def _error(self) -> str | None:
        """The last look-up's errors; what a kind has not, while the other is on its way, is none yet."""
        errors = {
            TYPE_WORDS[kind]: half.last.words
            for kind, half in self._halves.items()
            if isinstance(half.last, Failed) or (isinstance(half.last, Missing) and not half.settled)
        }
        if not errors:
            return None if any(isinstance(half.last, Found) for half in self._halves.values()) else NOT_LOOKED_UP
        if any(half.last is None for half in self._halves.values()):
            return NOT_LOOKED_UP
        if len(errors) == len(self._halves) and len(set(errors.values())) == 1:
            return next(iter(errors.values()))
        return "; ".join(f"{kind}: {words}" for kind, words in errors.items())


def _settle(half: _Half, other: _Half) -> None:
    """A name that has addresses of one kind and says that it has none of the other simply has none of the other.

    What was answered before that was asked proves nothing: a name that is gone must not lose its kinds one by one.
    """
    if isinstance(half.last, Missing) and isinstance(other.last, Found) and other.found >= half.asked:
        half.addresses, half.settled, half.lapsed = (), True, False
        half.failures, half.due = 0, NEVER
