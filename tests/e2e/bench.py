"""A bench for the product as users run it: two network namespaces, a cgroup, programs of its own, the command."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from .child import Child, Result
from .tools import PATIENCE, cgroup_mount, eventually, system

HERE = Path(__file__).parent
COMMAND = HERE.parents[1] / ".venv/bin/kpf-ebpf"
SENDER = HERE / "sender.py"
INTERPRETER = Path(os.path.realpath("/usr/bin/python3"))
CLIENT, SERVER = "192.0.2.1", "192.0.2.2"
CLIENT6, SERVER6 = "2001:db8::1", "2001:db8::2"
CLONE_NEWNET = 0x40000000
Place = Literal["client", "server"]
_LIBC = ctypes.CDLL(None, use_errno=True)

DENY_ALL = """
[predefined]
enabled = false
[default]
trusted-in = "deny"
trusted-out = "deny"
internet-in = "deny"
internet-out = "deny"
log = true
"""
"""Nothing passes but the internal rules."""


def is_script(program: str) -> bool:
    """Return whether a program is a script that sends by itself."""
    with Path(program).open("rb") as file:
        return file.read(2) == b"#!"


class Bench:
    """Client and server namespaces joined by a veth pair; senders run in the client, inside the firewalled cgroup."""

    def __init__(self, folder: Path) -> None:
        self.random = os.urandom(5).hex()
        self.instance = f"t-{self.random}"
        self.folder = folder
        self.policy = folder / "policy.toml"
        self.cgroup_name = f"/kpf-test-{self.random}"
        self.cgroup = cgroup_mount() / self.cgroup_name[1:]
        self.programs = Path(f"/usr/local/lib/kpf-test-{self.random}")
        self.scripts = Path(f"/opt/kpf-test-{self.random}")  # all its folders are root's alone
        self.namespaces: dict[str, str] = {}
        self.children: list[Child] = []
        self.engines: set[int] = set()
        self.closing = contextlib.ExitStack()
        """What is to be closed when the test ends."""
        self.used = False

    # -- making and removing ------------------------------------------------------------------------------------

    def build(self) -> None:
        """Make namespaces, addresses, cgroup and the folder of programs."""
        self.cgroup.mkdir()
        for folder in (self.programs, self.scripts):
            folder.mkdir(mode=0o755)
            folder.chmod(0o755)
        for place in ("client", "server"):
            name = f"kpf-{place[0]}-{self.random}"
            system("ip", "netns", "add", name)
            self.namespaces[place] = name
            system("ip", "-n", name, "link", "set", "lo", "up")
        client, server = self.namespaces["client"], self.namespaces["server"]
        system("ip", "-n", client, "link", "add", "v0", "type", "veth", "peer", "name", "v0", "netns", server)
        for name, four, six in ((client, CLIENT, CLIENT6), (server, SERVER, SERVER6)):
            system("ip", "-n", name, "address", "add", f"{four}/24", "brd", "+", "dev", "v0")
            system("ip", "-n", name, "address", "add", f"{six}/64", "dev", "v0", "nodad")
            system("ip", "-n", name, "link", "set", "v0", "up")
        write = "echo 0 2147483647 > /proc/sys/net/ipv4/ping_group_range"
        system("nsenter", f"--net=/run/netns/{client}", "sh", "-c", write)

    def remove(self) -> None:
        """Undo everything, whatever the test left behind."""
        problems: list[str] = []

        def safely(action: Callable[[], Any]) -> None:
            try:
                action()
            except (OSError, subprocess.SubprocessError) as error:
                problems.append(str(error))

        for child in self.children:
            safely(child.stop)
        safely(self.closing.close)
        if self.used:
            safely(self.take_down)
        self.end_engines()
        for name in self.namespaces.values():
            safely(lambda name=name: system("ip", "netns", "del", name))  # type: ignore[misc]
        for folder in (self.programs, self.scripts, *self.leavings()):
            safely(lambda folder=folder: shutil.rmtree(folder) if folder.exists() else None)  # type: ignore[misc]
        if not eventually(self.cgroup_gone):
            problems.append(f"{self.cgroup} is still busy")
        assert not problems, problems

    def take_down(self) -> None:
        """End the firewall; what it complains of is the failure."""
        done = self.kpf("down", "--force")
        if done.returncode:
            raise subprocess.SubprocessError(f"down: {done.stderr.strip()}")

    def leavings(self) -> list[Path]:
        """Return the instance's own folders, which only the state of a stopped instance may keep."""
        return [Path(base) / "kpf-ebpf" / self.instance for base in ("/run", "/var/lib", "/var/log", "/sys/fs/bpf")]

    def end_engines(self) -> None:
        """Kill an Engine of this bench that outlived ``down``: it is still in the bench's network namespace."""
        namespace = Path("/run/netns", self.namespaces["client"])
        for pid in self.engines:
            try:
                if Path(f"/proc/{pid}/ns/net").stat().st_ino == namespace.stat().st_ino:
                    os.kill(pid, signal.SIGKILL)
            except (FileNotFoundError, ProcessLookupError):
                continue

    def cgroup_gone(self) -> bool:
        """Remove the cgroup; false while its last processes are still leaving."""
        try:
            self.cgroup.rmdir()
        except OSError:
            return not self.cgroup.exists()
        return True

    # -- programs -----------------------------------------------------------------------------------------------

    def program(self, name: str) -> str:
        """Return an application of its own: a copy of the interpreter under this name."""
        path = self.programs / name
        if not path.exists():
            path.parent.mkdir(mode=0o755, exist_ok=True)
            shutil.copyfile(INTERPRETER, path)
            path.chmod(0o755)
        return str(path)

    def script(self, name: str, interpreter: str | None = None) -> str:
        """Return a script of root's that does what senders do, run by an interpreter that is a program of its own."""
        path = self.scripts / name
        if not path.exists():
            line = f"#!{interpreter or self.program('interpreter')} -I\n"
            path.write_text(line + SENDER.read_text())
            path.chmod(0o755)
            shutil.copy(SENDER.with_name("verbs.py"), self.scripts)
        return str(path)

    def start(
        self,
        program: str,
        *arguments: object,
        netns: Place = "client",
        cgroup: bool = True,
        user: int | None = None,
    ) -> Child:
        """Start a sender in the namespace, and by default in the cgroup, before it becomes the program."""
        with Path(f"/run/netns/{self.namespaces[netns]}").open("rb") as namespace:

            def enter() -> None:
                if cgroup:
                    descriptor = os.open(str(self.cgroup / "cgroup.procs"), os.O_WRONLY)
                    os.write(descriptor, str(os.getpid()).encode())
                    os.close(descriptor)
                if _LIBC.setns(namespace.fileno(), CLONE_NEWNET):
                    raise OSError(ctypes.get_errno(), "setns")
                if user is not None:
                    os.setgroups([])
                    os.setgid(user)
                    os.setuid(user)

            child = Child(
                subprocess.Popen(
                    [program, *(() if is_script(program) else ("-I", str(SENDER))), *map(str, arguments)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    cwd="/",
                    preexec_fn=enter,
                )
            )
        self.children.append(child)
        return child

    def run(self, program: str, *arguments: object, **where: Any) -> Result:
        """Return how one verb went."""
        child = self.start(program, *arguments, **where)
        try:
            return child.line()
        finally:
            child.stop()

    def real(self, *command: str, netns: Place = "client", cgroup: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a program of the system to its end, in the namespace and in the cgroup."""
        enter = 'echo $$ >"$0/cgroup.procs" && exec "$@"' if cgroup else 'exec "$@"'
        return subprocess.run(
            ["nsenter", f"--net=/run/netns/{self.namespaces[netns]}", "sh", "-c", enter, str(self.cgroup), *command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=30 * PATIENCE,
            check=False,
        )

    def serve(self, program: str, *arguments: object, **where: Any) -> Child:
        """Return a server that listens already."""
        child = self.start(program, *arguments, **where)
        child.event("ready")
        return child

    def peer(self, *arguments: object) -> Child:
        """Return a server of the unfiltered world: in the server namespace, outside the cgroup."""
        return self.serve(str(INTERPRETER), *arguments, netns="server", cgroup=False)

    def outsider(self, *arguments: object) -> Result:
        """Return how a verb went in the unfiltered world."""
        return self.run(str(INTERPRETER), *arguments, netns="server", cgroup=False)

    # -- the product --------------------------------------------------------------------------------------------

    def write_policy(self, text: str) -> Path:
        """Write the policy file that ``up`` and ``reload`` read."""
        self.policy.write_text(text)
        return self.policy

    def command(self, *arguments: str, binds: Mapping[str, Path] = MappingProxyType({})) -> list[str]:
        """Return the command for this instance in the client namespace; ``binds``: what it sees at a path instead."""
        own = [str(COMMAND), *arguments, "--instance", self.instance]
        if binds:
            mounts = "".join(f"mount --bind {source} {target} && " for target, source in binds.items())
            own = ["unshare", "--mount", "sh", "-c", f'{mounts}exec "$@"', "sh", *own]
        return ["nsenter", f"--net=/run/netns/{self.namespaces['client']}", *own]

    def kpf(
        self,
        *arguments: str,
        check: bool = False,
        text: str = "",
        binds: Mapping[str, Path] = MappingProxyType({}),
    ) -> subprocess.CompletedProcess[str]:
        """Run the command for this instance."""
        self.used = True
        return subprocess.run(
            self.command(*arguments, binds=binds),
            input=text,
            capture_output=True,
            text=True,
            timeout=90 * PATIENCE,
            check=check,
        )

    def check(self, text: str) -> subprocess.CompletedProcess[str]:
        """Run ``check`` on a policy file of this text."""
        command = [str(COMMAND), "check", str(self.write_policy(text))]
        return subprocess.run(command, capture_output=True, text=True, timeout=90 * PATIENCE, check=False)

    def try_up(self, policy: str, binds: Mapping[str, Path] = MappingProxyType({})) -> subprocess.CompletedProcess[str]:
        """Run ``up`` with a policy of this text and return how it went."""
        self.write_policy(policy)
        return self.kpf("up", "--policy", str(self.policy), "--cgroup", self.cgroup_name, "--yes", binds=binds)

    def up(self, *arguments: str, policy: str | None = None) -> None:
        """Enforce the policy on the cgroup."""
        if policy is not None:
            self.write_policy(policy)
        done = self.kpf("up", "--policy", str(self.policy), "--cgroup", self.cgroup_name, "--yes", *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        self.status()

    def reload(self, policy: str) -> None:
        """Swap the policy for this one."""
        self.write_policy(policy)
        done = self.kpf("reload")
        assert done.returncode == 0, done.stdout + done.stderr

    def status(self) -> dict[str, Any]:
        """Return ``status --json``."""
        done = self.kpf("status", "--json")
        assert done.stdout, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        if found.get("engine"):
            self.engines.add(int(found["engine"]))
        return found

    def kill_engine(self) -> int:
        """Kill the Engine without a warning and return its pid, once it is gone."""
        pid = int(self.status()["engine"])
        os.kill(pid, signal.SIGKILL)
        assert eventually(lambda: self.status()["engine"] is None)
        return pid

    def hits(self, rule_id: str) -> int:
        """Return how many flows the rule judged."""
        return sum(int(rule["hits"]) for rule in self.status()["rules"] if rule["id"] == rule_id)

    def expect_hits(self, rule_id: str, at_least: int = 1) -> None:
        """Fail unless the rule has judged so many flows."""
        assert eventually(lambda: self.hits(rule_id) >= at_least, 5), (
            f"{rule_id}: {self.hits(rule_id)} of {at_least} hits; hits are "
            f"{ {rule['id']: rule['hits'] for rule in self.status()['rules'] if rule['hits']} }"
        )

    def log(self) -> list[dict[str, Any]]:
        """Return the network log's records."""
        done = self.kpf("log", "-n", "10000", "--json")
        return [json.loads(line) for line in done.stdout.splitlines()]

    def expect_log(self, **wanted: Any) -> dict[str, Any]:
        """Return the record that has these columns; fail if none comes."""

        def found() -> dict[str, Any] | None:
            fits = (one for one in self.log() if all(one.get(key) == value for key, value in wanted.items()))
            return next(fits, None)

        record: dict[str, Any] | None = eventually(found)
        assert record is not None, f"no log record has {wanted}; the log is {self.log()}"
        return record
