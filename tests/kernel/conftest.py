"""One loaded set of programs per session, in a cgroup and a bpffs folder of its own, applied to processes put there."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from kpf_ebpf.engine.perch import find_home
from kpf_ebpf.facts.gather import gather
from kpf_ebpf.image.compile import compile_image
from kpf_ebpf.kernel import bpf
from kpf_ebpf.kernel.apply import apply
from kpf_ebpf.kernel.counters import read_counter, read_counters
from kpf_ebpf.kernel.hooks import attach, detach
from kpf_ebpf.kernel.load import ADAPTER_PROGRAMS, PROBES, Programs, load
from kpf_ebpf.policy.parse import parse
from kpf_ebpf.resolve.resolve import resolve

DENY_ALL = """
[default]
trusted-in = "deny"
trusted-out = "deny"
internet-in = "deny"
internet-out = "deny"
[predefined]
enabled = false
"""
INTERPRETER = Path(os.path.realpath("/usr/bin/python3"))


def _cgroup_mount() -> Path:
    for line in Path("/proc/self/mounts").read_text().splitlines():
        if line.split()[2] == "cgroup2":
            return Path(line.split()[1])
    raise RuntimeError("no cgroup v2 is mounted")


@dataclass
class Kernel:
    """The loaded firewall under test: a cgroup, pins, and copies of the interpreter as applications of their own."""

    programs: Programs
    cgroup: Path
    folder: Path
    counters: dict[str, int]
    home: int

    def program(self, name: str) -> Path:
        """A root-owned copy of the interpreter: an application of its own."""
        path = self.folder / name
        if not path.exists():
            shutil.copy(INTERPRETER, path)
        return path

    def apply(self, policy: str) -> None:
        """Enforces a policy given as TOML text."""
        parsed, _ = parse(policy.encode(), "test.toml", lambda path: b"", Path("/"))
        facts = gather(parsed, self.programs.identify, netns_cookie=self.home)
        image = compile_image(resolve(parsed, facts), self.counters)
        apply(self.programs.pins, image)
        self.counters = dict(image.counters)

    def hits(self, rule: str) -> int:
        """How many flows a rule has judged."""
        fd = bpf.open_pinned(self.programs.pins / "counters")
        try:
            return read_counter(fd, self.counters[rule])[0]
        finally:
            os.close(fd)

    def judged(self) -> Counter[str]:
        """How many flows each rule has judged."""
        names = {number: rule for rule, number in self.counters.items()}
        return Counter({names[one]: read[0] for one, read in read_counters(self.programs.pins, names).items()})

    def start(self, name: str, code: str) -> subprocess.Popen[str]:
        """Starts Python code as the named program, inside the cgroup from its first instruction."""

        def enter() -> None:
            (self.cgroup / "cgroup.procs").write_text(str(os.getpid()))

        return subprocess.Popen(
            [self.program(name), "-I", "-c", code],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=enter,
        )

    def run(self, name: str, code: str) -> str:
        """Runs Python code as the named program to its end, which must be a good one; its output."""
        with self.start(name, code) as started:
            try:
                output, _ = started.communicate(timeout=20)
            except subprocess.TimeoutExpired:
                started.kill()
                raise
        assert started.returncode == 0
        return output.strip()


@contextmanager
def loaded_kernel(*more: str) -> Iterator[Kernel]:
    """The programs (``more``: also those), attached to a cgroup made for this; everything is removed afterwards."""
    name = f"kpf-test-{secrets.token_hex(4)}"
    if not os.path.ismount("/sys/fs/bpf"):
        subprocess.run(["mount", "-t", "bpf", "bpf", "/sys/fs/bpf"], check=True)
    pins, cgroup, folder = Path("/sys/fs/bpf") / name, _cgroup_mount() / name, Path("/usr/local/lib") / name
    for made in (pins, cgroup, folder):
        made.mkdir(mode=0o755)
    group = os.open(cgroup, os.O_RDONLY | os.O_DIRECTORY)
    try:
        programs = load(pins, (*PROBES, *more))
        attach(pins, programs.descriptors, group)
        yield Kernel(programs, cgroup, folder, {}, find_home(pins, cgroup))
    finally:
        detach(pins, group)
        os.close(group)
        shutil.rmtree(pins)
        for below in [*cgroup.iterdir(), cgroup]:
            if below.is_dir():
                below.rmdir()
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def kernel() -> Iterator[Kernel]:
    """The loaded firewall, one for a session."""
    if os.geteuid() != 0:
        pytest.fail("kernel tests need root: sudo make test")
    with loaded_kernel(*ADAPTER_PROGRAMS) as loaded:
        yield loaded
