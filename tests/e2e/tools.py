"""Small helpers of the bench: waiting, the cgroup mount, commands of the system."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

PATIENCE = float(os.environ.get("KPF_TEST_PATIENCE", "1"))
"""Deadlines are so many times as long: an emulated processor is slow."""


def eventually(condition: Callable[[], Any], deadline: float = 10) -> Any:
    """Return the first true value of the condition; its last false one after the deadline."""
    until = time.monotonic() + deadline * PATIENCE
    pause = threading.Event()
    while not (found := condition()) and time.monotonic() < until:
        pause.wait(0.1)
    return found


def unmount(folder: Path) -> None:
    """Unmount a file system; while the Engine looks at a program on it, for a moment, the kernel calls it busy."""
    last: list[str] = []

    def gone() -> bool:
        done = subprocess.run(["umount", str(folder)], capture_output=True, text=True, check=False)
        last[:] = [done.stderr.strip()]
        return done.returncode == 0

    if not eventually(gone):
        raise subprocess.SubprocessError(f"umount {folder}: {last[0]}")


def cgroup_mount() -> Path:
    """Return where the cgroup v2 hierarchy is."""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, where, kind, *_ = line.split()
        if kind == "cgroup2":
            return Path(where)
    raise RuntimeError("no cgroup2 mount")


def system(*command: str) -> None:
    """Run a command of the system; its complaint is the failure."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise subprocess.SubprocessError(f"{' '.join(command)}: {done.stderr.strip()}")
