"""What a service manager is told, over a socket that stands in for it."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from kpf_ebpf.engine import service


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """The manager's end."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as made:
        made.bind(str(tmp_path / "notify"))
        made.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield made


def test_fields_are_told_a_line_each(manager: socket.socket) -> None:
    """sd_notify(3): NAME=value, a line each, in one datagram."""
    service.notify(READY=1, MAINPID=77)
    assert manager.recv(100) == b"READY=1\nMAINPID=77"


def test_signs_of_life_are_given_four_times_in_the_period(manager: socket.socket) -> None:
    """WATCHDOG_USEC is when a service counts as stuck; a sign is given in each quarter of it, not more often."""
    watchdog = service.Watchdog({"WATCHDOG_USEC": "8000000"})
    for now in (100.0, 101.0, 101.9, 102.0, 103.9):
        watchdog.look(now)
    assert [manager.recv(100) for _ in range(2)] == [b"WATCHDOG=1"] * 2
    with pytest.raises(BlockingIOError):
        manager.recv(100)


@pytest.mark.parametrize("word", ["", "0", "-1", "soon", "²"])
def test_without_a_watchdog_there_are_no_signs(manager: socket.socket, word: str) -> None:
    """No number of microseconds: nothing is told."""
    service.Watchdog({"WATCHDOG_USEC": word}).look(1e9)
    with pytest.raises(BlockingIOError):
        manager.recv(100)


@pytest.mark.parametrize("address", ["", "/nowhere/at/all", "relative", "@nobody"])
def test_a_manager_that_is_not_there_changes_nothing(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    """Nobody listens, or there is no manager: that is nobody's error."""
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    service.notify(READY=1)


def test_an_abstract_address_is_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    """An @ in front stands for the byte 0."""
    name = f"kpf-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as made:
        made.bind("\0" + name)
        monkeypatch.setenv("NOTIFY_SOCKET", "@" + name)
        service.notify(READY=1)
        assert made.recv(100) == b"READY=1"


def test_the_engine_gets_what_it_needs_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its environment is made anew; of the manager's words it has these, where they are."""
    monkeypatch.setenv("NOTIFY_SOCKET", "/x")
    monkeypatch.delenv("WATCHDOG_USEC", raising=False)
    assert service.is_managed() and service.environment() == {"NOTIFY_SOCKET": "/x"}
    monkeypatch.delenv("NOTIFY_SOCKET")
    assert not service.is_managed() and service.environment() == {}
