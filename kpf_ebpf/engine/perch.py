"""A child of this command in a cgroup of its own below the firewalled one: what it does there, the hooks see."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kpf_ebpf.engine.errors import EngineError
from kpf_ebpf.facts.system import home_cookie
from kpf_ebpf.kernel import abi, bpf
from kpf_ebpf.kernel.hooks import opened

PERCH = "kpf-perch-"
"""How the names of such cgroups begin."""


def perches(pins: Path, cgroup: Path) -> Path:
    """The cgroup below which an instance's perches are: the firewalled one, if the Engine can make cgroups there.

    In the root cgroup, to which root may not write either, it cannot: it has given up the right to do so all the same.
    There whoever attaches makes a place for it.
    """
    status = cgroup.stat()
    if status.st_uid == 0 and status.st_mode & stat.S_IWUSR:
        return cgroup
    return cgroup / f"kpf-perches-{pins.name}"


def remove_dead(pins: Path, cgroup: Path) -> None:
    """Removes the perches that commands left which were killed; a living one's stays."""
    for left in perches(pins, cgroup).glob(f"{PERCH}*"):
        if not Path("/proc", left.name.removeprefix(PERCH)).exists():
            with contextlib.suppress(OSError):
                left.rmdir()


def remove_perches(pins: Path, cgroup: Path) -> None:
    """Removes the place of perches, too, unless somebody is there."""
    remove_dead(pins, cgroup)
    place = perches(pins, cgroup)
    if place != cgroup:
        with contextlib.suppress(OSError):
            place.rmdir()


@contextmanager
def perch_below(pins: Path, cgroup: Path) -> Iterator[Path]:
    """A cgroup for one process, since a cgroup with children may not take processes."""
    place = perches(pins, cgroup)
    if place != cgroup:
        place.mkdir(exist_ok=True)
    path = place / f"{PERCH}{os.getpid()}"
    path.mkdir(exist_ok=True)  # one of this number may have died here
    try:
        yield path
    finally:
        path.rmdir()


def find_home(pins: Path, cgroup: Path) -> int:
    """The cookie of this network namespace, where need be (before 5.14) as the sock_create hook saw it.

    The hooks must be attached to the cgroup. Raises EngineError.
    """
    try:
        return home_cookie()
    except OSError:
        cookie = _seen_by_hook(pins, cgroup)
    if not cookie:
        raise EngineError("the network namespace's cookie could not be found; run `kpf-ebpf doctor`")
    return cookie


def _seen_by_hook(pins: Path, cgroup: Path) -> int:
    answer_read, answer_write = os.pipe()
    with perch_below(pins, cgroup) as perch:
        child = os.fork()
        if child == 0:
            try:
                (perch / "cgroup.procs").write_text(str(os.getpid()))
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made, opened(pins / "identity") as identity:
                    value = bpf.lookup(identity, made.fileno().to_bytes(4, "little"), abi.IDENTITY_BYTES)
                    cookie = abi.Identity.from_buffer_copy(value).netns_cookie if value else 0
                    os.write(answer_write, str(cookie).encode())
            finally:
                os._exit(0)
        os.close(answer_write)
        with os.fdopen(answer_read, "rb") as answer:
            text = answer.read().decode()
        os.waitpid(child, 0)
    return int(text or 0)
