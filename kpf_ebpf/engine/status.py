"""status: what is really so, asked of the kernel, not of the Engine."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from kpf_ebpf.engine import canary, last_good, process, records, trial
from kpf_ebpf.engine.canary import Canary
from kpf_ebpf.engine.folders import Instance
from kpf_ebpf.engine.records import Attachment, Enforced, KeptName, KeptNames, Losses
from kpf_ebpf.events.decode import point_text
from kpf_ebpf.facts.files import look_at
from kpf_ebpf.facts.model import FileKey, NameFact
from kpf_ebpf.kernel import abi, adapters, bpf, hooks, load, maps
from kpf_ebpf.kernel.active import Active
from kpf_ebpf.kernel.counters import read_counters, read_defaults
from kpf_ebpf.kernel.hooks import opened
from kpf_ebpf.resolve.model import ResolvedApplication, ResolvedRule, ordered_rules


@dataclass(frozen=True, slots=True)
class RuleStatus:
    """A rule and what it judged."""

    rule: ResolvedRule
    hits: int = 0
    packets: int = 0
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class ApplicationStatus:
    """A program the policy names. ``state``: accepted, modified (its file changed), or missing.

    ``sha256`` is of the file that was accepted, ``now`` of what is there ("" if that cannot be read).
    """

    path: str
    state: str
    sha256: str
    now: str


@dataclass(frozen=True, slots=True)
class MapStatus:
    """How full a map is."""

    name: str
    entries: int
    max: int


@dataclass(frozen=True, slots=True)
class NameStatus:
    """A host name: the addresses that are enforced, and, in seconds, what is left of their time to live and grace.

    ``ttl`` None: there is none (an address, /etc/hosts, never answered, no Engine).
    """

    name: str
    addresses: tuple[int, ...]
    ttl: int | None
    error: str
    grace: int


@dataclass(frozen=True, slots=True)
class Status:
    """All of it. ``enforcing`` is true only if the canary proved it and every hook is attached."""

    enforcing: bool
    engine: int | None
    instance: str
    attachment: Attachment | None
    active: Active
    enforced: Enforced | None
    hooks: dict[str, bool]
    rules: tuple[RuleStatus, ...]
    applications: tuple[ApplicationStatus, ...]
    names: tuple[NameStatus, ...]
    maps: tuple[MapStatus, ...]
    seen: int
    lost: int
    canary: Canary
    warnings: tuple[str, ...]
    left: float | None = None
    """Seconds that are left to confirm what is on trial."""


def rule_statuses(instance: Instance, enforced: Enforced) -> tuple[RuleStatus, ...]:
    """Every rule in order, with its counters."""
    rules = [rule for rule in ordered_rules(enforced.resolved) if rule.origin != "canary"]
    counts = read_counters(instance.pins, (number for number in enforced.counters.values()))
    return tuple(
        RuleStatus(rule, *counts[enforced.counters[rule.id]]) if rule.id in enforced.counters else RuleStatus(rule)
        for rule in rules
    )


def _application(pins: Path, application: ResolvedApplication) -> ApplicationStatus:
    """Asks the kernel who the file is now; it is read only if it is another one."""
    path, accepted = application.path, application.sha256
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW)
    except OSError:
        return ApplicationStatus(path, "missing", accepted, "")
    try:
        key: FileKey | None = load.identify(pins, descriptor)
    except OSError:
        key = None
    finally:
        os.close(descriptor)
    if key == application.key:
        return ApplicationStatus(path, "accepted", accepted, accepted)
    try:
        return ApplicationStatus(path, "modified", accepted, look_at(path).sha256)
    except OSError:
        return ApplicationStatus(path, "missing", accepted, "")


def _names(instance: Instance, enforced: Enforced, engine: int | None) -> tuple[NameStatus, ...]:
    """The names as the Engine last wrote them down; without one, as they were when the policy was resolved."""
    kept = records.read(instance, KeptNames) if engine is not None else None
    known = {one.name: one for one in kept.names} if kept else {}
    return tuple(_name(fact, known.get(fact.name), enforced.name_grace) for fact in enforced.names)


def _name(fact: NameFact, kept: KeptName | None, name_grace: int) -> NameStatus:
    """What is enforced of a name, with what the Engine knows of it."""
    if kept is None:
        return NameStatus(fact.name, fact.addresses, None, fact.error, name_grace if fact.addresses else 0)
    now = time.monotonic()
    ttl = None if kept.until is None else max(0, round(kept.until - now))
    grace = name_grace if kept.addresses else 0
    if kept.grace_until is not None:
        ttl, grace = 0, max(0, round(kept.grace_until - now))
    return NameStatus(fact.name, fact.addresses, ttl, kept.error, grace)


def _maps(pins: Path) -> tuple[MapStatus, ...]:
    """The maps that can fill up."""
    found = []
    for name in ("processes", "paths", "flows", "recent", "mirrors"):
        with opened(pins / name) as fd:
            spec = maps.MAPS[name]
            found.append(MapStatus(name, len(bpf.keys(fd, spec.key_size, spec.entries)), spec.entries))
    return tuple(found)


def _hooks(instance: Instance, place: Attachment | None) -> dict[str, bool]:
    try:
        group = os.open(place.folder if place else "", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return {hook.name: False for hook in hooks.HOOKS}
    try:
        return hooks.attached_hooks(instance.pins, group)
    finally:
        os.close(group)


def look(instance: Instance) -> Status:
    """Looks at everything; sends the canary out. Raises EngineError if the records are damaged."""
    place, now = records.read(instance, Attachment), trial.look(instance)
    engine, enforced, active = process.living(instance), now.enforced, now.active
    if enforced is None or place is None:
        why = _why_nothing(instance, now)
        return Status(
            False, engine, instance.name, place, active, None, {}, (), (), (), (), 0, 0, Canary(False, why), (),
        )  # fmt: skip
    attached = _hooks(instance, place)
    attached |= {one.name: one.attached for one in adapters.filters(instance.pins, adapters.names_here(place.adapters))}
    sung = canary.prove(instance.pins, Path(place.folder), enforced.counters)
    defaults = read_defaults(instance.pins)
    losses = records.read(instance, Losses) or Losses()
    warnings = [*enforced.resolved.warnings, *_warnings(engine, attached, defaults), *lost_lines(losses)]
    warnings += [*losses.refused, *_hostile_answers(instance)]
    warnings += _surprises(instance, place, enforced, now)
    if now.unconfirmed:
        warnings.append("what came after this policy was not confirmed in time; this one counts again")
    if now.left is None and not now.unconfirmed and not last_good.is_kept(instance, enforced):
        warnings.append(f"{instance.state} has not this policy: a boot with a bad file would not find it; is it full?")
    if enforced.session is not None:
        warnings.append(f"the session from {point_text(enforced.session.remote)} lives on, whatever the policy says")
    if engine is None and active.opens and not active.stop_all:
        warnings.append('on-failure = "open" and no Engine lives: EVERYTHING IS PERMITTED; run `kpf-ebpf up`')
    return Status(
        enforcing=sung.ok and all(attached.values()) and active.slot is not None,
        engine=engine,
        instance=instance.name,
        attachment=place,
        active=active,
        enforced=enforced,
        hooks=attached,
        rules=rule_statuses(instance, enforced),
        applications=tuple(_application(instance.pins, one) for one in enforced.resolved.applications),
        names=_names(instance, enforced, engine),
        maps=_maps(instance.pins),
        seen=defaults[abi.Default.EVENT_SEEN] + defaults[abi.Default.EVENT_LOST],
        lost=defaults[abi.Default.EVENT_LOST],
        canary=sung,
        warnings=tuple(warnings),
        left=now.left,
    )


def _why_nothing(instance: Instance, now: trial.Now) -> str:
    if now.unconfirmed:
        return "the policy was not confirmed in time; nothing is enforced"
    if not (instance.pins / "active").exists() and (instance.run / "enforced.json").exists():
        return f"its pins below {instance.pins.parent} are gone, and with them what was enforced; run `kpf-ebpf up`"
    return "nothing is enforced"


def _surprises(instance: Instance, place: Attachment, enforced: Enforced, now: trial.Now) -> list[str]:
    """What is not as the records have it."""
    found = []
    if not now.unconfirmed and now.active.generation != enforced.generation:
        found.append(
            f"the record is of generation {enforced.generation}, the kernel has {now.active.generation}: "
            "a command died in between; run `kpf-ebpf reload`"
        )
    try:
        group = os.open(place.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return [*found, f"the cgroup {place.path} is gone, and with it what was attached; run `kpf-ebpf up`"]
    try:
        others = hooks.foreign(instance.pins, group)
    finally:
        os.close(group)
    if others:
        words = ", ".join(f"{count} at {name}" for name, count in others.items())
        found.append(f"programs of others are attached to this cgroup, too, and may deny or redirect: {words}")
    return found


def lost_lines(losses: Losses) -> list[str]:
    """What the Engine lost of the log, in words."""
    told = (
        (losses.malformed, "events made no sense to the Engine; run `kpf-ebpf up` if it is of another version"),
        (losses.log, "records could not be written to the log; is there room on its file system?"),
        (losses.syslog, "records could not be sent to the syslog server; the log file has them"),
    )
    return [f"{count} {words}" for count, words in told if count]


def _hostile_answers(instance: Instance) -> list[str]:
    """What name servers sent that changed nothing, in words."""
    kept = records.read(instance, KeptNames)
    kinds = ("mismatched", "malformed", "oversized", "looping", "refused")
    found = [f"{kept.counts[kind]} {kind}" for kind in kinds if kept.counts.get(kind)] if kept else []
    return [f"answers of name servers that changed nothing: {', '.join(found)}"] if found else []


_TELLING: dict[abi.Default, Callable[[int], str]] = {
    abi.Default.BROKEN_IMAGE: lambda count: f"{count} packets met a broken image and were denied; run `kpf-ebpf up`",
    abi.Default.NO_MEMORY: lambda count: f"{count} verdicts could not be remembered (no memory); they stand",
    abi.Default.PROCESS_LOST: lambda count: f"{count} processes could not be remembered; their owner is unknown",
}


def _warnings(engine: int | None, attached: dict[str, bool], defaults: dict[abi.Default, int]) -> list[str]:
    found = [f"hook {name} is not attached; run `kpf-ebpf up`" for name, there in attached.items() if not there]
    if hooks.SCRIPT_HOOK.name not in attached:
        found.append("scripts are known by their path: this kernel does not let their file be seen (fentry, BPF LSM)")
    if engine is None:
        found.append("the Engine is not running: enforced, but nothing is logged; run `kpf-ebpf up`")
    return found + [text(defaults[which]) for which, text in _TELLING.items() if defaults[which]]
