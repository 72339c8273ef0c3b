"""The kernel's classifier against its twin: the same image, thousands of random flows, one verdict each."""

from __future__ import annotations

import random
import struct
from dataclasses import replace
from pathlib import Path

from kpf_ebpf.evaluate.evaluator import Flow, evaluate
from kpf_ebpf.facts.addresses import is_loopback
from kpf_ebpf.facts.gather import gather
from kpf_ebpf.image.compile import compile_image
from kpf_ebpf.image.model import MapImage
from kpf_ebpf.kernel import abi, bpf
from kpf_ebpf.kernel.active import read_active
from kpf_ebpf.kernel.apply import apply
from kpf_ebpf.kernel.hooks import opened
from kpf_ebpf.policy.addresses import address_text
from kpf_ebpf.policy.model import V4_BASE, Action
from kpf_ebpf.policy.parse import parse
from kpf_ebpf.resolve.resolve import resolve
from tests.kernel.conftest import Kernel

HOSTS = [V4_BASE + (192 << 24) + (2 << 8) + number for number in range(8)]
HOSTS += [(0x20010DB8 << 96) + number for number in range(4)] + [
    V4_BASE + (127 << 24) + 1,
    1,
    V4_BASE + (224 << 24) + 1,
]
PORTS = [22, 53, 67, 68, 80, 443, 500, 1000, 1001, 44334, 44501, 50000]


MANY = [V4_BASE + (198 << 24) + (51 << 16) + (100 << 8) + number for number in range(100)]
MANY += [(0x20010DB8 << 96) + (1 << 64) + number for number in range(20)]
"""So many single addresses that an image keeps them in a hash."""


def _policy(chance: random.Random) -> str:
    text = '[[trusted]]\ndescription = "lan"\naddress = "192.0.2.0/30"\n'
    for number in range(600):
        protocol = chance.choice(["tcp", "udp", "any", "icmp", "47"])
        text += f'[[packet-filter]]\ndescription = "rule {number}"\naction = "{chance.choice(["permit", "deny"])}"\n'
        text += f'direction = "{chance.choice(["in", "out", "both"])}"\n'
        text += f"protocol = {protocol}\n" if protocol.isdigit() else f'protocol = "{protocol}"\n'
        port = f", port = {chance.choice(PORTS)}" if protocol in ("tcp", "udp") else ""
        address = chance.choice(["192.0.2.1", "192.0.2.4/31", "192.0.2.2-192.0.2.5", "@trusted"])
        text += f'remote = {{ address = "{address}"{port} }}\n'
        if chance.random() < 0.2:
            text += f'local = {{ address = "{chance.choice(["192.0.2.0/29", "192.0.2.3", "@trusted"])}" }}\n'
        elif port and chance.random() < 0.2:
            text += f"local = {{ port = {chance.choice(PORTS)} }}\n"
    for side in ("remote", "local"):
        addresses = ", ".join(f'"{address_text(one)}"' for one in MANY)
        text += f'[[packet-filter]]\ndescription = "{side}, many"\naction = "deny"\n'
        text += f"{side} = {{ address = [{addresses}] }}\n"
    return text


def _flow(chance: random.Random, home: int) -> Flow:
    protocol = chance.choice([6, 6, 17, 17, 1, 58, 47])
    with_ports = protocol in (6, 17)
    return Flow(
        direction=chance.choice(["in", "out"]),
        protocol=protocol,
        local=chance.choice(HOSTS + MANY[::10]),
        remote=chance.choice(HOSTS + MANY[::10]),
        local_port=chance.choice(PORTS) if with_ports else None,
        remote_port=chance.choice(PORTS) if with_ports else None,
        icmp=chance.choice([0, 3, 8]) + (256 if protocol == 58 else 0) if protocol in (1, 58) else 0,
        ifindex=chance.choice([1, 2, 3]),
        netns_cookie=chance.choice([home, home + 1]),
        uid=chance.choice([0, 1000]),
        component=chance.choice([0, 0, 0, 1, 2, 3, 4]),
    )


def _packed(flow: Flow, active: int) -> bytes:
    probe = abi.Probe(active=active)
    for name in ("local", "remote"):
        words = struct.unpack("=4I", getattr(flow, name).to_bytes(16, "big"))
        for index, word in enumerate(words):
            getattr(probe.flow, name)[index] = word
    for name in ("protocol", "icmp", "ifindex", "netns_cookie", "uid", "component"):
        setattr(probe.flow, name, getattr(flow, name))
    probe.flow.direction = int(flow.direction == "out")
    probe.flow.known = abi.KNOWS_ALL
    if flow.local_port is not None and flow.remote_port is not None:
        probe.flow.local_port, probe.flow.remote_port, probe.flow.known = flow.local_port, flow.remote_port, 15
    return bytes(probe)


