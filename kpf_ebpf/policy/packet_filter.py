"""[[packet-filter]]: the user's ordered rules, and whether what each asks for can happen at all."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from kpf_ebpf.policy import limits, words
from kpf_ebpf.policy.addresses import families
from kpf_ebpf.policy.model import ANY_ADDRESS, AddressSet, Direction, Endpoint, Group, PacketFilterRule
from kpf_ebpf.policy.points import point_set, union
from kpf_ebpf.policy.table import Table
from kpf_ebpf.policy.transport import ICMP, ICMPV6, PROTOCOLS, WITH_PORTS, icmp_type, ports, protocol
from kpf_ebpf.policy.words import WordError, label

_BOTH_FAMILIES = frozenset({4, 6})
_ANYWHERE = Endpoint()


@dataclass(frozen=True, slots=True)
class KnownGroups:
    """What rules need to know of [groups]: the names that exist, and the families of those that could be read."""

    names: Collection[str]
    families: Mapping[str, frozenset[int]]

    @classmethod
    def of(cls, names: Collection[str], groups: Mapping[str, Group]) -> KnownGroups:
        """Return this of all ``names`` written in [groups] and of the ``groups`` that could be read."""
        return cls(names, {name: _literal_families(group.addresses) for name, group in groups.items()})


def packet_filter(root: Table, groups: KnownGroups) -> tuple[PacketFilterRule, ...]:
    """Read every [[packet-filter]] entry that has no mistake, in order."""
    rules = []
    first: dict[str, int] = {}
    for index, value in root.entries("packet-filter", limits.MAX_PACKET_FILTER):
        name = value.get("description") if isinstance(value, dict) else None
        title = f'packet-filter "{label(name)}"' if isinstance(name, str) and name else f"packet-filter #{index + 1}"
        table = Table(root.report, ("packet-filter", index), title, value)
        rule = _rule(table, groups)
        if isinstance(name, str) and first.setdefault(name, index) != index:
            line = table.report.where(("packet-filter", first[name], "description")).line
            table.error("description", WordError(name, f"a description of its own; line {line} has it"))
        if rule is not None:
            rules.append(rule)
    return tuple(rules)


def _rule(table: Table, groups: KnownGroups) -> PacketFilterRule | None:
    description = table.require("description", words.description, "a description")
    action = table.require("action", words.action, '"permit" or "deny"')
    protocols = table.words("protocol", protocol)
    cgroup = table.take("cgroup", lambda word: None if word == "any" else words.cgroup(word), None)
    label_text = table.take("group", words.group_label, "")
    applications = table.words("application", words.application)
    users = table.words("user", words.user)
    direction = table.take("direction", words.direction, Direction.BOTH)
    types = _icmp_types(table, protocols)
    local = _endpoint(table, "local", groups, protocols)
    remote = _endpoint(table, "remote", groups, protocols)
    log = table.take("log", words.switch, False)
    alert = table.take("alert", words.switch, False)
    enabled = table.take("enabled", words.switch, True)
    table.finish()
    if protocols is not None and local is not None and remote is not None:
        _check_families(table, protocols, local, remote, groups)
    if table.broken or description is None or action is None or local is None or remote is None:
        return None
    return PacketFilterRule(
        description=description,
        action=action,
        where=table.where,
        group=label_text,
        applications=_distinct(applications),
        users=_distinct(users),
        cgroup=cgroup,
        direction=direction,
        protocols=_distinct(protocols),
        icmp_types=types,
        local=local,
        remote=remote,
        log=log,
        alert=alert,
        enabled=enabled,
    )


def _distinct(found: list[Any] | None) -> tuple[Any, ...]:
    return tuple(found) if found and len(found) == 1 else tuple(dict.fromkeys(found or ()))


def _icmp_types(table: Table, protocols: list[int] | None) -> tuple[tuple[int, int], ...]:
    if protocols is None or table.raw("icmp-type") in (None, "any"):
        table.take("icmp-type", lambda _: None, None)
        return ()
    if not protocols or not set(protocols) <= {ICMP, ICMPV6}:
        table.take("icmp-type", lambda _: None, None)
        table.error("icmp-type", WordError(table.raw("icmp-type"), "no protocol but icmp and icmpv6 beside icmp-type"))
        return ()
    found = table.words("icmp-type", lambda word: icmp_type(word, protocols))
    return tuple(dict.fromkeys(pair for pairs in found or () for pair in pairs))


def _endpoint(table: Table, key: str, groups: KnownGroups, protocols: list[int] | None) -> Endpoint | None:
    if key not in table:
        table.know(key)
        return _ANYWHERE
    inner = table.table(key)
    addresses = inner.words("address", lambda word: point_set(word, groups.names))
    port_ranges = inner.words("port", ports)
    inner.finish()
    if port_ranges and protocols is not None:
        without = [number for number in protocols if number not in WITH_PORTS]
        if without or not protocols:
            name = _protocol_name(without[0]) if without else "any"
            expected = f"only protocols with ports (tcp, udp, sctp, udplite) beside a port; {name} has none"
            inner.error("port", WordError(inner.raw("port"), expected))
    if inner.broken or addresses is None:
        table.broken = True
        return None
    return Endpoint(union(addresses) if addresses else ANY_ADDRESS, _distinct(port_ranges))


def _protocol_name(number: int) -> str:
    return next((name for name, known in PROTOCOLS.items() if known == number), str(number))


def _literal_families(addresses: AddressSet) -> frozenset[int]:
    """Return the families a set may match; both where it cannot be known, or where there is nothing to complain of."""
    if addresses.any or addresses.trusted or addresses.names or addresses.groups or not addresses.ranges:
        return _BOTH_FAMILIES
    return families(addresses.ranges)


def _set_families(addresses: AddressSet, groups: KnownGroups) -> frozenset[int]:
    if addresses.any or addresses.trusted or addresses.names:
        return _BOTH_FAMILIES
    found = families(addresses.ranges)
    for name in addresses.groups:
        found |= groups.families.get(name, _BOTH_FAMILIES)
    return found


def _check_families(table: Table, protocols: list[int], local: Endpoint, remote: Endpoint, groups: KnownGroups) -> None:
    if local is _ANYWHERE and remote is _ANYWHERE:
        return
    possible = _BOTH_FAMILIES
    if protocols and set(protocols) <= {ICMP, ICMPV6}:
        possible = frozenset(4 if number == ICMP else 6 for number in protocols)
    for key, point in (("local", local), ("remote", remote)):
        left = possible & _set_families(point.address, groups)
        if not left:
            family = "IPv4" if 4 in possible else "IPv6"
            inner = table.table(key)
            expected = f"{family} addresses, like the rest of this rule, which else can never match"
            inner.error("address", WordError(", ".join(point.address.words), expected))
            table.broken = True
            return
        possible = left
