"""The values of name resolution. Times are seconds; addresses are integers of the one 128-bit space."""

from __future__ import annotations

import math
from dataclasses import dataclass

from kpf_ebpf.facts.model import NameFact

Resolver = tuple[int, int]
"""A name server: (address, port)."""


@dataclass(frozen=True, slots=True)
class NameState:
    """One name at the moment of asking.

    ``addresses``: sorted. ``ttl``: what is left of the time to live, 0.0 when it is over, None where there is none:
    a literal, a name of /etc/hosts, a name that was never answered. ``grace``: what is left of the grace of a set
    whose time to live is over, 0.0 when that is over, too, and the addresses are gone; else None.
    ``error``: what went wrong in the last look-up, in words; None: it went well.
    """

    name: str
    addresses: tuple[int, ...] = ()
    ttl: float | None = None
    grace: float | None = None
    error: str | None = None

    def fact(self) -> NameFact:
        """This name as resolving a policy wants it."""
        ttl = None if self.ttl is None else math.ceil(self.ttl)
        return NameFact(self.name, self.addresses, ttl, self.error or "")


@dataclass(frozen=True, slots=True)
class Counts:
    """What happened since the start.

    A question is a name's A or AAAA records; it may take several queries. ``asked`` = ``answered`` + ``failed`` +
    those on their way; "no such name" is an answer. Of the answers that changed nothing: ``mismatched`` have another
    id or question, ``malformed`` cannot be read, ``truncated`` are incomplete, ``oversized`` go beyond a bound,
    ``looping`` have an endless chain of aliases. ``refused``: addresses dropped since they mean this host or link.
    """

    asked: int = 0
    answered: int = 0
    failed: int = 0
    mismatched: int = 0
    malformed: int = 0
    truncated: int = 0
    oversized: int = 0
    looping: int = 0
    refused: int = 0


@dataclass(frozen=True, slots=True)
class Pace:
    """How long things may take, and how often they are done, in seconds. Tests are faster than life."""

    udp_timeout: float = 2.0
    """For one answer."""
    tcp_timeout: float = 4.0
    """For one answer, connecting included."""
    question_timeout: float = 20.0
    """For one question: all its tries and all aliases of a chain."""
    shortest_ttl: float = 1.0
    """A shorter time to live counts as this one: names are not asked for more often."""
    longest_ttl: float = 86_400.0
    """A longer time to live counts as this one."""
    first_retry: float = 1.0
    """The shortest time from a failure to the next look-up; it doubles with each further failure."""
    last_retry: float = 60.0
    """The longest time from a failure to the next look-up."""
    rest: float = 60.0
    """How long a resolver that did not answer is asked only after the others."""
    look: float = 1.0
    """Between looks at /etc/hosts and /etc/resolv.conf."""


@dataclass(frozen=True, slots=True)
class Found:
    """A question's outcome: addresses, with the time to live as answered."""

    addresses: tuple[int, ...]
    ttl: float


@dataclass(frozen=True, slots=True)
class Missing:
    """A question's outcome: a resolver says that there is no such name or that it has no such addresses."""

    words: str


@dataclass(frozen=True, slots=True)
class Failed:
    """A question's outcome: no resolver gave an answer that can be used."""

    words: str


Outcome = Found | Missing | Failed
