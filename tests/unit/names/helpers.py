"""Small words for tests of names."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

import dns.name

from kpf_ebpf.facts.addresses import number
from kpf_ebpf.names.model import Pace

DEADLINE = 30.0
"""Seconds that a test waits for what must become true."""
QUICK = Pace(udp_timeout=5.0, first_retry=0.1, last_retry=0.4, look=0.05)
"""As patient with answers as a slow machine needs, and quick in all else."""


def numbers(*texts: str) -> tuple[int, ...]:
    """Give addresses as sorted numbers."""
    return tuple(sorted(value for value in map(number, texts) if value is not None))


def dns_name(text: str) -> dns.name.Name:
    """Give a name as DNS has it."""
    return dns.name.from_text(text)


def wait_for(condition: Callable[[], object]) -> None:
    """Wait until something is so; fail after DEADLINE seconds."""
    ends, pause = time.monotonic() + DEADLINE, threading.Event()
    while not condition():
        assert time.monotonic() < ends, "it did not become true in time"
        pause.wait(0.005)


def descriptors() -> set[str]:
    """This process' open descriptors."""
    return set(os.listdir("/proc/self/fd"))  # noqa: PTH208 - the listing's own descriptor comes and goes
