"""The HTTP proxy that the operating system's configuration names.

Places asked, the first that speaks decides: this process' environment, /etc/environment, apt's configuration. Their
values are hostile until parsed: bounded, without control characters, and never shown, since they may hold passwords.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping, Sequence
from urllib.parse import urlsplit

from kpf_ebpf.facts.addresses import number, shown
from kpf_ebpf.facts.apt import parse_apt, read_apt
from kpf_ebpf.facts.model import ProxyFact
from kpf_ebpf.policy.model import Proxy

ENVIRONMENT_FILE = "/etc/environment"
MAX_VALUE = 2_048
"""Characters of a proxy address; a longer one is refused."""
MAX_HOST = 253
"""Characters of a host name."""
MAX_LINES = 1_000
"""Lines of /etc/environment that are read."""
MAX_EXCEPTIONS = 1_000
"""Entries of no_proxy that are read."""

DEFAULT_PORTS = {"http": 80, "https": 443, "socks": 1080, "socks4": 1080, "socks4a": 1080, "socks5": 1080}
DEFAULT_PORTS["socks5h"] = 1080
OVERRIDE = "preferences.proxy in the policy overrides it"
PAC = f"a proxy configuration script (PAC) cannot be evaluated here; {OVERRIDE}"

_VARIABLES = ("https_proxy", "HTTPS_PROXY", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY")
_PAC_VARIABLES = ("auto_proxy", "AUTO_PROXY")
_EXCEPTION_VARIABLES = ("no_proxy", "NO_PROXY")
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9.])?")
_ASSIGNMENT = re.compile(r"\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)=(.*)")
_DIRECT = frozenset({"direct", "false", "none"})


def find_proxy(
    policy_proxy: str | Proxy,
    environ: Mapping[str, str],
    read: Callable[[str], str | None],
    *,
    list_folder: Callable[[str], Sequence[str]] = lambda _: (),
    registration: tuple[str, int] = ("", 443),
) -> ProxyFact:
    """Find the proxy that ``preferences.proxy`` means: "none", "system", or one of its own.

    ``read`` gives a file's text or None, ``list_folder`` the names in a folder. ``registration`` is the registration
    server's host and port: a place whose exceptions (no_proxy) cover it has no proxy for it, as ``source`` then says.
    """
    if isinstance(policy_proxy, Proxy):
        return ProxyFact(policy_proxy.host, policy_proxy.port, source="policy")
    if policy_proxy == "none":
        return ProxyFact(source="policy")
    fact = _from_variables(environ, "the environment", registration)
    if fact is None:
        fact = _from_variables(parse_environment(read(ENVIRONMENT_FILE) or ""), ENVIRONMENT_FILE, registration)
    if fact is None:
        fact = _from_apt(parse_apt(read_apt(read, list_folder)), registration)
    return fact or ProxyFact()


def parse_proxy(value: str, source: str) -> ProxyFact:
    """Parse a proxy address: [scheme://][user:password@]host[:port], by default http and the scheme's port.

    What is wrong with it is the fact's problem; the value itself is never part of a message.
    """
    if len(value) > MAX_VALUE:
        return _unusable(source, f"its address is longer than {MAX_VALUE} characters")
    if any(not "!" <= character <= "~" for character in value):
        return _unusable(source, "its address has spaces, control characters or letters outside ASCII")
    if value.lower().startswith(("file:", "pac+")) or re.split("[?#]", value, maxsplit=1)[0].lower().endswith(".pac"):
        return ProxyFact(source=source, problem=PAC)
    try:
        url = urlsplit(value if "://" in value else f"http://{value}")
        host, port = url.hostname or "", url.port
    except ValueError:
        return _unusable(source, "its host or port cannot be read")
    if url.scheme not in DEFAULT_PORTS:
        return _unusable(source, f"its scheme is not one of {', '.join(DEFAULT_PORTS)}")
    if "@" in url.path + url.query + url.fragment:
        return _unusable(source, "its user or password holds one of / ? # that is not percent-encoded")
    address = number(host)
    if address is None and (len(host) > MAX_HOST or not _HOST.fullmatch(host)):
        return _unusable(source, "its host is neither a name nor an address")
    if port is None:
        port = DEFAULT_PORTS[url.scheme]
    if port == 0:
        return _unusable(source, "its port is 0")
    return ProxyFact(host if address is None else shown(address), port, source)


def parse_environment(text: str) -> dict[str, str]:
    """Parse the text of /etc/environment: NAME=value lines, perhaps quoted or with "export"; # starts a comment."""
    variables = {}
    for line in text.splitlines()[:MAX_LINES]:
        if match := _ASSIGNMENT.fullmatch(line):
            value = match[2].strip()
            is_quoted = value[:1] in ("'", '"')
            variables[match[1]] = value[1:].partition(value[0])[0] if is_quoted else value.partition(" #")[0].strip()
    return variables


def is_excepted(registration: tuple[str, int], exceptions: str) -> bool:
    """Say whether a no_proxy value covers a (host, port): "*", names with all below them, networks, with ports."""
    host, port = registration[0].rstrip(".").lower(), registration[1]
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


def _from_variables(variables: Mapping[str, str], place: str, registration: tuple[str, int]) -> ProxyFact | None:
    """Find what environment variables say; None if they say nothing."""
    for name in (*_VARIABLES, *_PAC_VARIABLES):
        value = variables.get(name, "").strip(" \t")
        if not value:
            continue
        source = f"{name} in {place}"
        for exception in _EXCEPTION_VARIABLES:
            if is_excepted(registration, variables.get(exception, "")):
                return ProxyFact(source=f"{source}, but {exception} covers {registration[0]}")
        return ProxyFact(source=source, problem=PAC) if name in _PAC_VARIABLES else parse_proxy(value, source)
    return None


def _from_apt(settings: Mapping[str, str], registration: tuple[str, int]) -> ProxyFact | None:
    """Find what apt's settings (keys in lower case) say: https before http, a host's own before the general one."""
    host = registration[0].lower()
    for key in (f"https::proxy::{host}", f"http::proxy::{host}", "https::proxy", "http::proxy"):
        value = settings.get(f"acquire::{key}", "").strip(" \t")
        if value:
            kind, *own = key.split("::proxy")
            source = f"Acquire::{kind}::Proxy{own[0]} in apt's configuration"
            return ProxyFact(source=f"{source}: direct") if value.lower() in _DIRECT else parse_proxy(value, source)
    return None


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


def _unusable(source: str, reason: str) -> ProxyFact:
    return ProxyFact(source=source, problem=f"cannot be used: {reason}; {OVERRIDE}")
