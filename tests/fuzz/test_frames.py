"""Frames, really sent: where everything is denied, no packet socket gets an IP packet out, and no kernel answers one.

Frames leave, or come in by, an adapter of the test's own with the filters attached, and are made and looked at on the
adapter that it is joined to, as a host there would: behind 802.1Q tags, too, since a host takes network 0 for no tag.
"""

from __future__ import annotations

import contextlib
import mmap
import socket
import struct
from collections.abc import Iterator
from random import Random

import pytest

from kpf_ebpf.kernel import adapters
from kpf_ebpf.policy.addresses import is_v4
from tests.fuzz.bed import EVERYTHING, EXPERIMENTAL, IPV4, IPV6, Bed
from tests.fuzz.campaign import Campaign
from tests.fuzz.network import OWN4, OWN6, OWN_LINK, PEER4, PEER6, PEER_LINK
from tests.fuzz.packets import ECHO_REPLY, ICMP, ICMPV6, RST, TCP, UDP, UDPLITE, read
from tests.fuzz.shapes import Places, a_packet, checksum
from tests.fuzz.sockets import drained, made_within

PLACES = Places((OWN4, PEER4), (OWN6, PEER6), (7000, 53))
MARK = b"\2kpffz"
"""The sender's Ethernet address in these frames, which tells them from the kernel's own."""
PERMITTED = '[[packet-filter]]\ndescription = "everything"\naction = "permit"\n'
SOL_PACKET, PACKET_TX_RING = 263, 13
ALL_PROTOCOLS, ARP, TAGGED, SERVICE_TAGGED = 3, b"\x08\x06", b"\x81\x00", b"\x88\xa8"


def _ipv4(source: str, destination: str, protocol: int, body: bytes) -> bytes:
    """A plain packet."""
    ends = socket.inet_aton(source) + socket.inet_aton(destination)
    header = struct.pack("!BBHIBBH", 0x45, 0, 20 + len(body), 0, 64, protocol, 0) + ends
    return header[:10] + struct.pack("!H", checksum(header)) + header[12:] + body


DATAGRAM = _ipv4(OWN4, PEER4, UDP, struct.pack("!HHHH", 7000, 7000, 8, 0))
PING = _ipv4(PEER4, OWN4, ICMP, struct.pack("!BBHI", 8, 0, 0xF7FE, 1))
OUTSIDE = b"\xff" * 6 + MARK
KNOWN: tuple[tuple[bytes, int], ...] = (
    (OUTSIDE + TAGGED + b"\0\0" + IPV4 + DATAGRAM, 0x0800),
    (OUTSIDE + IPV4 + DATAGRAM, 0x8100),
    (OUTSIDE + TAGGED + b"\0\0" + IPV4 + DATAGRAM, 0x0806),
    (OUTSIDE + (TAGGED + b"\0\0") * 9 + IPV4 + DATAGRAM, 0x8100),
)
"""Frames, and what they were said to be, that got out though everything was denied."""
INSIDE = OWN_LINK + PEER_LINK
KNOWN_INCOMING: tuple[bytes, ...] = (
    INSIDE + (TAGGED + b"\0\0") * 2 + IPV4 + PING,
    INSIDE + (TAGGED + b"\0\0") * 9 + IPV4 + PING,
)
"""Frames that the kernel answered though everything was denied."""


def carried(frame: bytes) -> bytes | None:
    """Give the IP packet that a host would find in a frame, or None: none."""
    at = 12
    while frame[at : at + 2] in (TAGGED, SERVICE_TAGGED):
        at += 4
    kind, packet = frame[at : at + 2], frame[at + 2 :]
    version, least = {IPV4: (4, 20), IPV6: (6, 40)}.get(kind, (0, 0))
    return packet if version and len(packet) >= least and packet[0] >> 4 == version else None


