"""The canary: a process of the firewall's own that tries one permitted and one denied port, and so proves enforcement.

It is a child of the command, moved into a cgroup of its own below the firewalled one, registered by its process id;
its two rules are step 0. Loopback only, TCP and UDP, IPv4 and IPv6.
"""

from __future__ import annotations

import errno
import os
import socket
from dataclasses import dataclass
from pathlib import Path

from kpf_ebpf.engine.perch import perch_below
from kpf_ebpf.kernel import abi, processes
from kpf_ebpf.kernel.counters import read_counters
from kpf_ebpf.resolve.resolve import CANARY_DENIED, CANARY_PERMITTED

TIMEOUT = 2.0
"""Seconds a connection may take that should be answered at once."""
PERMITTED, DENIED = "canary/permitted", "canary/denied"
"""The ids of its rules."""
_WAYS = (("TCP", socket.SOCK_STREAM), ("UDP", socket.SOCK_DGRAM))
_HOSTS = (("IPv4", socket.AF_INET, "127.0.0.1"), ("IPv6", socket.AF_INET6, "::1"))
_ABSENT = frozenset({errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL})


@dataclass(frozen=True, slots=True)
class Canary:
    """What the canary found."""

    ok: bool
    detail: str


def _try(family: int, kind: int, host: str, port: int) -> int:
    """The errno of one connection or datagram; 0: it went out."""
    try:
        with socket.socket(family, kind) as made:
            made.settimeout(TIMEOUT)
            made.connect((host, port))
            if kind == socket.SOCK_DGRAM:
                made.send(b"canary")
    except TimeoutError:
        return errno.ETIMEDOUT
    except OSError as problem:
        return problem.errno or errno.EIO
    return 0


def _sing() -> tuple[str, int]:
    """What the canary does: a complaint ("" if none), and how many of each port were tried."""
    tried = 0
    for version, family, host in _HOSTS:
        for way, kind in _WAYS:
            allowed = _try(family, kind, host, CANARY_PERMITTED)
            if allowed in _ABSENT and version == "IPv6":
                continue  # no IPv6 on this machine
            if allowed not in (0, errno.ECONNREFUSED):
                return f"{way} over {version}: the permitted port gave {_name(allowed)}", tried
            denied = _try(family, kind, host, CANARY_DENIED)
            if denied != errno.EPERM:
                return f"{way} over {version}: the denied port gave {_name(denied)}, expected EPERM", tried
            tried += 1
    return ("", tried) if tried else ("the loopback device has no address", 0)


def _name(number: int) -> str:
    return errno.errorcode.get(number, str(number)) if number else "no error"


def _child(perch: Path, go: int, answer: int) -> None:
    try:
        (perch / "cgroup.procs").write_text(str(os.getpid()))
        os.read(go, 1)
        complaint, tried = _sing()
    except OSError as problem:
        complaint, tried = f"its process failed: {problem}", 0
    os.write(answer, f"{tried} {complaint}".encode())


def counters_of(counters: dict[str, int]) -> dict[str, int]:
    """Those that ``prove`` looks at, of a policy's."""
    return {rule: counters[rule] for rule in (PERMITTED, DENIED) if rule in counters}


def prove(pins: Path, cgroup: Path, counters: dict[str, int]) -> Canary:
    """Sends the canary out: permitted must be permitted, denied must be denied, and by the canary's own rules."""
    try:
        numbers = counters[PERMITTED], counters[DENIED]
        before = read_counters(pins, numbers)
        with perch_below(pins, cgroup) as perch:
            text = _fly(pins, perch)
        after = read_counters(pins, numbers)
    except (OSError, KeyError) as problem:
        return Canary(False, f"could not be sent out: {problem}")
    count, _, complaint = text.partition(" ")
    if complaint or not count.isdigit():
        return Canary(False, complaint or "it ended without a word")
    for number, port in zip(numbers, ("permitted", "denied"), strict=True):
        if after[number][0] - before[number][0] < int(count):
            return Canary(False, f"the {port} port was not judged by the canary's rule")
    versions = "IPv4 and IPv6" if int(count) > len(_WAYS) else "IPv4 (no IPv6 here)"
    return Canary(True, f"permitted and denied as told, TCP and UDP, {versions}")


def _fly(pins: Path, perch: Path) -> str:
    """Runs the canary process; what it said."""
    go_read, go_write = os.pipe()
    answer_read, answer_write = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(go_write)
            os.close(answer_read)
            _child(perch, go_read, answer_write)
            status = 0
        finally:
            os._exit(status)
    os.close(go_read)
    os.close(answer_write)
    try:
        processes.register(pins, child, abi.Component.CANARY)
        os.write(go_write, b"x")
        with os.fdopen(answer_read, "rb") as answer:
            return answer.read().decode()
    finally:
        os.close(go_write)
        os.waitpid(child, 0)
        processes.forget(pins, child)
