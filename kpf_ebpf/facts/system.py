"""What the machine itself says: users, cgroup ids, resolvers, and small text files read with bounds."""

from __future__ import annotations

import ctypes
import os
import pwd
import re
import socket
import stat
import sys
import time
from collections.abc import Iterable
from pathlib import Path

from kpf_ebpf.facts.addresses import number

MAX_TEXT_BYTES = 4 << 20
"""Bytes read of a configuration file; the rest is ignored."""
MAX_FOLDER_NAMES = 1_000
"""Names read of a configuration folder."""
SETTLED_NS = 1_000_000_000
"""Nanoseconds after which a folder's next change surely has another time."""
MAX_CGROUPS = 100_000
"""Cgroups found below one cgroup path of a policy."""
MAX_RESOLVERS = 16
"""Resolvers read from resolv.conf (the C library itself uses three)."""
DNS_PORT = 53
_SO_NETNS_COOKIE = 71
_CLONE_NEWNET = 0x40000000

_OCTAL = re.compile(r"\\([0-7]{3})")


def read_text(path: str) -> str | None:
    """Read a configuration file's first MAX_TEXT_BYTES; None if it is missing, unreadable or not a regular file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except OSError:
        return None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return None
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read(MAX_TEXT_BYTES).decode("utf-8", errors="replace")
    except OSError:
        return None
    finally:
        os.close(descriptor)


def list_folder(path: str) -> tuple[str, ...]:
    """Give the names in a configuration folder, sorted, MAX_FOLDER_NAMES at most; () if it cannot be read."""
    try:
        with os.scandir(path) as entries:
            return tuple(sorted(entry.name for entry in entries)[:MAX_FOLDER_NAMES])
    except OSError:
        return ()


class Listings:
    """``list_folder`` for whoever asks again and again: a folder is read anew when its own times moved."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[tuple[int, ...], tuple[str, ...]]] = {}

    def __call__(self, path: str) -> tuple[str, ...]:
        """As ``list_folder``."""
        try:
            now = os.stat(path)  # noqa: PTH116  (several, each other second)
        except OSError:
            return ()
        stamp = now.st_dev, now.st_ino, now.st_mtime_ns, now.st_ctime_ns
        known = self._known.get(path)
        if known is not None and known[0] == stamp:
            return known[1]
        names = list_folder(path)
        if time.time_ns() - max(now.st_mtime_ns, now.st_ctime_ns) > SETTLED_NS:
            self._known[path] = stamp, names
        return names


def home_cookie() -> int:
    """The kernel's cookie for this process' network namespace (SO_NETNS_COOKIE, since 5.14). Raises OSError."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        return int.from_bytes(probe.getsockopt(socket.SOL_SOCKET, _SO_NETNS_COOKIE, 8), sys.byteorder)


def enter_network(pid: int) -> None:
    """Takes this process into the network namespace of another one. Raises OSError."""
    with Path(f"/proc/{pid}/ns/net").open("rb") as namespace:
        if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")


def find_users(words: Iterable[str | int]) -> tuple[dict[str, int], tuple[str, ...]]:
    """Find the uids of user names (numbers need none): name -> uid, and a warning for each unknown name."""
    users: dict[str, int] = {}
    warnings = []
    for name in dict.fromkeys(word for word in words if isinstance(word, str)):
        try:
            users[name] = pwd.getpwnam(name).pw_uid
        except (KeyError, ValueError):
            warnings.append(f"user {name}: no such user")
    return users, tuple(warnings)


def cgroup_mount(mounts: str) -> str | None:
    """Find where the cgroup v2 hierarchy is mounted, from the text of /proc/self/mounts; None if nowhere."""
    for line in mounts.splitlines():
        fields = line.split(" ")
        if len(fields) > 2 and fields[2] == "cgroup2":
            return _OCTAL.sub(lambda octal: chr(int(octal[1], 8)), fields[1])
    return None


def find_cgroups(
    paths: Iterable[str], mount: str | None, *, limit: int = MAX_CGROUPS
) -> tuple[dict[str, tuple[int, ...]], tuple[str, ...]]:
    """Find the ids of cgroups and all their descendants: path below ``mount`` -> ids (its own first), and warnings.

    A cgroup's id is its folder's inode number. Symlinks are not followed. What does not exist has no ids.
    """
    found: dict[str, tuple[int, ...]] = {}
    warnings = []
    for path in dict.fromkeys(paths):
        found[path] = ()
        parts = [part for part in path.split("/") if part]
        if mount is None:
            warnings.append(f"cgroup {path}: no cgroup v2 hierarchy is mounted")
        elif ".." in parts or "." in parts:
            warnings.append(f"cgroup {path}: expected a path without . and ..")
        else:
            found[path] = _ids(Path(mount), parts, limit + 1)
            if not found[path]:
                warnings.append(f"cgroup {path}: no such cgroup (yet)")
            if len(found[path]) > limit:
                found[path] = found[path][:limit]
                warnings.append(f"cgroup {path}: more than {limit} cgroups below it, the rest is left out")
    return found, tuple(warnings)


def parse_resolvers(resolv_conf: str) -> tuple[tuple[int, int], ...]:
    """Read the nameserver lines of resolv.conf's text: (address in the 128-bit space, port 53), each once, in order."""
    found: dict[tuple[int, int], None] = {}
    for line in resolv_conf.splitlines():
        words = line.split()
        if len(words) > 1 and words[0] == "nameserver" and (address := number(words[1])) is not None:
            found[address, DNS_PORT] = None
    return tuple(found)[:MAX_RESOLVERS]


def _ids(mount: Path, parts: list[str], limit: int) -> tuple[int, ...]:
    """Walk a cgroup's folder and those below it, breadth first; () if it is none."""
    top = mount
    try:
        if not mount.is_dir():
            return ()
        for part in parts:
            top /= part
            if not stat.S_ISDIR(top.lstat().st_mode):
                return ()
        ids = [top.stat().st_ino]
    except OSError:
        return ()
    folders = [str(top)]
    for folder in folders:
        for path, inode in _folders_in(folder):
            if len(ids) == limit:
                return tuple(ids)
            folders.append(path)
            ids.append(inode)
    return tuple(ids)


def _folders_in(folder: str) -> list[tuple[str, int]]:
    """Give (path, inode) of the folders in a folder, sorted; [] if it is gone meanwhile."""
    try:
        with os.scandir(folder) as entries:
            return sorted((entry.path, entry.inode()) for entry in entries if entry.is_dir(follow_symlinks=False))
    except OSError:
        return []
