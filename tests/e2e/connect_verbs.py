"""Connections one after the other, by new sockets and by the same one again, for more_verbs.py."""

from __future__ import annotations

import ctypes
import errno
import socket
from typing import Any

from packet_verbs import Options, fresh, point
from sender import exchange, tell

NOWHERE = {socket.AF_INET: "203.0.113.9", socket.AF_INET6: "2001:db8:ffff::9"}
"""Addresses of documentation (RFC 5737, RFC 3849), to which no namespace of the tests has a route."""


def connect_often(options: Options) -> Any:
    """Connect --count times by a new socket each, and talk."""
    said = []
    for _ in range(options.count):
        with fresh(options) as connection:
            connection.connect(point(options))
            said.append(exchange(connection, options.text)["echo"])
    return {"echoes": said}


def connect_again(options: Options) -> Any:
    """Connect and talk; then by another socket to the point, to the next port, and to the point again."""
    said = connect_often(options)["echoes"]
    with fresh(options) as connection:
        for port in (options.port, options.port + 1, options.port):
            try:
                connection.connect((options.address, port))
                said.append(exchange(connection, options.text)["echo"])
            except OSError as problem:
                said.append(errno.errorcode[problem.errno or 0])
            nobody = bytes(16)  # AF_UNSPEC: connected to nobody
            ctypes.CDLL(None).connect(connection.fileno(), nobody, len(nobody))
    return {"said": said}


def listen_instead(options: Options) -> None:
    """Fail to connect to where no route leads, twice; then listen with the second socket, and echo one connection."""
    for last in (False, True):
        with fresh(options) as made:
            try:
                made.connect((NOWHERE[made.family], options.port))
            except OSError as problem:
                failed = errno.errorcode[problem.errno or 0]
            if last:
                made.bind(point(options))
                made.listen()
                tell(True, {"event": "ready", "connect": failed})
                connection, _ = made.accept()
                with connection:
                    connection.sendall(connection.recv(65535))
