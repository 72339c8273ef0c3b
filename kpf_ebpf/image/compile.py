"""compile_image(resolved): rules become positions, field values classes, classes vectors. No I/O, deterministic."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import chain

from kpf_ebpf.image.living import hosts_of, name_addresses, place_adapters, places_of
from kpf_ebpf.image.model import (
    EVERY_ADAPTER,
    FIELDS,
    GROUP,
    ICMP_CLASSES,
    LOOPBACK,
    NO,
    UNKNOWN,
    YES,
    AddressClass,
    ApplicationEntry,
    MapImage,
)
from kpf_ebpf.image.prefixes import nested, to_prefixes
from kpf_ebpf.image.rows import TooManyRules, key_of, make_rows
from kpf_ebpf.policy.addresses import merged
from kpf_ebpf.policy.model import V4_BASE, Action, Range, Zone
from kpf_ebpf.resolve.model import COMPONENT_INDEX, STOP_ALL, Match, ResolvedPolicy, ResolvedRule

MAX_POSITIONS = 15360
MAX_ADDRESSES = 32768
COUNTERS = MAX_RULES = 65536
FIRST_COUNTER = 64
"""Counters below are the internal rules' (see kpf_is_mirrored) and 0, "state"."""
_FLAGS_AT = 64
"""Where an address's flags are in one word with the adapters on which it is trusted."""
COMPONENTS = {"": 0, "engine": 1, "gui": 2, "assist": 3, "canary": 4}
_MULTICAST = ((V4_BASE + (224 << 24), V4_BASE + (240 << 24) - 1), (0xFF << 120, 2**128 - 1))
_LOOPBACK = ((V4_BASE + (127 << 24), V4_BASE + (128 << 24) - 1), (1, 1))
_BROADCAST = ((V4_BASE + 2**32 - 1, V4_BASE + 2**32 - 1),)


class _Classes:
    """Class numbers of one field: equal vectors share a class; class 0 is given."""

    def __init__(self, first: int) -> None:
        self.vectors = [first]
        self._numbers = {key_of(first): 0}

    def number(self, vector: int) -> int:
        number = self._numbers.setdefault(key_of(vector), len(self.vectors))
        if number == len(self.vectors):
            self.vectors.append(vector)
        return number


def _bits(matches: list[Match], accepts: Callable[[Match], bool]) -> int:
    """The vector of the positions whose match ``accepts``."""
    digits = "".join(["1" if accepts(match) else "0" for match in reversed(matches)])
    return int(digits or "0", 2)


def _set_field(matches: list[Match], values: Callable[[Match], frozenset[int] | None]) -> tuple[int, dict[int, int]]:
    """(vector of the matches not naming the field, value -> vector of those accepting it)."""
    free = _bits(matches, lambda match: values(match) is None)
    named: dict[int, int] = {}
    for position, match in enumerate(matches):
        for value in values(match) or ():
            named[value] = named.get(value, 0) | 1 << position
    return free, {value: vector | free for value, vector in named.items()}


def scope_index(direction: int, home: int, loopback: int, remote_zone: int, local_zone: int) -> int:
    """The number of a scope, as kpf_scope_index() has it."""
    return (((direction * 2 + home) * 3 + loopback) * 3 + remote_zone) * 3 + local_zone


def _scope_vectors(matches: list[Match]) -> tuple[int, ...]:
    """Per scope two vectors: the rules that may match, and those that surely do."""
    parts: list[dict[int, int]] = []
    zone = {YES: Zone.TRUSTED, NO: Zone.INTERNET}
    parts.append(
        {0: _bits(matches, lambda m: "in" in m.directions), 1: _bits(matches, lambda m: "out" in m.directions)}
    )
    parts.append({0: _bits(matches, lambda m: not m.home), 1: _bits(matches, lambda m: True)})
    parts.append({NO: _bits(matches, lambda m: not m.localhost), YES: _bits(matches, lambda m: True)})
    parts.append({value: _bits(matches, lambda m, z=z: m.remote_zone in (None, z)) for value, z in zone.items()})  # type: ignore[misc]
    parts.append({value: _bits(matches, lambda m, z=z: m.local_zone in (None, z)) for value, z in zone.items()})  # type: ignore[misc]
    for part in parts[2:]:
        part[UNKNOWN] = part[NO] | part[YES]
    certain = [dict(part) for part in parts]
    for part in certain[2:]:
        part[UNKNOWN] = part[NO] & part[YES]
    vectors: list[int] = []
    for direction in range(2):
        for home in range(2):
            for loopback in range(3):
                for remote in range(3):
                    for local in range(3):
                        key = (direction, home, loopback, remote, local)
                        for table in (parts, certain):
                            vector = -1
                            for part, value in zip(table, key, strict=True):
                                vector &= part[value]
                            vectors.append(vector)
    return tuple(vectors)


