"""An instance's places: its folders and its lock."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kpf_ebpf.engine.errors import Busy, EngineError

NAME = re.compile(r"[a-z0-9-]{1,32}")
DEFAULT = "kpf-ebpf"
RUN, STATE, LOG = Path("/run/kpf-ebpf"), Path("/var/lib/kpf-ebpf"), Path("/var/log/kpf-ebpf")
BPFFS = Path("/sys/fs/bpf")
FOLDER_MODE = 0o700
COMMAND, ENGINE = "command", "engine"
"""Who may hold an instance's lock."""
PATIENCE, PAUSE = 10.0, 0.05
"""Seconds a command waits for the Engine, and between looks."""


def bpffs_mount() -> Path | None:
    """Where a bpf file system is mounted; None: nowhere. /sys/fs/bpf is preferred."""
    found = []
    for line in Path("/proc/self/mounts").read_text().splitlines():
        fields = line.split(" ")
        if len(fields) > 2 and fields[2] == "bpf":
            found.append(Path(fields[1]))
    return BPFFS if BPFFS in found or (not found and os.path.ismount(BPFFS)) else next(iter(found), None)


@dataclass(frozen=True, slots=True)
class Instance:
    """One firewall on this machine, by name: several can live side by side."""

    name: str = DEFAULT

    @property
    def run(self) -> Path:
        """What is true until the next boot: the description of what is enforced, the Engine."""
        return RUN / self.name

    @property
    def state(self) -> Path:
        """What outlives a boot: the password."""
        return STATE / self.name

    @property
    def log(self) -> Path:
        """The network log."""
        return LOG / self.name

    @property
    def pins(self) -> Path:
        """The pinned maps and programs."""
        return (bpffs_mount() or BPFFS) / "kpf-ebpf" / self.name

    @contextmanager
    def locked(self, holder: str = COMMAND) -> Iterator[None]:
        """Holds the instance's lock: one at a time changes it. Raises Busy if another command does.

        The Engine holds it for a moment only, when a program moved: a command waits for that.
        """
        make_folder(RUN)
        path, until = RUN / f".{self.name}.lock", time.monotonic() + PATIENCE
        while (descriptor := _try_lock(path)) is None:
            if _holder(path) != ENGINE or time.monotonic() > until:
                raise Busy(
                    f"another kpf-ebpf command is changing the instance {self.name}; wait for it, then try again"
                )
            time.sleep(PAUSE)
        try:
            os.write(descriptor, holder.encode())
            yield
        finally:
            path.unlink(missing_ok=True)
            os.close(descriptor)


def _try_lock(path: Path) -> int | None:
    """The descriptor of the lock file, if it is ours now."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if path.stat().st_ino == os.fstat(descriptor).st_ino:
            return descriptor
    except (BlockingIOError, FileNotFoundError):
        pass  # somebody has it, or removed it meanwhile
    os.close(descriptor)
    return None


def _holder(path: Path) -> str:
    """Who has the lock; while that is not yet, or no more, written down, the Engine's patience is given."""
    try:
        return path.read_text() or ENGINE
    except FileNotFoundError:
        return ENGINE


def make_folder(path: Path) -> None:
    """Makes a folder, and the one above it if that is kpf-ebpf's; root's alone.

    Raises EngineError if something else stands there.
    """
    for folder in (path.parent, path) if path.parent.name == DEFAULT else (path,):
        try:
            folder.mkdir(mode=FOLDER_MODE)
        except FileExistsError:
            pass
        except FileNotFoundError:
            if path.parent.name == DEFAULT and path.parent.parent.exists():
                return make_folder(path)  # another instance's `down` has just removed the empty parent
            raise EngineError(f"folder {folder}: there is no {folder.parent}; make it") from None
        except OSError as problem:
            raise EngineError(f"folder {folder}: {problem.strerror}; make its parent folder writable") from problem
        status = folder.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != 0:
            raise EngineError(f"{folder} is not a folder of root's; remove it and try again")
        if stat.S_IMODE(status.st_mode) != FOLDER_MODE:
            folder.chmod(FOLDER_MODE)


def remove_folder(path: Path) -> None:
    """Removes a folder with all that is in it; nothing there is fine."""
    if path.exists():
        shutil.rmtree(path)


def write_file(path: Path, text: str, mode: int = 0o600) -> None:
    """Writes a file so that readers see the old text or the new, never half of one."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
    try:
        with os.fdopen(descriptor, "w") as file:
            os.fchmod(descriptor, mode)
            file.write(text)
        fresh.replace(path)
    except OSError:
        fresh.unlink(missing_ok=True)  # a full disk: what was there stays
        raise
