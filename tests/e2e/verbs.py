"""The rarer ways to send, for sender.py: raw sockets, fast open, several at once, MPTCP, sockets that change hands."""

from __future__ import annotations

import argparse
import ctypes
import os
import socket
import struct
import sys
from typing import Any

UDP, RAW, MPTCP = 17, 255, 262
MSG_FASTOPEN = 0x20000000


def family(address: str) -> int:
    """Return the address's family."""
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def datagram(options: argparse.Namespace) -> bytes:
    """Return a UDP datagram with its header; its checksum is left out, which IPv4 permits."""
    text = (options.text or "raw").encode()
    return struct.pack("!HHHH", options.local_port or 40000, options.port, 8 + len(text), 0) + text


def raw_udp(options: argparse.Namespace) -> Any:
    """Send a UDP datagram by a raw socket; over IPv6 the kernel fills in the checksum."""
    with socket.socket(family(options.address), socket.SOCK_RAW, UDP) as sender:
        if ":" in options.address:
            sender.setsockopt(socket.IPPROTO_IPV6, 7, struct.pack("i", 6))  # IPV6_CHECKSUM: its offset
        sender.sendto(datagram(options), (options.address, 0))
    return {}


def raw_ip(options: argparse.Namespace) -> Any:
    """Send a UDP datagram with an IPv4 header of one's own making."""
    payload = datagram(options)
    source, target = socket.inet_aton(options.local_address), socket.inet_aton(options.address)
    header = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(payload), 1, 0, 64, UDP, 0, source, target)
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, RAW) as sender:
        sender.sendto(header + payload, (options.address, 0))
    return {}


def fast_open(options: argparse.Namespace) -> Any:
    """Connect by sendto(MSG_FASTOPEN), and expect the text back."""
    with socket.socket(family(options.address)) as connection:
        wait = struct.pack("ll", int(options.deadline), 0)  # a socket that does not block answers EINPROGRESS
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, wait)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, wait)
        connection.sendto(options.text.encode(), MSG_FASTOPEN, (options.address, options.port))
        return {"echo": connection.recv(65535).decode()}


class _Vector(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


class _Header(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_void_p), ("name_length", ctypes.c_uint32), ("vectors", ctypes.POINTER(_Vector)),
        ("vector_count", ctypes.c_size_t), ("control", ctypes.c_void_p), ("control_length", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    )  # fmt: skip


class _Message(ctypes.Structure):
    _fields_ = (("header", _Header), ("sent", ctypes.c_uint32))


def send_many(options: argparse.Namespace) -> Any:
    """Send two datagrams with one sendmmsg(); how many left."""
    libc = ctypes.CDLL(None, use_errno=True)
    text = ctypes.create_string_buffer(options.text.encode(), len(options.text))
    target = struct.pack("=H", socket.AF_INET) + struct.pack("!H4s8x", options.port, socket.inet_aton(options.address))
    name = ctypes.create_string_buffer(target, len(target))
    vector = _Vector(ctypes.addressof(text), len(options.text))
    messages = (_Message * 2)(
        *(_Message(_Header(ctypes.addressof(name), len(target), ctypes.pointer(vector), 1)) for _ in range(2))
    )
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        count = libc.sendmmsg(sender.fileno(), messages, 2, 0)
    if count < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return {"sent": count}


def mptcp(options: argparse.Namespace) -> Any:
    """Connect by multipath TCP, and expect the text back."""
    with socket.socket(family(options.address), socket.SOCK_STREAM, MPTCP) as connection:
        connection.settimeout(options.deadline)
        connection.connect((options.address, options.port))
        connection.send(options.text.encode())
        return {"echo": connection.recv(65535).decode()}


def hand_over(options: argparse.Namespace) -> None:
    """Become another program (--heir) that finishes what this one began: ``connected`` or ``created`` only."""
    connection = socket.socket(family(options.address))
    connection.settimeout(options.deadline)
    if options.begun == "connected":
        connection.connect((options.address, options.port))
    os.set_inheritable(connection.fileno(), True)
    words = [options.heir, "-I", sys.argv[0], "finish", options.address, str(options.port)]
    words += ["--text", options.text, "--begun", options.begun, "--descriptor", str(connection.fileno())]
    os.execv(options.heir, words)


def finish(options: argparse.Namespace) -> Any:
    """Finish what another program began on a socket."""
    with socket.socket(fileno=options.descriptor) as connection:
        connection.settimeout(options.deadline)
        if options.begun != "connected":
            connection.connect((options.address, options.port))
        connection.send(options.text.encode())
        return {"echo": connection.recv(65535).decode()}


def frame(options: argparse.Namespace) -> Any:
    """Send a UDP datagram as a frame of a packet socket, to the Ethernet broadcast address."""
    payload = datagram(options)
    source, target = socket.inet_aton(options.local_address), socket.inet_aton(options.address)
    header = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(payload), 1, 0, 64, UDP, 0, source, target)
    total = sum(struct.unpack("!10H", header))
    total = (total & 0xFFFF) + (total >> 16)
    header = header[:10] + struct.pack("!H", ~(total + (total >> 16)) & 0xFFFF) + header[12:]
    with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0800)) as sender:
        sender.sendto(header + payload, ("v0", 0x0800, 0, 0, b"\xff" * 6))
    return {}


def bypass(options: argparse.Namespace) -> Any:
    """Ask for a packet socket that skips the queueing discipline; 263, 20 are SOL_PACKET, PACKET_QDISC_BYPASS."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0) as sender:
        sender.setsockopt(263, 20, 1)
    return {}


def big_option(options: argparse.Namespace) -> Any:
    """Set an option of more than a page: 0 is an IPv4 option list, too long for any, so EINVAL is the kernel's own."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.setsockopt(socket.IPPROTO_IP, socket.IP_OPTIONS, bytes(8192))
    return {}
