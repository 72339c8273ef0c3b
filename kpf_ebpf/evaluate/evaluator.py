"""evaluate(image, flow): the classifier's twin in Python, over the same image (bpf/classify.c; change both)."""

from __future__ import annotations

from dataclasses import dataclass

from kpf_ebpf.facts.model import FileKey
from kpf_ebpf.image.compile import COMPONENTS, scope_index
from kpf_ebpf.image.model import (
    CTIMES,
    DIRECTED,
    EVERY_ADAPTER,
    GROUP,
    NO,
    YES,
    AddressClass,
    ApplicationEntry,
    MapImage,
    Named,
)
from kpf_ebpf.image.prefixes import BITS, place
from kpf_ebpf.policy.model import Zone
from kpf_ebpf.resolve.model import STOP_ALL, ResolvedRule

WITH_PORTS = frozenset({6, 17, 132, 136})
ICMP = frozenset({1, 58})


@dataclass(frozen=True, slots=True)
class Flow:
    """A flow of which everything is known, as in ``struct kpf_flow``; ports None: they could not be read."""

    direction: str
    protocol: int
    local: int
    remote: int
    local_port: int | None = None
    remote_port: int | None = None
    icmp: int = 0
    ifindex: int = 2
    netns_cookie: int = 0
    uid: int = 0
    cgroup: int = 0
    application: FileKey | None = None
    component: int = 0


def _find(image: MapImage, address: int) -> AddressClass:
    where = place(address)
    for bits in range(BITS, -1, -1):
        key = (bits, where >> BITS - bits << BITS - bits)
        if key in image.prefixes:
            return image.prefixes[key]
    raise LookupError("an image without the prefix of all addresses")


def _zone(found: AddressClass, bit: int, loopback: int) -> int:
    if loopback == YES or found.trusted == EVERY_ADAPTER:
        return YES
    return found.trusted >> bit & 1


def _application(image: MapImage, flow: Flow) -> tuple[ApplicationEntry, bool]:
    """(entry, modified)."""
    other = image.components[0]
    if flow.component:
        return image.components[flow.component], False
    same = [
        (key, entry)
        for key, entry in image.applications
        if flow.application and _place(key) == _place(flow.application)
    ]
    if not same:
        return other, False
    for key, entry in same[:CTIMES]:
        if key == flow.application:
            return entry, False
    return ApplicationEntry(other.application_class, 0, same[0][1].modified, other.cells), True


def _mark(image: MapImage, cgroup: int) -> int:
    return next((one.mark for one in image.policy.cgroups if cgroup in one.ids), 0)


def _place(key: FileKey) -> tuple[int, int, int]:
    return key.inode, key.device, key.generation


@dataclass(frozen=True, slots=True)
class Judged:
    """What the fields of a flow say: per field the vector of the rules accepting it, and what they amount to."""

    entry: ApplicationEntry
    modified: bool
    home: bool
    loopback: bool
    local_zone: Zone
    remote_zone: Zone
    vectors: tuple[int, ...]

    @property
    def first(self) -> int | None:
        """The first position that accepts all fields."""
        found = -1
        for vector in self.vectors:
            found &= vector
        return (found & -found).bit_length() - 1 if found else None


def judge(image: MapImage, flow: Flow) -> Judged:
    """Looks every field of the flow up."""
    entry, modified = _application(image, flow)
    local, remote = _find(image, flow.local), _find(image, flow.remote)
    named_local, named_remote = (image.named.get(address, Named()) for address in (flow.local, flow.remote))
    out, home = int(flow.direction == "out"), int(flow.netns_cookie == image.policy.home)
    adapter = image.adapters.get(flow.ifindex) if home else None
    bit, loopback = adapter.place if adapter else 0, YES if flow.ifindex == 1 else NO
    local_zone, remote_zone = _zone(local, bit, loopback), _zone(remote, bit, loopback)
    if out and (remote.flags | named_remote.flags) & (GROUP | DIRECTED if home else GROUP) and loopback != YES:
        family = int(flow.remote >> 32 != 0xFFFF)
        has_own = adapter is not None and adapter.own_zone >> 2 + family & 1
        remote_zone = adapter.own_zone >> family & 1 if adapter and has_own else local_zone
    fields = image.vectors
    if flow.protocol in ICMP:
        ports = image.icmp[flow.icmp], -1
    elif flow.protocol in WITH_PORTS and flow.local_port is not None and flow.remote_port is not None:
        ports = fields[6][image.ports[flow.local_port][0]], fields[7][image.ports[flow.remote_port][1]]
    else:
        ports = fields[6][0], fields[7][0]
    vectors = (
        fields[0][entry.application_class],
        fields[1][image.users.get(flow.uid, 0)],
        fields[2][image.cgroups.get(_mark(image, flow.cgroup), 0)],
        fields[3][local.local] | named_local.local,
        fields[4][remote.remote] | named_remote.remote,
        fields[5][flow.protocol],
        *ports,
        fields[8][scope_index(out, home, loopback, remote_zone, local_zone) * 2],
    )
    zones = {YES: Zone.TRUSTED, NO: Zone.INTERNET}
    return Judged(entry, modified, bool(home), loopback == YES, zones[local_zone], zones[remote_zone], vectors)


def _leaves(image: MapImage, flow: Flow, judged: Judged) -> bool:
    """Whether stop-all leaves the flow alone: the loopback GUI-Engine connection, and the canary."""
    port, component = image.policy.administration_port, judged.entry.component
    if not judged.loopback or flow.protocol not in (6, 17):
        return False
    if component == COMPONENTS["gui"]:
        return flow.direction == "out" and flow.remote_port == port
    if component == COMPONENTS["engine"]:
        return flow.direction == "in" and flow.local_port == port
    return component == COMPONENTS["canary"]


def evaluate(image: MapImage, flow: Flow, *, stop_all: bool = False) -> ResolvedRule:
    """The rule that decides the flow; state and mirrored halves are the caller's."""
    judged = judge(image, flow)
    if stop_all and not _leaves(image, flow, judged):
        return STOP_ALL
    first = judged.first
    if first is not None and first < image.guard_end:
        return image.rules[first]
    if judged.modified:
        return image.rules[judged.entry.modified]
    if first is not None:
        return image.rules[first]
    trusted, out = judged.remote_zone is Zone.TRUSTED, flow.direction == "out"
    return image.rules[judged.entry.cells[trusted * 2 + out]]
