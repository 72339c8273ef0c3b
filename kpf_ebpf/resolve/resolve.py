"""resolve(policy, facts): the policy's words become numbers, and every rule stands in its place. No I/O."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from kpf_ebpf.facts.model import Facts, FileFact
from kpf_ebpf.policy.internal import INTERNAL_RULES, InternalRule
from kpf_ebpf.policy.model import (
    Action,
    AddressSet,
    ApplicationRule,
    Direction,
    PacketFilterRule,
    Policy,
    Proxy,
    Range,
    Zone,
)
from kpf_ebpf.resolve.cgroups import marks_below, resolve_cgroups
from kpf_ebpf.resolve.model import (
    COMPONENT_INDEX,
    Match,
    ResolvedApplication,
    ResolvedPolicy,
    ResolvedRule,
    TrustedRange,
)
from kpf_ebpf.resolve.predefined import BROADCASTS, ESSENTIALS, broadcasts_of, predefined_matches

CANARY_PERMITTED, CANARY_DENIED = 44335, 44336
"""The canary's reserved remote ports, loopback only."""
CELLS = ("internet-in", "internet-out", "trusted-in", "trusted-out")
_DIRECTIONS = {
    Direction.IN: frozenset({"in"}),
    Direction.OUT: frozenset({"out"}),
    Direction.BOTH: frozenset({"in", "out"}),
}
_EVERYWHERE: Range = (0, 2**128 - 1)


@dataclass(frozen=True, slots=True)
class _Addresses:
    """Ranges (None: any address), and hosts by name."""

    ranges: tuple[Range, ...] | None
    hosts: tuple[str, ...] = ()


