"""Records, events and their bytes for the tests of this folder."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from kpf_ebpf.events.model import LogRecord
from kpf_ebpf.kernel import abi
from kpf_ebpf.policy.addresses import address

RECORD = LogRecord(
    line=1,
    count=1,
    date=datetime(2026, 11, 24, 6, 30, 15, 250000, tzinfo=UTC),
    rule="Web browsing",
    id="packet-filter/3",
    origin="packet-filter",
    application="/usr/bin/curl",
    pid=4711,
    user="alice",
    direction="out",
    local="192.0.2.1:40000",
    remote="198.51.100.7:443",
    protocol="tcp",
    action="permit",
    hook="connect",
    alert=False,
)


def a_record(**changes: Any) -> LogRecord:
    """Make a record."""
    return replace(RECORD, **changes)


def words(text: str) -> tuple[int, ...]:
    """Make the four words of an address as they lie in memory."""
    place = address(text)
    assert place is not None
    return tuple(memoryview(place.to_bytes(16, "big")).cast("I"))


def an_event(local: str = "192.0.2.1", remote: str = "198.51.100.7", **changes: Any) -> abi.Event:
    """Make an event: fields of the event, of its flow, or "application" as (inode, device, generation, s, ns)."""
    event = abi.Event(time=5_000_000_000, active=257, counter=9, pid=4711, action=1, hook=3, flags=1)
    flow = event.flow
    flow.local[:] = words(local)
    flow.remote[:] = words(remote)
    flow.application = abi.File(*changes.pop("application", (77, 8 << 20 | 1, 3, 1000, 5)))
    flow.uid, flow.ifindex, flow.local_port, flow.remote_port, flow.protocol = 1000, 2, 40000, 443, 6
    flow.direction, flow.known = 1, abi.KNOWS_ALL | abi.HAS_PORTS
    for name, value in changes.items():
        setattr(event if hasattr(event, name) else flow, name, value)
    return event
