"""The proxy of GNOME's settings for the whole machine, from the key files of dconf's system databases.

dconf(7): a profile lists databases, the first with a value for a key wins; a lock in a database makes those listed
before it say nothing on that key. A system database ``NAME`` is made by ``dconf update`` from the key files in
``/etc/dconf/db/NAME.d``, of which the last by name wins, and its locks from ``NAME.d/locks``. Those texts are read, not
the compiled database. Where no profile is installed, dconf itself asks no system database; here all of them are asked,
by name: they are what an administrator wrote for this machine.

The schema org.gnome.system.proxy has the path /system/proxy/, so that is the key files' section. It says: mode is
'none', 'manual' or 'auto'; a proxy is used where its host is not empty and its port not 0.

Users' own databases are not read: the Engine is a service of the machine, not of somebody who is logged in.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from kpf_ebpf.facts.model import ProxyFact
from kpf_ebpf.facts.proxy_address import (
    MAX_LINE,
    PAC,
    WPAD,
    ListFolder,
    Setting,
    World,
    proxy_at,
    safe_names,
    unusable,
)

PROFILES = ("/etc/dconf/profile/user", "/usr/local/share/dconf/profile/user", "/usr/share/dconf/profile/user")
DATABASES = "/etc/dconf/db"
MAX_DATABASES = 32
"""Databases that are read."""
MAX_LINES = 10_000
"""Lines of a key file that are read."""
SECTION = "system/proxy"
DEFAULT_HTTP_PORT = 8080
"""The schema's; those of https and socks are 0."""

_DATABASE = re.compile(r"system-db:([A-Za-z0-9_][A-Za-z0-9_.-]*)")
_STRING = re.compile(r"""'((?:[^'\\]|\\.)*)'|"((?:[^"\\]|\\.)*)\"""", re.DOTALL)
_NUMBER = re.compile(r"(?:u?int(?:16|32|64)[ \t]+)?([0-9]{1,9})")


def gnome_setting(world: World) -> Setting | None:
    """Find what GNOME's system settings say; None where they do not name a mode."""
    values = _values(world)
    source = "GNOME's system settings"
    if f"/{SECTION}/mode" not in values:
        return None
    mode = _string(values[f"/{SECTION}/mode"])
    if mode == "none":
        return Setting(ProxyFact(source=f"mode in {source}: direct"))
    if mode == "auto":
        script = _string(values.get(f"/{SECTION}/autoconfig-url", ""))
        return Setting(ProxyFact(source=f"mode in {source}", problem=PAC if script else WPAD))
    if mode != "manual":
        return Setting(unusable(f"mode in {source}", "it is not one of 'none', 'manual', 'auto'"))
    exceptions = ",".join(_strings(values.get(f"/{SECTION}/ignore-hosts", "")))
    for kind, default in (("https", 0), ("http", DEFAULT_HTTP_PORT), ("socks", 0)):
        host = _string(values.get(f"/{SECTION}/{kind}/host", "")).strip()
        port = _number(values.get(f"/{SECTION}/{kind}/port", str(default)))
        if host and port:
            return Setting(proxy_at(host, port, f"{kind} in {source}"), (("ignore-hosts", exceptions),))
    return Setting(ProxyFact(source=f"mode in {source} is manual, but no host and port are set: direct"))


def gnome_files(list_folder: ListFolder) -> tuple[str, ...]:
    """List the files that may have a say: profiles, and key files and locks of every database."""
    files = [*PROFILES]
    for name in safe_names(list_folder(DATABASES), ".d")[:MAX_DATABASES]:
        files += _files_of(list_folder, f"{DATABASES}/{name}")
    return tuple(files)


def parse_key_file(text: str) -> dict[str, str]:
    """Parse a key file's values of the proxy: full key ("/system/proxy/http/host") -> GVariant text, not yet parsed."""
    values = {}
    section = ""
    for line in text.split("\n")[:MAX_LINES]:
        line = line.strip()
        if len(line) > MAX_LINE or line.startswith("#"):
            continue
        if line.startswith("[") and line.endswith("]"):
            section = line[1:-1]
        elif section == SECTION or section.startswith(f"{SECTION}/"):
            key, mark, value = line.partition("=")
            if mark:
                values[f"/{section}/{key.strip()}"] = value.strip()
    return values


def _values(world: World) -> Mapping[str, str]:
    """Take the databases together: the first listed wins, but none listed before one that locks the key."""
    found: dict[str, str] = {}
    locked: set[str] = set()
    for folder in reversed(_databases(world)):
        locks: set[str] = set()
        values: dict[str, str] = {}
        for path in _files_of(world.list_folder, folder):
            if path.startswith(f"{folder}/locks/"):
                locks.update(line.strip() for line in world.text(path).split("\n")[:MAX_LINES])
            else:
                values |= parse_key_file(world.text(path))
        found |= {key: value for key, value in values.items() if key not in locked}
        locked |= locks
    return found


def _databases(world: World) -> Sequence[str]:
    """List the databases' folders as the profile does, else by name."""
    profile = next((text for path in PROFILES if (text := world.read(path)) is not None), None)
    if profile is None:
        return [f"{DATABASES}/{name}" for name in safe_names(world.list_folder(DATABASES), ".d")[:MAX_DATABASES]]
    lines = (line.partition("#")[0].strip() for line in profile.split("\n")[:MAX_LINES])
    names = [match[1] for line in lines if (match := _DATABASE.fullmatch(line))]
    return [f"{DATABASES}/{name}.d" for name in names[:MAX_DATABASES]]


def _files_of(list_folder: ListFolder, folder: str) -> list[str]:
    """List a database's key files, the one that wins last, and its locks."""
    keys = [f"{folder}/{name}" for name in safe_names(list_folder(folder)) if name != "locks"]
    return keys + [f"{folder}/locks/{name}" for name in safe_names(list_folder(f"{folder}/locks"))]


def _string(text: str) -> str:
    match = _STRING.fullmatch(text)
    return _unescaped(match) if match else ""


def _strings(text: str) -> list[str]:
    return [_unescaped(match) for match in _STRING.finditer(text)]


def _unescaped(match: re.Match[str]) -> str:
    return re.sub(r"\\(.)", r"\1", match[1] if match[1] is not None else match[2], flags=re.DOTALL)


def _number(text: str) -> int:
    match = _NUMBER.fullmatch(text)
    return int(match[1]) if match else 0
