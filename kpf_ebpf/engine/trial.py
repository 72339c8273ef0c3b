"""A policy on trial: what it is until somebody confirms it, and what is so when nobody does.

The programs in the kernel end a trial by themselves. Here that is seen, and written down afterwards.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path

from kpf_ebpf.engine import records
from kpf_ebpf.engine.errors import EngineError
from kpf_ebpf.engine.folders import Instance
from kpf_ebpf.engine.records import Enforced, Pending
from kpf_ebpf.kernel.active import Active, Trial, end_trial, read_active, read_effective, read_trial, write_active

LONGEST = 86_400
"""Seconds of the longest trial."""


@dataclass(frozen=True, slots=True)
class Now:
    """What the kernel enforces now: the record of it (None: nothing), the active word, seconds left of a trial."""

    enforced: Enforced | None
    active: Active
    left: float | None = None
    unconfirmed: bool = False
    """It is what was there before something that nobody confirmed."""


def moment(seconds: int) -> int:
    """So many seconds from now, in ns of the monotonic clock. Raises EngineError for a trial without end."""
    if not 1 <= seconds <= LONGEST:
        raise EngineError(f"--confirm {seconds}: expected 1 to {LONGEST} seconds; nothing was changed")
    return time.monotonic_ns() + seconds * 10**9


def look(instance: Instance) -> Now:
    """What is enforced, without changing anything. Raises EngineError if a record is damaged."""
    enforced = records.enforced(instance)
    if enforced is None:
        return Now(None, Active(0, False, None))
    trial, pending = read_trial(instance.pins), records.read(instance, Pending)
    if trial is None or pending is None:
        return Now(enforced, read_active(instance.pins))
    if not trial.is_over():
        return Now(enforced, trial.active, (trial.until - time.monotonic_ns()) / 1e9)
    return Now(pending.former, read_effective(instance.pins), unconfirmed=True)


def is_unsettled(pins: Path) -> bool:
    """Whether a trial is over that nobody has written down yet, or has ended in nothing. Only the kernel is asked."""
    try:
        trial = read_trial(pins)
        return trial.is_over() if trial else read_active(pins).slot is None
    except FileNotFoundError:
        return False  # `down`, or somebody who removed the pins


def settle(instance: Instance) -> Enforced | None:
    """Writes down that a trial is over, if one is; the instance must be locked. Gives what is enforced.

    None after a trial: nothing was enforced before it, either; its hooks and maps are still there.
    """
    now = look(instance)
    if not now.unconfirmed:
        return now.enforced
    active = replace(now.active, generation=read_active(instance.pins).generation + 1)
    known = now.enforced and replace(now.enforced, generation=active.generation)
    if known is not None:
        records.write(instance, known)
    write_active(instance.pins, active)
    if known is None:
        records.forget(instance, Enforced)
    records.forget(instance, Pending)
    return known


def confirm(instance: Instance) -> None:
    """Keeps what is on trial. Raises EngineError where nothing is."""
    if settle(instance) is None or read_trial(instance.pins) is None:
        raise EngineError(
            f"the instance {instance.name} has nothing to confirm (any more); `kpf-ebpf status` shows what it enforces"
        )
    end_trial(instance.pins)
    records.forget(instance, Pending)


def rewrite(instance: Instance, active: Active) -> None:
    """Makes this the active word; a trial goes on, and what it may end in gets the same stop-all switch."""
    trial = read_trial(instance.pins)
    kept = Trial(active, replace(trial.instead, stop_all=active.stop_all), trial.until) if trial else None
    write_active(instance.pins, active, kept)
