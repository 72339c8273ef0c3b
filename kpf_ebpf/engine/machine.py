"""What this machine can do for the firewall, and the remedy for what it cannot."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from kpf_ebpf.engine.errors import EngineError
from kpf_ebpf.engine.folders import bpffs_mount
from kpf_ebpf.facts.system import cgroup_mount, read_text
from kpf_ebpf.kernel.btf import VMLINUX
from kpf_ebpf.kernel.compile import LoadError, bcc_version

NO_ROOT_CGROUP = Path("/etc/kpf-ebpf/no-root-cgroup")
LOCKDOWN = Path("/sys/kernel/security/lockdown")
RESERVED = "/proc/sys/net/ipv4/ip_local_reserved_ports"
RANGE = "/proc/sys/net/ipv4/ip_local_port_range"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at. ``needed``: without it ``up`` refuses. ``remedy`` is "" where all is well."""

    name: str
    ok: bool
    found: str
    remedy: str = ""
    needed: bool = True


def _root() -> Check:
    uid = os.geteuid()
    return Check("root", uid == 0, f"user {uid}", "" if uid == 0 else "run it as root: sudo kpf-ebpf …")


def _btf() -> Check:
    ok = VMLINUX.is_file() and os.access(VMLINUX, os.R_OK)
    remedy = "boot a kernel with CONFIG_DEBUG_INFO_BTF (Debian's and most distributions' have it)"
    return Check("kernel type information (BTF)", ok, str(VMLINUX) if ok else f"no {VMLINUX}", "" if ok else remedy)


def _cgroup() -> Check:
    mount = cgroup_mount(read_text("/proc/self/mounts") or "")
    remedy = "mount it: mount -t cgroup2 none /sys/fs/cgroup (or boot with systemd.unified_cgroup_hierarchy=1)"
    return Check("cgroup v2", mount is not None, mount or "not mounted", "" if mount else remedy)


def _bpffs() -> Check:
    mount = bpffs_mount()
    remedy = "mount it: mount -t bpf bpf /sys/fs/bpf"
    return Check("bpf file system", mount is not None, str(mount or "not mounted"), "" if mount else remedy)


def _lockdown() -> Check:
    text = read_text(str(LOCKDOWN)) or ""
    strict = "[confidentiality]" in text
    found = text[text.find("[") + 1 : text.find("]")] if "[" in text else "none"
    remedy = 'boot without lockdown=confidentiality ("integrity" is fine): it forbids reading what a process executes'
    return Check("kernel lockdown", not strict, found, remedy if strict else "")


def _bcc() -> Check:
    try:
        return Check("BCC", True, bcc_version())
    except LoadError as problem:
        found, _, remedy = str(problem).rpartition("; ")
        return Check("BCC", False, found, remedy)


def _ports() -> Check:
    """The firewall's own ports should not be handed out as somebody's ephemeral port."""
    words = (read_text(RANGE) or "0 0").split()
    first, last = (int(words[0]), int(words[1])) if len(words) == 2 else (0, 0)
    reserved: set[int] = set()
    for part in (read_text(RESERVED) or "").strip().split(","):
        start, _, end = part.partition("-")
        if start.isdigit():
            reserved.update(range(int(start), int(end or start) + 1))
    loose = [port for port in (44334, 44501) if first <= port <= last and port not in reserved]
    remedy = f"reserve them: sysctl -w net.ipv4.ip_local_reserved_ports={','.join(map(str, loose))}"
    found = "reserved, or outside the ephemeral range" if not loose else f"{loose} may be handed out to any program"
    return Check("own ports reserved", not loose, found, remedy if loose else "", needed=False)


def _root_cgroup() -> Check:
    there = NO_ROOT_CGROUP.exists()
    found = f"{NO_ROOT_CGROUP} forbids it" if there else "allowed"
    return Check("the root cgroup", True, found, needed=False)


_CHECKS: tuple[Callable[[], Check], ...] = (
    _root, _btf, _cgroup, _bpffs, _lockdown, _bcc, _ports, _root_cgroup,
)  # fmt: skip


def examine() -> tuple[Check, ...]:
    """Looks at everything."""
    return tuple(check() for check in _CHECKS)


def require() -> None:
    """Raises EngineError, with the remedy, for the first thing that is needed and not there."""
    for look in _CHECKS:
        check = look()
        if check.needed and not check.ok:
            raise EngineError(f"{check.name}: {check.found}; {check.remedy}; nothing was changed")


def require_root() -> None:
    """Raises EngineError for anybody but root."""
    if os.geteuid() != 0:
        raise EngineError("this needs root; run it again with sudo; nothing was changed")