def _behind(chance: Random, packet: bytes, tags: int) -> bytes:
    """Give what follows the addresses in a frame: so many tags, mostly the packet's own type, the packet."""
    kind = IPV6 if packet[:1] and packet[0] >> 4 == 6 else IPV4
    if chance.random() < 0.15:
        kind = chance.choice((ARP, EXPERIMENTAL, b"\0\x04", IPV4, IPV6))
    networks = (chance.choice((0, 0, 5, 0x4005, 0x6000, 0xFFFF)).to_bytes(2, "big") for _ in range(tags))
    return b"".join(chance.choice((TAGGED, TAGGED, SERVICE_TAGGED)) + one for one in networks) + kind + packet


def a_frame(chance: Random) -> tuple[bytes, int]:
    """Make a frame, and what to say that it is, true or not."""
    packet = a_packet(chance, PLACES, broken=0.3)
    tags = chance.choice((0, 0, 1, 1, 2, 3, 6))
    claimed = chance.choice((0x8100, 0x88A8, 0, ALL_PROTOCOLS, 0x0800, 0x86DD, 0x0806, 0x88B5, 4))
    return OUTSIDE + _behind(chance, packet, tags), claimed


def an_incoming_frame(chance: Random) -> bytes:
    """Make a frame to this host from its neighbour."""
    return INSIDE + _behind(chance, a_packet(chance, PLACES, broken=0.3), chance.choice((0, 0, 1, 2, 3, 6)))


@contextlib.contextmanager
def joined(bed: Bed, policy: str = EVERYTHING) -> Iterator[tuple[socket.socket, socket.socket]]:
    """A packet socket in the cgroup on the filtered adapter, and one outside on the adapter that it is joined to."""
    pins = bed.kernel.programs.pins
    bed.apply(policy)
    adapters.set_reach(pins, bed.kernel.home, bed.kernel.cgroup, 1)
    adapters.pin(pins, bed.kernel.programs.descriptors)
    adapters.attach(pins, adapters.names_here(["v0"]).values())

    def sender() -> list[socket.socket]:
        made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        made.bind(("v0", 0))
        return [made]

    with (
        made_within(bed.kernel, sender) as (sends,),
        socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.htons(ALL_PROTOCOLS)) as sees,
    ):
        sees.bind(("v1", ALL_PROTOCOLS))
        yield sends, sees


def send(made: tuple[bytes, int], sends: socket.socket, adapter: str = "v0") -> bool:
    """Send a frame; whether the kernel took it."""
    frame, claimed = made
    try:
        sends.sendto(frame, (adapter, claimed))
    except OSError:
        return False
    return True


def got_out(sees: socket.socket) -> list[bytes]:
    """Give the frames of ours that came out at the other end, and carry an IP packet."""
    return [frame for frame in drained(sees) if frame[6:12] == MARK and carried(frame) is not None]


def test_no_frame_carries_a_packet_past_a_denial(bed: Bed, campaign: Campaign) -> None:
    """Whatever a frame's type, tags and packet are, and whatever its sender says that it is: no IP packet gets out."""
    with joined(bed) as (sends, sees):
        taken = 0
        for number in campaign.numbers(share=0.5):
            made = a_frame(campaign.chance(number))
            bed.next_word()
            taken += send(made, sends)
            out = got_out(sees)
            assert not out, (
                f"{campaign.again(number)}: {made[0].hex()}, said to be {made[1]:#x}, got out: {out[0].hex()}"
            )
    assert taken or campaign.first


def test_what_is_no_packet_goes_on(bed: Bed) -> None:
    """ARP is no flow: it gets out, which also shows that the way is open."""
    with joined(bed) as (sends, sees):
        frame = b"\xff" * 6 + MARK + ARP + bytes.fromhex("0001080006040001") + bytes(20)
        assert send((frame, 0x0806), sends)
        assert frame in drained(sees)