def _port_field(
    matches: list[Match], ports: Callable[[Match], tuple[Range, ...] | None]
) -> tuple[list[int], list[int]]:
    """(vectors by class, class of each port 0..65535); class 0 also serves packets whose ports cannot be read."""
    free = _bits(matches, lambda match: ports(match) is None)
    opens: dict[int, int] = {}
    for position, match in enumerate(matches):
        for first, last in merged(ports(match) or ()):
            opens[first] = opens.get(first, 0) ^ 1 << position
            opens[last + 1] = opens.get(last + 1, 0) ^ 1 << position
    classes, of_port, current, start, number = _Classes(free), [0] * 65536, 0, 0, 0
    for border in [*sorted(opens), 65536]:
        of_port[start:border] = [number] * (min(border, 65536) - start)
        current ^= opens.get(border, 0)
        number, start = classes.number(free | current), min(border, 65536)
    return classes.vectors, of_port


def _addresses(
    matches: list[Match], resolved: ResolvedPolicy, places: Mapping[int, int]
) -> tuple[tuple[int, ...], tuple[int, ...], dict[tuple[int, int], AddressClass]]:
    locals_, remotes, words = _prefix_members(matches, resolved, places)
    local = _Classes(_bits(matches, lambda match: match.local is None))
    remote = _Classes(_bits(matches, lambda match: match.remote is None))
    known: dict[AddressClass, AddressClass] = {}
    prefixes: dict[tuple[int, int], AddressClass] = {}
    around, as_local, as_remote, word = AddressClass(0, 0, 0, 0), 0, 0, -1
    here = around
    for prefix, wider in nested({**words, **locals_, **remotes}):
        before = around, as_local, as_remote, word
        around = around if wider is None else prefixes[wider]
        as_local, as_remote, word = locals_.get(prefix, 0), remotes.get(prefix, 0), words.get(prefix, 0)
        # of a long list one address is what the last one was, by the very same numbers
        if not (before[0] is around and before[1] is as_local and before[2] is as_remote and before[3] == word):
            made = AddressClass(
                local.number(local.vectors[around.local] | as_local) if as_local else around.local,
                remote.number(remote.vectors[around.remote] | as_remote) if as_remote else around.remote,
                around.trusted | word & EVERY_ADAPTER,
                around.flags | word >> _FLAGS_AT,
            )
            here = known.setdefault(made, made)
        prefixes[prefix] = here
    if len(known) > MAX_ADDRESSES:
        raise TooManyRules(
            f"{len(known)} different sets of rules that addresses are in, expected at most {MAX_ADDRESSES}"
        )
    return tuple(local.vectors), tuple(remote.vectors), prefixes


def _prefix_members(
    matches: list[Match], resolved: ResolvedPolicy, places: Mapping[int, int]
) -> tuple[dict[tuple[int, int], int], dict[tuple[int, int], int], dict[tuple[int, int], int]]:
    """By prefix: the matches that name it as local address, as remote one, and (adapters, flags) what else it is."""
    locals_: dict[tuple[int, int], int] = {}
    remotes: dict[tuple[int, int], int] = {}
    words: dict[tuple[int, int], int] = {(0, 0): 0}

    def add(members: dict[tuple[int, int], int], ranges: Iterable[Range], bits: int) -> None:
        for prefix in to_prefixes(ranges):
            members[prefix] = members[prefix] | bits if prefix in members else bits

    for position, match in enumerate(matches):
        if match.local is not None:
            add(locals_, match.local, 1 << position)
        if match.remote is not None:
            add(remotes, match.remote, 1 << position)
    for item in resolved.trusted:
        add(words, item.ranges, EVERY_ADAPTER if item.adapter is None else 1 << places[item.adapter])
    for ranges, flag in ((_MULTICAST, GROUP), (_BROADCAST, GROUP), (_LOOPBACK, LOOPBACK)):
        add(words, ranges, flag << _FLAGS_AT)
    return locals_, remotes, words


def _counters(rules: Iterable[ResolvedRule], before: Mapping[str, int]) -> dict[str, int]:
    """A counter per rule id: what it had, else the lowest free one (of the internal rules' own, below 64)."""
    ids = dict.fromkeys((rule.id, rule.origin) for rule in rules)
    counters = {rule_id: before[rule_id] for rule_id, _ in ids if rule_id in before}
    taken = set(counters.values())
    free_internal = (number for number in range(1, FIRST_COUNTER) if number not in taken)
    free = (number for number in range(FIRST_COUNTER, COUNTERS) if number not in taken)
    for rule_id, origin in ids:
        if rule_id not in counters:
            number = next(free_internal if origin == "internal" else free, None)
            if number is None:
                raise TooManyRules(f"rule {rule_id}: no counter left; expected at most {COUNTERS} rules")
            counters[rule_id] = number
    return counters


