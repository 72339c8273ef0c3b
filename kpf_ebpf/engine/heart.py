"""The heartbeat by which the programs know that an Engine lives. It counts where a policy opens on failure."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from types import TracebackType

from kpf_ebpf.kernel import bpf
from kpf_ebpf.kernel.active import beat

PERIOD = 0.1
"""Seconds between beats; KPF_HEARTBEAT_COUNTS is eight times as long."""
STUCK = 30.0
"""Seconds after which whoever does not show that it goes on counts as dead."""


class Heart:
    """Beats from a thread of its own, as long as its owner says now and then that it goes on.

    Not while no policy opens: who makes one the enforced one grants it time for the first beat (kernel.active.grant).
    """

    def __init__(self, pins: Path) -> None:
        self._map = bpf.open_pinned(pins / "heartbeat")
        self._over = threading.Event()
        self._went_on = time.monotonic()
        self._matters = threading.Event()
        self._matters.set()
        self._thread = threading.Thread(target=self._work, name="kpf-heart", daemon=True)

    def __enter__(self) -> Heart:
        beat(self._map)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: object, trace: TracebackType | None) -> None:
        self._over.set()
        self._matters.set()
        self._thread.join()
        os.close(self._map)

    def go_on(self) -> None:
        """The owner is not stuck."""
        self._went_on = time.monotonic()

    def matters(self, opens: bool) -> None:
        """Whether the policy opens where no heart beats."""
        if opens:
            self._matters.set()
        else:
            self._matters.clear()

    def _work(self) -> None:
        while self._matters.wait() and not self._over.wait(PERIOD):
            if time.monotonic() - self._went_on < STUCK:
                beat(self._map)  # also after `down`: then nobody reads it
