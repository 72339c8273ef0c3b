"""Packets of any bytes through the packet hooks: never a wrong permit, and read as the RFCs read them.

What BPF_PROG_TEST_RUN cannot reach: it hands the program a socket of the kernel's own making (type 0, protocol 0, no
owner, a new one for each run), so a packet here is a kernel socket's, judged as a datagram. Segments of TCP sockets,
listeners, caches and remembered flows need real sockets: test_sent_packets.py. For a kernel socket the documented
verdict of an answer (RST or ACK, ICMP errors) that goes out is "state": permitted without a rule.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from kpf_ebpf.kernel import abi
from tests.fuzz.bed import EVERYTHING, EXPERIMENTAL, IPV4, IPV6, Bed, Judged, agrees, framed
from tests.fuzz.campaign import Campaign
from tests.fuzz.packets import ACK, RST, TCP, UDP, Seen, read
from tests.fuzz.shapes import Places, a_packet
from tests.kernel.conftest import DENY_ALL

OPEN, POPUP = 7000, 44501
PLACES = Places(
    ("127.0.0.1", "192.0.2.1", "198.51.100.7", "224.0.0.1", "255.255.255.255", "0.0.0.0"),
    ("::1", "2001:db8::1", "2001:db8:9::7", "ff02::1", "::", "::ffff:192.0.2.1"),
    (OPEN, OPEN, 7001, 53, 44334, POPUP),
)
ONE_PORT = (
    f'[[packet-filter]]\ndescription = "one out"\naction = "permit"\ndirection = "out"\nprotocol = "udp"\n'
    f'remote = {{ port = {OPEN} }}\nlog = true\n[[packet-filter]]\ndescription = "one in"\naction = "permit"\n'
    f'direction = "in"\nprotocol = "udp"\nlocal = {{ port = {OPEN} }}\nlog = true\n' + EVERYTHING
)
BATCH = 200
KNOWN: tuple[tuple[str, bytes], ...] = ()
"""Packets that once broke a rule of this module, and the policy (a name below) that they did under."""

KNOWN_PERMITTED: tuple[bytes, ...] = (bytes.fromhex("4500001e00000000403affff c0000201c6336407 8f0070ff00000000 2121"),)
"""Packets of IPv4 that pass under a default of deny: "what IPv6 cannot do without" is no reason for them to."""


def is_state(seen: Seen, out: bool) -> bool:
    """Tell whether a kernel socket's packet is an answer, as the header of the programs documents it."""
    return out and ((seen.protocol == TCP and bool(seen.tcp_flags & (RST | ACK))) or seen.is_error)


def denied(seen: Seen, out: bool) -> str:
    """Give the rule that decides where everything is denied: all but the one internal rule that is everybody's."""
    is_report = out and seen.protocol == TCP and seen.ports is not None and seen.ports[1] == POPUP
    return "internal/popup-log" if is_report else "packet-filter/everything"


def one_port(seen: Seen, out: bool) -> str:
    """Give the rule that decides where one UDP port is open."""
    is_open = seen.protocol == UDP and seen.ports is not None and seen.ports[1] == OPEN
    return f"packet-filter/one {'out' if out else 'in'}" if is_open else denied(seen, out)


POLICIES: dict[str, tuple[str, Callable[[Seen, bool], str]]] = {
    "denied": (EVERYTHING, denied),
    "one port": (ONE_PORT, one_port),
}


def wrong(packet: bytes, out: bool, judged: Judged, decides: Callable[[Seen, bool], str]) -> str:
    """Say what is wrong with a verdict; "": nothing."""
    seen = read(packet)
    if seen is None or is_state(seen, out):
        expected = 0 if seen is None else 1
        return "" if (judged.result, judged.event) == (expected, None) else f"expected {expected} without a rule"
    if judged.event is None:
        return "expected a verdict by a rule, and its event"
    rule = decides(seen, out)
    if judged.rule != rule:
        return f"expected rule {rule}"
    permits = rule != "packet-filter/everything"
    if judged.result != permits or (judged.event.action is abi.Action.PERMIT) != permits:
        return f"expected {'a permit' if permits else 'a denial'}"
    return agrees(judged.event, seen, out, kernels=out)


def check(bed: Bed, hook: str, packets: list[bytes], frames: list[bytes], policy: str) -> list[str]:
    """Run packets through a hook: what is wrong with which of them, in words."""
    out, decides = hook == "kpf_egress", POLICIES[policy][1]
    before = bed.defaults()
    verdicts = bed.judge(hook, frames)
    after = bed.defaults()
    bad = [
        f"{hook}: {text}; got {judged}, read {read(packet)}\npacket {packet.hex()}"
        for packet, judged in zip(packets, verdicts, strict=True)
        if (text := wrong(packet, out, judged, decides))
    ]
    no_ip = after[abi.Default.NO_IP] - before[abi.Default.NO_IP]
    expected = sum(read(packet) is None for packet in packets)
    if no_ip != expected:
        bad.append(f"{hook}: KPF_DEFAULT_NO_IP was counted {no_ip} times, {expected} packets are none")
    for default in (abi.Default.NO_IMAGE, abi.Default.BROKEN_IMAGE, abi.Default.NO_SOCKET):
        if after[default] != before[default]:
            bad.append(f"{hook}: {default!r} was counted")
    return bad


@pytest.mark.parametrize("policy", POLICIES)
def test_packets_are_read_and_judged_as_they_are(bed: Bed, campaign: Campaign, policy: str) -> None:
    """Under a policy that denies all, and one that permits one UDP port: the right rule by the right reading."""
    bed.apply(POLICIES[policy][0])
    hooks = {"kpf_egress": [], "kpf_ingress": []}
    packets: dict[str, list[bytes]] = {name: [] for name in hooks}
    frames: dict[str, list[bytes]] = {name: [] for name in hooks}
    for number in campaign.numbers(share=0.5):
        chance = campaign.chance(number)
        hook, packet = chance.choice(tuple(hooks)), a_packet(chance, PLACES)
        packets[hook].append(packet)
        long_enough = len(packet) >= 40
        kind = chance.choice((None, None, None, EXPERIMENTAL, *((IPV4, IPV6) if long_enough else ())))
        frames[hook].append(framed(packet, kind))
        if len(packets[hook]) == BATCH:
            bad = check(bed, hook, packets[hook], frames[hook], policy)
            assert not bad, f"{campaign.again(number, 3 * BATCH)}:\n" + "\n".join(bad[:5])
            packets[hook], frames[hook] = [], []
    for hook in hooks:
        bad = check(bed, hook, packets[hook], frames[hook], policy)
        assert not bad, f"{campaign.again(number, 3 * BATCH)}:\n" + "\n".join(bad[:5])


def test_what_once_was_wrong_is_right(bed: Bed) -> None:
    """Each packet that a campaign once found is judged as any other."""
    for policy, packet in KNOWN:
        bed.apply(POLICIES[policy][0])
        for hook in ("kpf_egress", "kpf_ingress"):
            assert not check(bed, hook, [packet], [framed(packet)], policy)


@pytest.mark.parametrize("packet", KNOWN_PERMITTED, ids=range(len(KNOWN_PERMITTED)))
def test_a_default_of_denial_leaves_nothing_of_ipv4(bed: Bed, packet: bytes) -> None:
    """With the predefined rules off, no packet of IPv4 passes, whatever protocol it says it holds."""
    bed.apply(DENY_ALL)
    for hook in ("kpf_egress", "kpf_ingress"):
        assert [one.result for one in bed.judge(hook, [framed(packet)])] == [0], hook
