"""explain: a flow as a person describes it, asked of the image that is enforced, or of a policy file."""

from __future__ import annotations

import os
import pwd
import socket
from dataclasses import dataclass
from pathlib import Path

from kpf_ebpf.engine.control import enforced_now
from kpf_ebpf.engine.enforce import View, prepare
from kpf_ebpf.engine.errors import EngineError
from kpf_ebpf.engine.flow import adapter_of, key_at, own_addresses
from kpf_ebpf.engine.folders import Instance
from kpf_ebpf.engine.machine import require_root
from kpf_ebpf.engine.snapshot import read_files
from kpf_ebpf.evaluate.evaluator import Flow
from kpf_ebpf.evaluate.explain import Explanation, explain
from kpf_ebpf.facts.addresses import is_loopback
from kpf_ebpf.facts.files import Identify, file_key
from kpf_ebpf.facts.gather import ask_system
from kpf_ebpf.facts.model import FileKey
from kpf_ebpf.facts.system import cgroup_mount, read_text
from kpf_ebpf.image.model import MapImage
from kpf_ebpf.kernel import load
from kpf_ebpf.kernel.active import read_effective
from kpf_ebpf.policy.addresses import address, address_text
from kpf_ebpf.policy.transport import ICMP, ICMPV6, WITH_PORTS

_ECHO_REQUEST = {ICMP: 8, ICMPV6: 128}
_NOBODY = frozenset({"unknown", "kernel"})

Point = tuple[int, int | None]
"""(address in the 128-bit space, port or None)."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A flow in a person's words; what is None is found out, or left open."""

    application: str
    direction: str
    protocol: int
    remote: Point
    local: Point | None = None
    user: str | None = None
    cgroup: str | None = None
    adapter: str | None = None
    icmp_type: int | None = None


def answer(asked: Asked, policy: Path | None, instance: Instance) -> Explanation:
    """Explains by a policy file (no root, nothing enforced, no password) or by what is enforced.

    Raises PolicyError, and EngineError for words that mean nothing here.
    """
    if policy is not None:
        image = prepare(read_files(policy.absolute()), None, View(ask_system)).image
        return explain(image, _flow(asked, image, file_key))
    require_root()
    image = enforced_now(instance).image()
    flow = _flow(asked, image, lambda fd: load.identify(instance.pins, fd))
    return explain(image, flow, stop_all=read_effective(instance.pins).stop_all)


def _flow(asked: Asked, image: MapImage, identify: Identify) -> Flow:
    remote, remote_port = asked.remote
    local, local_port = asked.local or (_source(image, remote), None)
    ports = asked.protocol in WITH_PORTS
    return Flow(
        direction=asked.direction,
        protocol=asked.protocol,
        local=local,
        remote=remote,
        local_port=(local_port or 0) if ports else None,
        remote_port=(remote_port or 0) if ports else None,
        icmp=_icmp(asked),
        ifindex=_ifindex(asked.adapter, image, local, remote),
        netns_cookie=image.policy.home,
        uid=_uid(asked.user),
        cgroup=_cgroup_id(asked.cgroup),
        application=_key(asked.application, identify),
    )


def _icmp(asked: Asked) -> int:
    """The type as in ``kpf_flow.icmp``; without one, an echo request. Hop limit 255 is assumed."""
    if asked.protocol not in _ECHO_REQUEST:
        return 0
    number = _ECHO_REQUEST[asked.protocol] if asked.icmp_type is None else asked.icmp_type
    return number + (256 if asked.protocol == ICMPV6 else 0)


def _source(image: MapImage, remote: int) -> int:
    """The address this host would use towards the remote one; nothing is sent."""
    if is_loopback(remote) or remote in own_addresses(image):
        return remote
    text = address_text(remote)
    try:
        with socket.socket(socket.AF_INET6 if ":" in text else socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((text, 9))
            return address(probe.getsockname()[0].partition("%")[0]) or 0
    except OSError:
        return 0 if ":" in text else 0xFFFF << 32  # no route: the unspecified address


def _ifindex(name: str | None, image: MapImage, local: int, remote: int) -> int:
    if name is None:
        return adapter_of(image, local, remote)
    for adapter in image.policy.adapters:
        if adapter.name == name:
            return adapter.index
    known = ", ".join(adapter.name for adapter in image.policy.adapters)
    raise EngineError(f"--adapter {name}: there is no such adapter here; expected one of {known}")


def _uid(word: str | None) -> int:
    if word is None or word.isdigit():
        return int(word or 0)
    try:
        return pwd.getpwnam(word).pw_uid
    except KeyError:
        raise EngineError(f"--user {word}: there is no such user; expected a name or a number") from None


def _cgroup_id(path: str | None) -> int:
    if path is None:
        return 0
    mount = cgroup_mount(read_text("/proc/self/mounts") or "")
    folder = Path(mount or "/nowhere") / path.lstrip("/")
    if not folder.is_dir():
        raise EngineError(f"--cgroup {path}: there is no such cgroup below {mount}")
    return folder.stat().st_ino


def _key(path: str, identify: Identify) -> FileKey | None:
    """The file at a path as hooks see it; None: nobody knows who it is."""
    if path in _NOBODY:
        return None
    if not path.startswith("/"):
        raise EngineError(f"--app {path}: expected an absolute path, `kernel` or `unknown`")
    try:
        return key_at(os.path.realpath(path), identify)
    except OSError as problem:
        raise EngineError(f"--app {path}: {problem.strerror}; run it as root") from problem
