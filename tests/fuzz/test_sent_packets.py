"""Packets of any bytes, really sent: what BPF_PROG_TEST_RUN cannot show, since it has no socket of anybody's.

Raw sockets send them over the loopback device of a namespace of the test's own, either out of the firewalled cgroup or
to sockets in it: UDP, TCP listeners, raw. The policy has one UDP port open; whatever else gets through is wrong.
"""

from __future__ import annotations

import errno
import socket
import struct

import pytest

from kpf_ebpf.kernel import abi
from kpf_ebpf.policy.model import V4_BASE
from tests.fuzz.bed import Bed, agrees
from tests.fuzz.campaign import Campaign
from tests.fuzz.network import OWN4, OWN6
from tests.fuzz.packets import DESTINATION, ICMP, MAX_EXTENSIONS, TCP, UDP, read
from tests.fuzz.shapes import Places, a_packet, summed
from tests.fuzz.sockets import drained, made_within, raw_receivers, raw_senders, receivers
from tests.fuzz.test_packets import ONE_PORT, one_port

OPEN, CLOSED = 7000, 7001
PLACES = Places(("127.0.0.1", OWN4), ("::1", OWN6), (OPEN, OPEN, CLOSED, CLOSED, 40000))
READABLE = Places(PLACES.ipv4, PLACES.ipv6, PLACES.ports, most_extensions=MAX_EXTENSIONS - 1)
ALL_BUT_ONE = f"""
[[packet-filter]]
description = "closed"
direction = "in"
protocol = "udp"
local = {{ port = {CLOSED} }}
action = "deny"
[default]
trusted-in = "permit"
trusted-out = "permit"
internet-in = "permit"
internet-out = "permit"
"""
BATCH = 100


def _datagram(extensions: int) -> bytes:
    """An IPv6 datagram for the closed port behind destination options that say nothing (RFC 8200, section 4.2)."""
    here = socket.inet_pton(socket.AF_INET6, "::1")
    body = summed(struct.pack("!HHHH", CLOSED, CLOSED, 10, 0) + b"!!", UDP, here, here)
    following = (DESTINATION if more else UDP for more in reversed(range(extensions)))
    chain = b"".join(bytes((one, 0, 1, 4, 0, 0, 0, 0)) for one in following)
    return struct.pack("!IHBB", 6 << 28, len(chain) + len(body), DESTINATION, 64) + here + here + chain + body


KNOWN: tuple[bytes, ...] = (_datagram(MAX_EXTENSIONS), _datagram(MAX_EXTENSIONS + 1))
"""Packets that reach a closed port though a rule denies it."""


def send(sender: list[socket.socket], packet: bytes, version: int) -> int:
    """Send a packet as it is by the raw socket of a version; the error, 0 for none."""
    try:
        sender[version == 6].sendto(packet, ("127.0.0.1", 0) if version == 4 else ("::1", 0))
    except OSError as problem:
        return problem.errno or -1
    return 0


def wrong_send(packet: bytes, error: int) -> str:
    """Say what is wrong with what became of a packet that a raw socket of the cgroup sent; "": nothing.

    Errors other than EPERM are the kernel's own: it did not come to the packet hook.
    """
    seen = read(packet)
    permitted = seen is not None and one_port(seen, True) != "packet-filter/everything"
    if error == 0 and not permitted:
        return f"it was sent, though it is {seen}"
    if error == errno.EPERM and permitted:
        return f"it was denied, though it is {seen}"
    return ""


def test_out_of_the_cgroup_comes_only_what_is_permitted(bed: Bed, campaign: Campaign) -> None:
    """A raw socket's packet is sent if it is UDP to the open port, and else refused with EPERM; read as it is."""
    bed.apply(ONE_PORT)
    with made_within(bed.kernel, raw_senders) as senders:
        before, sent = bed.forget(), {}
        for number in campaign.numbers(share=0.25):
            chance = campaign.chance(number)
            version = chance.choice((4, 6))
            packet = a_packet(chance, PLACES, version)
            word = bed.next_word()
            error = send(senders, packet, version)
            problem = wrong_send(packet, error)
            assert not problem, f"{campaign.again(number)}: {problem}\npacket {packet.hex()}"
            if packet and packet[0] >> 4 == version:  # else the kernel writes its fields into another header
                sent[word] = packet
            if number % BATCH == 0:
                _compare(bed, before, sent)
                before, sent = bed.forget(), {}


