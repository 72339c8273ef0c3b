"""The ground the experiments stand on: helpers in C, started where they belong, and what processes and maps cost."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.e2e.bench import DENY_ALL, Bench, Place
from tests.e2e.child import Child
from tests.e2e.tools import eventually, system

from .report import Report

HERE = Path(__file__).parent
TICKS = os.sysconf("SC_CLK_TCK")
PERMITTED, DENIED, LOGGED = 7001, 7002, 20000
"""Ports: of the permitted program, of the denied one, and the first of 10,000 whose denial is logged."""
QUIET = DENY_ALL.replace("log = true\n", "")
IDLE = 20
SYSCALL_BPF, OBJ_GET = 321, 7
_LIBC = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Setting:
    """What an experiment is given: a bench, the folder of compiled helpers, its report, and how much it is to do."""

    bench: Bench
    helpers: Path
    report: Report
    quick: bool
    part: float = 1

    def count(self, full: int, quick: int) -> int:
        """How often: in full, that part of it, or as often as in a quick run."""
        return quick if self.quick else max(quick, round(full * self.part))

    def program(self, name: str, helper: str = "traffic") -> str:
        """An application of its own: a copy of a helper under this name."""
        path = self.bench.programs / name
        if not path.exists():
            shutil.copyfile(self.helpers / helper, path)
            path.chmod(0o755)
        return str(path)

    def start(self, path: str, *arguments: object, netns: Place = "client", kind: int = 5) -> Child:
        """Start a helper: in the client's namespace inside the firewalled cgroup, or in the server's outside of it.

        ``kind``: how much nicer than others it is; IDLE: it has only the processor time that nobody else wants.
        """
        pipe = subprocess.PIPE
        enter = 'echo $$ >"$0/cgroup.procs" && exec "$@"' if netns == "client" else 'exec "$@"'
        words = ["nsenter", f"--net=/run/netns/{self.bench.namespaces[netns]}", "sh", "-c", enter]
        gentle = ["chrt", "--idle", "0"] if kind == IDLE else ["nice", "-n", str(kind)]
        words += [str(self.bench.cgroup), *gentle, path, *map(str, arguments)]
        child = Child(subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=pipe, cwd="/"))
        self.bench.children.append(child)
        return child

    def traffic(self, path: str, *arguments: object, kind: int = 10) -> Child:
        """Start a firewalled program that sends already."""
        child = self.start(path, *arguments, kind=kind)
        child.event("ready")
        return child

    def serve(self, port: int = PERMITTED, ports: int = 1) -> Child:
        """Start a server outside."""
        child = self.start(str(self.helpers / "serve"), port, ports, netns="server")
        child.event("ready")
        return child

    def watch(self, first: int, last: int) -> Child:
        """Start counting what arrives outside for these ports."""
        child = self.start(str(self.helpers / "watch"), "v0", first, last, netns="server")
        child.event("ready")
        return child


def told(child: Child, text: str, deadline: float = 60) -> dict[str, Any]:
    """What a helper answers to a line."""
    assert child.process.stdin is not None
    child.process.stdin.write(f"{text}\n".encode())
    child.process.stdin.flush()
    found: dict[str, Any] = child.line(deadline).data
    return found


def counted(child: Child) -> dict[str, Any]:
    """What a helper has counted so far."""
    return told(child, "count")


def finished(child: Child, deadline: float) -> dict[str, Any]:
    """What a helper had counted when its work was done."""
    found: dict[str, Any] = child.event("done", deadline).data
    return found


def ended(child: Child) -> dict[str, Any]:
    """End a helper; what it had counted."""
    found = told(child, "end")
    child.stop()
    return found


def errors(found: dict[str, Any]) -> str:
    """How what a helper tried has failed, in words."""
    return ", ".join(f"{count:,} x {name}" for name, count in found["errors"].items()) or "none failed"


def only_refused(found: dict[str, Any]) -> bool:
    """Whether a helper tried and was refused every time."""
    return bool(found["tried"]) and found["errors"] == {"EPERM": found["tried"]}


def none_failed(found: dict[str, Any]) -> bool:
    """Whether a helper tried and never failed."""
    return bool(found["tried"]) and found["passed"] == found["tried"]


@contextlib.contextmanager
def bench_of_its_own() -> Iterator[Bench]:
    """A bench, removed whatever happens."""
    with tempfile.TemporaryDirectory(prefix="kpf-reliability-") as folder:
        bench = Bench(Path(folder))
        try:
            bench.build()
            yield bench
        finally:
            bench.remove()


def compile_helpers(folder: Path) -> None:
    """Compile the C helpers."""
    for source in sorted(HERE.glob("*.c")):
        system("cc", "-O2", "-Wall", "-Wextra", "-D_GNU_SOURCE", "-o", str(folder / source.stem), str(source))


def application(path: str, *, log: bool = False) -> str:
    """A policy's rule that lets a program initiate."""
    return f'[[application]]\npath = "{path}"\ninternet-out = "permit"\nlog = {str(log).lower()}\n'


