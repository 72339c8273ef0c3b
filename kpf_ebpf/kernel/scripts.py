"""Scripts by path, where the kernel does not let us see their file: which paths mean which script, and where."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping
from pathlib import Path

from kpf_ebpf.facts.model import FileKey
from kpf_ebpf.kernel import abi, bpf
from kpf_ebpf.kernel.hooks import opened
from kpf_ebpf.kernel.pack import pack_file, pack_path

_CLONE_NEWNS = 0x00020000
_libc = ctypes.CDLL(None, use_errno=True)


def settle(program: int) -> None:
    """Lets paths be meant in the mount namespace and root folder of process 1. Raises OSError.

    Done by a child, which goes there first: ``up`` may have been started somewhere else. Where process 1 hides its
    places even from root, they are meant where ``up`` is.
    """
    child = os.fork()
    if child == 0:
        status = 1
        try:
            try:
                _enter_first()
            except PermissionError:
                status = 2  # stay where `up` is
            bpf.run(program)
            status = 0
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    if status:
        raise OSError(0, "the mount namespace that paths are meant in could not be settled")


def _enter_first() -> None:
    root = os.open("/proc/1/root", os.O_PATH | os.O_DIRECTORY)
    namespace = os.open("/proc/1/ns/mnt", os.O_RDONLY)
    if Path("/proc/1/ns/mnt").stat().st_ino != Path("/proc/self/ns/mnt").stat().st_ino and _libc.setns(
        namespace, _CLONE_NEWNS
    ):
        raise OSError(ctypes.get_errno(), "setns")
    os.fchdir(root)
    os.chroot(".")


def put(pins: Path, scripts: Mapping[str, FileKey]) -> None:
    """Makes these paths mean these scripts, beside those that do already."""
    with opened(pins / "scripts") as fd:
        for path, key in scripts.items():
            packed = pack_path(path)
            if packed is not None:
                bpf.update(fd, packed, pack_file(key))


def keep(pins: Path, paths: set[str]) -> None:
    """Lets all other paths mean nothing any more."""
    wanted = {key for path in paths if (key := pack_path(path))}
    with opened(pins / "scripts") as fd:
        for key in bpf.keys(fd, abi.PATH_BYTES, abi.SCRIPTS):
            if key not in wanted:
                bpf.delete(fd, key)
