"""What a policy plainly means: every rule is asked in turn whether it speaks of a flow, and the first one decides.

Written from the description of the rules, for reading and not for speed. It shares no code with the pipeline that
turns a policy into an image; the two are compared flow by flow. State, stop-all and mirrored halves are not in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from kpf_ebpf.evaluate.evaluator import Flow
from kpf_ebpf.facts.model import Adapter, Facts, FileFact, FileKey
from kpf_ebpf.policy.model import (
    V4_BASE,
    Action,
    AddressSet,
    Cells,
    Default,
    Direction,
    Endpoint,
    PacketFilterRule,
    Policy,
    Proxy,
    Range,
    ZoneCells,
)

ICMP, IGMP, TCP, UDP, GRE, ESP, AH, ICMPV6, SCTP, UDPLITE = 1, 2, 6, 17, 47, 50, 51, 58, 132, 136
WITH_PORTS = frozenset({TCP, UDP, SCTP, UDPLITE})
LO = 1
"""The index of the loopback device, in every network namespace."""
ENGINE, GUI, ASSIST, CANARY = 1, 2, 3, 4
"""``Flow.component`` of a registered process."""
CANARY_PERMITTED, CANARY_DENIED = 44335, 44336
V4_ALL: Range = (V4_BASE, V4_BASE + 2**32 - 1)
MULTICAST: tuple[Range, ...] = ((V4_BASE + (224 << 24), V4_BASE + (240 << 24) - 1), (0xFF << 120, 2**128 - 1))
BROADCAST, ALL_NODES = V4_BASE + 2**32 - 1, (0xFF02 << 112) + 1


class Verdict(NamedTuple):
    """The rule that decides a flow, and how."""

    rule: str
    action: Action


def inside(number: int, ranges: Iterable[Range]) -> bool:
    """Say whether an address, port or type lies in one of the inclusive ranges."""
    return any(first <= number <= last for first, last in ranges)


def place(key: FileKey) -> tuple[int, int, int]:
    """Return what makes a file the same file, whatever was written into it."""
    return key.inode, key.device, key.generation


@dataclass(frozen=True)
class Case:
    """One flow before one policy, and the plain questions that rules ask about it."""

    policy: Policy
    facts: Facts
    flow: Flow

    @property
    def out(self) -> bool:
        """Whether this end initiates."""
        return self.flow.direction == "out"

    @property
    def home(self) -> bool:
        """Whether the flow is in the network namespace that the adapters and own addresses are known of."""
        return self.flow.netns_cookie == self.facts.netns_cookie

    @property
    def is_v4(self) -> bool:
        """Whether the flow is IPv4."""
        return inside(self.flow.remote, (V4_ALL,))

    @property
    def adapter(self) -> Adapter | None:
        """The adapter, if it is one of those known."""
        found = [adapter for adapter in self.facts.adapters if adapter.index == self.flow.ifindex]
        return found[0] if found and self.home else None

    @property
    def localhost(self) -> bool:
        """Whether the flow runs over the loopback device; the kernel sends nothing there but from host to host."""
        return self.flow.ifindex == LO

    @property
    def icmp_type(self) -> tuple[int, int] | None:
        """(protocol, type) of the initiating ICMP packet."""
        return (self.flow.protocol, self.flow.icmp % 256) if self.flow.protocol in (ICMP, ICMPV6) else None

    # ---- ports: those of a packet that has none, or whose ports cannot be read, are no port at all ----
    def local_port(self, *wanted: int) -> bool:
        """Whether the local port is one of those wanted."""
        return self.flow.protocol in WITH_PORTS and self.flow.local_port in wanted

    def remote_port(self, *wanted: int) -> bool:
        """Whether the remote port is one of those wanted."""
        return self.flow.protocol in WITH_PORTS and self.flow.remote_port in wanted

    def service_port(self, *wanted: int) -> bool:
        """Whether the port of the side that is connected to is one of those wanted."""
        return self.remote_port(*wanted) if self.out else self.local_port(*wanted)

    # ---- who ----
    def usable(self, word: str) -> list[FileFact]:
        """The programs that a path of the policy stands for."""
        return [fact for fact in self.facts.applications.get(word, ()) if not fact.problem]

    def is_program(self, word: str) -> bool:
        """Whether the flow's owner is the program at a path, unchanged; a registered process is not its file."""
        return not self.flow.component and any(fact.key == self.flow.application for fact in self.usable(word))

    def is_component(self, number: int) -> bool:
        """Whether the flow's owner is one of the firewall's own: by registration, or by the file named for it."""
        named = self.policy.components
        path = {ENGINE: named.engine, GUI: named.gui, ASSIST: named.assist}[number]
        by_file = path is not None and self.is_program(path) and all(fact.root_owned for fact in self.usable(path))
        return self.flow.component == number or by_file

    def modified(self) -> str | None:
        """The path of the program that owns the flow, if the policy names it and its file was changed."""
        named = self.policy.components
        facts = [fact for path in (named.engine, named.gui, named.assist) if path for fact in self.usable(path)]
        facts = [fact for fact in facts if fact.root_owned]
        words = [word for rule in self.policy.packet_filter if rule.enabled for word in rule.applications]
        words += (rule.path for rule in self.policy.applications)
        facts += (fact for word in words for fact in self.usable(word))
        owner = self.flow.application
        for fact in facts if owner and not self.flow.component else ():
            assert owner is not None
            if place(fact.key) == place(owner) and fact.key != owner:
                return fact.path
        return None

    # ---- where ----
    def named(self, name: str) -> tuple[int, ...]:
        """The addresses a host name or literal stands for: none while it is not resolved."""
        fact = self.facts.names.get(name)
        return fact.addresses if fact else ()

    def trusted_address(self, address: int) -> bool:
        """Whether an address, met on the flow's adapter, lies in the Trusted area."""
        if self.flow.ifindex == LO:
            return True
        here = self.adapter.name if self.adapter else None
        return any(
            item.adapter in (None, here) and (item.addresses.any or inside(address, item.addresses.ranges))
            for item in self.policy.trusted
        )

    def directed_broadcasts(self) -> set[int]:
        """The adapters' directed broadcasts; in another namespace these are addresses like any other."""
        return {address for adapter in self.facts.adapters for address in adapter.broadcasts if self.home}

    @property
    def trusted(self) -> bool:
        """Whether the zone of the flow is the Trusted area."""
        remote = self.flow.remote
        to_many = inside(remote, MULTICAST) or remote == BROADCAST or remote in self.directed_broadcasts()
        if not (self.out and to_many):
            return self.trusted_address(remote)
        addresses = self.adapter.addresses if self.adapter else ()
        own = [address for address in addresses if inside(address, (V4_ALL,)) is self.is_v4]
        return any(self.trusted_address(address) for address in own or [self.flow.local])

    @property
    def cell(self) -> str:
        """The cell of an application rule that speaks of the flow."""
        return ("trusted" if self.trusted else "internet") + ("-out" if self.out else "-in")


