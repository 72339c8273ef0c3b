"""Watches the adapters: under the root cgroup those that come later are filtered, too."""

from __future__ import annotations

import sys

from kpf_ebpf.engine import records
from kpf_ebpf.engine.folders import Instance
from kpf_ebpf.engine.records import Attachment
from kpf_ebpf.kernel import adapters

PERIOD = 1.0
"""Seconds between looks."""


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