class _Resolver:
    def __init__(self, policy: Policy, facts: Facts) -> None:
        self.policy, self.facts = policy, facts
        self.warnings: list[str] = list(facts.warnings)
        self.hosts: dict[str, tuple[int, ...]] = {}
        self.files: dict[tuple[int, int, int], int] = {}
        self.applications: list[ResolvedApplication] = []
        self.proxy = self._proxy()

    # ---- facts ----
    def _proxy(self) -> tuple[str, int] | None:
        chosen = self.policy.preferences.proxy
        if isinstance(chosen, Proxy):
            return chosen.host, chosen.port
        if chosen == "none" or self.facts.proxy.host is None:
            return None
        return self.facts.proxy.host, self.facts.proxy.port

    def host(self, name: str) -> tuple[int, ...]:
        """The addresses of a host, which is a host of the policy's from now on."""
        if name not in self.hosts:
            fact = self.facts.names.get(name)
            self.hosts[name] = fact.addresses if fact else ()
            if not self.hosts[name]:
                self.warnings.append(f"name {name}: {fact.error if fact else 'not looked up'}; its rules match nothing")
        return self.hosts[name]

    def addresses(self, wanted: AddressSet) -> _Addresses:
        """All ranges and hosts of a set without "@trusted"."""
        if not (wanted.names or wanted.groups):
            return _Addresses(tuple(wanted.ranges))
        ranges, hosts = list(wanted.ranges), list(wanted.names)
        for name in wanted.names:
            self.host(name)
        for group in wanted.groups:
            more = self.addresses(self.policy.groups[group].addresses)
            ranges += more.ranges or ()
            hosts += more.hosts
        return _Addresses(tuple(ranges), tuple(dict.fromkeys(hosts)))

    # ---- applications ----
    def application(self, fact: FileFact) -> int:
        place = (fact.key.inode, fact.key.device, fact.key.generation)
        if place not in self.files:
            self.files[place] = len(self.applications)
            modified = ResolvedRule(
                f"modified/{fact.path}", "modified", f"modified: {fact.path}", Action.DENY, log=True
            )
            self.applications.append(
                ResolvedApplication(fact.path, fact.key, fact.sha256, modified, former=fact.former)
            )
        index = self.files[place]
        if fact.script:
            known = self.applications[index].executed
            executed = tuple(dict.fromkeys((*known, *fact.executed)))
            self.applications[index] = replace(self.applications[index], executed=executed)
        return index

    def programs(self, word: str) -> list[FileFact]:
        usable = []
        for fact in self.facts.applications.get(word, ()):
            if fact.problem:
                self.warnings.append(f"application {fact.path}: {fact.problem}; it is not recognised")
            else:
                usable.append(fact)
        return usable

    def components(self) -> None:
        named = self.policy.components
        for component, path in (("engine", named.engine), ("gui", named.gui), ("assist", named.assist)):
            for fact in self.programs(path) if path else ():
                if not fact.root_owned:
                    self.warnings.append(
                        f"component {component}: {fact.path} is not only root's to write; unrecognised"
                    )
                    continue
                index = self.application(fact)
                other = self.applications[index].component
                if other:
                    self.warnings.append(f"component {component}: {fact.path} is the {other} already; unrecognised")
                    continue
                self.applications[index] = replace(self.applications[index], component=component)

    def component_set(self, component: str) -> frozenset[int]:
        by_file = {index for index, application in enumerate(self.applications) if application.component == component}
        return frozenset(by_file | {COMPONENT_INDEX[component]})

    def application_rules(self) -> None:
        exact_first = sorted(
            enumerate(self.policy.applications),
            key=lambda item: (1, -len(item[1].path.split("*")[0]), item[0]) if "*" in item[1].path else (0, 0, item[0]),
        )
        for _, rule in exact_first:
            for fact in self.programs(rule.path):
                index = self.application(fact)
                if self.applications[index].cells is not None:
                    if "*" not in rule.path:
                        self.warnings.append(
                            f"{rule.where}: application {rule.path}: the file has a rule; first counts"
                        )
                    continue
                self.applications[index] = replace(self.applications[index], cells=self.cells(rule, fact.path))

    def cells(self, rule: ApplicationRule, path: str) -> tuple[ResolvedRule, ResolvedRule, ResolvedRule, ResolvedRule]:
        given = {
            "trusted-in": rule.cells.trusted_in,
            "trusted-out": rule.cells.trusted_out,
            "internet-in": rule.cells.internet_in,
            "internet-out": rule.cells.internet_out,
        }
        default = dict(zip(CELLS, self.default_cells(), strict=True))
        made = []
        for cell in CELLS:
            action = given[cell]
            made.append(
                default[cell]
                if action is None
                else ResolvedRule(
                    f"application/{path}/{cell}", "application", f"{path}: {cell}", action, (), rule.log, rule.alert
                )
            )
        return made[0], made[1], made[2], made[3]

    def default_cells(self) -> tuple[ResolvedRule, ResolvedRule, ResolvedRule, ResolvedRule]:
        default = self.policy.default
        actions = (default.internet_in, default.internet_out, default.trusted_in, default.trusted_out)
        made = [
            ResolvedRule(f"default/{cell}", "default", f"any other application: {cell}", action, log=default.log)
            for cell, action in zip(CELLS, actions, strict=True)
        ]
        return made[0], made[1], made[2], made[3]

    # ---- steps ----
    def canary(self) -> list[ResolvedRule]:
        match = Match(
            applications=frozenset({COMPONENT_INDEX["canary"]}),
            directions=frozenset({"out"}),
            protocols=frozenset({6, 17}),
            localhost=True,
        )
        return [
            ResolvedRule(
                "canary/permitted", "canary", "the canary's permitted port", Action.PERMIT,
                (replace(match, remote_ports=((CANARY_PERMITTED, CANARY_PERMITTED),)),),
            ),
            ResolvedRule(
                "canary/denied", "canary", "the canary's denied port", Action.DENY,
                (replace(match, remote_ports=((CANARY_DENIED, CANARY_DENIED),)),),
            ),
        ]  # fmt: skip

    def _active(self, rule: InternalRule) -> bool:
        preferences = self.policy.preferences
        remote = preferences.remote_administration and self.facts.password_set
        return {
            "always": True,
            "remote-administration-on": remote,
            "remote-administration-off": not remote,
            "crash-dumps": preferences.send_crash_dumps,
            "proxy": self.proxy is not None,
            "no-proxy": self.proxy is None,
            "syslog": preferences.syslog.enabled,
        }[rule.condition]

    def _resolvers(self) -> tuple[tuple[int, int], ...]:
        chosen = self.policy.preferences.resolvers
        return self.facts.resolvers if isinstance(chosen, str) else chosen

    def _internal_remotes(self, rule: InternalRule) -> list[tuple[_Addresses, int | None]]:
        """(addresses, port) pairs of the other end; None is any."""
        preferences = self.policy.preferences
        port = {
            "administration": preferences.administration_port,
            "popup": preferences.popup_port,
            "dns": 53,
            "registration": preferences.registration_port,
            "syslog": preferences.syslog.port,
            "proxy": self.proxy[1] if self.proxy else None,
        }.get(rule.port)
        if rule.address == "resolvers":
            return [(_Addresses(((address, address),)), number) for address, number in self._resolvers()]
        server = {
            "crash-server": preferences.crash_server,
            "registration-server": preferences.registration_server,
            "syslog": preferences.syslog.server,
            "proxy": self.proxy[0] if self.proxy else "",
        }.get(rule.address)
        if server is None:
            return [(_Addresses(None), port)]
        self.host(server)
        return [(_Addresses((), (server,)), port)]

    def internal(self) -> list[ResolvedRule]:
        made: dict[str, ResolvedRule] = {}
        for rule in INTERNAL_RULES:
            if not self._active(rule):
                continue
            matches = []
            for addresses, port in self._internal_remotes(rule):
                ports = None if port is None else ((port, port),)
                matches.append(
                    Match(
                        applications=None if rule.component == "any" else self.component_set(rule.component),
                        directions=_DIRECTIONS[rule.direction],
                        protocols=frozenset(rule.protocols),
                        remote=addresses.ranges,
                        remote_hosts=addresses.hosts,
                        local_ports=ports if rule.port_side == "local" else None,
                        remote_ports=ports if rule.port_side == "remote" else None,
                        localhost=rule.address == "localhost",
                    )
                )
            mirror = {"popup-log": "engine", "engine-to-gui/on": "gui", "engine-to-gui/off": "gui"}.get(rule.id, "")
            before = made.get(rule.id)
            made[rule.id] = ResolvedRule(
                f"internal/{rule.id}", "internal", rule.quote, Action.PERMIT,
                (*(before.matches if before else ()), *matches),
                log=self.policy.preferences.log_internal, mirror=mirror,
            )  # fmt: skip
        return [*made.values(), *self.session()]

    def session(self) -> list[ResolvedRule]:
        """The connection that `up` was run over, until it closes or is confirmed."""
        kept = self.facts.session
        if kept is None:
            return []
        match = Match(
            protocols=frozenset({6}),
            local=((kept.local, kept.local),),
            remote=((kept.remote, kept.remote),),
            local_ports=((kept.local_port, kept.local_port),),
            remote_ports=((kept.remote_port, kept.remote_port),),
        )
        words = "the session that `up` was run from"
        return [ResolvedRule("internal/session", "internal", words, Action.PERMIT, (match,))]

    def syslog(self) -> tuple[int, int] | None:
        """Where the Engine sends the log: the first address the server has."""
        chosen = self.policy.preferences.syslog
        addresses = self.host(chosen.server) if chosen.enabled else ()
        return (addresses[0], chosen.port) if addresses else None

    def guard(self) -> list[ResolvedRule]:
        preferences = self.policy.preferences
        closed = ((preferences.administration_port, {6, 17}), (preferences.popup_port, {6}))
        return [
            ResolvedRule(
                f"guard/{port}", "guard", f"in to the firewall's own port {port}", Action.DENY,
                (Match(directions=frozenset({"in"}), protocols=frozenset(protocols), local_ports=((port, port),),
                       home=True),),
                log=True,
            )
            for port, protocols in closed
        ]  # fmt: skip

    def _side(self, wanted: AddressSet) -> list[tuple[_Addresses, Zone | None]]:
        """A point's addresses as alternatives: ranges and hosts, or (for "@trusted") a zone."""
        if wanted.any:
            return [(_Addresses(None), None)]
        sides: list[tuple[_Addresses, Zone | None]] = []
        if wanted.ranges or wanted.names or wanted.groups:
            sides.append((self.addresses(wanted), None))
        if wanted.trusted:
            sides.append((_Addresses(None), Zone.TRUSTED))
        return sides

    def packet_filter(self, rule: PacketFilterRule) -> ResolvedRule:
        applications = None
        if rule.applications:
            applications = frozenset(
                self.application(fact) for word in rule.applications for fact in self.programs(word)
            )
        users = None
        if rule.users:
            users = frozenset(
                uid
                for user in rule.users
                if (uid := self.facts.users.get(user) if isinstance(user, str) else user) is not None
            )
        icmp = None
        if rule.icmp_types:
            icmp = frozenset(
                index
                for protocol, number in rule.icmp_types
                for index in ((number,) if protocol == 1 else (256 + number, 512 + number))
            )
        matches = tuple(
            Match(
                applications=applications,
                users=users,
                cgroups=marks_below(rule.cgroup, self.facts.cgroups) if rule.cgroup else None,
                directions=_DIRECTIONS[rule.direction],
                protocols=frozenset(rule.protocols) if rule.protocols else None,
                icmp=icmp,
                local=local.ranges,
                remote=remote.ranges,
                local_hosts=local.hosts,
                remote_hosts=remote.hosts,
                local_ports=rule.local.ports or None,
                remote_ports=rule.remote.ports or None,
                local_zone=local_zone,
                remote_zone=remote_zone,
            )
            for local, local_zone in self._side(rule.local.address)
            for remote, remote_zone in self._side(rule.remote.address)
        )
        return ResolvedRule(
            f"packet-filter/{rule.description}",
            "packet-filter",
            rule.description,
            rule.action,
            matches,
            rule.log,
            rule.alert,
        )

    def predefined(self) -> list[ResolvedRule]:
        chosen = self.policy.predefined
        made = [
            ResolvedRule(
                "predefined/icmpv6-essentials", "predefined", "ICMPv6 essentials", Action.PERMIT, (ESSENTIALS,)
            )
        ]
        if chosen.enabled and "broadcasts" in chosen.cells:
            self.hosts[BROADCASTS] = broadcasts_of(self.facts.adapters)
        for name, cells in chosen.cells.items() if chosen.enabled else ():
            for zone, action in ((Zone.TRUSTED, cells.trusted), (Zone.INTERNET, cells.internet)):
                matches = tuple(replace(match, remote_zone=zone) for match in predefined_matches(name))
                made.append(
                    ResolvedRule(
                        f"predefined/{name}/{zone.value}",
                        "predefined",
                        f"{name} ({zone.value})",
                        action,
                        matches,
                        chosen.log,
                    )
                )
        return made

    def trusted(self) -> Iterable[TrustedRange]:
        indexes = {adapter.name: adapter.index for adapter in self.facts.adapters}
        for item in self.policy.trusted:
            if item.adapter is not None and item.adapter not in indexes:
                self.warnings.append(f'trusted "{item.description}": no adapter {item.adapter} (yet)')
                continue
            index = None if item.adapter is None else indexes[item.adapter]
            yield TrustedRange(index, (_EVERYWHERE,) if item.addresses.any else item.addresses.ranges)


def resolve(policy: Policy, facts: Facts) -> ResolvedPolicy:
    """Everything the policy says, in order of evaluation, as far as the facts tell; the rest becomes warnings."""
    this = _Resolver(policy, facts)
    this.components()
    this.application_rules()
    packet_filter = [this.packet_filter(rule) for rule in policy.packet_filter if rule.enabled]
    rules = (*this.canary(), *this.internal(), *this.guard(), *packet_filter, *this.predefined())
    trusted = tuple(this.trusted())
    return ResolvedPolicy(
        rules=rules,
        applications=tuple(this.applications),
        cells=this.default_cells(),
        trusted=trusted,
        adapters=facts.adapters,
        names_adapters=any(item.adapter is not None for item in policy.trusted),
        cgroups=resolve_cgroups(facts.cgroups),
        home=facts.netns_cookie,
        administration_port=policy.preferences.administration_port,
        popup_port=policy.preferences.popup_port,
        on_failure=policy.preferences.on_failure,
        syslog=this.syslog(),
        hosts=this.hosts,
        warnings=tuple(dict.fromkeys(this.warnings)),
    )
