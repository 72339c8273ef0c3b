"""evaluate(image, flow): the classifier's twin in Python, over the same image (bpf/classify.c; change both)."""

from __future__ import annotations

from dataclasses import dataclass

from kpf_ebpf.facts.model import FileKey
from kpf_ebpf.image.compile import scope_index
from kpf_ebpf.image.model import EVERY_ADAPTER, GROUP, NO, YES, AddressClass, ApplicationEntry, MapImage
from kpf_ebpf.image.prefixes import BITS
from kpf_ebpf.resolve.model import ResolvedRule

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
    for bits in range(BITS, -1, -1):
        key = (bits, address >> BITS - bits << BITS - bits)
        if key in image.prefixes:
            return image.prefixes[key]
    raise LookupError("an image without the prefix of all addresses")


def _zone(found: AddressClass, slot: int, loopback: int) -> int:
    if loopback == YES or found.trusted == EVERY_ADAPTER:
        return YES
    return found.trusted >> slot & 1


def _application(image: MapImage, flow: Flow) -> tuple[ApplicationEntry, bool]:
    """(entry, modified)."""
    other = image.components[0]
    if flow.component:
        return image.components[flow.component], False
    for key, entry in image.applications if flow.application else ():
        assert flow.application is not None
        if (key.inode, key.device, key.generation) == (
            flow.application.inode,
            flow.application.device,
            flow.application.generation,
        ):
            modified = key != flow.application
            return (
                ApplicationEntry(other.application_class, 0, entry.modified, other.cells) if modified else entry
            ), modified
    return other, False


def evaluate(image: MapImage, flow: Flow) -> ResolvedRule:
    """The rule that decides the flow; stop-all, state and mirrored halves are the caller's."""
    entry, modified = _application(image, flow)
    local, remote = _find(image, flow.local), _find(image, flow.remote)
    out, home = int(flow.direction == "out"), int(flow.netns_cookie == image.policy.home)
    adapter = image.adapters.get(flow.ifindex) if home else None
    slot, loopback = adapter.slot if adapter else 0, YES if flow.ifindex == 1 else NO
    local_zone, remote_zone = _zone(local, slot, loopback), _zone(remote, slot, loopback)
    if out and remote.flags & GROUP and loopback != YES:
        remote_zone = adapter.own_zone >> int(flow.remote >> 32 != 0xFFFF) & 1 if adapter else local_zone
    fields = image.vectors
    found = fields[0][entry.application_class] & fields[1][image.users.get(flow.uid, 0)]
    found &= fields[2][image.cgroups.get(flow.cgroup, 0)] & fields[3][local.local] & fields[4][remote.remote]
    found &= fields[5][flow.protocol]
    if flow.protocol in ICMP:
        found &= image.icmp[flow.icmp]
    elif flow.protocol in WITH_PORTS and flow.local_port is not None and flow.remote_port is not None:
        found &= fields[6][image.ports[flow.local_port][0]] & fields[7][image.ports[flow.remote_port][1]]
    else:
        found &= fields[6][0] & fields[7][0]
    found &= fields[8][scope_index(out, home, loopback, remote_zone, local_zone) * 2]
    first = (found & -found).bit_length() - 1
    if 0 <= first < image.guard_end:
        return image.rules[first]
    if modified:
        return image.rules[entry.modified]
    if first >= 0:
        return image.rules[first]
    return image.rules[entry.cells[remote_zone * 2 + out]]
