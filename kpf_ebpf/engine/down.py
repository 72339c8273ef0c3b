"""down: the end of enforcement, with or without a living Engine."""

from __future__ import annotations

import os

from kpf_ebpf.engine import process, records
from kpf_ebpf.engine.errors import EngineError
from kpf_ebpf.engine.folders import Instance, remove_folder
from kpf_ebpf.engine.records import Attachment
from kpf_ebpf.facts.system import enter_network
from kpf_ebpf.kernel import adapters, hooks


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
        return there


def take_down(instance: Instance, folder: str | None) -> None:
    """Detaches from the cgroup and the adapters, ends the Engine, removes pins and run folder, in that order."""
    _leave_adapters(instance)
    try:
        if folder is not None:
            group = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                hooks.detach(instance.pins, group)
            finally:
                os.close(group)
    except FileNotFoundError:
        pass  # the cgroup is gone, and its programs with it
    try:
        process.stop(instance)
    finally:
        remove_folder(instance.pins)
        remove_folder(instance.run)


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
