"""Events are decoded with every value checked, and points are written as people write them."""

from __future__ import annotations

import ctypes
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kpf_ebpf.events.decode import SIZE, decode, point_text
from kpf_ebpf.facts.model import FileKey
from kpf_ebpf.kernel import abi
from kpf_ebpf.policy.addresses import address
from tests.unit.events.factories import an_event


def place(text: str) -> int:
    """Give an address's place in the 128-bit space."""
    value = address(text)
    assert value is not None
    return value


def test_an_event_comes_back_as_it_was_filled_in() -> None:
    """Addresses, ports, file, pid, hook and action are those of the kernel."""
    event = decode(bytes(an_event()))
    assert event.application == FileKey(77, 8 << 20 | 1, 3, 1000, 5)
    assert (event.local, event.local_port) == (place("192.0.2.1"), 40000)
    assert (event.remote, event.remote_port) == (place("198.51.100.7"), 443)
    assert (event.uid, event.pid, event.counter, event.ifindex) == (1000, 4711, 9, 2)
    assert (event.direction, event.action, event.hook) == (abi.Direction.OUT, abi.Action.PERMIT, abi.Hook.EGRESS)
    assert event.log
    assert not event.alert


def test_what_a_hook_did_not_know_is_none() -> None:
    """Unknown local point, ports, adapter and pid are not zeros."""
    event = decode(bytes(an_event(known=0, pid=0)))
    assert (event.local, event.local_port, event.remote_port, event.ifindex, event.pid) == (None,) * 5


def test_a_local_port_needs_ports_at_all() -> None:
    """A protocol without ports has no local port, even if the flag says it is known."""
    assert decode(bytes(an_event(known=abi.KNOWS_ALL))).local_port is None


def test_the_perf_buffers_padding_is_accepted() -> None:
    """The buffer rounds a u32 and the event up to 8 bytes."""
    assert decode(bytes(an_event()) + bytes(4)) == decode(bytes(an_event()))
    assert ctypes.sizeof(abi.Event) == SIZE


@pytest.mark.parametrize("size", [0, 1, SIZE - 1, SIZE + 1, SIZE + 8, 10 * SIZE])
def test_another_size_is_refused(size: int) -> None:
    """Neither less nor more than an event is one."""
    with pytest.raises(ValueError, match="bytes instead of"):
        decode(bytes(size))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("action", 2),
        ("hook", 0),
        ("hook", 7),
        ("direction", 2),
        ("component", 5),
        ("flags", 16),
        ("known", 16),
        ("icmp", 768),
    ],
)
def test_impossible_values_are_refused(field: str, value: Any) -> None:
    """A value outside its enum is a ValueError."""
    with pytest.raises(ValueError, match=r"impossible|is not a valid"):
        decode(bytes(an_event(**dict[str, Any]({field: value}))))


@given(st.binary(min_size=SIZE, max_size=SIZE))
def test_any_bytes_are_an_event_or_a_value_error(raw: bytes) -> None:
    """Nothing else is raised."""
    try:
        event = decode(raw)
    except ValueError:
        return
    assert point_text(event.remote, event.remote_port)


@pytest.mark.parametrize(
    ("host", "port", "text"),
    [
        ("192.0.2.1", 80, "192.0.2.1:80"),
        ("::ffff:192.0.2.1", 80, "192.0.2.1:80"),
        ("192.0.2.1", None, "192.0.2.1"),
        ("192.0.2.1", 0, "192.0.2.1"),
        ("2001:db8::1", 80, "[2001:db8::1]:80"),
        ("2001:db8::1", None, "2001:db8::1"),
        ("::", 80, "[::]:80"),
        (None, 80, "-:80"),
        (None, None, "-"),
        (None, 0, "-"),
    ],
)
def test_a_point_is_written_with_what_is_known(host: str | None, port: int | None, text: str) -> None:
    """IPv6 has brackets where a port follows; what is not known is a dash or left out."""
    assert point_text(None if host is None else place(host), port) == text
