"""What this machine can do for the firewall, and the remedy for what it cannot."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from kpf_ebpf.engine import process, records
from kpf_ebpf.engine.errors import EngineError
from kpf_ebpf.engine.folders import Instance, bpffs_mount
from kpf_ebpf.engine.snapshot import policy_path, read_again, read_files
from kpf_ebpf.facts.gather import explain_systems_proxy
from kpf_ebpf.facts.proxy import ProxyAnswer
from kpf_ebpf.facts.proxy_address import OVERRIDE
from kpf_ebpf.facts.proxy_environment import parse_block
from kpf_ebpf.facts.system import cgroup_mount, read_text
from kpf_ebpf.kernel.btf import VMLINUX
from kpf_ebpf.kernel.compile import LoadError, bcc_version
from kpf_ebpf.policy.errors import PolicyError
from kpf_ebpf.policy.model import Preferences

NO_ROOT_CGROUP = Path("/etc/kpf-ebpf/no-root-cgroup")
LOCKDOWN = Path("/sys/kernel/security/lockdown")
RESERVED = "/proc/sys/net/ipv4/ip_local_reserved_ports"
RANGE = "/proc/sys/net/ipv4/ip_local_port_range"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at. ``needed``: without it ``up`` refuses. ``remedy`` is "" where all is well.

    ``places`` are, for the proxy, all that were asked for it, in their order.
    """

    name: str
    ok: bool
    found: str
    remedy: str = ""
    needed: bool = True
    places: tuple[ProxyAnswer, ...] = ()


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


def examine_proxy(instance: Instance) -> Check:
    """Looks at the proxy for registration and update check, as the instance's policy and Engine would find it."""
    preferences, note = _preferences(instance)
    return proxy_check(explain_systems_proxy(preferences, *_engines_environment(instance)), note)


def proxy_check(places: tuple[ProxyAnswer, ...], note: str = "") -> Check:
    """Says which of the places asked for a proxy decides; a proxy that cannot be used is no reason to refuse."""
    winner = next((place for place in places if place.used), None)
    if winner is None:
        return Check("proxy", True, f"none found{note}", needed=False, places=places)
    found = f"{winner.said.replace(f'; {OVERRIDE}', '')}, from {winner.source or winner.place}{note}"
    remedy = 'set preferences.proxy in the policy: "http://host:port", or "none"' if winner.problem else ""
    return Check("proxy", not winner.problem, found, remedy, needed=False, places=places)


def _preferences(instance: Instance) -> tuple[Preferences, str]:
    """What the policy says that is enforced, else the one that ``up`` would take; and a note if neither can be read."""
    try:
        enforced = records.enforced(instance)
        read = read_again(enforced.snapshot) if enforced else read_files(policy_path(None))
    except (EngineError, PolicyError, OSError, KeyError):
        return Preferences(), " (the policy could not be read: as if it said nothing)"
    return read.policy.preferences, ""


def _engines_environment(instance: Instance) -> tuple[dict[str, str], str]:
    """The environment of the Engine that lives, else of this process; and whose it is."""
    try:
        pid = process.living(instance)
        if pid is not None:
            return parse_block(Path(f"/proc/{pid}/environ").read_bytes()), "the Engine's environment"
    except (EngineError, OSError):
        pass
    return dict(os.environ), "this command's environment"


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