def is_answer(packet: bytes) -> bool:
    """Tell whether a packet is what a kernel answers to a ping or a closed port: a reset, a reply, "unreachable"."""
    seen = read(packet)
    if seen is None or seen.protocol == TCP:
        return seen is not None and bool(seen.tcp_flags & RST)
    unreachable = {ICMP: (3, packet[21:22] == b"\3"), ICMPV6: (1, packet[41:42] == b"\4")}.get(seen.protocol)
    return unreachable is not None and (unreachable == (seen.icmp, True) or seen.icmp == ECHO_REPLY[seen.protocol])


def is_covered(frame: bytes) -> bool:
    """Tell whether a frame is none that is known to be answered: UDP-Lite, and what cannot be read."""
    seen = read(carried(frame) or b"")
    return seen is None or (seen.protocol != UDPLITE and (seen.begins or is_v4(seen.destination)))


def answers(sees: socket.socket) -> list[bytes]:
    """Give what this host's kernel answered to its neighbour about pings and closed ports."""
    ours = PEER_LINK + OWN_LINK
    return [frame for frame in drained(sees) if frame[:12] == ours and is_answer(frame[14:])]


def test_no_frame_that_comes_in_is_answered(bed: Bed, campaign: Campaign) -> None:
    """Closed ports and pings: where everything is denied, this host's kernel says nothing of them.

    What else there is (an unknown protocol) is nobody's to judge as docs/limits.md has it, and may be complained of.
    """
    with joined(bed) as (_, sees):
        for number in campaign.numbers(share=0.5):
            frame = an_incoming_frame(campaign.chance(number))
            bed.next_word()
            send((frame, 0), sees, "v1")
            said = answers(sees)
            assert not said or not is_covered(frame), (
                f"{campaign.again(number)}: {frame.hex()} was answered: {said[0].hex()}"
            )


def test_a_ping_is_answered_where_it_is_permitted(bed: Bed) -> None:
    """Else silence would prove nothing."""
    with joined(bed, '[predefined]\nping-in = { internet = "permit" }\n') as (_, sees):
        assert send((OWN_LINK + PEER_LINK + IPV4 + PING, 0), sees, "v1")
        assert answers(sees)


@pytest.mark.parametrize("made", KNOWN, ids=range(len(KNOWN)))
def test_what_once_got_out_does_not(bed: Bed, made: tuple[bytes, int]) -> None:
    """Each frame that once carried a packet past a denial is dropped."""
    with joined(bed) as (sends, sees):
        send(made, sends)
        assert not got_out(sees), made


@pytest.mark.parametrize("frame", KNOWN_INCOMING, ids=range(len(KNOWN_INCOMING)))
def test_what_once_was_answered_is_not(bed: Bed, frame: bytes) -> None:
    """Each frame that the kernel once answered past a denial is dropped."""
    with joined(bed) as (_, sees):
        send((frame, 0), sees, "v1")
        assert not answers(sees), frame.hex()


def send_by_ring(frame: bytes, sends: socket.socket) -> None:
    """Send a frame from memory shared with the kernel (PACKET_TX_RING): all but its first bytes stay in pages."""
    block = mmap.PAGESIZE
    sends.setsockopt(SOL_PACKET, PACKET_TX_RING, struct.pack("@IIII", block, 1, block, 1))
    with mmap.mmap(sends.fileno(), block) as ring:
        ring[32 : 32 + len(frame)] = frame
        ring[0:32] = struct.pack("@LIIHHIIxxxx", 1, len(frame), len(frame), 0, 0, 0, 0)  # TP_STATUS_SEND_REQUEST
        with contextlib.suppress(OSError):
            sends.sendto(b"", ("v0", 0x0800))


@pytest.mark.parametrize(("policy", "passes"), [(EVERYTHING, False), (PERMITTED, True)], ids=["denied", "permitted"])
def test_frames_kept_in_pages_are_read(bed: Bed, policy: str, passes: bool) -> None:
    """How a frame lies in the kernel's memory is its sender's choice, and changes no verdict."""
    with joined(bed, policy) as (sends, sees):
        send_by_ring(OUTSIDE + IPV4 + DATAGRAM, sends)
        assert bool(got_out(sees)) is passes
