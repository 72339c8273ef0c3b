"""The active word: what is enforced, what it is on trial for, and the heartbeat of the Engine."""

from __future__ import annotations

import ctypes
import os
import struct
import time
from dataclasses import dataclass
from pathlib import Path

from kpf_ebpf.kernel import abi, bpf
from kpf_ebpf.kernel.hooks import opened

FIRST_BEAT = 10 * 10**9
"""Nanoseconds that an Engine has to see that a policy opens."""
ACTIVE_BYTES = ctypes.sizeof(abi.ActiveWord)


@dataclass(frozen=True, slots=True)
class Active:
    """The active word: what is enforced. ``slot`` None: nothing is active.

    ``opens``: it permits everything while no Engine lives.
    """

    generation: int
    stop_all: bool
    slot: int | None
    opens: bool = False

    def word(self) -> int:
        """As the kernel has it."""
        return abi.active_word(self.generation, self.stop_all, -1 if self.slot is None else self.slot, self.opens)


def _active(word: int) -> Active:
    return Active(word >> 8, abi.active_stop_all(word), abi.active_slot(word), abi.active_opens(word))


def _on_trial(active: Active) -> int:
    """The word of what is on trial: by it the programs know that they have to look at the clock."""
    return active.word() | abi.ACTIVE_ON_TRIAL


def _word(active: int) -> int:
    """The active word in the map of this descriptor."""
    held = bpf.lookup(active, bytes(4), ACTIVE_BYTES) or bytes(ACTIVE_BYTES)
    return int(abi.ActiveWord.from_buffer_copy(held).word)


@dataclass(frozen=True, slots=True)
class Trial:
    """What is active until a moment (ns of the monotonic clock) only, and what counts then."""

    active: Active
    instead: Active
    until: int

    def is_over(self) -> bool:
        """Whether ``instead`` counts already."""
        return time.monotonic_ns() >= self.until


def read_active(pins: Path) -> Active:
    """The active word as it was written last."""
    with opened(pins / "active") as fd:
        return _active(_word(fd))


def read_trial(pins: Path) -> Trial | None:
    """The trial that the active word is on; None: on none."""
    with opened(pins / "trial") as fd:
        word, instead, until = struct.unpack("=QQQ", bpf.lookup(fd, bytes(4), 24) or bytes(24))
    if not until:
        return None
    active = read_active(pins)
    return Trial(active, _active(instead), until) if word == _on_trial(active) else None


def read_effective(pins: Path) -> Active:
    """What is enforced now, as the programs see it (but for a dead Engine's open policy)."""
    trial = read_trial(pins)
    return trial.instead if trial and trial.is_over() else read_active(pins)


def may_open(pins: Path) -> bool:
    """Whether what is active permits everything while no Engine lives, or what its trial ends in does."""
    trial = read_trial(pins)
    return read_active(pins).opens or (trial is not None and trial.instead.opens)


@dataclass(frozen=True, slots=True)
class Seen:
    """What is active, and the trial that it is on."""

    active: Active
    trial: Trial | None

    @property
    def is_unsettled(self) -> bool:
        """Whether a trial is over that nobody has written down yet, or has ended in nothing."""
        return self.trial.is_over() if self.trial else self.active.slot is None

    @property
    def may_open(self) -> bool:
        """As ``may_open``."""
        return self.active.opens or (self.trial is not None and self.trial.instead.opens)


class Watch:
    """Looks at the active word and its trial again and again, and opens them once: now, if they are there."""

    def __init__(self, pins: Path) -> None:
        self._paths = str(pins / "active"), str(pins / "trial")
        self._opened: tuple[tuple[int, int], tuple[int, int]] | None = None
        """Of both maps the pins' inodes, and the descriptors."""
        self.look()

    def look(self) -> Seen | None:
        """What is enforced now; None: nothing is pinned (any more). Raises OSError."""
        try:
            inodes = os.stat(self._paths[0]).st_ino, os.stat(self._paths[1]).st_ino  # noqa: PTH116  (each second)
            if self._opened is None or self._opened[0] != inodes:
                self.close()
                self._opened = inodes, (bpf.open_pinned(Path(self._paths[0])), bpf.open_pinned(Path(self._paths[1])))
        except FileNotFoundError:
            self.close()
            return None
        active, trial = self._opened[1]
        word = _word(active)
        on_trial, instead, until = struct.unpack("=QQQ", bpf.lookup(trial, bytes(4), 24) or bytes(24))
        seen = _active(word)
        return Seen(seen, Trial(seen, _active(instead), until) if until and on_trial == word else None)

    def close(self) -> None:
        """Gives the descriptors back."""
        for descriptor in self._opened[1] if self._opened else ():
            os.close(descriptor)
        self._opened = None


def write_active(pins: Path, active: Active, trial: Trial | None = None) -> None:
    """One write: every verdict remembered under another word is stale from here on. Without ``trial`` for good."""
    if trial:
        with opened(pins / "trial") as fd:
            bpf.update(fd, bytes(4), struct.pack("=QQQ", _on_trial(trial.active), trial.instead.word(), trial.until))
    with opened(pins / "active") as fd:
        bpf.update(fd, bytes(4), bytes(abi.ActiveWord(_on_trial(active) if trial else active.word())))
    if not trial:
        end_trial(pins)


def end_trial(pins: Path) -> None:
    """Lets what is active be active for good."""
    with opened(pins / "trial") as fd:
        bpf.update(fd, bytes(4), bytes(24))


def grant(pins: Path) -> None:
    """Before a policy that opens becomes the active one: so long it counts without a heartbeat, until the first one."""
    with opened(pins / "heartbeat") as fd:
        bpf.update(fd, bytes(4), struct.pack("=Q", time.monotonic_ns() + FIRST_BEAT))


def beat(heartbeat: int) -> None:
    """The heartbeat of a living Engine, into the map of this descriptor."""
    bpf.update(heartbeat, bytes(4), struct.pack("=Q", time.monotonic_ns()))
