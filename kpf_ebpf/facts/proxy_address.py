"""One proxy address, and the hosts that go past it: parsing what people write, and writing it without its password.

A value is hostile until parsed: bounded, without control characters, and never part of a message, since it may hold a
password. What cannot be used says why, and which setting overrides it.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from kpf_ebpf.facts.addresses import number, shown
from kpf_ebpf.facts.model import ProxyFact

MAX_VALUE = 2_048
"""Characters of a proxy address; a longer one is refused."""
MAX_HOST = 253
"""Characters of a host name."""
MAX_EXCEPTIONS = 1_000
"""Entries of no_proxy that are read."""
MAX_CHARACTERS = 1 << 18
"""Characters of one file that are parsed."""
MAX_LINE = 4_096
"""Characters of a line; a longer one is skipped."""
MAX_FILES = 100
"""Files of one folder that are read."""

DEFAULT_PORTS = {"http": 80, "https": 443, "socks": 1080, "socks4": 1080, "socks4a": 1080, "socks5": 1080}
DEFAULT_PORTS["socks5h"] = 1080
OVERRIDE = "preferences.proxy in the policy overrides it"
PAC = f"a proxy configuration script (PAC) cannot be evaluated here; {OVERRIDE}"
WPAD = f"a proxy that the network announces (WPAD) is not looked for here; {OVERRIDE}"

_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9.])?")
_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@+~-]*")

Server = tuple[str, int]
"""A host (name or address literal) and its port."""
ListFolder = Callable[[str], Sequence[str]]
"""Gives the names in a folder; none for one that is not there."""


@dataclass(frozen=True, slots=True)
class World:
    """Where the places look: variables, a file's text (None: there is none to read), the names in a folder.

    ``registration`` is the server that the Engine would reach through the proxy.
    """

    environ: Mapping[str, str]
    read: Callable[[str], str | None]
    list_folder: ListFolder
    registration: Server = ("", 443)

    def text(self, path: str) -> str:
        """Give a file's text, bounded; "" for one that cannot be read."""
        return (self.read(path) or "")[:MAX_CHARACTERS]


@dataclass(frozen=True, slots=True)
class Setting:
    """What one place says: a proxy, none ("direct"), or a problem; and who goes past it.

    ``exceptions`` are lists of hosts that are reached directly, each with the name of the setting it is from;
    ``only_listed`` turns them round: only those go by the proxy.
    """

    fact: ProxyFact
    exceptions: tuple[tuple[str, str], ...] = ()
    only_listed: bool = False

    def excepting(self, server: Server) -> str:
        """Name the setting by which a server is reached directly; "" if none does."""
        for name, hosts in self.exceptions:
            if server[0] and hosts.strip(" \t,") and is_excepted(server, hosts) != self.only_listed:
                return name
        return ""


def safe_names(names: Sequence[str], suffix: str = "") -> list[str]:
    """Sort out the file names that are read: no hidden ones, none that could not be printed, MAX_FILES at most."""
    return sorted(name for name in names if _FILE_NAME.fullmatch(name) and name.endswith(suffix))[:MAX_FILES]


def parse_proxy(value: str, source: str) -> ProxyFact:
    """Parse a proxy address: [scheme://][user:password@]host[:port], by default http and the scheme's port.

    What is wrong with it is the fact's problem; the value itself is never part of a message.
    """
    if len(value) > MAX_VALUE:
        return unusable(source, f"its address is longer than {MAX_VALUE} characters")
    if any(not "!" <= character <= "~" for character in value):
        return unusable(source, "its address has spaces, control characters or letters outside ASCII")
    if value.lower().startswith(("file:", "pac+")) or re.split("[?#]", value, maxsplit=1)[0].lower().endswith(".pac"):
        return ProxyFact(source=source, problem=PAC)
    try:
        url = urlsplit(value if "://" in value else f"http://{value}")
        host, port = url.hostname or "", url.port
    except ValueError:
        return unusable(source, "its host or port cannot be read")
    if url.scheme not in DEFAULT_PORTS:
        return unusable(source, f"its scheme is not one of {', '.join(DEFAULT_PORTS)}")
    if "@" in url.path + url.query + url.fragment:
        return unusable(source, "its user or password holds one of / ? # that is not percent-encoded")
    return proxy_at(host, DEFAULT_PORTS[url.scheme] if port is None else port, source)


def proxy_at(host: str, port: int, source: str) -> ProxyFact:
    """Take a proxy whose host and port are given apart; a wrong host or port is the fact's problem."""
    address = number(host)
    if address is None and (len(host) > MAX_HOST or not _HOST.fullmatch(host)):
        return unusable(source, "its host is neither a name nor an address")
    if not 0 < port < 1 << 16:
        return unusable(source, "its port is not one of 1 to 65535")
    return ProxyFact(host if address is None else shown(address), port, source)


def unusable(source: str, reason: str) -> ProxyFact:
    """Make the fact of a proxy that cannot be used."""
    return ProxyFact(source=source, problem=f"cannot be used: {reason}; {OVERRIDE}")


def redacted(fact: ProxyFact) -> str:
    """Write what a place said, without user and password: "host:port", "direct", or the problem."""
    if fact.host is None:
        return fact.problem or "direct"
    return f"[{fact.host}]:{fact.port}" if ":" in fact.host else f"{fact.host}:{fact.port}"


def is_excepted(server: Server, exceptions: str) -> bool:
    """Say whether a no_proxy value covers a (host, port): "*", names with all below them, networks, with ports."""
    host, port = server[0].rstrip(".").lower(), server[1]
    if not host:
        return False
    for entry in re.split(r"[,\s]+", exceptions.lower(), maxsplit=MAX_EXCEPTIONS)[:MAX_EXCEPTIONS]:
        name, only_port = _split_port(entry)
        if only_port is not None and only_port != port:
            continue
        name = name.removeprefix("*.").strip(".")
        if name == "*" or (name and (host == name or host.endswith(f".{name}"))) or _in_network(host, name):
            return True
    return False


def _split_port(entry: str) -> tuple[str, int | None]:
    match = re.fullmatch(r"(\[[^]]*\]|[^:]*):([0-9]{1,5})", entry)
    return (match[1], int(match[2])) if match else (entry, None)


def _in_network(host: str, name: str) -> bool:
    """Say whether both are addresses, the first in the network (or equal to the address) that the second names."""
    address = number(host)
    if address is None:
        return False
    try:
        return ipaddress.ip_address(shown(address)) in ipaddress.ip_network(name.strip("[]"), strict=False)
    except ValueError:
        return False
