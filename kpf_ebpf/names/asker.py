"""Asks resolvers many questions at once, in one thread: in turn, again by TCP where an answer was truncated, and on
along chains of aliases. Bounded in sockets, tries and time."""

from __future__ import annotations

import os
import random
import selectors
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field

import dns.name

from kpf_ebpf.names.link import Datagram, Link, Stream, resolver_words
from kpf_ebpf.names.model import Failed, Found, Missing, Outcome, Pace, Resolver
from kpf_ebpf.names.wire import (
    CODE_WORDS,
    NO_ERROR,
    NO_SUCH_NAME,
    BadAnswer,
    Reply,
    read_reply,
    write_query,
)

MAX_RUNNING = 64
"""Questions on their way at the same time; each has one socket."""
MIN_TRIES, MAX_TRIES = 2, 4
"""Tries of one question: as many as there are resolvers, within these bounds. A datagram may be lost."""
MAX_IGNORED = 32
"""Datagrams of others that one query bears. More are an attempt to guess its id (RFC 5452, section 9.2)."""


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """A name's records of one kind (wire.A or wire.AAAA). Each is only equal to itself."""

    name: dns.name.Name
    kind: int


@dataclass(eq=False, slots=True)
class _Running:
    """A question on its way: by which resolvers, how far, and until when (the clock's seconds)."""

    question: Question
    resolvers: list[Resolver]
    ends: float
    name: dns.name.Name
    hops: tuple[dns.name.Name, ...] = ()
    ttl: float = float("inf")
    tries: int = 0
    ignored: int = 0
    number: int = 0
    link: Link | None = None
    deadline: float = 0.0
    errors: list[str] = field(default_factory=list)

    @property
    def resolver(self) -> Resolver:
        """The one that is being asked."""
        return self.resolvers[(self.tries - 1) % len(self.resolvers)]

    def fits(self) -> bool:
        """Tell whether one more try is left."""
        return self.tries < max(MIN_TRIES, min(len(self.resolvers), MAX_TRIES))