def _enforce(kernel: Kernel, chance: random.Random) -> tuple[MapImage, int]:
    """A random policy in the kernel: its image, and the active word it is judged under."""
    policy, _ = parse(_policy(chance).encode(), "random.toml", lambda path: b"", Path("/"))
    facts = gather(policy, kernel.programs.identify, netns_cookie=kernel.home)
    image = compile_image(resolve(policy, facts), kernel.counters)
    kernel.counters = dict(image.counters)
    generation = apply(kernel.programs.pins, image)
    return image, abi.active_word(generation, False, read_active(kernel.programs.pins).slot or 0)


def test_the_kernel_and_its_twin_agree_on_every_flow(kernel: Kernel) -> None:
    """3,000 random flows over a policy of 600 random rules: the rule that decides is the same in both."""
    chance = random.Random(7)
    image, active = _enforce(kernel, chance)
    names = {number: rule for rule, number in image.counters.items()}
    decided = set()
    with opened(kernel.programs.pins / "probes") as fd:
        for _ in range(3000):
            flow = _flow(chance, image.policy.home)
            bpf.update(fd, bytes(4), _packed(flow, active))
            bpf.run_marked(kernel.programs.descriptors["kpf_probe"], 0)
            answer = abi.Probe.from_buffer_copy(bpf.lookup(fd, bytes(4), len(bytes(abi.Probe()))) or b"")
            assert answer.ok == 1
            assert names[answer.rule.counter] == evaluate(image, flow).id, flow
            decided.add(names[answer.rule.counter])
    assert len(decided) > 30  # else the flows would prove little


def _consistent(chance: random.Random, flow: Flow, image: MapImage) -> Flow:
    """The flow, going out, over an adapter that a packet to this address can leave by."""
    own = {address for adapter in image.policy.adapters for address in adapter.addresses}
    home = flow.netns_cookie == image.policy.home
    if is_loopback(flow.remote) or (home and flow.remote in own):
        return replace(flow, direction="out", ifindex=1)
    others = [2, 3, 7] if home else [1, 2, 3, 7]
    return replace(flow, direction="out", ifindex=chance.choice(others))


def _half_known(flow: Flow, active: int, known: int) -> bytes:
    """The flow as a hook sees it that knows only some of the adapter, the local address and the local port."""
    probe = abi.Probe.from_buffer_copy(_packed(flow, active))
    probe.flow.known = known | probe.flow.known & abi.HAS_PORTS
    if not known & abi.KNOWS_ADAPTER:
        probe.flow.ifindex = 0
    if not known & abi.KNOWS_LOCAL_PORT:
        probe.flow.local_port = 0
    for word in range(0 if known & abi.KNOWS_LOCAL_ADDRESS else 4):
        probe.flow.local[word] = 0
    return bytes(probe)


def test_an_early_hook_says_only_what_every_outcome_is(kernel: Kernel) -> None:
    """Whatever is still open, an early denial is what the packet gets, too, and by the rule that is settled early it is
    permitted; with nothing open, it is always the one or the other."""
    chance = random.Random(11)
    image, active = _enforce(kernel, chance)
    names = {number: rule for rule, number in image.counters.items()}
    early, settled = {False: 0, True: 0}, 0
    with opened(kernel.programs.pins / "probes") as fd:
        for _ in range(3000):
            flow = _consistent(chance, _flow(chance, image.policy.home), image)
            known = chance.choice([0, 1, 2, 3, 4, 5, 6, 7, 7])
            bpf.update(fd, bytes(4), _half_known(flow, active, known))
            bpf.run_marked(kernel.programs.descriptors["kpf_probe_early"], 0)
            answer = abi.Probe.from_buffer_copy(bpf.lookup(fd, bytes(4), len(bytes(abi.Probe()))) or b"")
            decided = evaluate(image, flow)
            denied = decided.action is Action.DENY
            assert answer.ok == 1
            assert denied or answer.early != abi.Outcome.DENIED, (flow, known)
            if answer.early == abi.Outcome.SETTLED:
                assert names[answer.rule.counter] == decided.id, (flow, known)
            if known == abi.KNOWS_ALL:
                assert answer.early == (abi.Outcome.DENIED if denied else abi.Outcome.SETTLED), flow
            elif denied:
                early[answer.early == abi.Outcome.DENIED] += 1
            else:
                settled += answer.early == abi.Outcome.SETTLED
    assert early[True] > 2 * early[False]  # else callers would mostly wait in vain
    assert settled > 100
