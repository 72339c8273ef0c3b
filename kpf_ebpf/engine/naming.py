"""Host names for as long as the Engine lives: kept by ``names``, written down for ``status``."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import asdict

from kpf_ebpf.engine import records
from kpf_ebpf.engine.enforce import known_names
from kpf_ebpf.engine.folders import Instance
from kpf_ebpf.engine.records import Enforced, KeptName, KeptNames
from kpf_ebpf.facts.model import Adapter, NameFact
from kpf_ebpf.names import NameKeeper, NameState

PERIOD = 1.0
"""Seconds between looks at what is to be written down."""


class Naming:
    """The names of what is enforced."""

    def __init__(self, instance: Instance) -> None:
        self._instance = instance
        self._keeper = NameKeeper()
        self._known: tuple[NameFact, ...] = ()
        self._resolvers: str | tuple[tuple[int, int], ...] = "system"
        self._grace = 0.0
        self._written: tuple[object, ...] | None = None
        """What was worth being written last."""

        self._due = 0.0

    def retarget(self, enforced: Enforced) -> None:
        """Keeps the names of this policy from now on; those that are new begin with what was known at ``up``."""
        self._known = enforced.names
        self._resolvers = "system" if enforced.resolvers is None else enforced.resolvers
        self._grace = enforced.name_grace
        self.move(enforced.resolved.adapters)

    def move(self, adapters: Iterable[Adapter]) -> None:
        """Takes the addresses of these adapters for this host's own from now on."""
        self._keeper.retarget(
            (fact.name for fact in self._known),
            {fact.name: fact for fact in self._known},
            resolvers=self._resolvers,
            grace=self._grace,
            own_addresses={address for adapter in adapters for address in adapter.addresses},
        )

    def changed(self) -> bool:
        """Whether an address set is not what it was at the last call."""
        return self._keeper.changed()

    def facts(self, wanted: tuple[str, ...]) -> dict[str, NameFact]:
        """What is known of these names now, also of such as are not kept yet. Does not wait."""
        states = self._keeper.states()
        fresh = known_names(self._known)(tuple(name for name in wanted if name not in states))
        return {name: states[name].fact() if name in states else fresh[name] for name in wanted}

    def look(self, now: float) -> None:
        """Writes down how the names are, if it is time to and something changed."""
        if now < self._due:
            return
        self._due = now + PERIOD
        counts, states = self._keeper.counts(), self._keeper.states().values()
        rough = (counts, *(_rough(state, now) for state in states))
        if rough != self._written:
            numbers = {name: int(count) for name, count in asdict(counts).items()}
            records.write(self._instance, KeptNames(tuple(_kept(state) for state in states), numbers))
            self._written = rough

    def close(self) -> None:
        """Asks no more."""
        self._keeper.close()


def _kept(state: NameState) -> KeptName:
    now = time.monotonic()
    return KeptName(
        state.name,
        state.addresses,
        None if not state.ttl else now + state.ttl,
        None if state.grace is None else now + state.grace,
        state.error or "",
    )


def _rough(state: NameState, now: float) -> tuple[object, ...]:
    """What is worth being written anew: moments to the second, give or take one."""
    until = round((now + state.ttl) / 2) if state.ttl else None
    return state.name, state.addresses, until, state.grace is None, state.error
