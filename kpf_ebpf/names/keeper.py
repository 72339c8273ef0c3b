"""NameKeeper: one thread keeps names true; whoever asks it never waits for the network.

It sleeps until a name is to be asked for: that a file changed is seen at once by whoever asks what became of the names.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields, replace

from kpf_ebpf.facts.model import NameFact
from kpf_ebpf.facts.names import parse_hosts
from kpf_ebpf.names.asker import Asker
from kpf_ebpf.names.book import MAX_AT_ONCE, Book
from kpf_ebpf.names.files import HOSTS, RESOLV_CONF, WatchedFile, system_resolvers
from kpf_ebpf.names.model import Counts, Failed, NameState, Pace, Resolver

ENDED = "name resolution has ended unexpectedly"
LOOKS_ASLEEP = 15
"""Looks of others after which the thread looks by itself, whoever asks or does not."""
_JOIN_SECONDS = 5.0


class NameKeeper:
    """Keeps the address sets of names. Its methods may be called from one thread; they return at once.

    ``resolvers``: "system" (those of resolv.conf, read again when it changes) or (address, port) pairs, as in the
    policy's preferences. ``grace``: seconds that a last good set lives on after its time to live. The thread begins
    with the first ``retarget``, in the network namespace of whoever calls that.
    """

    def __init__(
        self,
        resolvers: str | Sequence[Resolver] = "system",
        grace: float = 3600.0,
        *,
        clock: Callable[[], float] = time.monotonic,
        chance: random.Random | None = None,
        pace: Pace | None = None,
        hosts: str = HOSTS,
        resolv_conf: str = RESOLV_CONF,
    ) -> None:
        chance = random.SystemRandom() if chance is None else chance
        self._pace = Pace() if pace is None else pace
        self._clock = clock
        self._counts: Counter[str] = Counter({one.name: 0 for one in fields(Counts)})
        self._lock = threading.Lock()
        self._book = Book(grace, self._pace, chance)
        self._asker = Asker(clock, chance, self._pace, self._counts)
        self._hosts, self._resolv_conf = WatchedFile(hosts), WatchedFile(resolv_conf)
        self._wanted: str | tuple[Resolver, ...] = resolvers if isinstance(resolvers, str) else tuple(resolvers)
        self._system: tuple[Resolver, ...] = ()
        self._used: tuple[Resolver, ...] = ()
        self._is_new = False
        self._look_due = -float("inf")
        self._over = False
        self._thread: threading.Thread | None = None

    def retarget(
        self,
        names: Iterable[str],
        known: Mapping[str, NameFact | NameState] | None = None,
        *,
        resolvers: str | Sequence[Resolver] | None = None,
        grace: float | None = None,
        allowed_local: Iterable[str] = (),
        own_addresses: Iterable[int] = (),
    ) -> None:
        """Keep these names from now on, and no others. Those that are kept already stay as they are.

        ``known``: of names that are new here, what the caller goes by: the last good set of a previous life. Its
        grace begins now; it is compared by ``changed``. ``resolvers`` and ``grace`` stay if left out.
        ``allowed_local``: names that may mean this host or link, since a rule says so; any other name's addresses
        that are loopback, unspecified, multicast, link-local or among ``own_addresses`` are dropped.
        """
        with self._lock:
            self._book.retarget(
                names,
                known or {},
                self._clock(),
                grace=grace,
                allowed_local=allowed_local,
                own_addresses=own_addresses,
            )
            self._is_new = True
            if resolvers is not None:
                self._wanted = resolvers if isinstance(resolvers, str) else tuple(resolvers)
        if self._over:
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="kpf-names", daemon=True)
            self._thread.start()
        else:
            self._asker.wake()

    def changed(self) -> bool:
        """Tell whether the address set of any name changed since the last call. Cheap."""
        self._watch()
        with self._lock:
            return self._book.changed(self._clock())

    def states(self) -> dict[str, NameState]:
        """Every name with its address set, and how it is doing."""
        self._watch()
        with self._lock:
            states = self._book.states(self._clock())
        if self._thread is not None and not self._thread.is_alive() and not self._over:
            return {name: replace(state, error=ENDED) for name, state in states.items()}
        return states

    def counts(self) -> Counts:
        """What happened so far."""
        return Counts(**self._counts)

    def close(self) -> None:
        """End the thread and give all descriptors back. The last states can still be asked for."""
        if self._over:
            return
        self._over = True
        if self._thread is not None:
            self._asker.wake()
            self._thread.join(_JOIN_SECONDS)
            if self._thread.is_alive():  # held up by a file system that hangs; it still needs its descriptors
                return
        self._asker.close()

    def _watch(self) -> None:
        """Wakes the thread where /etc/hosts or /etc/resolv.conf says something else; looks now and then only."""
        now = self._clock()
        if self._over or self._thread is None or now < self._look_due:
            return
        self._look_due = now + self._pace.look
        if self._hosts.would_change() or self._resolv_conf.would_change():
            self._asker.wake()

    def _work(self) -> None:
        while not self._over:
            self._look()
            self._turn()

    def _turn(self) -> None:
        """Ask what is due, wait until something happens, take the outcomes."""
        with self._lock:
            questions = self._book.questions(self._asker.room, self._clock())
            begins = self._book.next_time() if self._asker.room > len(questions) else float("inf")
        for question in questions:
            self._asker.ask(question)
        self._counts["asked"] += len(questions)
        finished = self._asker.wait(min(begins - self._clock(), LOOKS_ASLEEP * self._pace.look))
        for question, outcome in finished:
            with self._lock:
                refused = self._book.take(question, outcome, self._clock())
            self._counts["refused"] += refused
            self._counts["failed" if isinstance(outcome, Failed) else "answered"] += 1

    def _look(self) -> None:
        """Read /etc/hosts and /etc/resolv.conf where there is something new: at each turn, so after any wake."""
        now = self._clock()
        with self._lock:
            is_new, self._is_new = self._is_new, False
            names, wanted = self._book.names(), self._wanted
        if self._hosts.has_changed() or is_new:
            listed = parse_hosts(self._hosts.text(), names)
            for begin in range(0, len(names), MAX_AT_ONCE):  # nobody waits long for the lock
                with self._lock:
                    self._book.place(names[begin : begin + MAX_AT_ONCE], listed, now)
        if self._resolv_conf.has_changed():
            self._system = system_resolvers(path=self._resolv_conf.path)
        self._use(self._system if isinstance(wanted, str) else wanted, now)

    def _use(self, resolvers: tuple[Resolver, ...], now: float) -> None:
        """Ask other resolvers from now on; they may know what the former ones did not."""
        if resolvers == self._used:
            return
        self._used = resolvers
        interrupted = self._asker.use(resolvers)
        self._counts["asked"] -= len(interrupted)  # they will be asked again
        with self._lock:
            self._book.again(interrupted)
            self._book.hurry(now)
