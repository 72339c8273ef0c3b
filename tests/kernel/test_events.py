"""Events come at once, as long as they are few; a flood of them neither holds up whoever reads nor lets him starve."""

from __future__ import annotations

import itertools
import os
import socket
import struct
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from kpf_ebpf.kernel import abi, perf
from kpf_ebpf.kernel.adapters import set_reach
from kpf_ebpf.kernel.counters import read_defaults
from kpf_ebpf.kernel.perf import EventReader
from tests.fuzz.bed import IPV4, framed, run_packet
from tests.kernel.conftest import DENY_ALL, Kernel


@pytest.fixture
def denied(kernel: Kernel) -> Callable[[], None]:
    """Has one more flow denied and logged: a datagram to a closed port, from another port each time."""
    kernel.apply(DENY_ALL.replace("[default]", "[default]\nlog = true"))
    set_reach(kernel.programs.pins, kernel.home, kernel.cgroup, 1)
    points = socket.inet_aton("198.51.100.7") + socket.inet_aton("127.0.0.1")
    head = struct.pack(">BBHHHBBH", 0x45, 0, 28, 0, 0, 64, 17, 0) + points
    program, ports = kernel.programs.descriptors["kpf_adapter_ingress"], itertools.count(1)

    def one() -> None:
        run_packet(program, framed(head + struct.pack(">HHHH", next(ports), 9, 8, 0), IPV4))

    return one


@pytest.fixture
def on_one_processor() -> Iterator[None]:
    """Each processor has a buffer of its own, and a look may end between two of them."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    yield
    os.sched_setaffinity(0, allowed)


def counted(kernel: Kernel) -> tuple[int, int]:
    """(written, lost) events so far."""
    defaults = read_defaults(kernel.programs.pins)
    return defaults[abi.Default.EVENT_SEEN], defaults[abi.Default.EVENT_LOST]


def test_a_flood_is_fetched_now_and_then_and_then_each_event_at_once_again(
    kernel: Kernel, denied: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who finds many events at a look changes over, and back when they are few; none of them is lost by that."""
    monkeypatch.setattr(perf, "FLOOD", 200)
    taken: list[bytes] = []
    reader = EventReader(kernel.programs.pins / "events", taken.append)
    written, lost = counted(kernel)
    for many, flooded in ((10, False), (300, True), (150, True), (20, False), (1, False)):
        for _ in range(many):
            denied()
        reader.poll(100)
        assert reader.flooded is flooded, many
    reader.poll(0)
    assert counted(kernel) == (written + 481, lost)
    assert len(taken) == 481


@pytest.mark.usefixtures("on_one_processor")
def test_a_burst_at_the_end_of_a_flood_leaves_nobody_deaf(
    kernel: Kernel, denied: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """So many events come just before the buffers are changed back that the look ends at its bound: others follow."""
    monkeypatch.setattr(perf, "FLOOD", 50)
    monkeypatch.setattr(perf, "MOST_AT_A_LOOK", 100)
    taken: list[bytes] = []
    reader = EventReader(kernel.programs.pins / "events", taken.append)
    for _ in range(60):
        denied()
    reader.poll(100)
    assert reader.flooded
    use = reader._use

    def late(readers: Any) -> None:
        for _ in range(120):
            denied()
        monkeypatch.setattr(reader, "_use", use)
        use(readers)

    monkeypatch.setattr(reader, "_use", late)
    reader.poll(100)
    assert not reader.flooded
    assert len(taken) == 180
    denied()
    reader.poll(100)
    assert len(taken) == 181


@pytest.mark.usefixtures("on_one_processor")
def test_a_look_ends_though_events_come_faster_than_they_are_read(
    kernel: Kernel, denied: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each event that is read causes another: the look ends at its bound, what comes then is counted as lost."""
    monkeypatch.setattr(perf, "FLOOD", 50)
    monkeypatch.setattr(perf, "MOST_AT_A_LOOK", 100)
    taken: list[bytes] = []
    breeds = True

    def take(raw: bytes) -> None:
        taken.append(raw)
        if breeds:
            denied()

    reader = EventReader(kernel.programs.pins / "events", take)
    written, lost = counted(kernel)
    for looks in (1, 2):
        denied()
        reader.poll(100)
        assert reader.flooded
        assert len(taken) == 100 * looks
        assert counted(kernel) == (written + 100 * looks, lost + looks)
    breeds = False
    denied()
    reader.poll(100)
    assert not reader.flooded
    assert len(taken) == 201
