"""What systemd is told, where it started us (sd_notify(3)): who the Engine is, that it lives, and what is enforced.

Without a service manager nothing is told to anybody.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Mapping

SOCKET, STUCK = VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_USEC")
"""What a service manager sets for ``up``, and ``up`` for the Engine."""
PARTS = 4
"""Signs of life in the time after which a service counts as stuck."""


def is_managed() -> bool:
    """Whether a service manager started us that wants to hear of the Engine."""
    return SOCKET in os.environ


def environment() -> dict[str, str]:
    """Of this process' environment what the Engine needs to speak to the service manager."""
    return {name: os.environ[name] for name in VARIABLES if name in os.environ}


def notify(**fields: object) -> None:
    """Tells fields like ``READY=1``; a manager that cannot be reached changes nothing."""
    address = os.environ.get(SOCKET, "")
    if not address.startswith(("/", "@")):
        return
    text = "\n".join(f"{name}={value}" for name, value in fields.items())
    flags = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, flags) as manager:
        manager.sendto(text.encode(), address.replace("@", "\0", 1) if address[0] == "@" else address)


class Watchdog:
    """Signs of life, as often as the service manager wants them."""

    def __init__(self, variables: Mapping[str, str] = os.environ) -> None:
        word = variables.get(STUCK, "")
        self._period = int(word) / 1e6 / PARTS if word.isascii() and word.isdigit() else 0.0
        self._due = 0.0

    def look(self, now: float) -> None:
        """Gives one, if it is time to; ``now``: seconds of the monotonic clock."""
        if self._period and now >= self._due:
            self._due = now + self._period
            notify(WATCHDOG=1)
