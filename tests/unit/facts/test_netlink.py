"""The kernel's lists of adapters, addresses and filters, as this machine's lo shows them."""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterator

import pytest

from kpf_ebpf.facts import netlink

INGRESS = 0xFFFFFFF2


def a_message(kind: int, body: bytes, flags: int = 0) -> bytes:
    """Make a netlink message."""
    return struct.pack("=IHHII", 16 + len(body), kind, flags, 1, 0) + body + bytes(-len(body) % 4)


class Kernel:
    """A netlink socket that is told these datagrams, each from (sender)."""

    def __init__(self, datagrams: list[tuple[bytes, int]]) -> None:
        self.datagrams = iter(datagrams)

    def __enter__(self) -> Kernel:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def bind(self, _: object) -> None:
        """Does nothing."""

    def sendto(self, *_: object) -> None:
        """Does nothing."""

    def recvfrom(self, _: int) -> tuple[bytes, tuple[int, int]]:
        """Give the next datagram."""
        data, sender = next(self.datagrams)
        return data, (sender, 0)


def answers(monkeypatch: pytest.MonkeyPatch, *each: list[tuple[bytes, int]]) -> None:
    """Have the kernel answer the first question so, the next one so."""
    sockets: Iterator[Kernel] = iter([Kernel(datagrams) for datagrams in each])
    monkeypatch.setattr(netlink.socket, "socket", lambda *_: next(sockets))


DONE = a_message(3, bytes(4))
A_LINK = struct.pack("=BxHiII", 0, 0, 7, 0, 0) + struct.pack("=HH5sxxx", 9, 3, b"eth7\0")


def test_the_loopback_device_is_listed() -> None:
    """It is there in each network namespace, and has index 1."""
    assert {"index": 1, "attrs": [("IFLA_IFNAME", "lo")]} in netlink.links()


def test_addresses_come_with_their_prefix_in_words() -> None:
    """Every address names its adapter and is one that inet_pton reads."""
    for found in netlink.addresses():
        assert found["index"] in {link["index"] for link in netlink.links()}
        for _, text in found["attrs"]:
            socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text)
            assert 0 <= found["prefixlen"] <= (128 if ":" in text else 32)


def test_an_adapter_without_filters_has_no_preferences() -> None:
    """Also where it has nothing that filters could be attached to."""
    assert netlink.preferences(1, INGRESS) == set()


def test_an_answer_of_several_messages_and_datagrams_is_read_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """What stands after the end is another answer's, and what another process sends nobody's."""
    link = a_message(16, A_LINK)
    answers(monkeypatch, [(link + link, 0), (link, 4711), (link, 0), (DONE, 0), (link, 0)])
    assert netlink.links() == [{"index": 7, "attrs": [("IFLA_IFNAME", "eth7")]}] * 3


def test_a_list_that_changed_meanwhile_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel marks it."""
    changed = a_message(16, A_LINK, flags=0x10)
    answers(monkeypatch, [(changed, 0)], [(a_message(16, A_LINK), 0), (DONE, 0)])
    assert len(netlink.links()) == 1


def test_a_list_that_always_changes_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not waited for for ever."""
    answers(monkeypatch, *([(a_message(16, A_LINK, flags=0x10), 0)] for _ in range(netlink.TRIES)))
    with pytest.raises(OSError) as told:
        netlink.links()
    assert told.value.errno == errno.EAGAIN


def test_a_refusal_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the kernel's own reason."""
    answers(monkeypatch, [(a_message(2, struct.pack("=i", -errno.EPERM)), 0)])
    with pytest.raises(PermissionError):
        netlink.links()
