"""The last policy that was enforced, proven, and not on trial: what a boot falls back to where the file is bad.

It outlives a boot, as the password does, and so do the contents of programs that were accepted with it. ``down``
removes it: then nothing was meant to be enforced any more.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass, field, replace
from pathlib import Path

import cattrs
from cattrs.preconf.json import make_converter

from kpf_ebpf.engine.folders import Instance, make_folder, write_file
from kpf_ebpf.engine.records import Enforced
from kpf_ebpf.engine.snapshot import POLICY, ReadPolicy, Snapshot, policy_path, read_again, read_files
from kpf_ebpf.kernel.active import read_trial
from kpf_ebpf.policy.errors import PolicyError

_converter = make_converter()


@dataclass(frozen=True, slots=True)
class LastGood:
    """A policy's texts, and the SHA-256 accepted at each path that it names."""

    snapshot: Snapshot
    digests: dict[str, str] = field(default_factory=dict)


def _path(instance: Instance) -> Path:
    return instance.state / "last-good.json"


def _of(enforced: Enforced) -> LastGood:
    """Without its note: what was fallen back to is the same policy."""
    return LastGood(replace(enforced.snapshot, note=""), enforced.digests)


def keep(instance: Instance, enforced: Enforced) -> None:
    """Writes down that this is enforced, unless it is on trial. On a full disk the old one stays; ``status`` tells."""
    if read_trial(instance.pins) is None and not is_kept(instance, enforced):
        with contextlib.suppress(OSError):
            make_folder(instance.state)
            write_file(_path(instance), json.dumps(_converter.unstructure(_of(enforced))))


def is_kept(instance: Instance, enforced: Enforced) -> bool:
    """Whether a boot would fall back to this."""
    return recall(instance) == _of(enforced)


def recall(instance: Instance) -> LastGood | None:
    """What was last enforced; None: nothing, or a file that no kpf-ebpf wrote."""
    try:
        return _converter.structure(json.loads(_path(instance).read_text()), LastGood)
    except (OSError, ValueError, TypeError, KeyError, cattrs.errors.BaseValidationError):
        return None


def forget(instance: Instance) -> None:
    """Removes it, and the state folder with it if nothing else is there; nothing there is fine."""
    _path(instance).unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        instance.state.rmdir()
        instance.state.parent.rmdir()


def read(instance: Instance, chosen: Path | None) -> ReadPolicy:
    """The policy of a file (None: the machine's); if it is bad or gone, what was last enforced of it, with a note.

    A policy of another file is none of its. Raises PolicyError where the file is bad and there was none.
    """
    good = recall(instance)
    file = policy_path(chosen)
    if good is not None and chosen is None and good.snapshot.file == str(POLICY):
        file = POLICY  # gone, it is not what is shipped that counts
    try:
        return read_files(file)
    except PolicyError as problem:
        if good is None or good.snapshot.file != str(file):
            raise
        first, more = problem.findings[0], len(problem.findings) - 1
        note = f"bad, so what was last enforced of it is enforced; mend it, then run `kpf-ebpf reload`: {first}"
        return read_again(replace(good.snapshot, note=note + (f" (and {more} more)" if more else "")))
