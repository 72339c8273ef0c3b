"""Hypothesis strategies for flows, and for whole cases: a policy, a world, and flows that come close to its rules.

Each aspect of a flow is one draw from all its sensible combinations, so that many flows cost little.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import replace
from typing import NamedTuple

from hypothesis import strategies as st

from kpf_ebpf.evaluate.evaluator import Flow
from kpf_ebpf.facts.model import Facts, FileKey
from kpf_ebpf.policy.model import Direction, PacketFilterRule, Policy, Range
from tests.unit.evaluate.strategies import (
    ELSEWHERE,
    ETH0,
    HOME,
    HOST,
    NAMES,
    PORTLESS,
    PORTS,
    PROGRAMS,
    TYPES,
    V4,
    V6,
    V6_TYPES,
    WITH_PORTS,
    facts,
    number,
    policies,
)


class Carried(NamedTuple):
    """What a flow carries, and who initiates it."""

    direction: str
    protocol: int
    local_port: int | None = None
    remote_port: int | None = None
    icmp: int = 0


class Ends(NamedTuple):
    """Where a flow runs."""

    local: int
    remote: int
    ifindex: int
    netns_cookie: int


Owner = tuple[FileKey | None, int]
"""Whose a flow is: a file, and the component its process is registered as."""


def _with_ports() -> list[Carried]:
    """Every port at the side connected to, against few at the other; a client's port that looks like a server's."""
    made = []
    for protocol in (6, 6, 17, 17, 132, 136):
        for service, client in itertools.product(PORTS, (50000, 53, 4500, 44334)):
            made += [Carried("in", protocol, service, client), Carried("out", protocol, client, service)]
    for direction in ("in", "out"):
        made += [Carried(direction, protocol) for protocol in (6, 17, 132)] * 8
        made += [Carried(direction, 17, *pair) for pair in ((68, 67), (67, 68), (546, 547), (500, 500))] * 8
        made += [Carried(direction, 17, 44334, port) for port in (53, 50000)] * 8
    for protocol, port in itertools.product((6, 17), (44334, 44335, 44336, 44501)):
        made += [Carried("out", protocol, 50000, port), Carried("in", protocol, port, 50000)] * 12
    return made


def _without_ports(family: int) -> list[Carried]:
    made = []
    for direction in ("in", "out"):
        made += [Carried(direction, protocol) for protocol in PORTLESS if protocol not in (1, 58)]
        if family == 4:
            made += [Carried(direction, 1, icmp=kind) for kind in TYPES]
        else:
            made += [Carried(direction, 58, icmp=limit + kind) for limit in (256, 512) for kind in V6_TYPES]
    return made


def _ends(family: int, direction: str) -> list[Ends]:
    """On the loopback device both ends are this host's; elsewhere the remote end may be anybody."""
    ours = itertools.product(HOST[family], HOST[family], (HOME, ELSEWHERE))
    made = [Ends(local, remote, 1, netns) for local, remote, netns in ours] * 10
    pool = V4 if family == 4 else V6
    here = [*HOST[family][1:], *(pool if direction == "in" else pool[:1])]
    for adapter, netns in ((2, HOME), (2, HOME), (3, HOME), (9, HOME), (2, ELSEWHERE)):
        made += [Ends(local, remote, adapter, netns) for local, remote in itertools.product(here, pool)]
    return made


def _owners() -> list[Owner]:
    keys = list({fact.key.inode: fact.key for fact in PROGRAMS.values()}.values())
    made: list[Owner] = [(None, 0), *((key, 0) for key in keys * 4)]
    made += [(replace(key, ctime_nanoseconds=2), 0) for key in keys]
    made += [(replace(key, generation=6), 0) for key in keys[:2]]
    interpreter = PROGRAMS["/usr/bin/python3"].key
    return made + [(key, component) for key in (None, interpreter) for component in (1, 1, 2, 2, 3, 4)] * 3


