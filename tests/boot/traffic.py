"""What a program of these tests does: copied with an interpreter of its own, it is an application.

PROGRAM -I traffic.py listen ADDRESS PORT          TCP; answers every text with the same
PROGRAM -I traffic.py once ADDRESS PORT [FILE]     one exchange; "ok" or the name of what went wrong, also to FILE
PROGRAM -I traffic.py often ADDRESS PORT           exchanges until SIGTERM; then a JSON object: what happened how often
"""

from __future__ import annotations

import errno
import json
import signal
import socket
import sys
from collections import Counter
from pathlib import Path

PATIENCE = 30.0
"""Seconds an answer may take: emulated processors are slow."""
PAUSE = 0.01
"""Seconds between two exchanges, so that what is tried meanwhile gets done, too."""


def exchange(address: str, port: int) -> str:
    """Connect, send, and read the same: "ok", or the errno's name."""
    try:
        with socket.create_connection((address, port), PATIENCE) as made:
            made.sendall(b"text")
            return "ok" if made.recv(16) == b"text" else "no answer"
    except OSError as problem:
        return errno.errorcode.get(problem.errno or 0, type(problem).__name__)


def listen(address: str, port: int) -> None:
    """Answer for ever."""
    with socket.create_server((address, port), backlog=256) as server:
        print("ready", flush=True)
        while True:
            made, _ = server.accept()
            with made:
                made.sendall(made.recv(16))


def often(address: str, port: int) -> None:
    """Exchange until told to end."""
    found: Counter[str] = Counter()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    print("ready", flush=True)
    while not signal.sigtimedwait({signal.SIGTERM}, PAUSE):
        found[exchange(address, port)] += 1
    print(json.dumps(found), flush=True)


def main() -> None:
    """Do what the command line says."""
    verb, address, port, *file = sys.argv[1:]
    if verb == "once":
        result = exchange(address, int(port))
        print(result)
        if file:
            Path(file[0]).write_text(result)
    else:
        {"listen": listen, "often": often}[verb](address, int(port))


if __name__ == "__main__":
    main()