def _compare(bed: Bed, before: dict[abi.Default, int], sent: dict[int, bytes]) -> None:
    """What the events tell of the packets is what stands in them; only a missing source the kernel fills in."""
    for event in bed.collect(before):
        if event.active not in sent:
            continue
        seen = read(sent[event.active])
        assert seen is not None, f"no packet, but an event: {sent[event.active].hex()}"
        if seen.source not in (0, V4_BASE):
            problem = agrees(event, seen, out=True)
            assert not problem, f"{problem}\npacket {sent[event.active].hex()}"


def test_into_the_cgroup_comes_only_what_is_permitted(bed: Bed, campaign: Campaign) -> None:
    """Sockets in the cgroup receive nothing but UDP to the open port: no other socket, and no raw socket more."""
    bed.apply(ONE_PORT)
    senders, arrived = raw_senders(), 0
    with (
        made_within(bed.kernel, lambda: receivers((OPEN, CLOSED))) as sockets,
        made_within(bed.kernel, lambda: raw_receivers((UDP, TCP, ICMP))) as raw,
    ):
        opened = [one for one in sockets if one.getsockname()[1] == OPEN and one.type & 0xF == socket.SOCK_DGRAM]
        for number in campaign.numbers(share=0.25):
            chance = campaign.chance(number)
            version = chance.choice((4, 6))
            packet = a_packet(chance, PLACES, version, broken=0.3)
            bed.next_word()
            send(senders, packet, version)
            told = f"{campaign.again(number)}\npacket {packet.hex()}"
            for one in sockets:
                received = drained(one)
                arrived += len(received)
                assert one in opened or not received, f"{one.getsockname()} received {received}: {told}"
            for one in raw:
                for found in drained(one):
                    seen = read(found)
                    assert seen and seen.protocol == UDP and seen.ports, f"a raw socket received {found.hex()}: {told}"
                    assert seen.ports[1] == OPEN, f"a raw socket received {found.hex()}: {told}"
    for one in senders:
        one.close()
    assert arrived or campaign.first, "nothing arrived at the open port: this proves little"


def is_at_closed_port(bed: Bed, packet: bytes, senders: list[socket.socket], sockets: list[socket.socket]) -> bool:
    """Send a packet, and tell whether a datagram came to the closed port."""
    bed.next_word()
    send(senders, packet, packet[0] >> 4 if packet and packet[0] >> 4 in (4, 6) else 4)
    found = [one for one in sockets if drained(one) and one.getsockname()[1] == CLOSED]
    return any(one.type & 0xF == socket.SOCK_DGRAM for one in found)


def test_no_shape_of_a_packet_gets_around_a_denial(bed: Bed, campaign: Campaign) -> None:
    """Where all but one port is open, no options, fragments or extension headers carry a datagram there."""
    bed.apply(ALL_BUT_ONE)
    senders = raw_senders()
    with made_within(bed.kernel, lambda: receivers((CLOSED,))) as sockets:
        for number in campaign.numbers(share=0.25):
            packet = a_packet(campaign.chance(number), READABLE, broken=0.3)
            arrived = is_at_closed_port(bed, packet, senders, sockets)
            assert not arrived, f"{campaign.again(number)}\npacket {packet.hex()}"
    for one in senders:
        one.close()


@pytest.mark.parametrize("packet", KNOWN, ids=range(len(KNOWN)))
def test_what_once_got_around_a_denial_does_not(bed: Bed, packet: bytes) -> None:
    """Each packet that once reached a denied port is denied; the same from outside, as anybody could send it."""
    bed.apply(ALL_BUT_ONE)
    senders = raw_senders()
    with made_within(bed.kernel, lambda: receivers((CLOSED,))) as sockets:
        assert not is_at_closed_port(bed, packet, senders, sockets), f"{packet.hex()} reached the closed port"
    for one in senders:
        one.close()
