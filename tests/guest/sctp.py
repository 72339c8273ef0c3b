"""An SCTP sender: ``sctp.py connect|listen ADDRESS PORT``; one-to-one style, one message and its echo.

Tells what sender.py tells: one line of JSON a result; a listener says "ready" first, then what it heard.
"""

from __future__ import annotations

import errno
import json
import socket
import sys

PATIENCE = 6
"""Seconds that the other side may take."""


def tell(ok: bool, data: object, number: int | None = None) -> None:
    """Print one result."""
    print(json.dumps({"ok": ok, "errno": number and errno.errorcode.get(number), "data": data}), flush=True)


def connect(address: str, port: int) -> None:
    """Send a message and wait for its echo."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_SCTP) as sock:
        sock.settimeout(PATIENCE)
        sock.connect((address, port))
        sock.send(b"hello")
        tell(True, sock.recv(100).decode())


def listen(address: str, port: int) -> None:
    """Echo one message of one association."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_SCTP) as listener:
        listener.bind((address, port))
        listener.listen(4)
        tell(True, {"event": "ready"})
        accepted, _ = listener.accept()
        accepted.settimeout(PATIENCE)
        data = accepted.recv(100)
        accepted.send(data)
        tell(True, data.decode())
        sys.stdin.readline()


if __name__ == "__main__":
    try:
        {"connect": connect, "listen": listen}[sys.argv[1]](sys.argv[2], int(sys.argv[3]))
    except TimeoutError:
        tell(False, None, errno.ETIMEDOUT)
    except OSError as problem:
        tell(False, None, problem.errno)
