"""The session that a command was run from, over the network: whoever works from far away must not lock himself out.

Found by ancestry, since sudo strips SSH_CONNECTION and anybody can set it: the established TCP connection that an
ancestor of this process holds. A terminal multiplexer that outlives its session is nobody's child.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kpf_ebpf.engine.enforce import Guard
from kpf_ebpf.engine.errors import EngineError
from kpf_ebpf.engine.flow import adapter_of, key_at
from kpf_ebpf.engine.records import Attachment
from kpf_ebpf.evaluate.evaluator import Flow, evaluate
from kpf_ebpf.facts.addresses import number
from kpf_ebpf.facts.files import Identify
from kpf_ebpf.facts.model import Session
from kpf_ebpf.facts.system import cgroup_mount, read_text
from kpf_ebpf.image.model import MapImage
from kpf_ebpf.policy.addresses import address_text
from kpf_ebpf.policy.model import Action
from kpf_ebpf.policy.transport import PROTOCOLS

if TYPE_CHECKING:  # the Engine has no use for it while no session lives on
    import psutil

_ESTABLISHED = "ESTABLISHED"
"""As psutil calls it."""


@dataclass(frozen=True, slots=True)
class Served:
    """A session, the process that serves it, and the cgroup (below the mount) that this process is in."""

    session: Session
    pid: int
    cgroup: str


def find_session() -> Served | None:
    """The session of the nearest ancestor that serves one in this network namespace; None: there is none."""
    import psutil

    here = Path("/proc/self/ns/net").stat().st_ino
    for ancestor in psutil.Process().parents():
        try:
            if Path(f"/proc/{ancestor.pid}/ns/net").stat().st_ino != here:
                continue
            for session in _sessions(ancestor):
                return Served(session, ancestor.pid, _cgroup_of(ancestor.pid))
        except (psutil.Error, OSError):
            continue
    return None


def _sessions(process: psutil.Process) -> Iterator[Session]:
    for one in process.net_connections("tcp") if hasattr(process, "net_connections") else process.connections("tcp"):
        if one.status != _ESTABLISHED or not one.raddr or not one.laddr:
            continue
        local, remote = (number(point.ip.partition("%")[0]) for point in (one.laddr, one.raddr))
        if local is not None and remote is not None:
            yield Session(local, one.laddr.port, remote, one.raddr.port)


def guarded(identify: Identify, place: Attachment | None, keep: bool) -> Guard:
    """What looks after the session that this command is run from: kept alive, or a reason to refuse the policy."""
    served = find_session()

    def guard(image: MapImage) -> Session | None:
        if served is None or place is None or not is_within(served, place.path) or not is_cut(image, served, identify):
            return None
        if not keep:
            raise EngineError(
                f"this policy denies the session from {address_text(served.session.remote)} that this command is run "
                "from; try it with --confirm 60, or say --yes; nothing was changed"
            )
        return served.session

    return guard


def is_alive(session: Session) -> bool:
    """Whether the connection is still established, in this network namespace."""
    import psutil

    wanted = (session.local_port, session.remote_port)
    for one in psutil.net_connections("tcp"):
        if one.laddr and one.raddr and one.status == _ESTABLISHED and (one.laddr.port, one.raddr.port) == wanted:
            points = (number(one.laddr.ip.partition("%")[0]), number(one.raddr.ip.partition("%")[0]))
            if points == (session.local, session.remote):
                return True
    return False


def _cgroup_of(pid: int) -> str:
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        if line.startswith("0::"):
            return line[3:]
    return "/"


def is_within(served: Served, path: str) -> bool:
    """Whether a session is served in the firewalled cgroup, or below it."""
    return Path(served.cgroup).is_relative_to(path)


def is_cut(image: MapImage, served: Served, identify: Identify) -> bool:
    """Whether a policy would deny the session's packets."""
    session = served.session
    flow = Flow(
        direction="in",
        protocol=PROTOCOLS["tcp"],
        local=session.local,
        remote=session.remote,
        local_port=session.local_port,
        remote_port=session.remote_port,
        ifindex=adapter_of(image, session.local, session.remote),
        netns_cookie=image.policy.home,
        uid=Path(f"/proc/{served.pid}").stat().st_uid,
        cgroup=_cgroup_id(served.cgroup),
        application=key_at(f"/proc/{served.pid}/exe", identify),
    )
    return evaluate(image, flow).action is Action.DENY


def _cgroup_id(path: str) -> int:
    mount = cgroup_mount(read_text("/proc/self/mounts") or "")
    try:
        return Path(f"{mount}{path}").stat().st_ino
    except OSError:
        return 0
