"""What this machine's own files say of names and of resolvers, and when they say something else."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable

from kpf_ebpf.facts.addresses import number
from kpf_ebpf.facts.model import NameFact
from kpf_ebpf.facts.names import MAX_ADDRESSES, literals, parse_hosts
from kpf_ebpf.facts.system import parse_resolvers, read_text
from kpf_ebpf.names.model import Resolver

HOSTS = "/etc/hosts"
RESOLV_CONF = "/etc/resolv.conf"

_LOCALHOST = frozenset(address for address in map(number, ("127.0.0.1", "::1")) if address is not None)


def system_resolvers(read: Callable[[str], str | None] = read_text, path: str = RESOLV_CONF) -> tuple[Resolver, ...]:
    """Give the resolvers of resolv.conf in their order. Its search domains are none of our business."""
    return parse_resolvers(read(path) or "")


def this_host(name: str) -> frozenset[int]:
    """Give the loopback addresses for "localhost" and what ends so, which DNS is not asked for (RFC 6761, 6.3)."""
    plain = name.rstrip(".").lower()
    return _LOCALHOST if plain == "localhost" or plain.endswith(".localhost") else frozenset()


def without_network(names: Iterable[str], hosts: str) -> dict[str, NameFact]:
    """Give what is known of names at once: address literals, and what the text of /etc/hosts says.

    Every other name has no addresses and the error NOT_LOOKED_UP.
    """
    facts = literals(names)
    asked = [name for name, fact in facts.items() if fact.error]
    listed = parse_hosts(hosts, asked)
    for name in asked:
        addresses = listed.get(name) or this_host(name)
        if addresses:
            facts[name] = NameFact(name, tuple(sorted(addresses)[:MAX_ADDRESSES]))
    return facts


class WatchedFile:
    """A text file that may change, appear or go."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._stamp: tuple[int, ...] | None = ()

    def has_changed(self) -> bool:
        """Tell whether the file is another one than at the last call; the first call says yes."""
        before, self._stamp = self._stamp, self._look()
        return self._stamp != before

    def would_change(self) -> bool:
        """Tell what ``has_changed`` would."""
        return self._stamp != self._look()

    def text(self) -> str:
        """The file's text; "" if it cannot be read."""
        return read_text(self.path) or ""

    def _look(self) -> tuple[int, ...] | None:
        try:
            now = os.stat(self.path)  # noqa: PTH116  (each second)
        except OSError:
            return None
        return now.st_dev, now.st_ino, now.st_size, now.st_mtime_ns, now.st_ctime_ns
