"""The proxy of KDE's settings for the whole machine: [Proxy Settings] in /etc/xdg/kioslaverc.

The keys and the five numbers of ProxyType are those of KDE's KProtocolManager (KIO): 0 no proxy, 1 the proxies written
here, 2 a script (PAC), 3 what the network announces (WPAD), 4 environment variables, whose names are written here. A
proxy is "http://host:port" or, as KDE itself writes it, "http://host port". A key or section may end in flags: [$i]
(users cannot change it), [$e] ($VARIABLES in it are expanded, which is not done here).

Users' own files (~/.config/kioslaverc) are not read: the Engine is a service of the machine, not of somebody who is
logged in.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from kpf_ebpf.facts.addresses import number
from kpf_ebpf.facts.model import ProxyFact
from kpf_ebpf.facts.proxy_address import (
    MAX_LINE,
    MAX_VALUE,
    PAC,
    WPAD,
    ListFolder,
    Setting,
    World,
    parse_proxy,
    unusable,
)
from kpf_ebpf.facts.proxy_environment import all_variables

FILE = "/etc/xdg/kioslaverc"
SECTION = "Proxy Settings"
MAX_LINES = 10_000
"""Lines of the file that are read."""

_FLAGS = re.compile(r"(?:\[\$\w+\])+$")
_ESCAPES = {"s": " ", "t": "\t", "n": "\n", "r": "\r", "\\": "\\"}
_TRUE = frozenset({"true", "yes", "on", "1"})
_PROXIES = {"httpsProxy": "http", "httpProxy": "http", "socksProxy": "socks"}
"""In the order they are asked, with what such a proxy speaks if it does not say."""
_NAMES = frozenset({*_PROXIES, "NoProxyFor"})


def kde_setting(world: World) -> Setting | None:
    """Find what KDE's system settings say; None where they do not name a type."""
    values = parse_kioslaverc(world.text(FILE))
    kind = values.get("ProxyType", "")
    source = f"ProxyType in {FILE}"
    if not kind:
        return None
    if kind == "0":
        return Setting(ProxyFact(source=f"{source}: direct"))
    if kind in ("2", "3"):
        return Setting(ProxyFact(source=source, problem=PAC if kind == "2" else WPAD))
    if kind not in ("1", "4"):
        return Setting(unusable(source, "it is not one of 0 to 4"))
    if kind == "4":
        variables = all_variables(world)
        values = {key: variables.get(value, "") if key in _NAMES else value for key, value in values.items()}
    exceptions = (("NoProxyFor", values.get("NoProxyFor", "")),)
    only_listed = values.get("ReversedException", "").lower() in _TRUE
    for key, scheme in _PROXIES.items():
        value = values.get(key, "").strip(" \t")
        if value:
            return Setting(_proxy(value, scheme, f"{key} in {FILE}"), exceptions, only_listed)
    return Setting(ProxyFact(source=f"{source} is {kind}, but no proxy is set: direct"))


def kde_files(_: ListFolder) -> tuple[str, ...]:
    """List the file that ``kde_setting`` reads."""
    return (FILE,)


def parse_kioslaverc(text: str) -> Mapping[str, str]:
    """Parse the values of [Proxy Settings], without flags; one that needs expanding keeps its $."""
    values = {}
    section = ""
    for line in text.split("\n")[:MAX_LINES]:
        line = line.strip()
        if len(line) > MAX_LINE or line.startswith("#"):
            continue
        key, mark, value = line.partition("=")
        if line.startswith("["):
            section = _FLAGS.sub("", line)
        elif section == f"[{SECTION}]" and mark:
            value = re.sub(r"\\(.)", lambda escape: _ESCAPES.get(escape[1], escape[0]), value.strip())
            values[_FLAGS.sub("", key.strip())] = value
    return values


def _proxy(value: str, scheme: str, source: str) -> ProxyFact:
    """Parse "[scheme://]host port" and "[scheme://]host:port"."""
    if len(value) > MAX_VALUE:
        return parse_proxy(value, source)
    if "://" not in value and not value.lower().startswith("file:"):
        value = f"{scheme}://{value}"
    if spaced := re.fullmatch(r"(\S+)[ \t]+([0-9]{1,5})", value):
        start, _, host = spaced[1].rstrip("/").rpartition("/")
        host = f"[{host}]" if ":" in host and "[" not in host and number(host) is not None else host
        value = f"{start}/{host}:{spaced[2]}"
    return parse_proxy(value, source)
