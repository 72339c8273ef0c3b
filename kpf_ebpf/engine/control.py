"""Changes of what is enforced (reload, accept, stop-all, resolving anew), made by whoever is root: no Engine needed."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from kpf_ebpf.engine import records
from kpf_ebpf.engine.cut import cut
from kpf_ebpf.engine.enforce import Made, View, enforce, switch
from kpf_ebpf.engine.errors import EngineError
from kpf_ebpf.engine.folders import COMMAND, Instance
from kpf_ebpf.engine.records import Attachment, Enforced
from kpf_ebpf.engine.snapshot import ReadPolicy, read_again, read_files
from kpf_ebpf.facts.files import look_at
from kpf_ebpf.facts.system import home_cookie
from kpf_ebpf.image.compile import compile_image
from kpf_ebpf.kernel import load
from kpf_ebpf.kernel.apply import read_active, write_active
from kpf_ebpf.resolve.model import ResolvedApplication


def enforced_now(instance: Instance) -> Enforced:
    """What is enforced. Raises EngineError if nothing is."""
    enforced = records.enforced(instance)
    if enforced is None:
        raise EngineError(f"the instance {instance.name} enforces nothing; run `kpf-ebpf up` first")
    return enforced


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


def reload_policy(instance: Instance) -> Enforced:
    """Reads the policy file again, and what it speaks of. Raises PolicyError or EngineError; nothing changed then."""
    with instance.locked():
        before = enforced_now(instance)
        _require_home(before.resolved.home)
        made = _enforce(instance, read_files(Path(before.snapshot.file)), before)
        place = records.read(instance, Attachment)
        if place is not None:
            cut(instance.pins, made.image, place)
        return made.enforced


def resolve_again(
    instance: Instance, holder: str = COMMAND, view: View | None = None, read: ReadPolicy | None = None
) -> Made:
    """Resolves the policy as it was read (or as ``read``), by what the world is like now.

    Where that changes nothing, the kernel is left alone. Raises EngineError; nothing was changed then.
    """
    with instance.locked(holder):
        before = enforced_now(instance)
        _require_home(before.resolved.home)
        return _enforce(instance, read or read_again(before.snapshot), before, view, lazily=True)


def _enforce(
    instance: Instance, policy: ReadPolicy, before: Enforced, view: View | None = None, *, lazily: bool = False
) -> Made:
    home = before.resolved.home
    return enforce(instance, policy, lambda fd: load.identify(instance.pins, fd), before, home, view, lazily=lazily)


def accept_program(instance: Instance, path: str) -> ResolvedApplication:
    """Takes a program's file as it is now. Raises EngineError for one that the policy does not name, or cannot be."""
    with instance.locked():
        before = enforced_now(instance)
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
        made = replace(before, resolved=resolved, counters=dict(image.counters), digests=digests)
        switch(instance, made, image, before)
        return next(one for one in accepted if one.path == target)


def switch_stop_all(instance: Instance, on: bool) -> None:
    """Turns the stop-all switch; every live flow is judged anew. Raises EngineError if nothing is enforced."""
    with instance.locked():
        enforced = enforced_now(instance)
        active = read_active(instance.pins)
        if active.stop_all != on:
            records.write(instance, replace(enforced, generation=active.generation + 1))
            write_active(instance.pins, replace(active, generation=active.generation + 1, stop_all=on))
