"""up: everything that lies between a policy file and proven enforcement."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from kpf_ebpf.engine import canary, down, last_good, process, records, trial
from kpf_ebpf.engine.cut import cut
from kpf_ebpf.engine.enforce import Terms, enforce
from kpf_ebpf.engine.errors import EngineError
from kpf_ebpf.engine.folders import Instance, make_folder
from kpf_ebpf.engine.heart import Heart
from kpf_ebpf.engine.perch import find_home, remove_dead, remove_perches
from kpf_ebpf.engine.process import EngineStarted
from kpf_ebpf.engine.records import Attachment, Enforced, Pending
from kpf_ebpf.engine.session import guarded
from kpf_ebpf.engine.snapshot import ReadPolicy
from kpf_ebpf.kernel import adapters, hooks
from kpf_ebpf.kernel.active import Active, Trial, read_active, read_trial, write_active
from kpf_ebpf.kernel.adopt import adopt
from kpf_ebpf.kernel.apply import spread
from kpf_ebpf.kernel.compile import LoadError
from kpf_ebpf.kernel.hooks import AttachError
from kpf_ebpf.kernel.load import ADAPTER_PROGRAMS, Programs, load
from kpf_ebpf.kernel.processes import scan
from kpf_ebpf.kernel.scripts import settle

Tell = Callable[[str], None]
"""Is told what is being done, in a few words."""


@dataclass(frozen=True, slots=True)
class Up:
    """What ``up`` reached."""

    enforced: Enforced
    attachment: Attachment
    canary: canary.Canary
    engine: EngineStarted


@dataclass(frozen=True, slots=True)
class Wish:
    """How a policy is to be enforced: for so many ``seconds`` unless confirmed; ``sure``: whomever it cuts off.

    ``orphan``: the Engine shall be no child of this process (process.start).
    """

    seconds: int | None = None
    sure: bool = False
    orphan: bool = False


def bring_up(instance: Instance, policy: ReadPolicy, place: Attachment, tell: Tell, wish: Wish) -> Up:
    """Enforces a policy on a cgroup; returns once the canary has proven it.

    Raises EngineError, also (unless sure, or on trial) for a policy that would cut the session this is run from. What
    was enforced before is enforced then as before; if nothing was, nothing is.
    """
    with instance.locked():
        trial.settle(instance)
        before = records.enforced(instance)
        _require_same_place(instance, place, wish.seconds, before)
        until = None if wish.seconds is None else trial.moment(wish.seconds)
        _make_folders(instance)
        try:
            return _replace(instance, policy, place, before, tell, (until, wish))
        except BaseException:
            if before is None:
                down.take_down(instance, place.folder)
            raise


def _require_same_place(instance: Instance, place: Attachment, seconds: int | None, before: Enforced | None) -> None:
    """A trial may end in what was enforced before: that must be able to count again where it did."""
    old = records.read(instance, Attachment)
    if seconds is not None and before is not None and old is not None and old.folder != place.folder:
        raise EngineError(
            f"--confirm: {old.path} is enforced, not {place.path}; try the policy there, or run `kpf-ebpf down` first; "
            "nothing was changed"
        )


def _make_folders(instance: Instance) -> None:
    make_folder(instance.run)
    make_folder(instance.pins)


def _replace(
    instance: Instance,
    policy: ReadPolicy,
    place: Attachment,
    before: Enforced | None,
    tell: Tell,
    manner: tuple[int | None, Wish],
) -> Up:
    """``manner``: until when on trial, and what else is wished."""
    tell("loading the programs")
    filtered = place.adapters != ()
    try:
        programs = load(instance.pins, ADAPTER_PROGRAMS if filtered else ())
    except LoadError as problem:
        raise EngineError(f"{problem}; nothing was changed") from problem
    old_place = records.read(instance, Attachment)
    group = os.open(place.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        tell("attaching the hooks")
        try:
            hooks.attach(instance.pins, programs.descriptors, group)
        except AttachError as problem:
            raise EngineError(f"{problem}; run `kpf-ebpf doctor`; nothing was changed") from problem
    finally:
        os.close(group)
    tell("looking at the processes and sockets that are there already")
    try:
        settle(programs.descriptors["kpf_settle"])
    except OSError as problem:
        raise EngineError(f"{problem.strerror}; run `kpf-ebpf doctor`; what was enforced before stands") from problem
    remove_dead(instance.pins, Path(place.folder))
    scan(instance.pins, programs.identify)
    home = find_home(instance.pins, Path(place.folder))
    adopt(instance.pins, home)
    if filtered:
        adapters.pin(instance.pins, programs.descriptors)
    adapters.set_reach(instance.pins, home, Path(place.folder), len(Path(place.path).parts) - 1)
    _filter_adapters(instance, place)
    until, wish = manner
    terms = Terms(until, guarded(programs.identify, place, wish.sure or until is not None), final=False)
    former, former_trial = read_active(instance.pins), read_trial(instance.pins)
    with Heart(instance.pins):  # until the Engine has a heart of its own
        tell("resolving the policy")
        made = enforce(instance, policy, programs.identify, before, home, terms=terms)
        enforced = made.enforced
        tell("proving enforcement with the canary")
        sung = canary.prove(instance.pins, Path(place.folder), enforced.counters)
        if not sung.ok:
            if before is not None:
                _go_back(instance, former, former_trial, before)
            raise EngineError(f"the canary did not prove enforcement: {sung.detail}; what was enforced before stands")
        spread(instance.pins)
        records.write(instance, place)
        last_good.keep(instance, enforced)
        if old_place is not None and old_place.folder != place.folder:
            _leave(instance, old_place)
        engine = _new_engine(instance, programs, wish.orphan, tell)
    tell("ending connections that the policy denies")
    cut(instance.pins, made.image, place)  # with the Engine there, so that the log has them
    return Up(enforced, place, sung, engine)


def _filter_adapters(instance: Instance, place: Attachment) -> None:
    """Attaches the filters at adapters, and takes them from those that are not to be filtered any more."""
    try:
        adapters.detach(instance.pins, but=set(adapters.names_here(place.adapters)))
        adapters.attach(instance.pins, adapters.names_here(place.adapters).values())
    except OSError as problem:
        raise EngineError(f"adapters: {problem.strerror}; leave out --adapter, or run `kpf-ebpf doctor`") from problem


def _new_engine(instance: Instance, programs: Programs, orphan: bool, tell: Tell) -> EngineStarted:
    tell("starting the Engine")
    process.stop(instance)
    return process.start(instance, programs.identify, orphan=orphan)


def _go_back(instance: Instance, former: Active, on_trial: Trial | None, before: Enforced) -> None:
    """Makes the image active that was, on trial if it was: its slot has not been touched."""
    active = replace(former, generation=read_active(instance.pins).generation + 1)
    records.write(instance, before)
    if on_trial is None:
        records.forget(instance, Pending)
    write_active(instance.pins, active, replace(on_trial, active=active) if on_trial else None)


def _leave(instance: Instance, place: Attachment) -> None:
    """Detaches from a cgroup that is not the firewalled one any more."""
    try:
        group = os.open(place.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        hooks.detach(instance.pins, group)
        remove_perches(instance.pins, Path(place.folder))
    finally:
        os.close(group)
