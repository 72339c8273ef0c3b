"""The hooks: which program is attached where; attaching all or none, and finding what is attached."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kpf_ebpf.kernel import bpf, maps


class AttachError(Exception):
    """A hook could not be attached; nothing was left attached that was not before."""


@dataclass(frozen=True, slots=True)
class Hook:
    """One attachment: name, function, program type, attach type (or the tracepoint's name)."""

    name: str
    program: str
    kind: int
    where: int | str


HOOKS = (
    Hook("exec", "kpf_exec", 17, "sched_process_exec"),
    Hook("fork", "kpf_fork", 17, "sched_process_fork"),
    Hook("exit", "kpf_exit", 17, "sched_process_exit"),
    Hook("cgroup_mkdir", "kpf_cgroup_made", 17, "cgroup_mkdir"),
    Hook("cgroup_rmdir", "kpf_cgroup_gone", 17, "cgroup_rmdir"),
    Hook("sock_create", "kpf_sock_create", 9, 2),
    Hook("post_bind4", "kpf_post_bind4", 9, 12),
    Hook("post_bind6", "kpf_post_bind6", 9, 13),
    Hook("connect4", "kpf_connect4", 18, 10),
    Hook("connect6", "kpf_connect6", 18, 11),
    Hook("sendmsg4", "kpf_sendmsg4", 18, 14),
    Hook("sendmsg6", "kpf_sendmsg6", 18, 15),
    Hook("ingress", "kpf_ingress", 8, 0),
    Hook("egress", "kpf_egress", 8, 1),
)
"""In order of attachment: whoever a packet belongs to is known before any packet is judged."""
SCRIPT_PROGRAM, SCRIPT_HOOK = "kpf_script", Hook("script", "kpf_script", 26, "")
"""Where the kernel takes it: the hook that sees a script's own file (fentry or LSM; no tracepoint's name)."""
OPTIONS_HOOK = Hook("setsockopt", "kpf_setsockopt", 25, 22)
"""Where adapters are filtered: the hook that refuses the ways around their filters."""
_AT_TIMES = (OPTIONS_HOOK, SCRIPT_HOOK)
_OF_CGROUPS = (*(hook for hook in HOOKS if isinstance(hook.where, int)), OPTIONS_HOOK)
MARKS = ("active", "processes")
"""Every program of a cgroup uses one of these maps: they tell whose program it is."""


@contextmanager
def opened(path: Path) -> Iterator[int]:
    """The descriptor of something pinned, for as long as it is needed. Raises OSError."""
    fd = bpf.open_pinned(path)
    try:
        yield fd
    finally:
        os.close(fd)


def attach(pins: Path, descriptors: Mapping[str, int], cgroup: int) -> None:
    """Attaches every hook, in order, each in the place of what this instance had there before. All or none.

    ``descriptors`` are the loaded programs by function name. Pins: ``hook_NAME`` below ``pins``. Raises AttachError.
    """
    wanted = (*HOOKS, *(hook for hook in _AT_TIMES if hook.program in descriptors))
    before = {hook.name: fd for hook in wanted if (fd := _attached_before(pins, hook, cgroup)) is not None}
    done: list[Hook] = []
    try:
        for hook in wanted:
            try:
                _attach_one(pins, descriptors[hook.program], hook, cgroup, before.get(hook.name))
            except OSError as problem:
                (pins / f"new_{hook.name}").unlink(missing_ok=True)
                raise AttachError(f"hook {hook.name}: {problem.strerror}") from problem
            done.append(hook)
    except AttachError:
        for hook in reversed(done):
            _undo(pins, descriptors[hook.program], hook, cgroup, before.get(hook.name))
        raise
    finally:
        for fd in before.values():
            os.close(fd)
    for hook in wanted:
        (pins / f"new_{hook.name}").rename(pins / f"hook_{hook.name}")
    for hook in set(_AT_TIMES) - set(wanted):
        (pins / f"hook_{hook.name}").unlink(missing_ok=True)
    current = {bpf.identity_of(fd) for fd in descriptors.values()}
    detach(pins, cgroup, current)


def _attach_one(pins: Path, program: int, hook: Hook, cgroup: int, before: int | None) -> None:
    fresh = pins / f"new_{hook.name}"
    fresh.unlink(missing_ok=True)
    if isinstance(hook.where, str):
        link = bpf.open_raw_tracepoint(hook.where, program)
        try:
            bpf.pin(link, fresh)
        finally:
            os.close(link)
    else:
        bpf.pin(program, fresh)
        bpf.attach(cgroup, program, hook.where, before)


def _undo(pins: Path, program: int, hook: Hook, cgroup: int, before: int | None) -> None:
    if isinstance(hook.where, int):
        if before is None:
            bpf.detach(cgroup, program, hook.where)
        else:
            bpf.attach(cgroup, before, hook.where, program)
    (pins / f"new_{hook.name}").unlink(missing_ok=True)


def _attached_before(pins: Path, hook: Hook, cgroup: int) -> int | None:
    """The descriptor of this instance's program at a hook of the cgroup, or None."""
    if isinstance(hook.where, str):
        return None
    try:
        fd = bpf.open_pinned(pins / f"hook_{hook.name}")
    except OSError:
        return None
    if bpf.identity_of(fd) in bpf.attached(cgroup, hook.where):
        return fd
    os.close(fd)
    return None


def _marks(pins: Path) -> set[int]:
    found = set()
    for name in MARKS:
        try:
            with opened(pins / name) as fd:
                found.add(bpf.identity_of(fd))
        except OSError:
            continue
    return found


def detach(pins: Path, cgroup: int, but: set[int] | None = None) -> int:
    """Detaches every program of this instance from a cgroup, save those with the ids ``but``; returns how many.

    Its programs are those that use a map of MARKS: what an ``up`` left that died half-way is found, too.
    """
    marks, count = _marks(pins), 0
    for hook in _OF_CGROUPS:
        for program_id in bpf.attached(cgroup, int(hook.where)):
            if program_id in (but or ()):
                continue
            try:
                program = _opened_program(pins, hook, program_id)
            except FileNotFoundError:
                continue
            try:
                if marks.intersection(bpf.maps_of(program)):
                    bpf.detach(cgroup, program, int(hook.where))
                    count += 1
            finally:
                os.close(program)
    return count


def _opened_program(pins: Path, hook: Hook, program_id: int) -> int:
    """By its number; whoever may not do that (the Engine) finds what is pinned. Raises OSError."""
    try:
        return bpf.open_program(program_id)
    except PermissionError:
        program = bpf.open_pinned(pins / f"hook_{hook.name}")
        if bpf.identity_of(program) != program_id:
            os.close(program)
            raise FileNotFoundError(0, "another program than the pinned one") from None
        return program


def foreign(pins: Path, cgroup: int) -> dict[str, int]:
    """How many programs that are not this instance's are attached to the cgroup itself, by hook.

    They may deny what is permitted here, and rewrite addresses before a packet is judged; they cannot permit anything.
    """
    found = {}
    for hook in _OF_CGROUPS:
        ids = set(bpf.attached(cgroup, int(hook.where)))
        try:
            with opened(pins / f"hook_{hook.name}") as fd:
                ids.discard(bpf.identity_of(fd))
        except OSError:
            continue
        if ids:
            found[hook.name] = len(ids)
    return found


def attached_hooks(pins: Path, cgroup: int) -> dict[str, bool]:
    """Which hooks are really there: links that are pinned, programs that the cgroup says are attached."""
    found = {}
    for hook in (*HOOKS, *(hook for hook in _AT_TIMES if (pins / f"hook_{hook.name}").exists())):
        try:
            with opened(pins / f"hook_{hook.name}") as fd:
                found[hook.name] = isinstance(hook.where, str) or bpf.identity_of(fd) in bpf.attached(
                    cgroup, hook.where
                )
        except OSError:
            found[hook.name] = False
    return found


def check_pins(pins: Path) -> str | None:
    """What of the pinned maps a new load could not reuse, in words; None if everything fits or nothing is there."""
    for name, spec in maps.MAPS.items():
        try:
            with opened(pins / name) as fd:
                kind, key, value, entries, _ = bpf.map_shape(fd)
        except FileNotFoundError:
            continue
        wanted = (spec.type, spec.key_size, spec.value_size, spec.entries or entries)
        if (kind, key, value, entries) != wanted:
            return f"map {name} is {(kind, key, value, entries)}, expected {wanted}"
    return None
