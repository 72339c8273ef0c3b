"""To whom the kernel charges the memory of maps: to nobody, and not to whoever runs `up`.

What a map needs later is charged to the memory cgroup that its maker was in, and socket storage is needed for every
socket of the machine. In a service's cgroup, whose limit somebody else set, sockets would one day be without an owner;
and each of them would pay for the account, a tenth of a connection's price.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def _memory_cgroup() -> tuple[Path, Path] | None:
    """The root of the hierarchy that accounts for memory, and this process' cgroup in it; None: nobody accounts."""
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        number, controllers, path = line.split(":", 2)
        for _, place, kind, options, *_ in mounts:
            version_1 = kind == "cgroup" and "memory" in controllers.split(",") and "memory" in options.split(",")
            if version_1 or (kind == "cgroup2" and number == "0" and _accounts(Path(place))):
                return Path(place), Path(place + path)
    return None


def _accounts(root: Path) -> bool:
    try:
        return "memory" in (root / "cgroup.controllers").read_text().split()
    except OSError:
        return False


def _move(cgroup: Path) -> bool:
    try:
        (cgroup / "cgroup.procs").write_text(str(os.getpid()))
    except OSError:
        return False  # a container that may not
    return True


@contextmanager
def charged_to_nobody() -> Iterator[None]:
    """As long as this lasts, maps are made in the root memory cgroup, where this process may go there."""
    found = _memory_cgroup()
    if found is None or found[0] == found[1] or not _move(found[0]):
        yield
        return
    try:
        yield
    finally:
        _move(found[1])  # gone meanwhile: the root is not a bad place, either
