"""Starting the verbs of more_verbs.py, and any sender in a cgroup of one's own choice."""

from __future__ import annotations

import subprocess
from pathlib import Path

from .bench import INTERPRETER, SENDER, Bench, Place
from .child import Child, Result

MORE = SENDER.with_name("more_verbs.py")


def start(
    bench: Bench,
    program: str,
    *arguments: object,
    script: Path = MORE,
    netns: Place = "client",
    cgroup: Path | None = None,
) -> Child:
    """Start a verb, in the firewalled cgroup if no other is named."""
    enter = ("sh", "-c", 'echo $$ >"$0/cgroup.procs" && exec "$@"', str(cgroup or bench.cgroup))
    return _start(bench, (*enter, program, "-I", str(script), *map(str, arguments)), netns)


def run(bench: Bench, program: str, *arguments: object, script: Path = MORE, cgroup: Path | None = None) -> Result:
    """Return how one verb went."""
    child = start(bench, program, *arguments, script=script, cgroup=cgroup)
    try:
        return child.line()
    finally:
        child.stop()


def serve(bench: Bench, program: str, *arguments: object, cgroup: Path | None = None) -> Child:
    """Return a server that listens already."""
    child = start(bench, program, *arguments, cgroup=cgroup)
    child.event("ready")
    return child


def peer(bench: Bench, *arguments: object) -> Child:
    """Return a server of the unfiltered world: in the server namespace, outside the cgroup."""
    child = _start(bench, (str(INTERPRETER), "-I", str(MORE), *map(str, arguments)), "server")
    child.event("ready")
    return child


def outsider(bench: Bench, *arguments: object) -> Result:
    """Return how a verb went in the unfiltered world."""
    child = _start(bench, (str(INTERPRETER), "-I", str(MORE), *map(str, arguments)), "server")
    try:
        return child.line()
    finally:
        child.stop()


def _start(bench: Bench, command: tuple[str, ...], netns: Place) -> Child:
    pipe = subprocess.PIPE
    words = ["nsenter", f"--net=/run/netns/{bench.namespaces[netns]}", *command]
    child = Child(subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=pipe, cwd="/"))
    bench.children.append(child)
    return child