def packet_rule(name: str, ports: str, action: str, *, protocol: str = "udp", log: bool = False) -> str:
    """A packet filter rule for remote ports, going out."""
    return (
        f'[[packet-filter]]\ndescription = "{name}"\ndirection = "out"\nprotocol = "{protocol}"\n'
        f'remote = {{ port = {ports} }}\naction = "{action}"\nlog = {str(log).lower()}\n'
    )


def rules(bench: Bench) -> dict[str, dict[str, int]]:
    """The counters by rule, without a canary on the way."""
    done = bench.kpf("rules", "--hits", "--json", check=True)
    return {one["id"]: one for one in json.loads(done.stdout)}


# -- what it costs --------------------------------------------------------------------------------------------------


def processor_time(pid: int) -> float:
    """Seconds of processor time that a process has had."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


class Share:
    """How much of one processor a process uses, from here on."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._began = time.monotonic(), processor_time(pid)

    def percent(self) -> float:
        """So far."""
        wall = time.monotonic() - self._began[0]
        return 100 * (processor_time(self._pid) - self._began[1]) / wall


def memory_of(pid: int) -> int:
    """A process's share of memory (PSS), in KiB."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    found = re.search(r"^Pss:\s+(\d+)", text, re.MULTILINE)
    assert found
    return int(found[1])


def slab() -> int:
    """Memory of the kernel's small objects, in KiB, of the whole machine."""
    found = re.search(r"^Slab:\s+(\d+)", Path("/proc/meminfo").read_text(), re.MULTILINE)
    assert found
    return int(found[1])


def map_memory(bench: Bench) -> int:
    """Memory of the pinned maps as the kernel accounts for it, in KiB."""
    total = 0
    for pin in sorted(Path("/sys/fs/bpf/kpf-ebpf", bench.instance).iterdir()):
        path = ctypes.create_string_buffer(str(pin).encode())
        asked = ctypes.create_string_buffer(ctypes.addressof(path).to_bytes(8, "little") + bytes(112), 120)
        descriptor = _LIBC.syscall(SYSCALL_BPF, OBJ_GET, asked, 120)
        if descriptor < 0:
            continue
        text = Path(f"/proc/self/fdinfo/{descriptor}").read_text()
        os.close(descriptor)
        found = re.search(r"^map_type:.*^memlock:\s+(\d+)", text, re.MULTILINE | re.DOTALL)
        total += int(found[1]) // 1024 if found else 0
    return total


def engines(bench: Bench) -> list[int]:
    """The processes that are Engines of this instance."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
            stat = (folder / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if b"kpf_ebpf.engine" in words and bench.instance.encode() in words and stat != "Z":
            found.append(int(folder.name))
    return found


def one_engine(bench: Bench) -> bool:
    """Whether one Engine lives in the end, and enforcement is proven; what is about to end is waited for."""
    return bool(eventually(lambda: len(engines(bench)) == 1)) and bench.kpf("status").returncode == 0