def compile_image(resolved: ResolvedPolicy, counters: Mapping[str, int] | None = None) -> MapImage:
    """The image of a resolved policy. ``counters`` are those of the image it replaces. Raises TooManyRules."""
    flat = [(rule, match) for rule in resolved.rules for match in rule.matches]
    if len(flat) > MAX_POSITIONS:
        raise TooManyRules(f"{len(flat)} rules and alternatives, expected at most {MAX_POSITIONS}")
    matches, rules = [match for _, match in flat], [rule for rule, _ in flat]
    steps = [rule.origin for rule in rules]
    guard_end = sum(origin in ("canary", "internal", "guard") for origin in steps)

    if guard_end > 64:
        raise TooManyRules(f"{guard_end} alternatives of internal and guard rules, expected at most 64")

    cell_positions: dict[str, int] = {}

    def position_of(rule: ResolvedRule) -> int:
        if rule.id not in cell_positions:
            cell_positions[rule.id] = len(rules)
            rules.append(rule)
        return cell_positions[rule.id]

    def cells(chosen: tuple[ResolvedRule, ...]) -> tuple[int, int, int, int]:
        made = [position_of(rule) for rule in chosen]
        return made[0], made[1], made[2], made[3]

    free_application, by_application = _set_field(matches, lambda match: match.applications)
    application_classes = _Classes(free_application)
    default_cells = cells(resolved.cells)
    applications = []
    for index, application in enumerate(resolved.applications):
        entry = ApplicationEntry(
            application_classes.number(by_application.get(index, free_application)),
            COMPONENTS[application.component],
            position_of(application.modified),
            cells(application.cells) if application.cells else default_cells,
        )
        applications += [(key, entry) for key in (application.key, *application.former)]
    components = [ApplicationEntry(0, 0, 0xFFFFFFFF, default_cells)] * 8
    for name, index in COMPONENT_INDEX.items():
        number = application_classes.number(by_application.get(index, free_application))
        components[COMPONENTS[name]] = ApplicationEntry(number, COMPONENTS[name], 0xFFFFFFFF, default_cells)

    def hashed(values: Callable[[Match], frozenset[int] | None]) -> tuple[tuple[int, ...], dict[int, int]]:
        free, named = _set_field(matches, values)
        classes = _Classes(free)
        numbers = {value: classes.number(vector) for value, vector in sorted(named.items())}
        return tuple(classes.vectors), numbers

    user_vectors, users = hashed(lambda match: match.users)
    cgroup_vectors, cgroups = hashed(lambda match: match.cgroups)
    places = places_of(resolved.trusted)
    if len(places) > 63:
        raise TooManyRules(f"{len(places)} adapters in the Trusted area, expected at most 63")
    local_vectors, remote_vectors, prefixes = _addresses(matches, resolved, places)
    hosts = hosts_of(matches)
    named = name_addresses(hosts, resolved.hosts, resolved.adapters)
    free_protocol, by_protocol = _set_field(matches, lambda match: match.protocols)
    free_icmp, by_icmp = _set_field(matches, lambda match: match.icmp)
    local_port_vectors, local_ports = _port_field(matches, lambda match: match.local_ports)
    remote_port_vectors, remote_ports = _port_field(matches, lambda match: match.remote_ports)
    vectors = (
        tuple(application_classes.vectors),
        user_vectors,
        cgroup_vectors,
        local_vectors,
        remote_vectors,
        tuple(by_protocol.get(number, free_protocol) for number in range(256)),
        tuple(local_port_vectors),
        tuple(remote_port_vectors),
        _scope_vectors(matches),
    )
    assert len(vectors) == len(FIELDS)
    if len(rules) > MAX_RULES:
        raise TooManyRules(f"{len(rules)} rules with the cells of applications, expected at most {MAX_RULES}")
    icmp = tuple(by_icmp.get(number, free_icmp) for number in range(ICMP_CLASSES))
    permits = sum(1 << position for position, (rule, _) in enumerate(flat) if rule.action is Action.PERMIT)
    return MapImage(
        policy=resolved,
        rules=tuple(rules),
        positions=len(flat),
        canary_end=sum(origin == "canary" for origin in steps),
        guard_end=guard_end,
        vectors=vectors,
        icmp=icmp,
        permits=permits,
        applications=tuple(applications),
        components=tuple(components),
        users=users,
        cgroups=cgroups,
        prefixes=prefixes,
        hosts=hosts,
        named=named,
        ports=tuple(zip(local_ports, remote_ports, strict=True)),
        adapters=place_adapters(resolved.trusted, resolved.adapters),
        counters=_counters((*rules, STOP_ALL), counters or {}),
        rows=make_rows(
            chain(
                *vectors,
                icmp,
                (permits, (1 << len(flat)) - 1),
                *hosts.values(),
                *((one.local, one.remote) for one in named.values()),
            ),
            len(flat),
        ),
    )
