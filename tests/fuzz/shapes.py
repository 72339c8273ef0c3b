"""Makers of packets: valid ones of every kind, odd ones that are still valid, and broken ones."""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass
from random import Random

from tests.fuzz.mutate import mutated
from tests.fuzz.packets import (
    AUTHENTICATION,
    DESTINATION,
    EXTENSIONS,
    FRAGMENT,
    ICMP,
    ICMPV6,
    SCTP,
    TCP,
    UDP,
    UDPLITE,
)

LONGEST = 1400
"""Bytes of a packet at most: no adapter splits it, no page is too small for it."""
PROTOCOLS = (TCP, TCP, UDP, UDP, UDP, ICMP, ICMPV6, SCTP, UDPLITE)
OTHERS = (0, 2, 4, 41, 43, 44, 47, 50, 51, 59, 60, 103, 135, 139, 140, 253, 255)


@dataclass(frozen=True, slots=True)
class Places:
    """What packets are made of: addresses of each family, and ports; chosen as they come."""

    ipv4: tuple[str, ...]
    ipv6: tuple[str, ...]
    ports: tuple[int, ...]
    most_extensions: int = 12


def checksum(data: bytes) -> int:
    """Sum up as the Internet does (RFC 1071)."""
    total = sum(struct.unpack(f"!{(len(data) + 1) // 2}H", data + bytes(len(data) % 2)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _port(chance: Random, places: Places) -> int:
    return (
        chance.choice(places.ports) if chance.random() < 0.8 else chance.choice((0, 1, 65535, chance.randrange(65536)))
    )


def _transport(chance: Random, places: Places, protocol: int) -> bytes:
    """A transport header with some payload; checksums are filled in where they are known without addresses."""
    ports = struct.pack("!HH", _port(chance, places), _port(chance, places))
    payload = chance.randbytes(chance.choice((0, 0, 1, 8, 100)))
    if protocol == TCP:
        flags = chance.choice((2, 2, 16, 18, 4, 20, 1, 0, 255, 0x29))
        return ports + struct.pack("!IIBBHHH", chance.getrandbits(32), 0, 5 << 4, flags, 1024, 0, 0) + payload
    if protocol in (UDP, UDPLITE):
        return ports + struct.pack("!HH", 8 + len(payload), 0) + payload
    if protocol == SCTP:
        return ports + chance.randbytes(8) + struct.pack("!BBH", 1, 0, 20) + chance.randbytes(16) + payload
    if protocol in (ICMP, ICMPV6):
        kinds = (
            (0, 3, 4, 5, 8, 11, 12, 13) if protocol == ICMP else (1, 2, 3, 4, 128, 129, 130, 133, 134, 135, 136, 143)
        )
        kind = chance.choice(kinds) if chance.random() < 0.9 else chance.randrange(256)
        message = struct.pack("!BBHHH", kind, 0, 0, chance.randrange(65536), 1) + payload
        if chance.random() < 0.3:
            message = message[:8] + an_ip_packet(chance, places, _transport(chance, places, UDP)[:8], UDP)
        return message[:2] + struct.pack("!H", checksum(message)) + message[4:] if protocol == ICMP else message
    return chance.randbytes(chance.choice((0, 1, 4, 8, 60)))


CHECKSUM_AT = {TCP: 16, UDP: 6, UDPLITE: 6, ICMPV6: 2}
"""Where a checksum is that covers the addresses, too (RFC 9293, RFC 768, RFC 8200, section 8.1)."""


def summed(body: bytes, protocol: int, source: bytes, destination: bytes) -> bytes:
    """Fill in the checksum of a transport header."""
    at = CHECKSUM_AT.get(protocol)
    if at is None or len(body) < at + 2:
        return body
    covered = source + destination + struct.pack("!II", len(body), protocol) + body[:at] + b"\0\0" + body[at + 2 :]
    return body[:at] + struct.pack("!H", checksum(covered) or 0xFFFF) + body[at + 2 :]


def _ipv4(chance: Random, places: Places, body: bytes, protocol: int) -> bytes:
    options = b""
    if chance.random() < 0.3:
        options = chance.choice(
            (b"\1" * 4, b"\1" * 40, b"\0" * 8, b"\x83\x07\x04" + b"\x7f\0\0\1" + b"\0", b"\x44\x28" + b"\5\0" * 19)
        )
    fragment = chance.choice((0, 0, 0, 0, 0, 0x4000, 0x2000, 0x2001, 1, 0x1FFF, 0x8000, 185))
    source, destination = (socket.inet_aton(chance.choice(places.ipv4)) for _ in range(2))
    body = summed(body, protocol, source, destination)
    total = 20 + len(options) + len(body)
    first = struct.pack(
        "!BBHHHBB", 64 + 5 + len(options) // 4, 0, total, chance.randrange(65536), fragment, 64, protocol
    )
    header = first + b"\0\0" + source + destination + options
    return header[:10] + struct.pack("!H", checksum(header)) + header[12:] + body


def _extension(chance: Random, kind: int, following: int) -> bytes:
    if kind == FRAGMENT:
        offset = chance.choice((0, 0, 0, 1, 8, 0xFFF8, 0x08, 0xFFF9))
        return struct.pack("!BBHI", following, 0, offset, chance.getrandbits(32))
    size = chance.choice((0, 0, 0, 1, 2))
    length = (size + 2) * 4 if kind == AUTHENTICATION else (size + 1) * 8
    options = bytes((1, length - 4)) + bytes(length - 4) if kind != AUTHENTICATION else bytes(length - 2)
    return bytes((following, size)) + options


def _ipv6(chance: Random, places: Places, body: bytes, protocol: int) -> bytes:
    count = chance.choice((0, 0, 0, *(one for one in (1, 1, 2, 3, 7, 8, 9, 12) if one <= places.most_extensions)))
    only = chance.random() < 0.4
    kinds = [DESTINATION if only else chance.choice(sorted(EXTENSIONS)) for _ in range(count)]
    chain, following = b"", protocol
    for kind in reversed(kinds):
        chain, following = _extension(chance, kind, following) + chain, kind
    source, destination = (socket.inet_pton(socket.AF_INET6, chance.choice(places.ipv6)) for _ in range(2))
    hops, body = chance.choice((255, 64, 1, 0)), summed(body, protocol, source, destination)
    return struct.pack("!IHBB", 6 << 28, len(chain) + len(body), following, hops) + source + destination + chain + body


def an_ip_packet(chance: Random, places: Places, body: bytes, protocol: int, version: int = 0) -> bytes:
    """Put a body behind an IP header, of either family, with options or extension headers."""
    make = {4: _ipv4, 6: _ipv6}.get(version) or chance.choice((_ipv4, _ipv6))
    return make(chance, places, body, protocol)


def a_packet(chance: Random, places: Places, version: int = 0, broken: float = 0.5) -> bytes:
    """Make a packet; ``broken`` is the share of those that something went over. At most LONGEST bytes."""
    if chance.random() < 0.05 * broken:
        return chance.choice((b"", bytes(60), chance.randbytes(chance.randint(0, 120))))
    protocol = chance.choice(PROTOCOLS) if chance.random() < 0.85 else chance.choice(OTHERS)
    packet = an_ip_packet(chance, places, _transport(chance, places, protocol), protocol, version)
    if chance.random() < broken:
        way = chance.random()
        if way < 0.3:
            packet = packet[: chance.randint(0, min(len(packet), 80))]
        elif way < 0.9:
            packet = mutated(packet[:100], chance) + packet[100:]
        else:
            packet = packet[:1] + chance.randbytes(chance.randint(0, 100))
    return packet[:LONGEST]