def internal_rows(case: Case) -> Iterator[tuple[str, bool]]:
    """Each internal rule in its order, and whether it is active and speaks of the flow."""
    preferences, facts, flow = case.policy.preferences, case.facts, case.flow
    remote_administration = preferences.remote_administration and facts.password_set
    chosen = preferences.proxy
    proxy: tuple[str, int] | None = None
    if isinstance(chosen, Proxy):
        proxy = chosen.host, chosen.port
    elif chosen == "system" and facts.proxy.host is not None:
        proxy = facts.proxy.host, facts.proxy.port
    resolvers = facts.resolvers if isinstance(preferences.resolvers, str) else preferences.resolvers
    tcp, udp = flow.protocol == TCP, flow.protocol == UDP
    engine, gui, assist = case.is_component(ENGINE), case.is_component(GUI), case.is_component(ASSIST)
    engine_out, engine_tcp = engine and case.out and (tcp or udp), engine and case.out and tcp
    to_engine = engine and not case.out and (tcp or udp) and case.local_port(preferences.administration_port)
    to_proxy = engine_tcp and proxy is not None and case.remote_port(proxy[1]) and flow.remote in case.named(proxy[0])
    to_resolver = engine_out and (flow.remote, flow.remote_port) in resolvers
    yield "remote-config/on", remote_administration and to_engine
    yield "remote-config/off", not remote_administration and to_engine and case.localhost
    gui_out = gui and case.out and (tcp or udp)
    yield "gui-to-engine", gui_out and case.localhost and case.remote_port(preferences.administration_port)
    yield "popup-log", case.out and tcp and case.localhost and case.remote_port(preferences.popup_port)
    yield "dns/engine", (engine_out and udp and case.remote_port(53)) or to_resolver
    yield "dns/gui", gui_out and udp and case.remote_port(53)
    syslog = preferences.syslog
    to_syslog = engine_out and udp and case.remote_port(syslog.port) and flow.remote in case.named(syslog.server)
    yield "syslog", syslog.enabled and to_syslog
    to_crash_server = assist and case.out and tcp and flow.remote in case.named(preferences.crash_server)
    yield "crash-dumps", preferences.send_crash_dumps and to_crash_server
    yield "registration/proxy", to_proxy
    to_registration = flow.remote in case.named(preferences.registration_server)
    registers = to_registration and case.remote_port(preferences.registration_port)
    yield "registration/direct", proxy is None and engine_tcp and registers
    yield "update-check/proxy", to_proxy
    yield "engine-to-gui/off", not remote_administration and engine_out and case.localhost
    yield "update-check/direct", proxy is None and engine_tcp
    yield "engine-to-gui/on", remote_administration and engine_out


