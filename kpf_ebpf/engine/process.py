"""The Engine as a process: starting, registering, finding and ending it."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from kpf_ebpf.engine import records, service
from kpf_ebpf.engine.errors import EngineError
from kpf_ebpf.engine.folders import Instance, make_folder
from kpf_ebpf.engine.records import EngineProcess, Losses
from kpf_ebpf.facts.files import Identify
from kpf_ebpf.facts.proxy_environment import PROXY_VARIABLES
from kpf_ebpf.kernel import abi, processes

PATIENCE = 30.0
"""Seconds the Engine may take to start, or to end: emulated processors are slow."""
ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
"""What the Engine sees beside the proxy that ``up`` saw."""
READY, GO, ORPHAN = b"ready", b"go\n", "orphan"


def living(instance: Instance) -> int | None:
    """The Engine's process id; None: no Engine lives."""
    known = records.read(instance, EngineProcess)
    if known is None or processes.start_time(known.pid) != known.started:
        return None
    return known.pid if _is_engine(known.pid, instance) else None


@dataclass(frozen=True, slots=True)
class EngineStarted:
    """The Engine's process id; ``child``: its process, if it is a child of this one."""

    pid: int
    child: subprocess.Popen[bytes] | None


def start(instance: Instance, identify: Identify, *, orphan: bool = False) -> EngineStarted:
    """Starts the Engine, registers it, and lets it begin. Raises EngineError with what it said if it does not.

    It runs isolated (-I), so that nobody's environment can make it load anything else. An ``orphan`` is process 1's
    child from its first moment: systemd waits for no other's.
    """
    make_folder(instance.log)
    complaints = os.open(instance.log / "engine.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
    try:
        child = subprocess.Popen(
            [sys.executable, "-I", "-m", "kpf_ebpf.engine", instance.name, *([ORPHAN] if orphan else [])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=complaints,
            cwd="/",
            env=_environment(),
            start_new_session=True,
        )
    finally:
        os.close(complaints)
    assert child.stdin is not None and child.stdout is not None
    heard, _, _ = select.select([child.stdout], [], [], PATIENCE)
    word, _, number = (child.stdout.readline() if heard else b"").strip().partition(b" ")
    if word != READY or not number.isdigit():
        child.kill()
        child.wait()
        raise EngineError(f"the Engine did not start; see {instance.log}/engine.log")
    pid = int(number)
    started = processes.start_time(pid)
    assert started is not None
    executable = os.open(f"/proc/{pid}/exe", os.O_RDONLY | os.O_CLOEXEC)
    try:
        processes.register(instance.pins, pid, abi.Component.ENGINE, identify(executable))
    finally:
        os.close(executable)
    records.forget(instance, Losses)
    records.write(instance, EngineProcess(pid, started))
    child.stdin.write(GO)
    child.stdin.close()
    child.stdout.close()
    if orphan:
        child.wait()
    return EngineStarted(pid, None if orphan else child)


def _environment() -> dict[str, str]:
    proxies = {name: os.environ[name] for name in PROXY_VARIABLES if name in os.environ}
    return ENVIRONMENT | service.environment() | proxies


def stop(instance: Instance) -> None:
    """Ends the Engine, if one lives: it is asked, and after PATIENCE seconds killed. A damaged record names nobody."""
    try:
        known = records.read(instance, EngineProcess)
    except EngineError:
        known = None
        records.forget(instance, EngineProcess)
    if known is None:
        return
    try:
        handle = os.pidfd_open(known.pid)
    except OSError:
        handle = -1
    try:
        if handle >= 0 and processes.start_time(known.pid) == known.started and _is_engine(known.pid, instance):
            signal.pidfd_send_signal(handle, signal.SIGTERM)
            if not select.select([handle], [], [], PATIENCE)[0]:
                signal.pidfd_send_signal(handle, signal.SIGKILL)
                select.select([handle], [], [], PATIENCE)
    finally:
        if handle >= 0:
            os.close(handle)
    records.forget(instance, EngineProcess)


def _is_engine(pid: int, instance: Instance) -> bool:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return b"kpf_ebpf.engine" in words and instance.name.encode() in words
