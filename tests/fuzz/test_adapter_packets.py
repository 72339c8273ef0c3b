"""Packets of any bytes through the programs at adapters: what no socket owns is judged, all else goes on.

What BPF_PROG_TEST_RUN cannot reach: it hands the program a socket of the kernel's own making, which the egress program
takes for an ordinary socket's packet and lets go on to the socket hooks. So here egress is only seen not to fail; its
frames come from real packet sockets in test_frames.py.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

from kpf_ebpf.kernel import abi
from kpf_ebpf.kernel.adapters import set_reach
from kpf_ebpf.policy.addresses import address, is_v4
from kpf_ebpf.policy.model import V4_BASE
from tests.fuzz.bed import EVERYTHING, EXPERIMENTAL, IPV4, IPV6, Bed, Judged, agrees, framed
from tests.fuzz.campaign import Campaign
from tests.fuzz.network import OWN4, OWN6
from tests.fuzz.packets import ECHO_REPLY, TCP, UDP, Seen, read
from tests.fuzz.shapes import Places, a_packet

GO_ON, DROP = -1, 2
LISTENS, BOUND, ADMINISTRATION, POPUP = 7000, 7001, 44334, 44501
PLACES = Places(
    (OWN4, OWN4, OWN4, "127.0.0.1", "192.0.2.255", "198.51.100.7", "224.0.0.1", "255.255.255.255"),
    (OWN6, OWN6, OWN6, "::1", "2001:db8:9::7", "ff02::1", "::ffff:192.0.2.1"),
    (LISTENS, BOUND, 7002, ADMINISTRATION, POPUP),
)
OWN = frozenset({OWN4, OWN6, "127.0.0.1", "::1"})
BROADCASTS = frozenset({"192.0.2.255", "127.255.255.255", "255.255.255.255"})
HERE = frozenset(place for word in OWN | BROADCASTS if (place := address(word)) is not None)
KERNELS = frozenset({2, 4, 41, 47, 50, 51})
"""IGMP, tunnels, ESP and AH: the kernel's own business."""
BATCH = 200
KNOWN: tuple[bytes, ...] = ()
"""Packets that once broke a rule of this module."""


def is_for_us(place: int) -> bool:
    """Tell whether a destination means this host: its own, a broadcast, a multicast."""
    return place in HERE or place >> 120 == 0xFF or V4_BASE + (224 << 24) <= place < V4_BASE + (240 << 24)


def is_judged(seen: Seen) -> bool:
    """Tell whether a packet is one that no socket takes and the kernel answers."""
    if not is_for_us(seen.destination):
        return False
    if seen.protocol in (TCP, UDP):
        return seen.ports is not None and seen.ports[1] != (LISTENS if seen.protocol == TCP else BOUND)
    if seen.protocol in ECHO_REPLY:
        return seen.begins and not seen.is_echo_reply and not seen.is_error
    return seen.protocol in KERNELS


def wrong(frame: bytes, judged: Judged) -> str:
    """Say what is wrong with a verdict on a frame that came in; "": nothing."""
    seen = read(frame[14:]) if frame[12:14] in (IPV4, IPV6) else None
    if seen is not None and is_v4(seen.source) != is_v4(seen.destination):
        return "" if judged.result in (GO_ON, DROP) else "expected -1 or 2"  # no host sends or takes such a packet
    if seen is None and frame[12:14] in (IPV4, IPV6):
        return "" if (judged.result, judged.event) == (DROP, None) else "expected a drop, without a rule"
    if seen is None or not is_judged(seen):
        return "" if (judged.result, judged.event) == (GO_ON, None) else "expected to go on, without a rule"
    if judged.event is None or judged.result != DROP or judged.event.action is not abi.Action.DENY:
        return "expected a denial by a rule, and its event"
    return agrees(judged.event, seen, out=False)


def check(bed: Bed, frames: list[bytes]) -> list[str]:
    """Run frames through both programs: what is wrong with which of them, in words."""
    verdicts = bed.judge("kpf_adapter_ingress", frames)
    bad = [
        f"{text}; got {judged}, read {read(frame[14:])}\nframe {frame.hex()}"
        for frame, judged in zip(frames, verdicts, strict=True)
        if (text := wrong(frame, judged))
    ]
    return bad + [f"egress: {one}" for one in bed.judge("kpf_adapter_egress", frames) if one.result != GO_ON]


@contextlib.contextmanager
def sockets_of_its_own(bed: Bed) -> Iterator[None]:
    """A policy that denies everything, enforced at this namespace's adapters, and a socket of each kind here."""
    bed.apply(EVERYTHING)
    set_reach(bed.kernel.programs.pins, bed.kernel.home, bed.kernel.cgroup, 1)
    with contextlib.ExitStack() as opened:
        for family, everywhere in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
            for kind, port in ((socket.SOCK_STREAM, LISTENS), (socket.SOCK_DGRAM, BOUND)):
                made = opened.enter_context(socket.socket(family, kind))
                if family == socket.AF_INET6:
                    made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                made.bind((everywhere, port))
                if kind == socket.SOCK_STREAM:
                    made.listen()
        yield


def test_what_no_socket_owns_is_denied_where_everything_is(bed: Bed, campaign: Campaign) -> None:
    """Closed ports, pings, tunnels: dropped by a rule, as they were read; sockets' packets and others' go on."""
    with sockets_of_its_own(bed):
        frames: list[bytes] = []
        for number in campaign.numbers():
            chance = campaign.chance(number)
            frames.append(framed(a_packet(chance, PLACES), chance.choice((None, None, None, EXPERIMENTAL))))
            if len(frames) == BATCH:
                bad = check(bed, frames)
                assert not bad, f"{campaign.again(number, 3 * BATCH)}:\n" + "\n".join(bad[:5])
                frames = []
        bad = check(bed, frames)
        assert not bad, f"{campaign.again(number, 3 * BATCH)}:\n" + "\n".join(bad[:5])


def test_what_once_was_wrong_is_right(bed: Bed) -> None:
    """Each packet that a campaign once found is judged as any other."""
    with sockets_of_its_own(bed):
        for packet in KNOWN:
            assert not check(bed, [framed(packet)])