def _errands() -> list[Flow]:
    """What the firewall's own programs, or those that look like them, send to servers they know and to each other."""
    owners: list[Owner] = [(None, component) for component in (1, 1, 1, 2, 3)]
    owners += [(PROGRAMS[path].key, 0) for path in ("/opt/engine", "/opt/gui", "/opt/assist", "/usr/bin/curl")]
    servers = sorted({number(word) for found in NAMES.values() for word in found})
    ports = (53, 443, 514, 3128, 5353, 8000, 8100)
    made = [
        Flow("out", protocol, ETH0.addresses[0], server, 50000, port, 0, 2, HOME, 1000, 1, *owner)
        for owner, protocol, server, port in itertools.product(owners, (6, 6, 17), servers, ports)
    ]
    own = itertools.product(owners, (6, 17), (44333, 44334, 44501, 8050), (1, 2), (HOME, ELSEWHERE))
    for owner, protocol, port, adapter, netns in own:
        there = HOST[4][0] if adapter == 1 else servers[0]
        made.append(Flow("in", protocol, HOST[4][2], there, port, 50000, 0, adapter, netns, 1000, 1, *owner))
        made.append(Flow("out", protocol, HOST[4][2], there, 50000, port, 0, adapter, netns, 1000, 1, *owner))
    return made


_CARRIED = {family: [st.sampled_from(_with_ports()), st.sampled_from(_without_ports(family))] for family in (4, 6)}
_ENDS = {
    (family, direction): st.sampled_from(_ends(family, direction)) for family in (4, 6) for direction in ("in", "out")
}
_OWNERS = st.sampled_from(_owners())
_ERRANDS = st.sampled_from(_errands())
_REST = st.sampled_from(list(itertools.product((0, 1000, 1001), (1, 10, 11, 20, 99))))


def _borders(ranges_: Iterable[Range], last: int) -> list[int]:
    """List the numbers on either side of each border of ranges, up to ``last``."""
    found = (edge for low, high in ranges_ for edge in (low - 1, low, high, high + 1))
    return [edge for edge in found if 0 <= edge <= last]


def _aim(draw: st.DrawFn, flow: Flow, rule: PacketFilterRule) -> Flow:
    """Bring a flow close to a packet filter rule: what it names, or what lies just beside its addresses and ports."""
    protocol = draw(st.sampled_from(rule.protocols)) if rule.protocols else flow.protocol
    near = replace(flow, protocol=protocol, local_port=None, remote_port=None, icmp=0, ifindex=2, uid=1000, cgroup=11)
    near = replace(
        near, remote=draw(st.sampled_from(_borders(rule.remote.address.ranges, 2**128 - 1) or [flow.remote]))
    )
    if rule.direction is not Direction.BOTH:
        near = replace(near, direction=rule.direction.value)
    if rule.applications:
        near = replace(near, application=PROGRAMS[rule.applications[0]].key, component=0)
    if protocol in (1, 58):
        kinds = [kind for named_for, kind in rule.icmp_types if named_for == protocol] or [3]
        near = replace(near, icmp=draw(st.sampled_from(kinds)) + (256 if protocol == 58 else 0))
    if protocol in WITH_PORTS:
        wanted = (_borders(point.ports, 65535) or [50000] for point in (rule.local, rule.remote))
        local_port, remote_port = (draw(st.sampled_from(ports)) for ports in wanted)
        near = replace(near, local_port=local_port, remote_port=remote_port)
    return near


@st.composite
def flows(draw: st.DrawFn, policy: Policy) -> Flow:
    """A flow of which everything is known but, now and then, the ports."""
    family, kind = draw(st.sampled_from([(4, 0), (4, 1), (6, 0), (6, 1), (4, 2)]))
    if kind == 2:
        return draw(_ERRANDS)
    carried = draw(_CARRIED[family][kind])
    ends, (application, component) = draw(_ENDS[family, carried.direction]), draw(_OWNERS)
    uid, cgroup = draw(_REST)
    flow = Flow(
        **carried._asdict(),
        **ends._asdict(),
        uid=uid,
        cgroup=cgroup,
        application=application,
        component=component,
    )
    rule = draw(st.sampled_from([*([None] * len(policy.packet_filter)), None, *policy.packet_filter]))
    return _aim(draw, flow, rule) if rule else flow


@st.composite
def cases(draw: st.DrawFn, count: int) -> tuple[Policy, Facts, list[Flow]]:
    """A policy, a world, and some flows, many of which are near to what a rule of the policy names."""
    policy = draw(policies())
    return policy, draw(facts()), [draw(flows(policy)) for _ in range(count)]
