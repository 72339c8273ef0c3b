"""From an event to a record: numbers become the names of rules, programs, users and protocols."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType

from kpf_ebpf.events.decode import RawEvent, point_text
from kpf_ebpf.events.model import Action, Direction, Hook, LogRecord
from kpf_ebpf.facts.model import FileKey, NameFact
from kpf_ebpf.kernel import abi
from kpf_ebpf.policy.transport import ICMP, ICMPV6, PROTOCOLS

UNKNOWN = "unknown"
KERNEL = "kernel"
ADDRESSES_SHOWN = 8
"""Of a name's addresses."""

_NAMES = {number: name for name, number in PROTOCOLS.items()}
_DIRECTIONS: Mapping[abi.Direction, Direction] = MappingProxyType({abi.Direction.IN: "in", abi.Direction.OUT: "out"})
_ACTIONS: Mapping[abi.Action, Action] = MappingProxyType({abi.Action.PERMIT: "permit", abi.Action.DENY: "deny"})
_HOOKS: Mapping[abi.Hook, Hook] = MappingProxyType(
    {
        abi.Hook.CONNECT: "connect",
        abi.Hook.SENDMSG: "sendmsg",
        abi.Hook.EGRESS: "egress",
        abi.Hook.INGRESS: "ingress",
        abi.Hook.ADAPTER_EGRESS: "adapter-egress",
        abi.Hook.ADAPTER_INGRESS: "adapter-ingress",
    }
)


@dataclass(frozen=True, slots=True)
class RuleName:
    """What the log says of a rule."""

    id: str
    description: str
    origin: str


def enrich(
    event: RawEvent,
    rules: Mapping[int, RuleName],
    path_of: Callable[[FileKey, int], str | None],
    user_of: Callable[[int], str | None],
    clock: Callable[[int], datetime],
) -> LogRecord:
    """Make an event a record without a line number; ``path_of`` is given pid 0 where none is known."""
    rule = rules.get(event.counter) or RuleName(f"counter/{event.counter}", "unknown rule", UNKNOWN)
    return LogRecord(
        line=0,
        count=1,
        date=clock(event.time),
        rule=rule.description,
        id=rule.id,
        origin=rule.origin,
        application=_application(event, path_of),
        pid=event.pid,
        user=_user(event, user_of),
        direction=_DIRECTIONS[event.direction],
        local=point_text(event.local, event.local_port),
        remote=point_text(event.remote, event.remote_port),
        protocol=protocol_text(event),
        action=_ACTIONS[event.action],
        hook=_HOOKS[event.hook],
        alert=event.alert,
    )


def name_record(before: NameFact, after: NameFact, date: datetime) -> LogRecord:
    """A record of a host name whose address set changed: what it means now is permitted or denied, by its rules."""
    return LogRecord(
        line=0,
        count=1,
        date=date,
        rule=f"name {after.name}: {_shown(after)}, was {_shown(before)}",
        id=f"names/{after.name}",
        origin="names",
        application="kpf-ebpf",
        pid=None,
        user=None,
        direction="out",
        local="",
        remote=point_text(after.addresses[0], None) if after.addresses else "",
        protocol="dns",
        action="permit" if after.addresses else "deny",
        hook="names",
        alert=False,
    )


def _shown(fact: NameFact) -> str:
    more = len(fact.addresses) - ADDRESSES_SHOWN
    words = ", ".join(point_text(address, None) for address in fact.addresses[:ADDRESSES_SHOWN])
    return (words or "nothing") + (f" and {more} more" if more > 0 else "")


def protocol_text(event: RawEvent) -> str:
    """Name an event's protocol, with the ICMP type where the hook knew it: ``tcp``, ``icmp 8``, ``253``."""
    name = _NAMES.get(event.protocol, str(event.protocol))
    if event.protocol == ICMP and (event.icmp or event.hook not in (abi.Hook.CONNECT, abi.Hook.SENDMSG)):
        return f"{name} {event.icmp % 256}"
    if event.protocol == ICMPV6 and event.icmp >= 256:
        return f"{name} {event.icmp % 256}"
    return name


def _is_unknown(file: FileKey) -> bool:
    return file == FileKey(0, 0, 0, 0, 0)


def _is_kernel(file: FileKey) -> bool:
    return (file.inode, file.device, file.generation) == (0, 0, 1)


def _is_unknown_script(file: FileKey) -> bool:
    """A script known by neither file nor path: its inode is only a number for the log."""
    return file.device == 0 and file.generation in (abi.SCRIPT_AT_HOME, abi.SCRIPT_ELSEWHERE)


def _application(event: RawEvent, path_of: Callable[[FileKey, int], str | None]) -> str:
    file = event.application
    if _is_unknown(file):
        return UNKNOWN
    if _is_kernel(file):
        return KERNEL
    known = path_of(file, event.pid or 0)
    if _is_unknown_script(file):
        return known or UNKNOWN
    return known or f"inode {file.inode} on {file.device >> 20}:{file.device & 0xFFFFF}"


def _user(event: RawEvent, user_of: Callable[[int], str | None]) -> str | None:
    if event.pid is None and (_is_unknown(event.application) or _is_kernel(event.application)):
        return None  # uid 0 only because nobody filled it in
    return user_of(event.uid) or str(event.uid)
