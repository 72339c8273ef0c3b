"""What this machine's own files say of names and of resolvers, and when they say something else."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

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
        try:
            now = Path(self.path).stat()
            stamp = (now.st_dev, now.st_ino, now.st_size, now.st_mtime_ns, now.st_ctime_ns)
        except OSError:
            stamp = None
        before, self._stamp = self._stamp, stamp
        return stamp != before

    def text(self) -> str:
        """The file's text; "" if it cannot be read."""
        return read_text(self.path) or ""
