"""A campaign: one check on input after input for some seconds; every input is made from the seed and its own number."""

from __future__ import annotations

import os
import secrets
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from random import Random
from types import FrameType
from typing import TypeVar

T = TypeVar("T")

DEADLINE = 20.0
"""Seconds that one input may take. Generous: it is to tell a hang from a busy machine, not slow from quick."""
SHOWN = 4000
"""Characters of a failing input that are printed; the seed and its number give the rest."""


class Overdue(BaseException):
    """An input took longer than the deadline. No Exception, so that no handler of the product takes it for its own."""


@contextmanager
def watchdog(seconds: float = DEADLINE) -> Iterator[None]:
    """Raise Overdue in what takes too long (main thread only)."""

    def bark(number: int, frame: FrameType | None) -> None:
        raise Overdue(f"more than {seconds:g} s")

    before = signal.signal(signal.SIGALRM, bark)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@dataclass(frozen=True)
class Campaign:
    """Where a campaign begins, how long it goes on, and whom it tells how far it came."""

    name: str
    seed: int
    first: int
    seconds: float
    tell: Callable[[str], None]

    def named(self, name: str) -> Campaign:
        """Give the same campaign under another name: other inputs."""
        return replace(self, name=name)

    def chance(self, number: int) -> Random:
        """Give the source of everything that is random about one input."""
        return Random(f"{self.name}/{self.seed}/{number}")

    def numbers(self, share: float = 1.0) -> Iterator[int]:
        """Count inputs until the time (or ``share`` of it) is over, at least one; tell how many there were."""
        began, number = time.monotonic(), self.first
        while number == self.first or time.monotonic() - began < self.seconds * share:
            yield number
            number += 1
        took = time.monotonic() - began
        tried = number - self.first
        self.tell(f"{self.name}: {tried} inputs in {took:.1f} s ({tried / took:.0f} a second), seed {self.seed}")

    def again(self, number: int, before: int = 0) -> str:
        """Give the words that run this input once more, with so many ``before`` it."""
        return f"KPF_FUZZ_SEED={self.seed} KPF_FUZZ_FIRST={max(self.first, number - before)}, {self.name}"

    def run(self, make: Callable[[Random], T], check: Callable[[T], None]) -> None:
        """Check input after input. The first that fails, fails the test, with what is needed to see it again."""
        for number in self.numbers():
            made = make(self.chance(number))
            try:
                with watchdog():
                    check(made)
            except (Exception, Overdue) as problem:
                what = f"{type(problem).__name__}: {problem}"[:SHOWN]
                raise AssertionError(f"{what}\nagain: {self.again(number)}\ninput: {made!r}"[: 3 * SHOWN]) from problem


def from_environment(name: str, tell: Callable[[str], None]) -> Campaign:
    """Give the campaign that the environment asks for; without a seed, another one each time."""
    return Campaign(
        name,
        seed=int(os.environ.get("KPF_FUZZ_SEED") or secrets.randbelow(10**9)),
        first=int(os.environ.get("KPF_FUZZ_FIRST") or 0),
        seconds=float(os.environ.get("KPF_FUZZ_SECONDS") or 20),
        tell=tell,
    )
