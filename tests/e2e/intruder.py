"""An ordinary user on the bench, with a folder and files of its own, who wants the rights of another program."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from .bench import DENY_ALL, INTERPRETER, SERVER, Bench
from .child import Child, Result

USER = 65534
ATTACKS = Path(__file__).with_name("attacks.py")
VERB = ("tcp-connect", SERVER, 7000)


def only(path: str) -> str:
    """Return a policy where one program may initiate, and nobody else may do anything."""
    cells = 'trusted-out = "permit"\ninternet-out = "permit"\nlog = true\n'
    return f'{DENY_ALL}[[application]]\npath = "{path}"\n{cells}'


def users_folder(bench: Bench) -> Path:
    """Return a folder that belongs to the user."""
    folder = bench.programs / "users"
    folder.mkdir(mode=0o755, exist_ok=True)
    os.chown(folder, USER, USER)
    return folder


def users_file(bench: Bench, name: str) -> str:
    """Return a program that belongs to the user, in the user's folder."""
    path = users_folder(bench) / name
    shutil.copyfile(INTERPRETER, path)
    path.chmod(0o755)
    os.chown(path, USER, USER)
    return str(path)


def attack(bench: Bench, name: str, good: str, own: str = "", program: str = "") -> Child:
    """Start an attack of attacks.py as the user, in the firewalled cgroup."""
    enter = 'echo $$ >"$0/cgroup.procs" && exec setpriv --reuid="$1" --regid="$1" --clear-groups "${@:2}"'
    words = ["nsenter", f"--net=/run/netns/{bench.namespaces['client']}", "bash", "-c", enter, bench.cgroup, USER]
    words += [program or bench.program("attacker"), "-I", ATTACKS, name, good, own, *VERB]
    pipe = subprocess.PIPE
    child = Child(subprocess.Popen([str(word) for word in words], stdin=pipe, stdout=pipe, stderr=pipe, cwd="/"))
    bench.children.append(child)
    return child


def connects(bench: Bench, program: str) -> Result:
    """Return how a program connects that the user simply runs."""
    return bench.run(program, *VERB, user=USER)


def enforce(bench: Bench, path: str) -> None:
    """Enforce the policy with one good program, and see that it has its rights."""
    bench.up(policy=only(path))
    bench.peer("tcp-echo", SERVER, 7000)
    found = connects(bench, path)
    assert found.ok, found


def gains_nothing(bench: Bench, child: Child, good: str, application: str = "", line: str = "") -> None:
    """Fail unless the attack was denied, and logged as what it is: the application, at least not the good one."""
    found = child.say(line) if line else child.line()
    assert found.errno == "EPERM", found
    record = bench.expect_log(pid=child.process.pid, action="deny")
    assert record["application"] != good, record
    if application:
        assert record["application"] == application, record