class Asker:
    """Asks questions; all methods but ``wake`` belong to one thread. ``counts`` is written to."""

    def __init__(self, clock: Callable[[], float], chance: random.Random, pace: Pace, counts: Counter[str]) -> None:
        self._clock, self._chance, self._pace, self._counts = clock, chance, pace, counts
        self._resolvers: tuple[Resolver, ...] = ()
        self._resting: dict[Resolver, float] = {}
        self._running: dict[_Running, None] = {}
        self._finished: deque[tuple[Question, Outcome]] = deque()
        self._selector = selectors.DefaultSelector()
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._selector.register(self._bell, selectors.EVENT_READ)

    @property
    def room(self) -> int:
        """How many more questions may be asked now."""
        return MAX_RUNNING - len(self._running) - len(self._finished)

    def wake(self) -> None:
        """End ``wait``, from any thread."""
        os.eventfd_write(self._bell, 1)

    def use(self, resolvers: tuple[Resolver, ...]) -> list[Question]:
        """Ask other resolvers from now on; give the questions that are on their way and now need to be asked again."""
        again = [running.question for running in self._running]
        for running in list(self._running):
            self._hang_up(running)
        self._running.clear()
        self._resting.clear()
        self._resolvers = tuple(dict.fromkeys(resolvers))
        return again

    def close(self) -> None:
        """Give every descriptor back."""
        self.use(())
        self._selector.close()
        os.close(self._bell)

    def ask(self, question: Question) -> None:
        """Begin to ask."""
        ends = self._clock() + self._pace.question_timeout
        running = _Running(question, self._order(), ends, question.name)
        self._running[running] = None
        if running.resolvers:
            self._try(running)
        else:
            self._finish(running, Failed("no resolver is known"))

    def wait(self, seconds: float) -> list[tuple[Question, Outcome]]:
        """Work for ``seconds`` at most, less if something is to tell; give the questions that are finished."""
        ends = min((running.deadline for running in self._running), default=float("inf"))
        seconds = 0 if self._finished else max(0.0, min(seconds, ends - self._clock()))
        for key, _ in self._selector.select(seconds):
            if key.fd == self._bell:
                os.eventfd_read(self._bell)
            else:
                self._go_on(key.data)
        now = self._clock()
        for running in [running for running in self._running if running.deadline <= now]:
            self._rest(running.resolver)
            others = f", but {running.ignored} that do not belong to the question" if running.ignored else ""
            self._fail(running, f"no answer from {resolver_words(running.resolver)}{others}")
        finished = list(self._finished)
        self._finished.clear()
        return finished

    def _order(self) -> list[Resolver]:
        """The resolvers as configured, those that rest last.

        Where a rest is over, this one question tries that resolver; the others follow when it answered.
        """
        now = self._clock()
        ready = [resolver for resolver in self._resolvers if self._resting.get(resolver, now) <= now]
        resting = sorted(set(self._resolvers) - set(ready), key=lambda resolver: self._resting[resolver])
        if ready and ready[0] in self._resting:
            self._rest(ready[0])
        return ready + resting

    def _rest(self, resolver: Resolver) -> None:
        self._resting[resolver] = self._clock() + self._pace.rest

    def _try(self, running: _Running) -> None:
        """Ask the next resolver, or give up."""
        while running.fits() and self._clock() < running.ends:
            running.tries += 1
            if self._send(running, Datagram, self._pace.udp_timeout):
                return
        self._finish(running, Failed("; ".join(dict.fromkeys(running.errors)) or "no answer in time"))

    def _send(self, running: _Running, way: type[Datagram] | type[Stream], timeout: float) -> bool:
        self._hang_up(running)
        running.number = self._chance.getrandbits(16)
        running.ignored = 0
        running.deadline = min(self._clock() + timeout, running.ends)
        query = write_query(running.number, running.name, running.question.kind)
        link: Link | None = None
        try:
            link = way(running.resolver, query)
            self._selector.register(link.socket, link.events, running)
        except OSError as error:
            if link is not None:
                link.socket.close()
            self._unreachable(running, error)
            return False
        running.link = link
        return True

    def _hang_up(self, running: _Running) -> None:
        if running.link is not None:
            self._selector.unregister(running.link.socket)
            running.link.socket.close()
            running.link = None

    def _go_on(self, running: _Running) -> None:
        """Something happened on a question's socket."""
        link = running.link
        if link is None:
            return
        events = link.events
        try:
            message = link.receive()
            if message is None:
                if link.events != events:
                    self._selector.modify(link.socket, link.events, running)
                return
            question = (running.name, running.question.kind)
            reply = read_reply(message, running.number, *question, running.hops, limit=link.limit)
        except OSError as error:
            self._unreachable(running, error)
            self._try(running)
        except BadAnswer as bad:
            self._take_bad(running, link, bad)
        else:
            self._take(running, reply)

    def _take_bad(self, running: _Running, link: Link, bad: BadAnswer) -> None:
        """Count; then wait for the true answer, ask by TCP, or ask the next resolver."""
        self._counts[bad.kind] += 1
        running.ignored += 1
        if not bad.ours and not link.is_stream and running.ignored < MAX_IGNORED:
            return
        if bad.kind == "truncated" and not link.is_stream:
            if not self._send(running, Stream, self._pace.tcp_timeout):
                self._try(running)
            return
        self._fail(running, f"{bad} from {resolver_words(running.resolver)}")

    def _take(self, running: _Running, reply: Reply) -> None:
        self._resting.pop(running.resolver, None)
        running.ttl = min(running.ttl, reply.ttl)
        if reply.code == NO_SUCH_NAME:
            self._finish(running, Missing("no such name"))
        elif reply.code != NO_ERROR:
            words = CODE_WORDS.get(reply.code, f"error {reply.code}")
            self._fail(running, f"{words} from {resolver_words(running.resolver)}")
        elif reply.addresses:
            self._finish(running, Found(reply.addresses, running.ttl))
        elif reply.alias is not None:
            running.hops, running.name = reply.hops[:-1], reply.alias
            if not self._send(running, Datagram, self._pace.udp_timeout):
                self._try(running)
        else:
            self._finish(running, Missing("no address"))

    def _unreachable(self, running: _Running, error: OSError) -> None:
        self._rest(running.resolver)
        running.errors.append(f"{resolver_words(running.resolver)}: {error.strerror or error}")

    def _fail(self, running: _Running, words: str) -> None:
        running.errors.append(words)
        self._try(running)

    def _finish(self, running: _Running, outcome: Outcome) -> None:
        self._hang_up(running)
        del self._running[running]
        self._finished.append((running.question, outcome))
