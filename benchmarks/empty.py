"""Programs that do nothing, at the hooks of a cgroup of its own: what any firewall of this kind costs at least."""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Iterator
from pathlib import Path

from kpf_ebpf.kernel import bpf
from kpf_ebpf.kernel.hooks import HOOKS
from tests.kernel.conftest import _cgroup_mount

PASS = struct.pack("=BBhi", 0xB7, 0, 0, 1) + struct.pack("=BBhi", 0x95, 0, 0, 0)
"""r0 = 1; exit"""


@contextlib.contextmanager
def doing_nothing(name: str) -> Iterator[Path]:
    """The cgroup; a program at each hook of the product that belongs to a cgroup."""
    with programs_that_pass(name) as (folder, _):
        yield folder


@contextlib.contextmanager
def programs_that_pass(name: str) -> Iterator[tuple[Path, dict[str, int]]]:
    """The same, with the programs' descriptors by hook."""
    folder = _cgroup_mount() / name
    folder.mkdir()
    group = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    made = {}
    try:
        for hook in HOOKS:
            if isinstance(hook.where, int):
                made[hook.name] = bpf.load_program(f"pass_{hook.name}", hook.kind, PASS, hook.where)
                bpf.attach(group, made[hook.name], hook.where)
        yield folder, made
    finally:
        for fd in made.values():
            os.close(fd)
        os.close(group)
        folder.rmdir()
