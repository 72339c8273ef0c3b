"""A reader of packets of its own, written from the RFCs: what the kernel programs' reading is compared with.

Lengths that a packet claims for itself (total length, payload length, UDP length) are not looked at: before a socket
gets a packet, the kernel has. What a reader can know is what stands in the bytes.
"""

from __future__ import annotations

from dataclasses import dataclass

from kpf_ebpf.policy.model import V4_BASE

ICMP, TCP, UDP, ICMPV6, SCTP, UDPLITE = 1, 6, 17, 58, 132, 136
WITH_PORTS = frozenset({TCP, UDP, SCTP, UDPLITE})
HOP_BY_HOP, ROUTING, FRAGMENT, AUTHENTICATION, DESTINATION, MOBILITY = 0, 43, 44, 51, 60, 135
EXTENSIONS = frozenset({HOP_BY_HOP, ROUTING, FRAGMENT, AUTHENTICATION, DESTINATION, MOBILITY})
"""IPv6 extension headers (RFC 8200, section 4; RFC 4302; RFC 6275)."""
MAX_EXTENSIONS = 8
"""The documented number of extension headers that are followed; behind so many, ports count as unreadable."""
ECHO_REQUEST, ECHO_REPLY = {ICMP: 8, ICMPV6: 128}, {ICMP: 0, ICMPV6: 129}
ERRORS = {ICMP: frozenset({3, 4, 11, 12}), ICMPV6: frozenset({1, 2, 3, 4})}
"""ICMP messages about another packet (RFC 792; RFC 4443, section 2.1)."""
SYN, RST, ACK = 2, 4, 16


@dataclass(frozen=True, slots=True)
class Seen:
    """What a packet says. ``begins``: it is there from its transport header's first byte on, if there is one at all.

    ``ports`` are source and destination; ``icmp`` is the type; each None where it cannot be read. A hop limit is
    IPv6's; ICMPv6 in IPv4 is nonsense, and has none.
    """

    source: int
    destination: int
    protocol: int
    begins: bool
    hop_limit: int
    ports: tuple[int, int] | None = None
    icmp: int | None = None
    tcp_flags: int = 0

    @property
    def coded_icmp(self) -> int:
        """The ICMP type as the ABI codes it: ICMPv6 from 256, with a hop limit other than 255 from 512; else 0."""
        if self.icmp is None:
            return 0
        return self.icmp if self.protocol == ICMP else self.icmp + (256 if self.hop_limit == 255 else 512)

    @property
    def is_error(self) -> bool:
        """Whether it is an ICMP error about another packet."""
        return self.icmp is not None and self.icmp in ERRORS[self.protocol]

    @property
    def is_echo_reply(self) -> bool:
        """Whether it is an answer to a ping. A type that cannot be read counts as 0, which is ICMP's."""
        return self.protocol in ECHO_REPLY and (self.icmp or 0) == ECHO_REPLY[self.protocol]


def read(packet: bytes) -> Seen | None:
    """Read a packet from its IP header on; None: not IP, shorter than the header, or too many headers behind it."""
    if packet[:1] and packet[0] >> 4 == 4 and len(packet) >= 20:
        return _read_ipv4(packet)
    if packet[:1] and packet[0] >> 4 == 6 and len(packet) >= 40:
        return _read_ipv6(packet)
    return None


def _read_ipv4(packet: bytes) -> Seen:
    """RFC 791, section 3.1. A header of less than 20 bytes is nonsense: nothing lies behind it."""
    length = (packet[0] & 15) * 4
    offset = int.from_bytes(packet[6:8], "big") & 0x1FFF
    body = packet[length:] if length >= 20 and not offset else None
    source, destination = (V4_BASE + int.from_bytes(packet[at : at + 4], "big") for at in (12, 16))
    return _seen(source, destination, packet[9], 0, body)


def _read_ipv6(packet: bytes) -> Seen | None:
    """RFC 8200, sections 3 and 4."""
    followed = _follow(packet, packet[6], 40)
    if followed is None:
        return None
    protocol, body = followed
    source, destination = (int.from_bytes(packet[at : at + 16], "big") for at in (8, 24))
    return _seen(source, destination, protocol, packet[7], body)


def _follow(packet: bytes, header: int, at: int) -> tuple[int, bytes | None] | None:
    """Go from extension header to extension header; the last header's number, and what it begins, if that is there.

    None: there are more than anybody has a use for.
    """
    for _ in range(MAX_EXTENSIONS):
        if header not in EXTENSIONS:
            return header, packet[at:]
        if len(packet) < at + 8:
            return header, None
        following, size = packet[at], packet[at + 1]
        if header == FRAGMENT and int.from_bytes(packet[at + 2 : at + 4], "big") >> 3:
            return following, None
        at += {FRAGMENT: 8, AUTHENTICATION: (size + 2) * 4}.get(header, (size + 1) * 8)
        header = following
    return None


def _seen(source: int, destination: int, protocol: int, hop_limit: int, body: bytes | None) -> Seen:
    begins, body = body is not None, body or b""
    ports = icmp = None
    flags = 0
    if protocol in WITH_PORTS and len(body) >= 4:
        ports = int.from_bytes(body[:2], "big"), int.from_bytes(body[2:4], "big")
        flags = body[13] if protocol == TCP and len(body) >= 14 else 0
    if protocol in (ICMP, ICMPV6) and len(body) >= 8:
        icmp = body[0]
    return Seen(source, destination, protocol, begins, hop_limit, ports, icmp, flags)
