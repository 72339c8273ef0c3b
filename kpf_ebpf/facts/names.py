"""Host names of a policy by the system's resolver, with a deadline, and with the answers not believed blindly.

An answer comes from the network. A name may therefore never mean this host (or a multicast address), unless the
machine's own /etc/hosts says so or the name is "localhost".
"""

from __future__ import annotations

import queue
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping

from kpf_ebpf.facts.addresses import is_loopback, is_multicast, is_unspecified, number, shown
from kpf_ebpf.facts.model import NameFact, ProxyFact
from kpf_ebpf.policy.model import AddressSet, Policy

NAMES_DEADLINE = 5.0
"""Seconds that all names of one look-up together may take."""
NAME_THREADS = 8
"""Names asked for at the same time."""
MAX_NAMES = 10_000
"""Names looked up for one policy."""
MAX_ADDRESSES = 64
"""Addresses kept of one name."""
MAX_HOSTS_LINES = 1_000_000
"""Lines of /etc/hosts that are read."""
_REFUSED_SHOWN = 3

NOT_LOOKED_UP = "not looked up yet"

Lookup = Callable[[str], Iterable[str]]
"""Gives a name's address literals (A and AAAA); raises OSError (socket.gaierror) or ValueError if there are none."""


def system_lookup(name: str) -> list[str]:
    """Ask the system's resolver for a name's A and AAAA records, whatever families this host uses itself."""
    found = socket.getaddrinfo(name, None, family=socket.AF_UNSPEC, type=socket.SOCK_STREAM, flags=0)
    return [str(address[0]) for *_, address in found]


def names_of(policy: Policy, proxy: ProxyFact) -> tuple[str, ...]:
    """List every host name or address literal of a policy that needs a NameFact, each once."""
    preferences = policy.preferences
    names = [preferences.crash_server] if preferences.send_crash_dumps else []
    names.append(preferences.registration_server)
    if proxy.host is not None:
        names.append(proxy.host)
    if preferences.syslog.enabled:
        names.append(preferences.syslog.server)
    sets: list[AddressSet] = [group.addresses for group in policy.groups.values()]
    for rule in policy.packet_filter:
        sets += (rule.local.address, rule.remote.address)
    names += (name for addresses in sets for name in addresses.names)
    return tuple(dict.fromkeys(names))


def parse_hosts(text: str, wanted: Iterable[str]) -> dict[str, frozenset[int]]:
    """Read from the text of /etc/hosts the addresses it gives to the wanted names (keys as wanted)."""
    asked: dict[str, list[str]] = {}
    for name in wanted:
        asked.setdefault(_plain(name), []).append(name)
    found: dict[str, set[int]] = {}
    for line in text.splitlines()[:MAX_HOSTS_LINES]:
        words = line.partition("#")[0].split()
        address = number(words[0]) if words else None
        if address is None:
            continue
        for word in words[1:]:
            for name in asked.get(_plain(word), ()):
                found.setdefault(name, set()).add(address)
    return {name: frozenset(addresses) for name, addresses in found.items()}


def literals(names: Iterable[str]) -> dict[str, NameFact]:
    """Give the facts that need no resolver: address literals; every other name gets the error NOT_LOOKED_UP."""
    facts = {}
    for name in names:
        address = number(name)
        facts[name] = NameFact(name, error=NOT_LOOKED_UP) if address is None else NameFact(name, (address,))
    return facts


def look_up(
    names: Iterable[str],
    *,
    lookup: Lookup = system_lookup,
    hosts: Mapping[str, frozenset[int]] | None = None,
    deadline: float = NAMES_DEADLINE,
) -> dict[str, NameFact]:
    """Resolve names: name -> fact. Returns within ``deadline`` seconds whatever the resolver does.

    ``hosts`` are the addresses /etc/hosts gives to names. An error says what went wrong; addresses are then empty.
    A resolver that hangs holds up to NAME_THREADS daemon threads until it gives up by itself.
    """
    facts = literals(names)
    pending = [name for name, fact in facts.items() if fact.error]
    for name in pending[MAX_NAMES:]:
        facts[name] = NameFact(name, error=f"more than {MAX_NAMES} names")
    del pending[MAX_NAMES:]
    for name in pending:
        facts[name] = NameFact(name, error=f"no answer within {deadline:g} s")
    for fact in _answers(pending, lookup, hosts or {}, deadline):
        facts[fact.name] = fact
    return facts


def _answers(
    names: list[str], lookup: Lookup, hosts: Mapping[str, frozenset[int]], deadline: float
) -> Iterator[NameFact]:
    """Ask for all names in daemon threads (a hung resolver must not hold up the exit); yield what comes in time."""
    questions: queue.SimpleQueue[str] = queue.SimpleQueue()
    answers: queue.SimpleQueue[NameFact] = queue.SimpleQueue()
    over = threading.Event()

    def work() -> None:
        while not over.is_set():
            try:
                name = questions.get_nowait()
            except queue.Empty:
                return
            answers.put(_ask(name, lookup, hosts.get(name, frozenset())))

    for name in names:
        questions.put(name)
    end = time.monotonic() + deadline
    for _ in range(min(NAME_THREADS, len(names))):
        threading.Thread(target=work, name="kpf-names", daemon=True).start()
    try:
        for _ in names:
            yield answers.get(timeout=max(0.0, end - time.monotonic()))
    except queue.Empty:
        return
    finally:
        over.set()


def _ask(name: str, lookup: Lookup, listed: frozenset[int]) -> NameFact:
    try:
        answer = list(lookup(name))
    except OSError as error:
        return NameFact(name, error=f"no address: {error.strerror or error}")
    except ValueError:
        return NameFact(name, error="not a host name")
    numbers = {address for address in map(number, answer) if address is not None}
    kept = {address for address in numbers if _is_believable(name, address, listed)}
    if kept:
        return NameFact(name, tuple(sorted(kept)[:MAX_ADDRESSES]))
    if numbers:
        refused = ", ".join(shown(address) for address in sorted(numbers)[:_REFUSED_SHOWN])
        return NameFact(name, error=f"only loopback, unspecified or multicast addresses were answered: {refused}")
    return NameFact(name, error="no address")


def _is_believable(name: str, address: int, listed: frozenset[int]) -> bool:
    if address in listed:
        return True
    if is_loopback(address):
        return _plain(name) == "localhost" or any(map(is_loopback, listed))
    return not is_unspecified(address) and not is_multicast(address)


def _plain(name: str) -> str:
    return name.rstrip(".").lower()