def canary(case: Case) -> Verdict | None:
    """The firewall's own canary, to its two reserved ports of this host."""
    if case.flow.component == CANARY and case.out and case.flow.protocol in (TCP, UDP) and case.localhost:
        if case.remote_port(CANARY_PERMITTED):
            return Verdict("canary/permitted", Action.PERMIT)
        if case.remote_port(CANARY_DENIED):
            return Verdict("canary/denied", Action.DENY)
    return None


def internal(case: Case) -> Verdict | None:
    """The internal rules, which all permit."""
    return next((Verdict(f"internal/{name}", Action.PERMIT) for name, speaks in internal_rows(case) if speaks), None)


def guard(case: Case) -> Verdict | None:
    """The firewall's own ports are closed to what the internal rules did not let in."""
    ports = case.policy.preferences
    if case.out or not case.home:
        return None
    if case.flow.protocol in (TCP, UDP) and case.local_port(ports.administration_port):
        return Verdict(f"guard/{ports.administration_port}", Action.DENY)
    if case.flow.protocol == TCP and case.local_port(ports.popup_port):
        return Verdict(f"guard/{ports.popup_port}", Action.DENY)
    return None


def modified(case: Case) -> Verdict | None:
    """A named program that was changed is denied everything."""
    path = case.modified()
    return Verdict(f"modified/{path}", Action.DENY) if path is not None else None


def packet_filter(case: Case) -> Verdict | None:
    """The user's ordered list."""
    rules = (rule for rule in case.policy.packet_filter if rule.enabled and filters(case, rule))
    return next((Verdict(f"packet-filter/{rule.description}", rule.action) for rule in rules), None)


def filters(case: Case, rule: PacketFilterRule) -> bool:
    """Whether a packet filter rule speaks of the flow: every field does, one left out means any."""
    flow, facts = case.flow, case.facts
    uids = [facts.users.get(user) if isinstance(user, str) else user for user in rule.users]
    return (
        (not rule.applications or any(case.is_program(word) for word in rule.applications))
        and (not rule.users or flow.uid in uids)
        and (rule.cgroup is None or flow.cgroup in facts.cgroups.get(rule.cgroup, ()))
        and rule.direction in (Direction.BOTH, Direction.OUT if case.out else Direction.IN)
        and (not rule.protocols or flow.protocol in rule.protocols)
        and (not rule.icmp_types or case.icmp_type in rule.icmp_types)
        and at(case, rule.local, flow.local, flow.local_port, case.trusted_address(flow.local))
        and at(case, rule.remote, flow.remote, flow.remote_port, case.trusted)
    )


