"""The marks of cgroups: those that are there get theirs from here, those made later from the cgroup_mkdir hook."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from pathlib import Path

from kpf_ebpf.kernel import abi, bpf
from kpf_ebpf.kernel.hooks import opened
from kpf_ebpf.kernel.pack import pack_path
from kpf_ebpf.resolve.model import ResolvedCgroup

_U64 = struct.Struct("=Q").pack


def put(pins: Path, cgroups: Iterable[ResolvedCgroup]) -> None:
    """Marks these cgroups and paths, beside those that are marked already. Paths come first: what is made meanwhile
    is marked by the hook."""
    with opened(pins / "cgroup_paths") as paths, opened(pins / "cgroup_marks") as marks:
        for one in cgroups:
            key = pack_path(one.path)
            if key is not None:
                bpf.update(paths, key, _U64(one.mark))
        for one in cgroups:
            bpf.update_many(marks, [(_U64(number), _U64(one.mark)) for number in one.ids])


def keep(pins: Path, cgroups: Iterable[ResolvedCgroup]) -> None:
    """Lets all other paths mean nothing any more. Marks that no path has are in no image: they match nothing."""
    wanted = {pack_path(one.path) for one in cgroups}
    with opened(pins / "cgroup_paths") as paths:
        for key in bpf.keys(paths, abi.PATH_BYTES, abi.SCRIPTS):
            if key not in wanted:
                bpf.delete(paths, key)
