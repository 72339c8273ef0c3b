"""A book of names and its world: a clock that a test turns, and answers as told."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable, Mapping

from kpf_ebpf.facts.model import NameFact
from kpf_ebpf.facts.names import parse_hosts
from kpf_ebpf.names.book import Book
from kpf_ebpf.names.model import Failed, Found, Missing, NameState, Outcome, Pace
from kpf_ebpf.names.wire import AAAA, A
from tests.unit.names.helpers import numbers

NAME = "a.example"
PACE = Pace()
NO_ADDRESS = Missing("no address")
NO_NAME = Missing("no such name")
SILENCE = Failed("no answer from 192.0.2.53")


def found(ttl: float, *texts: str) -> Found:
    """An answer with addresses."""
    return Found(numbers(*texts), ttl)


class Life:
    """A book and its world: a clock, what is answered to each question, and a record of who was asked when."""

    def __init__(self, *names: str, grace: float = 100.0, seed: int = 1, pace: Pace = PACE) -> None:
        self.now = 1000.0
        self.book = Book(grace, pace, random.Random(seed))
        self.answers: dict[tuple[str, int], Outcome] = {}
        self.hosts = ""
        self.asked: list[tuple[float, str, int]] = []
        self.refused = 0
        self.retarget(names)

    def retarget(
        self,
        names: Iterable[str],
        known: Mapping[str, NameFact | NameState] | None = None,
        *,
        grace: float | None = None,
        allowed_local: Iterable[str] = (),
        own_addresses: Iterable[int] = (),
    ) -> None:
        """Keep other names, and look at the hosts file for them."""
        self.book.retarget(
            names, known or {}, self.now, grace=grace, allowed_local=allowed_local, own_addresses=own_addresses
        )
        self.place()

    def place(self) -> None:
        """Look at the hosts file."""
        self.book.place(self.book.names(), parse_hosts(self.hosts, self.book.names()), self.now)

    def answer(self, a: Outcome, aaaa: Outcome = NO_ADDRESS, name: str = NAME) -> None:
        """Answer this from now on."""
        self.answers[name, A], self.answers[name, AAAA] = a, aaaa

    def step(self) -> None:
        """Answer all questions of this moment."""
        for question in self.book.questions(1000, self.now):
            name = question.name.to_text(omit_final_dot=True)
            self.asked.append((self.now, name, question.kind))
            self.refused += self.book.take(question, self.answers.get((name, question.kind), SILENCE), self.now)

    def run(self, seconds: float) -> None:
        """Let time go by."""
        ends = self.now + seconds
        self.step()
        while self.book.next_time() <= ends:
            self.now = max(self.now, self.book.next_time())
            self.step()
        self.now = ends

    def times(self, kind: int = A, name: str = NAME) -> list[float]:
        """When this was asked."""
        return [time for time, asked, of_kind in self.asked if (asked, of_kind) == (name, kind)]

    def gaps(self, kind: int = A) -> list[float]:
        """The times between askings."""
        times = self.times(kind)
        return [later - earlier for earlier, later in itertools.pairwise(times)]

    def state(self, name: str = NAME) -> NameState:
        """What there is to tell of a name."""
        return self.book.states(self.now)[name]

    def addresses(self, name: str = NAME) -> tuple[int, ...]:
        """A name's address set."""
        return self.state(name).addresses

    def changed(self) -> bool:
        """Whether a set changed since the last call."""
        return self.book.changed(self.now)
