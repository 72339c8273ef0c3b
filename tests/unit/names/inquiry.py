"""Questions asked by a test's own thread, and ways in which a server may answer."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Sequence

import dns.flags
import dns.message
import dns.rrset

from kpf_ebpf.names.asker import Asker, Question
from kpf_ebpf.names.model import Outcome, Pace, Resolver
from kpf_ebpf.names.wire import A
from tests.unit.names.helpers import DEADLINE, dns_name
from tests.unit.names.server import Asked

PATIENT = Pace(udp_timeout=100.0, tcp_timeout=100.0, question_timeout=1000.0, rest=5000.0)
"""Nothing times out by itself; a test turns the clock."""


class Inquiry:
    """An asker, driven by a test's own thread."""

    def __init__(self, *resolvers: Resolver, pace: Pace = PATIENT) -> None:
        self.counts: Counter[str] = Counter()
        self.now = 0.0
        """Seconds that the clock is ahead of the true one."""
        self.asker = Asker(lambda: time.monotonic() + self.now, random.Random(1), pace, self.counts)
        self.asker.use(resolvers)

    def silent(self, query: dns.message.Message, asked: Asked) -> Sequence[bytes]:
        """Answer nothing, and let the time go by in which one would have waited for it."""
        self.now += 101
        self.asker.wake()
        return []

    def ask(self, name: str = "a.example", kind: int = A) -> Outcome:
        """Ask one question and wait for its outcome."""
        self.asker.ask(Question(dns_name(name), kind))
        return self.outcomes(1)[0]

    def outcomes(self, count: int) -> list[Outcome]:
        """Wait for this many outcomes."""
        found: list[Outcome] = []
        ends = time.monotonic() + DEADLINE
        while len(found) < count:
            found += [outcome for _, outcome in self.asker.wait(1.0)]
            assert time.monotonic() < ends, "not answered in time"
        return found


def silent(query: dns.message.Message, asked: Asked) -> Sequence[bytes]:
    """Answer nothing."""
    return []


def one_alias_at_a_time(query: dns.message.Message, asked: Asked) -> Sequence[bytes]:
    """Answer n0.example as an alias of n1.example, that of n2.example, and so on for ever."""
    reply = dns.message.make_response(query)
    following = int(asked.name.removeprefix("n").partition(".")[0]) + 1
    reply.answer.append(dns.rrset.from_text(f"{asked.name}.", 60 - following, "IN", "CNAME", f"n{following}.example."))
    return [reply.to_wire()]


def truncated(query: dns.message.Message, asked: Asked) -> Sequence[bytes]:
    """An answer with an address, and the mark that it is not all."""
    reply = dns.message.make_response(query)
    reply.answer.append(dns.rrset.from_text("a.example.", 60, "IN", "A", "192.0.2.66"))
    reply.flags |= dns.flags.TC
    return [reply.to_wire()]
