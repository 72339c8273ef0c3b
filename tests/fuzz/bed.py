"""Runs packets through the loaded programs (BPF_PROG_TEST_RUN): each packet's verdict, and the event that tells why."""

from __future__ import annotations

import ctypes
import os
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from kpf_ebpf.events.decode import RawEvent, decode
from kpf_ebpf.kernel import abi, bpf
from kpf_ebpf.kernel.active import read_active, write_active
from kpf_ebpf.kernel.counters import read_defaults
from kpf_ebpf.kernel.hooks import opened
from kpf_ebpf.kernel.perf import EventReader
from tests.fuzz.packets import Seen
from tests.kernel.conftest import Kernel

IPV4, IPV6, EXPERIMENTAL = b"\x08\x00", b"\x86\xdd", b"\x88\xb5"
"""Types of Ethernet frames. The last is nobody's (IEEE 802): with it the kernel takes a frame of any length."""
DEADLINE = 20.0
"""Seconds until events that were written must be there."""
EVERYTHING = """
[preferences]
log-internal = true
[[packet-filter]]
description = "everything"
action = "deny"
log = true
"""
"""Denies, by the packet filter, what even a default of deny leaves: ICMPv6 that IPv6 cannot do without."""


def framed(packet: bytes, kind: bytes | None = None) -> bytes:
    """Give a frame of a packet; without a ``kind`` that of its IP version, if the kernel will take it."""
    if kind is None:
        version = packet[0] >> 4 if packet else 0
        kind = IPV4 if version == 4 and len(packet) >= 20 else EXPERIMENTAL
        kind = IPV6 if version == 6 and len(packet) >= 40 else kind
    return bytes(12) + kind + packet


def run_packet(program: int, frame: bytes) -> int:
    """Run a program that takes packets on a frame; what it returned. Raises OSError for a frame the kernel refuses."""
    data = ctypes.create_string_buffer(frame, len(frame))
    # prog_fd, retval, data_size_in, data_size_out, data_in, data_out, repeat, duration; no context
    attributes = struct.pack("=IIIIQQII", program, 0, len(frame), 0, ctypes.addressof(data), 0, 1, 0)
    _, answer = bpf._exchange(bpf.PROG_TEST_RUN, attributes)
    return int(struct.unpack_from("=i", answer, 4)[0])


@dataclass(frozen=True, slots=True)
class Judged:
    """What a program did with a packet. ``event`` None: it wrote none. ``rule``: the id of the rule that decided."""

    result: int
    event: RawEvent | None
    rule: str | None


class Bed:
    """A policy in the kernel, and packets run under it, each under an active word of its own: its event names it.

    A word of its own also makes every packet the first of its flow, so that each is judged and logged anew.
    """

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self._events: dict[int, RawEvent] = {}
        self._active = read_active(kernel.programs.pins)
        self._descriptor = bpf.open_pinned(kernel.programs.pins / "active")
        self._reader = EventReader(kernel.programs.pins / "events", self._take)

    def close(self) -> None:
        """Let go of the map."""
        os.close(self._descriptor)

    def _take(self, raw: bytes) -> None:
        event = decode(raw)
        self._events[event.active] = event

    def apply(self, policy: str) -> None:
        """Enforce a policy."""
        self.kernel.apply(policy)
        self._active = read_active(self.kernel.programs.pins)

    def defaults(self) -> dict[abi.Default, int]:
        """Give how often each default verdict was returned so far."""
        return read_defaults(self.kernel.programs.pins)

    def next_word(self) -> int:
        """Begin a new active word for the same image; give it."""
        self._active = replace(self._active, generation=self._active.generation + 1)
        bpf.update(self._descriptor, bytes(4), bytes(abi.ActiveWord(self._active.word())))
        return self._active.word()

    def settle(self) -> None:
        """Write the active word once more as others expect it: without a trial."""
        write_active(self.kernel.programs.pins, self._active)

    def judge(self, program: str, frames: Sequence[bytes]) -> list[Judged]:
        """Run frames through a program, not more than its buffers have room for events."""
        before = self.forget()
        words, results = [], []
        for frame in frames:
            words.append(self.next_word())
            results.append(run_packet(self.kernel.programs.descriptors[program], frame))
        self.collect(before)
        names = {number: rule for rule, number in self.kernel.counters.items()}
        events = [self._events.get(word) for word in words]
        return [
            Judged(result, event, names.get(event.counter, "?") if event else None)
            for result, event in zip(results, events, strict=True)
        ]

    def collect(self, before: dict[abi.Default, int]) -> list[RawEvent]:
        """Wait for every event that was written since, and give them; none may have been lost."""
        after = self.defaults()
        written = after[abi.Default.EVENT_SEEN] - before[abi.Default.EVENT_SEEN]
        assert after[abi.Default.EVENT_LOST] == before[abi.Default.EVENT_LOST], "an event was lost"
        ends = time.monotonic() + DEADLINE
        self._reader.poll(0)
        while len(self._events) < written and time.monotonic() < ends:
            self._reader.poll(50)
        assert len(self._events) == written, f"{len(self._events)} events of {written}"
        return list(self._events.values())

    def forget(self) -> dict[abi.Default, int]:
        """Begin to count events anew, without any that nobody collected; for ``collect``.

        The kernel tells of so many flows in two seconds: here it begins to count them anew, too.
        """
        self._reader.poll(0)
        with opened(self.kernel.programs.pins / "told") as told:
            bpf.update(told, bytes(4), bytes(ctypes.sizeof(abi.Told)))
        self._events.clear()
        return self.defaults()


def agrees(event: RawEvent, seen: Seen, out: bool, kernels: bool = False) -> str:
    """Compare the kernel's reading of a packet with ours; what differs, or "" if nothing does.

    ``kernels``: a socket of the kernel itself sends it; an echo reply is then the answer half of a ping that came in.
    """
    local, remote = (seen.source, seen.destination) if out else (seen.destination, seen.source)
    ports = seen.ports if seen.ports is None or out else seen.ports[::-1]
    direction, icmp = (abi.Direction.OUT if out else abi.Direction.IN), seen.coded_icmp
    if kernels and seen.is_echo_reply:
        direction, icmp = abi.Direction.IN, {1: 8, 58: 256 + 128}[seen.protocol]
    pairs = {
        "local": (event.local, local),
        "remote": (event.remote, remote),
        "protocol": (event.protocol, seen.protocol),
        "ports": ((event.local_port, event.remote_port), ports or (None, None)),
        "icmp": (event.icmp, icmp),
        "direction": (event.direction, direction),
    }
    return "; ".join(f"{name}: kernel {one}, packet {other}" for name, (one, other) in pairs.items() if one != other)
