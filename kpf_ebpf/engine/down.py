"""down: the end of enforcement, with or without a living Engine."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from kpf_ebpf.engine import last_good, process, records
from kpf_ebpf.engine.errors import EngineError
from kpf_ebpf.engine.folders import Instance, remove_folder
from kpf_ebpf.engine.perch import remove_perches
from kpf_ebpf.engine.records import Attachment
from kpf_ebpf.facts.system import enter_network
from kpf_ebpf.kernel import adapters, hooks
from kpf_ebpf.kernel.active import Active, read_active, write_active


def bring_down(instance: Instance, *, force: bool = False) -> bool:
    """Stops enforcing and removes everything but the log and the password; False: there was nothing.

    ``force`` goes on where the records are damaged. Raises EngineError.
    """
    with instance.locked():
        there = instance.pins.exists() or instance.run.exists()
        try:
            place = records.read(instance, Attachment)
        except EngineError:
            if not force:
                raise
            place = None
        if there:
            take_down(instance, place.folder if place else None)
        last_good.forget(instance)
        return there


def take_down(instance: Instance, folder: str | None, *, own: bool = False) -> None:
    """Ends enforcement, then removes what enforced: hooks, filters, Engine, pins and run folder.

    ``own``: the Engine does it itself, and ends afterwards.
    """
    _disarm(instance)
    try:
        if folder is not None:
            remove_perches(instance.pins, Path(folder))
            group = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                hooks.detach(instance.pins, group)
            finally:
                os.close(group)
    except FileNotFoundError:
        pass  # the cgroup is gone, and its programs with it
    try:
        _leave_adapters(instance)
        if not own:
            process.stop(instance)
    finally:
        remove_folder(instance.pins)
        remove_folder(instance.run)
        _remove_if_empty(instance.pins.parent)


def _disarm(instance: Instance) -> None:
    """Lets no image be active: a program that stays attached where nobody finds it permits from here on."""
    if (instance.pins / "active").exists():
        write_active(instance.pins, Active(read_active(instance.pins).generation + 1, False, None))


def _remove_if_empty(folder: Path) -> None:
    """Removes the folder of all instances' pins with the last of them."""
    try:
        folder.rmdir()
    except OSError as problem:
        if problem.errno not in (errno.ENOTEMPTY, errno.ENOENT, errno.EBUSY):
            raise


def _leave_adapters(instance: Instance) -> None:
    """In the network namespace of ``up``: this one, or else the Engine's."""
    engine = process.living(instance)
    if engine is None or adapters.in_namespace_of(engine):
        adapters.detach(instance.pins)
        return
    child = os.fork()
    if child == 0:
        status = 1
        try:
            enter_network(engine)
            adapters.detach(instance.pins)
            status = 0
        finally:
            os._exit(status)
    os.waitpid(child, 0)
