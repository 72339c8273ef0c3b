"""The cgroup that is firewalled: found from what the user wrote, and refused where that is wise."""

from __future__ import annotations

import os
from pathlib import Path

from kpf_ebpf.engine.errors import EngineError
from kpf_ebpf.engine.machine import NO_ROOT_CGROUP
from kpf_ebpf.engine.records import Attachment
from kpf_ebpf.facts.system import cgroup_mount, read_text
from kpf_ebpf.kernel.adapters import names_here


def find_cgroup(word: str | None, adapters: tuple[str, ...] = ()) -> Attachment:
    """The cgroup that a path below the mount (or the folder's own path) names; None is the root cgroup.

    ``adapters`` are filtered, too; without any, all of them under the root cgroup, none under another.
    Raises EngineError where there is none, and for the root cgroup while NO_ROOT_CGROUP exists.
    """
    mount = cgroup_mount(read_text("/proc/self/mounts") or "")
    if mount is None:
        raise EngineError("cgroup v2 is not mounted; run `kpf-ebpf doctor`; nothing was changed")
    root = Path(mount)
    path = Path(word or "/")
    below = path if path.is_relative_to(root) else root / str(path).lstrip("/")
    folder = Path(os.path.realpath(below))
    if not folder.is_dir() or not folder.is_relative_to(root):
        raise EngineError(f"--cgroup {word}: there is no such cgroup below {root}; nothing was changed")
    if folder.samefile(root) and NO_ROOT_CGROUP.exists():
        raise EngineError(
            f"the root cgroup is refused because {NO_ROOT_CGROUP} exists; name another with --cgroup, or remove that "
            "file; nothing was changed"
        )
    missing = set(adapters) - set(names_here(adapters))
    if missing:
        raise EngineError(
            f"--adapter {sorted(missing)[0]}: there is no such adapter in this network namespace, or it is the "
            "loopback device; nothing was changed"
        )
    if folder == root:
        return Attachment(str(folder), "/", adapters or None)
    return Attachment(str(folder), "/" + str(folder.relative_to(root)), adapters)
