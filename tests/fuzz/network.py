"""A network namespace of a test's own, entered by this process and left again."""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NEWNET = 0x40000000
OWN4, OWN6 = "192.0.2.1", "2001:db8::1"
"""The addresses of the adapter v0, besides those of the loopback device."""
PEER4, PEER6 = "192.0.2.7", "2001:db8::7"
"""The addresses of a neighbour of v0, which is nobody: what is sent there comes out of v1."""
OWN_LINK, PEER_LINK = bytes.fromhex("020000000001"), bytes.fromhex("020000000007")
"""Their Ethernet addresses."""
_libc = ctypes.CDLL(None, use_errno=True)


def _checked(result: int, what: str) -> None:
    if result:
        raise OSError(ctypes.get_errno(), what)


def ip(words: str) -> None:
    """Run the command ip in this namespace."""
    subprocess.run(["ip", *words.split()], check=True, capture_output=True, timeout=20)


@contextmanager
def own_network() -> Iterator[None]:
    """Enter a new network namespace with loopback and two joined adapters: v0, which has addresses, and v1."""
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        _checked(_libc.unshare(NEWNET), "unshare")
        try:
            ip("link set lo up")
            ip("link add v0 type veth peer name v1")
            for name in ("v0", "v1"):
                Path(f"/proc/sys/net/ipv6/conf/{name}/accept_dad").write_text("0")
                Path(f"/proc/sys/net/ipv6/conf/{name}/router_solicitations").write_text("0")
            ip(f"link set v0 address {OWN_LINK.hex(':')}")
            ip(f"address add {OWN4}/24 brd + dev v0")
            ip(f"address add {OWN6}/64 dev v0 nodad")
            ip("link set v0 up")
            ip("link set v1 up")
            for peer in (PEER4, PEER6):
                ip(f"neighbour add {peer} lladdr {PEER_LINK.hex(':')} nud permanent dev v0")
            yield
        finally:
            _checked(_libc.setns(before, NEWNET), "setns")
    finally:
        os.close(before)
