"""reload, stop-all: changes of what is enforced, made by whoever is root; no Engine is needed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from kpf_ebpf.engine import records
from kpf_ebpf.engine.enforce import enforce
from kpf_ebpf.engine.errors import EngineError
from kpf_ebpf.engine.folders import Instance
from kpf_ebpf.engine.records import Enforced
from kpf_ebpf.kernel import load
from kpf_ebpf.kernel.apply import read_active, write_active


def enforced_now(instance: Instance) -> Enforced:
    """What is enforced. Raises EngineError if nothing is."""
    enforced = records.read(instance, Enforced) if (instance.pins / "active").exists() else None
    if enforced is None:
        raise EngineError(f"the instance {instance.name} enforces nothing; run `kpf-ebpf up` first")
    return enforced


def reload_policy(instance: Instance) -> Enforced:
    """Reads the policy file again, and what it speaks of. Raises PolicyError or EngineError; nothing changed then."""
    with instance.locked():
        before = enforced_now(instance)
        return enforce(instance, Path(before.policy_file), lambda fd: load.identify(instance.pins, fd), before)


def switch_stop_all(instance: Instance, on: bool) -> None:
    """Turns the stop-all switch; every live flow is judged anew. Raises EngineError if nothing is enforced."""
    with instance.locked():
        enforced = enforced_now(instance)
        active = read_active(instance.pins)
        if active.stop_all != on:
            records.write(instance, replace(enforced, generation=active.generation + 1))
            write_active(instance.pins, replace(active, generation=active.generation + 1, stop_all=on))
