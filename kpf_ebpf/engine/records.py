"""What is written down in the run folder: what is enforced, and which process is the Engine."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import cattrs
from cattrs.preconf.json import make_converter

from kpf_ebpf.engine.errors import EngineError
from kpf_ebpf.engine.folders import Instance, write_file
from kpf_ebpf.engine.snapshot import Snapshot
from kpf_ebpf.facts.model import Adapter, NameFact, Session
from kpf_ebpf.image.compile import compile_image
from kpf_ebpf.image.model import MapImage
from kpf_ebpf.policy.model import Range
from kpf_ebpf.resolve.model import ResolvedPolicy

T = TypeVar("T")


def _ranges_text(ranges: tuple[Range, ...] | None) -> str | None:
    """Ranges as one word: there may be a million of them."""
    return None if ranges is None else " ".join([f"{first:x}-{last:x}" for first, last in ranges])


def _read_ranges(found: Any, _: object) -> tuple[Range, ...] | None:
    if found is None:
        return None
    if not isinstance(found, str):
        raise TypeError("ranges are one word")
    halves = [word.partition("-") for word in found.split()]
    return tuple([(int(first, 16), int(last, 16)) for first, _, last in halves])


def _is_ranges(kind: object) -> bool:
    return kind in (tuple[Range, ...], tuple[Range, ...] | None)


_converter = make_converter(omit_if_default=True, detailed_validation=False)
_converter.register_unstructure_hook_func(_is_ranges, _ranges_text)
_converter.register_structure_hook_func(_is_ranges, _read_ranges)


@dataclass(frozen=True, slots=True)
class Enforced:
    """A policy as it is enforced: what the kernel's image was compiled from. Written before the kernel switches."""

    generation: int
    snapshot: Snapshot
    policy_sha256: str
    resolved: ResolvedPolicy
    counters: dict[str, int]
    names: tuple[NameFact, ...] = ()
    name_grace: int = 0
    prints: dict[str, tuple[int, int, int, int]] = field(default_factory=dict)
    """Of the program files (engine.prints), taken before they were looked at."""
    digests: dict[str, str] = field(default_factory=dict)
    """The SHA-256 accepted at each path that the policy names, also of files that are gone."""

    contents: dict[str, str] = field(default_factory=dict)
    """What the maps of the active slot hold, by kernel.apply: what stays the same is not made again."""

    session: Session | None = None
    """The connection that lives on, whatever the policy says."""

    words: tuple[str, ...] = ()
    """The paths and wildcards of the policy that mean program files."""

    resolvers: tuple[tuple[int, int], ...] | None = None
    """The policy's own resolvers; None: the system's."""

    def image(self) -> MapImage:
        """The image the kernel has, compiled once more."""
        return compile_image(self.resolved, self.counters)

    rows: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Of hosts, and of those that share an address (with spaces between): the rows of the rules that name them."""


@dataclass(frozen=True, slots=True)
class Renamed:
    """What became of hosts and adapters since a policy was enforced as generation ``base``, whose record is kept."""

    base: int
    generation: int
    names: tuple[NameFact, ...]
    hosts: dict[str, tuple[int, ...]]
    adapters: tuple[Adapter, ...]

    def of(self, enforced: Enforced) -> Enforced:
        """The record with these; another generation's as it is."""
        if enforced.generation != self.base:
            return enforced
        resolved = replace(enforced.resolved, hosts=self.hosts, adapters=self.adapters)
        return replace(enforced, generation=self.generation, names=self.names, resolved=resolved)


@dataclass(frozen=True, slots=True)
class Pending:
    """What is enforced on trial: until when (ns of the monotonic clock), and what was enforced before (or nothing)."""

    until: int
    former: Enforced | None = None


@dataclass(frozen=True, slots=True)
class Attachment:
    """Where the hooks are attached: a cgroup's folder, its path below the mount, and adapters.

    ``adapters`` None: every adapter, also those that come later (under the root cgroup).
    """

    folder: str
    path: str
    adapters: tuple[str, ...] | None = ()


@dataclass(frozen=True, slots=True)
class EngineProcess:
    """The process that ``up`` registered as the Engine: its id and start time (clock ticks since boot)."""

    pid: int
    started: int


@dataclass(frozen=True, slots=True)
class Losses:
    """What the Engine could not do with what it read: events that made no sense, records not written, not sent.

    ``refused``: changes of files that were not taken, in words; what they replace stands.
    """

    malformed: int = 0
    log: int = 0
    syslog: int = 0
    refused: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class KeptName:
    """A host name as the Engine keeps it. Moments are seconds of the kernel's monotonic clock.

    ``until``: when its time to live is over, ``grace_until``: when the addresses of a name that lives on grace go;
    None where there is no such moment.
    """

    name: str
    addresses: tuple[int, ...]
    until: float | None
    grace_until: float | None
    error: str


@dataclass(frozen=True, slots=True)
class KeptNames:
    """All names, and what was made of the answers of name servers, by ``names.Counts``."""

    names: tuple[KeptName, ...]
    counts: dict[str, int]


def _path(instance: Instance, kind: type[Any]) -> Path:
    names = {
        Enforced: "enforced.json",
        Renamed: "renamed.json",
        Attachment: "attachment.json",
        EngineProcess: "engine.json",
        Losses: "losses.json",
        KeptNames: "names.json",
        Pending: "pending.json",
    }
    return instance.run / names[kind]


def write(
    instance: Instance, record: Enforced | Renamed | Attachment | EngineProcess | Losses | KeptNames | Pending
) -> None:
    """Replaces the record of this kind."""
    write_file(_path(instance, type(record)), json.dumps(_converter.unstructure(record)))


def read(instance: Instance, kind: type[T]) -> T | None:
    """The record of a kind; None: there is none. Raises EngineError for one that no kpf-ebpf wrote."""
    path = _path(instance, kind)
    try:
        text = path.read_text()
    except OSError:
        return None
    try:
        return _converter.structure(json.loads(text), kind)
    except (ValueError, TypeError, KeyError, cattrs.errors.BaseValidationError) as problem:
        raise EngineError(f"{path} is damaged ({type(problem).__name__}); run `kpf-ebpf up` again") from problem


def enforced(instance: Instance) -> Enforced | None:
    """What the kernel enforces; None: nothing. Raises EngineError if its record is damaged."""
    if not (instance.pins / "active").exists():
        return None
    found, renamed = read(instance, Enforced), read(instance, Renamed)
    return renamed.of(found) if found and renamed else found


def changed_at(instance: Instance, kind: type[Any] = Enforced) -> int:
    """When the record of a kind was last replaced (ns); 0: there is none. Renamed hosts are a record of their own."""
    try:
        return _path(instance, kind).stat().st_mtime_ns
    except OSError:
        return 0


def forget(instance: Instance, kind: type[Any]) -> None:
    """Removes the record of a kind."""
    _path(instance, kind).unlink(missing_ok=True)
