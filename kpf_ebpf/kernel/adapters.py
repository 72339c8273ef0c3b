"""The filters at adapters (tc, clsact): attached by netlink to adapters of this network namespace, found, removed.

pyroute2 attaches and removes; importing it takes 0.1 s, so who only looks does not.
"""

from __future__ import annotations

import errno
import hashlib
import os
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from kpf_ebpf.facts import netlink
from kpf_ebpf.kernel import bpf
from kpf_ebpf.kernel.hooks import opened

LOOPBACK_INDEX = 1
_EVERY_PROTOCOL = 3  # ETH_P_ALL
_PARENTS = {"ingress": 0xFFFFFFF2, "egress": 0xFFFFFFF3}
_PREFERENCES = 30_000


@dataclass(frozen=True, slots=True)
class Filter:
    """One of the two filters at an adapter."""

    adapter: str
    way: str
    attached: bool

    @property
    def name(self) -> str:
        """What it is called in the list of hooks."""
        return f"adapter-{self.way} {self.adapter}"


def _preference(pins: Path) -> int:
    """The filters' preference, by which an instance knows its own: 1 to 30,000."""
    return 1 + int.from_bytes(hashlib.sha256(pins.name.encode()).digest()[:4], "big") % _PREFERENCES


def pin(pins: Path, descriptors: dict[str, int]) -> None:
    """Pins the two programs, so that adapters that come later get them, too."""
    for way in _PARENTS:
        fresh = pins / f"new_adapter_{way}"
        fresh.unlink(missing_ok=True)
        bpf.pin(descriptors[f"kpf_adapter_{way}"], fresh)
        fresh.rename(pins / f"adapter_{way}")


def set_reach(pins: Path, netns_cookie: int, cgroup: Path, level: int) -> None:
    """Tells the programs what is firewalled: the namespace, the cgroup, and how deep that lies."""
    with opened(pins / "reach") as fd:
        bpf.update(fd, bytes(4), struct.pack("=QQII", netns_cookie, cgroup.stat().st_ino, level, 0))


def names_here(chosen: Iterable[str] | None) -> dict[str, int]:
    """Adapters of this namespace by name, without the loopback device: those chosen, or (None) all."""
    links = {str(dict(link["attrs"])["IFLA_IFNAME"]): int(link["index"]) for link in netlink.links()}
    wanted = None if chosen is None else set(chosen)
    return {
        name: index for name, index in links.items() if index != LOOPBACK_INDEX and (wanted is None or name in wanted)
    }


def attach(pins: Path, indexes: Iterable[int]) -> None:
    """Attaches both filters to adapters, in the place of this instance's earlier ones. Raises OSError."""
    chosen = tuple(indexes)
    if not chosen:
        return
    from pyroute2 import IPRoute
    from pyroute2.netlink.exceptions import NetlinkError

    preference = _preference(pins)
    with IPRoute() as changes:
        for index in chosen:
            try:
                changes.tc("add", "clsact", index)
            except NetlinkError as problem:
                if problem.code != errno.EEXIST:
                    raise OSError(problem.code, f"clsact at adapter {index}: {problem}") from problem
            for way, parent in _PARENTS.items():
                with opened(pins / f"adapter_{way}") as program:
                    try:
                        changes.tc(
                            "replace-filter", "bpf", index, 1, fd=program, name=f"kpf_{way}", parent=parent,
                            prio=preference, protocol=_EVERY_PROTOCOL, classid=1, direct_action=True,
                        )  # fmt: skip
                    except NetlinkError as problem:
                        raise OSError(problem.code, f"{way} of adapter {index}: {problem}") from problem


def filters(pins: Path, adapters: dict[str, int]) -> tuple[Filter, ...]:
    """Which filters of this instance are there."""
    preference = _preference(pins)
    return tuple(
        Filter(name, way, preference in _preferences(index, parent))
        for name, index in adapters.items()
        for way, parent in _PARENTS.items()
    )


def _preferences(index: int, parent: int) -> set[int]:
    try:
        return netlink.preferences(index, parent)
    except OSError:
        return set()


def detach(pins: Path, but: Iterable[str] = ()) -> None:
    """Removes this instance's filters from every adapter of this namespace, and clsact where nothing is left on it.

    Those named ``but`` keep theirs.
    """
    kept = set(but)
    preference = _preference(pins)
    for link in netlink.links():
        index, found = int(link["index"]), False
        if dict(link["attrs"]).get("IFLA_IFNAME") in kept:
            continue
        for parent in _PARENTS.values():
            if preference in _preferences(index, parent):
                found = True
                _remove("del-filter", "bpf", index, 1, parent=parent, prio=preference)
        if found and not any(_preferences(index, parent) for parent in _PARENTS.values()):
            _remove("del", "clsact", index)


def _remove(*what: object, **which: int) -> None:
    """Removes a filter or a qdisc; one that is gone with its adapter is gone. Raises OSError."""
    from pyroute2 import IPRoute
    from pyroute2.netlink.exceptions import NetlinkError

    try:
        with IPRoute() as changes:
            changes.tc(*what, **which, **({"protocol": _EVERY_PROTOCOL} if which else {}))
    except NetlinkError as problem:
        if problem.code not in (errno.ENODEV, errno.ENOENT, errno.EINVAL):
            raise OSError(problem.code, f"adapter {what[2]}: {problem}") from problem


def in_namespace_of(pid: int) -> bool:
    """Whether a process is in this network namespace."""
    try:
        return os.path.samestat(Path(f"/proc/{pid}/ns/net").stat(), Path("/proc/self/ns/net").stat())
    except OSError:
        return False
