"""What the Engine watches: scripts that are known by their path (the kernel does not see them change), adapters."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from kpf_ebpf.engine import records
from kpf_ebpf.engine.folders import Instance
from kpf_ebpf.engine.records import Attachment
from kpf_ebpf.facts.model import FileKey
from kpf_ebpf.kernel import adapters, scripts
from kpf_ebpf.resolve.model import ResolvedPolicy

PERIOD = 1.0
"""Seconds between looks."""
_NANOSECONDS = 1_000_000_000


class ScriptWatch:
    """Lets the paths of scripts that changed mean a modified program, until they are what was accepted again."""

    def __init__(self, pins: Path) -> None:
        self._pins = pins
        self._accepted: dict[str, FileKey] = {}
        self._changed: set[str] = set()
        self._due = 0.0

    def retarget(self, resolved: ResolvedPolicy) -> None:
        """Watches the scripts of this policy from now on; what is modified already needs no watching."""
        self._accepted = {
            path: one.key for one in resolved.applications for path in one.executed if one.key.ctime_seconds >= 0
        }
        self._changed = set()

    def look(self, now: float) -> None:
        """Looks at every script, if it is time to."""
        if now < self._due:
            return
        self._due = now + PERIOD
        changed = {path for path, key in self._accepted.items() if not _is_still(key, path)}
        moved = {path: replace(self._accepted[path], ctime_seconds=-2) for path in changed - self._changed}
        back = {path: self._accepted[path] for path in self._changed - changed}
        self._changed = changed
        if moved or back:
            scripts.put(self._pins, moved | back)


def _is_still(key: FileKey, path: str) -> bool:
    try:
        status = Path(path).stat()
    except OSError:
        return False
    return status.st_ino == key.inode and divmod(status.st_ctime_ns, _NANOSECONDS) == (
        key.ctime_seconds,
        key.ctime_nanoseconds,
    )


class AdapterWatch:
    """Under the root cgroup: gives the filters to adapters that come later."""

    def __init__(self, instance: Instance) -> None:
        self._instance = instance
        self._known: set[str] | None = None
        self._due = 0.0

    def look(self, now: float) -> None:
        """Looks at the adapters, if it is time to. What cannot be attached shows in ``status``."""
        if now < self._due:
            return
        self._due = now + PERIOD
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
