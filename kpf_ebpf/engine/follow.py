"""Follows host names and adapters: new addresses become those of the rules that mean them; nothing else is made anew.

A policy of ten thousand rules is resolved, compiled and packed in most of a second. A name's addresses change with each
answer of a name server, an adapter's with each lease, and adapters come and go; so the kernel has all this apart, and
what such a change needs to know is little.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from kpf_ebpf.engine import records, trial
from kpf_ebpf.engine.folders import ENGINE, Instance
from kpf_ebpf.engine.records import Enforced, Renamed
from kpf_ebpf.facts.model import Adapter, NameFact
from kpf_ebpf.image.living import flags_of, place_adapters
from kpf_ebpf.image.model import MapImage
from kpf_ebpf.kernel.active import read_active
from kpf_ebpf.kernel.apply import rename
from kpf_ebpf.kernel.named import Rows
from kpf_ebpf.resolve.model import TrustedRange
from kpf_ebpf.resolve.predefined import BROADCASTS, broadcasts_of


def rows_of(image: MapImage) -> dict[str, Rows]:
    """The rows of every host, and of all hosts that share an address, by their names (separated by spaces)."""
    row, found = image.rows.numbers, {}
    groups = {(name,) for name in image.hosts} | set(_sharing(image.policy.hosts).values())
    for group in sorted(groups):
        local = remote = 0
        for name in group:
            own = image.hosts.get(name, (0, 0))
            local, remote = local | own[0], remote | own[1]
        found[" ".join(group)] = row[local], row[remote]
    return found


def _sharing(hosts: Mapping[str, tuple[int, ...]]) -> dict[int, tuple[str, ...]]:
    """Of every address the hosts that have it."""
    found: dict[int, tuple[str, ...]] = {}
    for name, addresses in sorted(hosts.items()):
        for address in dict.fromkeys(addresses):
            found[address] = (*found.get(address, ()), name)
    return found


@dataclass(frozen=True, slots=True)
class Followed:
    """Of what is enforced, all that a change of hosts' addresses or of adapters needs. ``base`` as in Renamed."""

    base: int
    generation: int
    names: tuple[NameFact, ...]
    addresses: dict[str, tuple[int, ...]]
    rows: dict[str, Rows]
    syslog: int | None
    adapters: tuple[Adapter, ...]
    trusted: tuple[TrustedRange, ...]
    names_adapters: bool


def followed_of(instance: Instance, enforced: Enforced) -> Followed:
    """The hosts and adapters of what is enforced."""
    renamed = records.read(instance, Renamed)
    known = renamed is not None and renamed.generation == enforced.generation
    resolved = enforced.resolved
    return Followed(
        base=renamed.base if renamed and known else enforced.generation,
        generation=enforced.generation,
        names=enforced.names,
        addresses=dict(resolved.hosts),
        rows=dict(enforced.rows),
        syslog=resolved.syslog[0] if resolved.syslog else None,
        adapters=resolved.adapters,
        trusted=resolved.trusted,
        names_adapters=resolved.names_adapters,
    )


def follow(
    instance: Instance,
    known: Followed,
    facts: Iterable[NameFact] = (),
    adapters: tuple[Adapter, ...] | None = None,
    switched: Callable[[], None] = lambda: None,
) -> Followed | None:
    """Makes what is known of names now the addresses of the rules' hosts, and these the adapters.

    ``known``: what was enforced; ``adapters`` None: as they were. ``switched`` is called as soon as it counts. None:
    this is not all that changed, and the whole policy is to be resolved. Raises Busy.
    """
    now = _changed(known, {fact.name: fact for fact in facts}, adapters)
    rows = _rows(known, now.addresses)
    if rows is None or not _knows_adapters(known, now.adapters):
        return None
    if (now.addresses, now.adapters) == (known.addresses, known.adapters):
        return now
    flags = flags_of(now.adapters)
    said = {address: (*rows.get(address, (0, 0)), flags.get(address, 0)) for address in (*rows, *flags)}
    with instance.locked(ENGINE):
        if trial.is_unsettled(instance.pins) or read_active(instance.pins).generation != known.generation:
            return None
        generation = None
        try:
            generation = rename(
                instance.pins,
                said,
                place_adapters(now.trusted, now.adapters),
                lambda generation: records.write(
                    instance, Renamed(now.base, generation, now.names, now.addresses, now.adapters)
                ),
                switched,
            )
        except OSError:
            return None  # resolving it all anew says what is wrong
    return None if generation is None else replace(now, generation=generation)


def _changed(known: Followed, fresh: Mapping[str, NameFact], adapters: tuple[Adapter, ...] | None) -> Followed:
    """The same with what is known of names and adapters now."""
    adapters = known.adapters if adapters is None else adapters
    addresses = {name: fresh[name].addresses if name in fresh else known.addresses[name] for name in known.addresses}
    if BROADCASTS in addresses:
        addresses[BROADCASTS] = broadcasts_of(adapters)
    names = tuple(fresh.get(fact.name, fact) for fact in known.names)
    return replace(known, names=names, addresses=addresses, adapters=adapters)


def _knows_adapters(known: Followed, adapters: tuple[Adapter, ...]) -> bool:
    """Whether what is known suffices for these adapters: those that the policy names are the same ones."""
    before, after = ({(one.name, one.index) for one in each} for each in (known.adapters, adapters))
    return before == after or not known.names_adapters


def _rows(known: Followed, hosts: Mapping[str, tuple[int, ...]]) -> dict[int, Rows] | None:
    """The rows of every address; None: what is known does not suffice."""
    changed = {name for name, addresses in hosts.items() if addresses != known.addresses[name]}
    if any(not hosts[name] or not known.addresses[name] for name in changed - {BROADCASTS}):
        return None  # a warning comes, or goes
    if any(known.syslog in known.addresses[name] for name in changed):
        return None  # the log goes elsewhere from now on
    groups = {address: " ".join(names) for address, names in _sharing(hosts).items()}
    if not known.rows.keys() >= set(groups.values()):
        return None  # hosts that have had no address in common
    return {address: known.rows[group] for address, group in groups.items()}