def at(case: Case, point: Endpoint, address: int, port: int | None, trusted: bool) -> bool:
    """Whether an end of the flow is at a point of a rule."""
    on_port = not point.ports or (case.flow.protocol in WITH_PORTS and port is not None and inside(port, point.ports))
    return on_port and (among(case, point.address, address) or (point.address.trusted and trusted))


def among(case: Case, wanted: AddressSet, address: int) -> bool:
    """Whether an address is in a set by its literals, names and groups."""
    return (
        wanted.any
        or inside(address, wanted.ranges)
        or any(address in case.named(name) for name in wanted.names)
        or any(among(case, case.policy.groups[group].addresses, address) for group in wanted.groups)
    )


def predefined_speaks(case: Case, name: str) -> bool:
    """Whether a predefined rule speaks of the flow, whatever its zone.

    An echo reply is ping's answer and no type of "other-icmp": one that answers nothing has no predefined rule.
    """
    flow, kind = case.flow, case.icmp_type
    echo_request, echo_reply = kind in ((ICMP, 8), (ICMPV6, 128)), kind in ((ICMP, 0), (ICMPV6, 129))
    tcp, udp, out = flow.protocol == TCP, flow.protocol == UDP, case.out
    groups = {BROADCAST, ALL_NODES} | case.directed_broadcasts()
    client, server = (68, 67) if case.is_v4 else (546, 547)
    return {
        "igmp": flow.protocol == IGMP,
        "ping-in": echo_request and not out,
        "ping-out": echo_request and out,
        "other-icmp": kind is not None and not echo_request and not echo_reply,
        "dhcp": udp and case.local_port(client) and case.remote_port(server),
        "dns": out and (tcp or udp) and case.remote_port(53),
        "vpn": out
        and ((tcp and case.remote_port(1723)) or (udp and case.remote_port(1701, 1194, 51820)) or flow.protocol == GRE),
        "ipsec": (udp and case.service_port(500, 4500)) or flow.protocol in (ESP, AH),
        "broadcasts": (flow.remote if out else flow.local) in groups,
    }[name]


def predefined(case: Case) -> Verdict | None:
    """The predefined rules: what IPv6 cannot do without, then, unless switched off, the others in their order."""
    chosen, kind = case.policy.predefined, case.icmp_type
    hop_limit_is_255 = case.flow.icmp < 512
    if kind is not None and kind[0] == ICMPV6 and not inside(case.flow.remote, (V4_ALL,)):
        discovery = inside(kind[1], ((133, 136),))
        if inside(kind[1], ((1, 4), (130, 132), (143, 143))) or (discovery and hop_limit_is_255):
            return Verdict("predefined/icmpv6-essentials", Action.PERMIT)
    order = ("igmp", "ping-in", "ping-out", "other-icmp", "dhcp", "dns", "vpn", "ipsec", "broadcasts")
    for name in order if chosen.enabled else ():
        if predefined_speaks(case, name):
            cells: ZoneCells = chosen.cells[name]
            zone, action = ("trusted", cells.trusted) if case.trusted else ("internet", cells.internet)
            return Verdict(f"predefined/{name}/{zone}", action)
    return None


def cell_action(cells: Cells | Default, cell: str) -> Action | None:
    """Return what a cell says: None if it was left out."""
    found: Action | None = getattr(cells, cell.replace("-", "_"))
    return found


def application(case: Case) -> Verdict | None:
    """The first entry for the flow's program, unless it leaves this cell to the default."""
    for rule in case.policy.applications:
        if case.is_program(rule.path):
            action = cell_action(rule.cells, case.cell)
            path = case.usable(rule.path)[0].path
            return Verdict(f"application/{path}/{case.cell}", action) if action is not None else None
    return None


def meaning(policy: Policy, facts: Facts, flow: Flow) -> Verdict:
    """Return the rule that decides a flow, and its action: the first match, else the default's cell."""
    case = Case(policy, facts, flow)
    for step in (canary, internal, guard, modified, packet_filter, predefined, application):
        found = step(case)
        if found is not None:
            return found
    action = cell_action(policy.default, case.cell)
    assert action is not None
    return Verdict(f"default/{case.cell}", action)
