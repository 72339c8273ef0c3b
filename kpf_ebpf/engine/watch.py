"""What the Engine watches beside programs and names: adapters, the proxy's configuration, group files, users."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Hashable, Iterable

from kpf_ebpf.engine import records
from kpf_ebpf.engine.folders import Instance
from kpf_ebpf.engine.records import Attachment
from kpf_ebpf.facts.gather import RESOLV_CONF, take_proxy_prints
from kpf_ebpf.facts.system import Listings
from kpf_ebpf.kernel import adapters

PERIOD = 1.0
"""Seconds between looks."""
USERS = "/etc/passwd"


class Watched:
    """Something whose print is taken now and then."""

    def __init__(self, take: Callable[[], Hashable], period: float = PERIOD) -> None:
        self._take, self._period = take, period
        self._seen = take()
        self._due = 0.0

    def moved(self, now: float) -> bool:
        """Whether its print is another one than at the last look; between looks: no."""
        if now < self._due:
            return False
        self._due = now + self._period
        before, self._seen = self._seen, self._take()
        return self._seen != before


def proxy_settings() -> Watched:
    """The files that the operating system's proxy may stand in."""
    listed = Listings()
    return Watched(lambda: take_proxy_prints(listed))


def files(paths: Iterable[str]) -> Watched:
    """Some files, which may come and go."""
    chosen = tuple(paths)
    return Watched(lambda: tuple(_stamp(path) for path in chosen))


def users() -> Watched:
    """The machine's own users."""
    return files((USERS,))


def resolvers() -> Watched:
    """Where the machine's resolvers are named."""
    return files((RESOLV_CONF,))


def _stamp(path: str) -> tuple[int, ...] | None:
    try:
        found = os.stat(path)  # noqa: PTH116  (each second)
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


class AdapterFilters:
    """Under the root cgroup: gives the filters to adapters that come later."""

    def __init__(self, instance: Instance) -> None:
        self._instance = instance
        self._known: set[str] | None = None

    def look(self) -> None:
        """Looks at the adapters. What cannot be attached shows in ``status``."""
        place = records.read(self._instance, Attachment)
        if place is None or place.adapters is not None:
            return
        here = adapters.names_here(None)
        fresh = [index for name, index in here.items() if self._known is not None and name not in self._known]
        self._known = set(here)
        try:
            adapters.attach(self._instance.pins, fresh)
        except OSError as problem:
            print(f"adapters: {problem}", file=sys.stderr, flush=True)
