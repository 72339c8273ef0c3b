"""Identical consecutive records are one record with a count."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from kpf_ebpf.events.collapse import Collapser
from tests.unit.events.factories import RECORD, a_record


def test_identical_records_become_one_with_a_count() -> None:
    """The first one's date, pid and local port stand for all."""
    collapser = Collapser()
    later = datetime(2027, 1, 1, tzinfo=UTC)
    assert collapser.push(RECORD, 0.0) == []
    assert collapser.push(a_record(date=later, pid=5, local="192.0.2.1:40001", line=9), 0.5) == []
    assert collapser.push(a_record(count=3), 0.6) == []
    assert collapser.flush(1.0) == [a_record(count=5)]
    assert collapser.flush(2.0) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"rule": "other"},
        {"id": "other"},
        {"origin": "other"},
        {"application": "/bin/other"},
        {"user": "bob"},
        {"user": None},
        {"direction": "in"},
        {"local": "192.0.2.2:40000"},
        {"local": "-:40000"},
        {"remote": "198.51.100.7:80"},
        {"protocol": "udp"},
        {"action": "deny"},
        {"hook": "egress"},
        {"alert": True},
    ],
)
def test_a_different_record_finishes_the_one_before(changes: dict[str, Any]) -> None:
    """Every other field tells records apart."""
    collapser = Collapser()
    collapser.push(RECORD, 0.0)
    assert collapser.push(a_record(**changes), 0.1) == [RECORD]
    assert collapser.drain() == [a_record(**changes)]


def test_coming_in_the_local_port_tells_records_apart() -> None:
    """There it is the service that was asked for."""
    collapser = Collapser()
    collapser.push(a_record(direction="in", local="192.0.2.1:22"), 0.0)
    assert len(collapser.push(a_record(direction="in", local="192.0.2.1:23"), 0.0)) == 1


def test_the_local_port_of_ipv6_is_left_out_going_out() -> None:
    """Brackets and all; the address counts."""
    collapser = Collapser()
    collapser.push(a_record(local="[2001:db8::1]:5"), 0.0)
    assert collapser.push(a_record(local="[2001:db8::1]:6"), 0.0) == []
    assert collapser.push(a_record(local="2001:db8::1"), 0.0) == []
    assert len(collapser.push(a_record(local="[2001:db8::2]:6"), 0.0)) == 1


def test_only_consecutive_records_are_joined() -> None:
    """A, B, A are three lines."""
    collapser = Collapser()
    other = a_record(protocol="udp")
    collapser.push(RECORD, 0.0)
    assert collapser.push(other, 0.0) == [RECORD]
    assert collapser.push(RECORD, 0.0) == [other]
    assert collapser.drain() == [RECORD]


def test_a_flood_gives_a_record_each_hold_time() -> None:
    """The hold time runs from the first record, so nothing is held for longer."""
    collapser = Collapser(hold=1.0)
    finished = [record for step in range(35) for record in collapser.push(RECORD, step / 10)]
    assert [record.count for record in finished] == [10, 10, 10]
    assert [record.count for record in collapser.drain()] == [5]


def test_the_due_time_is_that_of_the_held_record() -> None:
    """The reader of events need not wake up without a reason."""
    collapser = Collapser(hold=1.0)
    assert collapser.due is None
    collapser.push(RECORD, 5.0)
    assert collapser.due == 6.0
    assert collapser.flush(5.9) == []
    assert collapser.flush(6.0) == [RECORD]
    assert collapser.due is None
