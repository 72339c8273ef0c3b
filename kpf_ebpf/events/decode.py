"""From the bytes of a perf event to a checked event. What the kernel hands out is not trusted to make sense."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

from kpf_ebpf.facts.model import FileKey
from kpf_ebpf.kernel import abi
from kpf_ebpf.policy.addresses import address_text

SIZE = ctypes.sizeof(abi.Event)

SIZES = frozenset({SIZE, SIZE + -(SIZE + 4) % 8})
"""The event itself, or with what the perf buffer appends to round its record (a u32 and the event) up to 8 bytes."""

_FLAGS = abi.RULE_LOG | abi.RULE_ALERT | abi.RULE_MIRROR_ENGINE | abi.RULE_MIRROR_GUI
_KNOWN = abi.KNOWS_ALL | abi.HAS_PORTS
_ICMP_CLASSES = 768


@dataclass(frozen=True, slots=True)
class RawEvent:
    """A flow and its verdict. Addresses lie in the 128-bit space; what the hook did not know is None.

    ``icmp`` is coded as in the ABI; ``time`` is ktime in nanoseconds; ``counter`` names the rule.
    """

    application: FileKey
    local: int | None
    local_port: int | None
    remote: int
    remote_port: int | None
    protocol: int
    icmp: int
    direction: abi.Direction
    component: abi.Component
    uid: int
    pid: int | None
    cgroup: int
    netns_cookie: int
    ifindex: int | None
    time: int
    active: int
    counter: int
    action: abi.Action
    hook: abi.Hook
    flags: int

    @property
    def log(self) -> bool:
        """Whether the rule asks for a line of the log."""
        return bool(self.flags & abi.RULE_LOG)

    @property
    def alert(self) -> bool:
        """Whether the rule asks for an alert."""
        return bool(self.flags & abi.RULE_ALERT)


def decode(raw: bytes) -> RawEvent:
    """Decode one event; raises ValueError for a wrong size or for values no kernel program writes."""
    if len(raw) not in SIZES:
        raise ValueError(f"an event of {len(raw)} bytes instead of {SIZE}")
    event = abi.Event.from_buffer_copy(raw)
    flow = event.flow
    if event.flags & ~_FLAGS or flow.known & ~_KNOWN:
        raise ValueError(f"an event with impossible flags {event.flags}, {flow.known}")
    if flow.icmp >= _ICMP_CLASSES:
        raise ValueError(f"an event with the impossible ICMP type {flow.icmp}")
    has_ports = bool(flow.known & abi.HAS_PORTS)
    return RawEvent(
        application=FileKey(*flow.application.words()),
        local=_address(flow.local) if flow.known & abi.KNOWS_LOCAL_ADDRESS else None,
        local_port=flow.local_port if has_ports and flow.known & abi.KNOWS_LOCAL_PORT else None,
        remote=_address(flow.remote),
        remote_port=flow.remote_port if has_ports else None,
        protocol=flow.protocol,
        icmp=flow.icmp,
        direction=abi.Direction(flow.direction),
        component=abi.Component(flow.component),
        uid=flow.uid,
        pid=event.pid or None,
        cgroup=flow.cgroup,
        netns_cookie=flow.netns_cookie,
        ifindex=flow.ifindex if flow.known & abi.KNOWS_ADAPTER else None,
        time=event.time,
        active=event.active,
        counter=event.counter,
        action=abi.Action(event.action),
        hook=abi.Hook(event.hook),
        flags=event.flags,
    )


def point_text(address: int | None, port: int | None = None) -> str:
    """Write a point: ``192.0.2.1:80``, ``[2001:db8::1]:80``, an address alone, ``-:80`` or ``-``. Port 0 is none."""
    host = "-" if address is None else address_text(address)
    if not port:
        return host
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _address(words: ctypes.Array[ctypes.c_uint32]) -> int:
    return int.from_bytes(bytes(words), "big")
