"""Changes of what is enforced (reload, accept, stop-all, resolving anew), made by whoever is root: no Engine needed."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from kpf_ebpf.engine import last_good, records, trial
from kpf_ebpf.engine.cut import cut
from kpf_ebpf.engine.enforce import Made, Terms, View, enforce, switch
from kpf_ebpf.engine.errors import EngineError
from kpf_ebpf.engine.folders import COMMAND, Instance
from kpf_ebpf.engine.follow import rows_of
from kpf_ebpf.engine.records import Attachment, Enforced
from kpf_ebpf.engine.session import guarded
from kpf_ebpf.engine.snapshot import ReadPolicy, read_again, read_files
from kpf_ebpf.facts.files import Identify, look_at
from kpf_ebpf.facts.system import home_cookie
from kpf_ebpf.image.compile import compile_image
from kpf_ebpf.kernel import load
from kpf_ebpf.kernel.active import read_active, read_trial
from kpf_ebpf.kernel.apply import spread
from kpf_ebpf.resolve.model import ResolvedApplication


def enforced_now(instance: Instance) -> Enforced:
    """What is enforced. Raises EngineError if nothing is."""
    now = trial.look(instance)
    if now.enforced is None:
        why = " (its policy was not confirmed in time)" if now.unconfirmed else ""
        raise EngineError(f"the instance {instance.name} enforces nothing{why}; run `kpf-ebpf up` first")
    return now.enforced


def _settled(instance: Instance) -> Enforced:
    """The same, for whoever has the lock and is going to change it."""
    known = trial.settle(instance)
    return enforced_now(instance) if known is None else known


def _require_home(home: int) -> None:
    """Raises EngineError where this is not the namespace of ``up``, as far as the kernel tells (since 5.14)."""
    try:
        here = home_cookie()
    except OSError:
        return
    if here != home:
        raise EngineError(
            "this is not the network namespace that `kpf-ebpf up` ran in, whose adapters and addresses the policy "
            "speaks of; run it there; nothing was changed"
        )


def reload_policy(instance: Instance, *, seconds: int | None = None, sure: bool = False) -> Enforced:
    """Reads the policy file again, and what it speaks of; for so many ``seconds`` unless confirmed.

    Raises PolicyError or EngineError, also (unless ``sure`` or on trial) for a policy that would cut the session this
    is run from; nothing changed then.
    """
    with instance.locked():
        before = _settled(instance)
        _require_home(before.resolved.home)
        place = records.read(instance, Attachment)
        until = None if seconds is None else trial.moment(seconds)
        read = read_files(Path(before.snapshot.file))
        terms = Terms(until, guarded(_identify(instance), place, sure or until is not None))
        made = enforce(instance, read, _identify(instance), before, before.resolved.home, terms=terms)
        if place is not None:
            cut(instance.pins, made.image, place)
        last_good.keep(instance, made.enforced)
        return made.enforced


def _identify(instance: Instance) -> Identify:
    return lambda fd: load.identify(instance.pins, fd)


def resolve_again(
    instance: Instance,
    holder: str = COMMAND,
    view: View | None = None,
    read: ReadPolicy | None = None,
    *,
    session_over: bool = False,
) -> Made:
    """Resolves the policy as it was read (or as ``read``), by what the world is like now.

    Where that changes nothing, the kernel is left alone. Raises EngineError; nothing was changed then.
    """
    with instance.locked(holder):
        before = _settled(instance)
        _require_home(before.resolved.home)
        known = replace(before, session=None) if session_over else before
        made = enforce(
            instance, read or read_again(before.snapshot), _identify(instance), known, before.resolved.home, view
        )
        last_good.keep(instance, made.enforced)
        return made


def confirm(instance: Instance) -> Enforced:
    """Keeps what is on trial; the session that it was tried from is the policy's to judge from now on.

    Raises EngineError if nothing is on trial.
    """
    with instance.locked():
        trial.confirm(instance)
        before = enforced_now(instance)
        last_good.keep(instance, before)
    return resolve_again(instance, session_over=True).enforced if before.session else before


def accept_program(instance: Instance, path: str) -> ResolvedApplication:
    """Takes a program's file as it is now. Raises EngineError for one that the policy does not name, or cannot be."""
    with instance.locked():
        before = _settled(instance)
        target = os.path.realpath(path)
        if target not in {one.path for one in before.resolved.applications}:
            raise EngineError(f"{path}: no rule or component names this file; nothing was changed")
        try:
            fact = look_at(target, lambda fd: load.identify(instance.pins, fd))
        except OSError as problem:
            raise EngineError(f"{path}: {problem.strerror or problem}; nothing was changed") from problem
        if fact.problem:
            raise EngineError(f"{path}: {fact.problem}; nothing was changed")
        accepted = tuple(
            replace(one, key=fact.key, sha256=fact.sha256, former=()) if one.path == target else one
            for one in before.resolved.applications
        )
        resolved = replace(before.resolved, applications=accepted)
        image = compile_image(resolved, before.counters)
        digests = {
            word: fact.sha256 if os.path.realpath(word) == target else digest for word, digest in before.digests.items()
        }
        made = replace(before, resolved=resolved, counters=dict(image.counters), digests=digests, rows=rows_of(image))
        pending = read_trial(instance.pins)
        last_good.keep(instance, switch(instance, made, image, before, pending.until if pending else None))
        spread(instance.pins)
        return next(one for one in accepted if one.path == target)


def switch_stop_all(instance: Instance, on: bool) -> None:
    """Turns the stop-all switch; every live flow is judged anew. Raises EngineError if nothing is enforced."""
    with instance.locked():
        enforced = _settled(instance)
        active = read_active(instance.pins)
        if active.stop_all != on:
            records.write(instance, replace(enforced, generation=active.generation + 1))
            trial.rewrite(instance, replace(active, generation=active.generation + 1, stop_all=on))
