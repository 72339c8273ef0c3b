"""A running sender.py and what it tells."""

from __future__ import annotations

import json
import os
import select
import subprocess
import time
from dataclasses import dataclass
from typing import Any

from .tools import PATIENCE


@dataclass(frozen=True)
class Result:
    """One line of sender.py."""

    ok: bool
    errno: str | None
    data: Any


class Child:
    """A running sender: its lines are read one by one, it is told what to do by ``say``."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.pending = b""

    def line(self, deadline: float = 8) -> Result:
        """Return the next result."""
        assert self.process.stdout is not None
        until = time.monotonic() + deadline * PATIENCE
        while b"\n" not in self.pending:
            ready, _, _ = select.select([self.process.stdout], [], [], max(0, until - time.monotonic()))
            part = os.read(self.process.stdout.fileno(), 65536) if ready else b""
            if not part:
                raise AssertionError(f"the sender says nothing more: {self.complaint() if ready else 'too late'}")
            self.pending += part
        line, _, self.pending = self.pending.partition(b"\n")
        return Result(**json.loads(line))

    def event(self, name: str, deadline: float = 8) -> Result:
        """Return the next result, which must be this event."""
        found = self.line(deadline)
        assert found.ok and found.data["event"] == name, found
        return found

    def quiet(self, seconds: float = 1) -> bool:
        """Return whether nothing more is said within the time."""
        assert self.process.stdout is not None
        return b"\n" not in self.pending and not select.select([self.process.stdout], [], [], seconds)[0]

    def say(self, text: str) -> Result:
        """Give a command and return its result."""
        assert self.process.stdin is not None
        self.process.stdin.write(text.encode() + b"\n")
        self.process.stdin.flush()
        return self.line()

    def complaint(self) -> str:
        """Return what it wrote to standard error, once it ended."""
        self.process.wait(5)
        assert self.process.stderr is not None
        return self.process.stderr.read().decode()

    def stop(self) -> None:
        """End this one process."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(10)
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream is not None and not stream.closed:
                try:
                    stream.close()
                except BrokenPipeError:
                    continue
