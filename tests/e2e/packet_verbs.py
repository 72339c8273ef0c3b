"""Packets of odd shapes and datagrams to groups, for more_verbs.py."""

from __future__ import annotations

import argparse
import socket
import struct
from typing import Any

from sender import attempt, exchange, tell
from verbs import UDP, datagram, family

Options = argparse.Namespace
IP_OPTIONS, IPV6_HOPOPTS, IPV6_DSTOPTS, IPV6_HDRINCL = 4, 54, 59, 36
PADDING = bytes((1, 4, 0, 0, 0, 0))
"""An IPv6 option that says nothing (RFC 8200: PadN), as long as a header without its first two bytes."""


def fresh(options: Options, bind: bool = False) -> socket.socket:
    """Return a socket of the kind that --datagram says; ``bind``: it serves at the address and port."""
    made = socket.socket(family(options.address), socket.SOCK_DGRAM if options.datagram else socket.SOCK_STREAM)
    made.settimeout(options.deadline)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if bind:
        made.bind((options.address, options.port))
    elif options.local_address or options.local_port:
        made.bind((options.local_address, options.local_port))
    return made


def point(options: Options) -> tuple[str, int]:
    """Return the point that the command line names."""
    return options.address, options.port


# -- packets of odd shapes --------------------------------------------------------------------------------------


def with_options(options: Options) -> Any:
    """Connect and talk with IP options, or IPv6 extension headers, on every packet."""
    with fresh(options) as connection:
        if ":" in options.address:
            for option in (IPV6_HOPOPTS, IPV6_DSTOPTS):
                connection.setsockopt(socket.IPPROTO_IPV6, option, bytes(2) + PADDING)
        else:
            connection.setsockopt(socket.IPPROTO_IP, IP_OPTIONS, bytes((1,)) * 8)  # eight times "no operation"
        connection.connect(point(options))
        return exchange(connection, options.text)


def extended(options: Options) -> None:
    """Send a UDP datagram behind --count IPv6 destination option headers, by a raw socket."""
    payload = datagram(options)
    chain = b"".join(bytes((60 if more else UDP, 0)) + PADDING for more in reversed(range(options.count)))
    source, target = (socket.inet_pton(socket.AF_INET6, one) for one in (options.local_address, options.address))
    header = struct.pack("!IHBB", 6 << 28, len(chain) + len(payload), 60 if chain else UDP, 64) + source + target
    with socket.socket(socket.AF_INET6, socket.SOCK_RAW, 255) as sender:
        sender.setsockopt(socket.IPPROTO_IPV6, IPV6_HDRINCL, 1)
        sender.sendto(header + chain + payload, (options.address, 0))


def fragment(options: Options) -> None:
    """Send a piece of a UDP datagram with its port, made by hand: the first (--count 0), or one further on."""
    payload = datagram(options).ljust(64, b"x")
    source, target = socket.inet_aton(options.local_address), socket.inet_aton(options.address)
    place = 0x2000 | options.count
    header = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(payload), 7, place, 64, UDP, 0, source, target)
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, 255) as sender:
        sender.sendto(header + payload, (options.address, 0))


def raw_timestamp(options: Options) -> None:
    """Send an ICMP timestamp request by a raw socket."""
    body = struct.pack("!BBHHHIII", 13, 0, 0xF2FD, 0, 1, 0, 0, 0)
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as sender:
        sender.sendto(body, (options.address, 0))


# -- groups -----------------------------------------------------------------------------------------------------


def multicast_send(options: Options) -> Any:
    """Send the text to a group by the adapter v0, and wait for an answer of whoever hears it (--deadline)."""
    with fresh(options) as sender:
        adapter = socket.if_nametoindex("v0")
        if ":" in options.address:
            sender.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, adapter)
        else:
            request = struct.pack("=4s4si", bytes(4), socket.inet_aton(options.local_address), adapter)
            sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, request)
        sender.sendto(options.text.encode(), point(options))
        text, peer = sender.recvfrom(65535)
        return {"echo": text.decode(), "peer": peer[:2]}


def multicast_echo(options: Options) -> None:
    """Join a group on v0 and answer each datagram to its sender alone."""
    with socket.socket(family(options.address), socket.SOCK_DGRAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("::" if ":" in options.address else "", options.port))
        adapter, group = socket.if_nametoindex("v0"), socket.inet_pton(family(options.address), options.address)
        if ":" in options.address:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, group + struct.pack("=i", adapter))
        else:
            request = struct.pack("=4s4si", group, bytes(4), adapter)
            listener.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, request)
        tell(True, {"event": "ready"})
        while True:
            text, peer = listener.recvfrom(65535)
            tell(True, {"event": "received", "text": text.decode(), "peer": peer[:2]})
            attempt(lambda text=text, peer=peer: listener.sendto(text, peer))  # type: ignore[misc]
