"""Policies made to be slow: what a flow's classification costs under each, and how long it takes to make its image.

A block list of a million networks is one of them: what counts there is a destination that is asked for again and again.
"""

from __future__ import annotations

import random
import statistics
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from kpf_ebpf.facts.gather import gather
from kpf_ebpf.image.compile import compile_image
from kpf_ebpf.kernel import abi, bpf
from kpf_ebpf.kernel.active import read_active
from kpf_ebpf.kernel.apply import apply, spread
from kpf_ebpf.kernel.hooks import opened
from kpf_ebpf.policy.addresses import address
from kpf_ebpf.policy.parse import parse
from kpf_ebpf.resolve.resolve import resolve
from tests.kernel.conftest import DENY_ALL, Kernel

from .micro import CLASSIFIER, REPEAT, ROUNDS, run_many

RULES, FLOWS = 10_000, 1000
LISTS = (1000, 1_000_000)
FREED = 0.5
"""MB in half a second that are nothing."""


@dataclass(frozen=True, slots=True)
class Hard:
    """A policy of RULES rules, and the flows to ask it for."""

    name: str
    text: str
    flows: list[abi.Probe]


def _flow(kernel: Kernel, remote: str = "198.51.100.1", port: int = 443, user: int = 0) -> abi.Probe:
    probe = abi.Probe()
    for name, word in (("local", "192.0.2.1"), ("remote", remote)):
        place = address(word)
        assert place is not None
        for index, part in enumerate(struct.unpack("=4I", place.to_bytes(16, "big"))):
            getattr(probe.flow, name)[index] = part
    probe.flow.netns_cookie, probe.flow.ifindex, probe.flow.protocol, probe.flow.uid = kernel.home, 2, 6, user
    probe.flow.local_port, probe.flow.remote_port, probe.flow.direction = 40000, port, abi.Direction.OUT
    probe.flow.known = abi.KNOWS_ALL | abi.HAS_PORTS
    return probe


def _rules(words: Callable[[int], str]) -> str:
    return DENY_ALL + "".join(
        f'[[packet-filter]]\ndescription = "rule {number}"\naction = "{("permit", "deny")[number % 2]}"\n'
        f'protocol = "tcp"\n{words(number)}\n'
        for number in range(RULES)
    )


def _dotted(number: int) -> str:
    return ".".join(str(number >> shift & 255) for shift in (24, 16, 8, 0))


def hard(kernel: Kernel) -> Iterator[Hard]:
    """Every policy, one after the other."""
    chance = random.Random(1)
    some = [chance.randrange(RULES) for _ in range(FLOWS)]
    one = _rules(lambda number: f"remote = {{ port = {1000 + number} }}")
    yield Hard("all differ in one field", one, [_flow(kernel, port=1000 + number) for number in some])
    users = _rules(lambda number: f"user = {5000 + number}")
    yield Hard("a user each", users, [_flow(kernel, user=5000 + number) for number in some])
    nested = []
    for number in range(RULES):
        bits = 9 + number % 24
        nested.append(f"{_dotted(10 << 24 | (chance.getrandbits(24) >> 32 - bits << 32 - bits))}/{bits}")
    yield Hard(
        "overlapping networks",
        _rules(lambda number: f'remote = {{ address = "{nested[number]}" }}'),
        [_flow(kernel, remote=_dotted(10 << 24 | chance.getrandbits(24))) for _ in range(FLOWS)],
    )
    yield Hard(
        "overlapping ranges of ports",
        _rules(lambda number: f'remote = {{ port = "{20_000 + number}-{60_000 - number}", address = "203.0.113.1" }}'),
        [_flow(kernel, port=chance.randrange(1, 65_536)) for _ in range(FLOWS)],
    )
    yield Hard(
        "a program each",
        _rules(lambda number: f'application = "{_program(kernel, number)}"'),
        [_of_program(kernel, _program(kernel, number)) for number in some],
    )
    yield Hard(
        "near misses in every chunk",
        _rules(
            lambda number: (
                'remote = { address = "203.0.113.1", port = 443 }',
                'remote = { address = "198.51.100.1", port = 1 }',
            )[number % 2]
        ),
        [_flow(kernel)] * FLOWS,
    )


def _program(kernel: Kernel, number: int) -> Path:
    path = kernel.folder / f"named{number}"
    if not path.exists():
        path.write_text(str(number))
        path.chmod(0o755)
    return path


def _of_program(kernel: Kernel, path: Path) -> abi.Probe:
    probe = _flow(kernel)
    with path.open("rb") as file:
        key = kernel.programs.identify(file.fileno())
    file_key = probe.flow.application
    file_key.inode, file_key.device, file_key.generation = key.inode, key.device, key.generation
    file_key.ctime_seconds, file_key.ctime_nanoseconds = key.ctime_seconds, key.ctime_nanoseconds
    return probe


def _cost(kernel: Kernel, flows: list[abi.Probe]) -> float:
    """Net nanoseconds of a classification."""
    word = read_active(kernel.programs.pins)
    with opened(kernel.programs.pins / "probes") as fd:
        for index, probe in enumerate(flows):
            probe.active = abi.active_word(word.generation, False, word.slot or 0)
            bpf.update(fd, struct.pack("=I", index), bytes(probe))
    measured, nothing = (kernel.programs.descriptors[name] for name in CLASSIFIER)
    found = [run_many(measured, len(flows), REPEAT) - run_many(nothing, len(flows), REPEAT) for _ in range(ROUNDS)]
    return statistics.median(found)


def policies(kernel: Kernel) -> dict[str, dict[str, float]]:
    """By policy: ns of a flow, and seconds from the text to the switch."""
    found = {}
    for one in hard(kernel):
        began = time.perf_counter()
        kernel.apply(one.text)
        took = time.perf_counter() - began
        found[one.name] = {"flow (ns)": _cost(kernel, one.flows), "applied (s)": took}
    return found


def _slab() -> float:
    """MB of the kernel's memory that is in slabs, in vmalloc areas, or per processor."""
    wanted = ("Slab:", "VmallocUsed:", "Percpu:")
    lines = (line.split() for line in Path("/proc/meminfo").read_text().splitlines())
    return sum(int(words[1]) for words in lines if words[0] in wanted) / 1024


def _wait_for_memory() -> None:
    """Until the kernel is done with freeing what a list took before, which costs whatever is measured meanwhile."""
    before = float("inf")
    for _ in range(40):
        now = _slab()
        if abs(before - now) < FREED:
            return
        before = now
        time.sleep(0.5)


def _networks(count: int) -> list[str]:
    chance, found = random.Random(2), set[str]()
    while len(found) < count:
        bits = chance.choice((24, 28, 32, 32))
        base = chance.getrandbits(32) >> 32 - bits << 32 - bits
        if 11 << 24 <= base < 223 << 24:
            found.add(f"{_dotted(base)}/{bits}")
    return sorted(found)


def block_lists(kernel: Kernel) -> dict[int, dict[str, float]]:
    """By size of a block list: ns of a flow to a listed destination, seconds until the switch, MB in the kernel.

    MB: what was there at most, at the second of two lists that differ in one network, over what was there before.
    """
    text = f'{DENY_ALL}[groups]\nblocked = {{ file = "list" }}\n[[packet-filter]]\ndescription = "blocked"\n'
    text += 'action = "deny"\nremote = { address = "@blocked" }\n'
    found = {}
    for count in LISTS:
        kernel.apply(DENY_ALL)
        networks, before, most, took = _networks(count), _slab(), 0.0, []
        for listed in (networks, networks[1:]):
            began = time.perf_counter()
            data = "\n".join(listed).encode()
            policy, _ = parse(text.encode(), "hard.toml", lambda path, data=data: data, Path("/"))  # type: ignore[misc]
            facts = gather(policy, kernel.programs.identify, netns_cookie=kernel.home)
            image = compile_image(resolve(policy, facts), kernel.counters)
            apply(kernel.programs.pins, image)
            took.append(time.perf_counter() - began)
            most = max(most, _slab() - before)
            spread(kernel.programs.pins)
            kernel.counters = dict(image.counters)
        _wait_for_memory()
        again = [_flow(kernel, remote=network.partition("/")[0]) for network in networks[5:15]]
        found[count] = {"flow (ns)": _cost(kernel, again), "applied (s)": max(took), "kernel memory (MB)": most}
    return found
