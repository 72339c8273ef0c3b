"""The MapImage: a resolved policy as classes and rule vectors, just as the kernel has it.

A rule vector is a Python integer: bit n stands for position n. A field's class 0 holds the rules not naming it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from kpf_ebpf.facts.model import FileKey
from kpf_ebpf.resolve.model import ResolvedPolicy, ResolvedRule

FIELDS = ("application", "user", "cgroup", "local address", "remote address", "protocol", "local port",
          "remote port", "scope")  # fmt: skip
"""In the order of ``enum kpf_field``."""
NO, YES, UNKNOWN = 0, 1, 2
"""``enum kpf_known``."""
ICMP_CLASSES = 768
GROUP, OWN, LOOPBACK, DIRECTED = 1, 2, 4, 8
"""Flags of an address: multicast or broadcast; the host's own; loopback; broadcast of one of the host's networks."""
EVERY_ADAPTER = 2**64 - 1
CTIMES = 4
"""Accepted contents of one file that an image has room for."""


@dataclass(frozen=True, slots=True)
class AddressClass:
    """What the longest prefix of an address says of it; ``trusted`` has bit n for the adapter with place n."""

    local: int
    remote: int
    trusted: int
    flags: int


@dataclass(frozen=True, slots=True)
class Named:
    """What an address is by itself at the moment: the rules that name a host with it, as local and as remote (vectors).

    ``flags``: OWN, DIRECTED.
    """

    local: int = 0
    remote: int = 0
    flags: int = 0


@dataclass(frozen=True, slots=True)
class AdapterPlace:
    """An adapter's bit in ``AddressClass.trusted``, and ``own_zone`` as ``struct kpf_adapter`` has it."""

    place: int
    own_zone: int


@dataclass(frozen=True, slots=True)
class ApplicationEntry:
    """A program's class, component, "modified" position, and cells (internet-in, -out, trusted-in, -out)."""

    application_class: int
    component: int
    modified: int
    cells: tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class Rows:
    """Rule vectors by number: ``numbers[vector]`` is its row, ``rows[row]`` its chunks' numbers.

    ``pool[number]`` is a chunk: 32 bytes, little-endian, for 256 positions.
    """

    numbers: Mapping[int, int]
    rows: tuple[tuple[int, ...], ...]
    pool: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class MapImage:
    """``rules[position]`` is the rule a position stands for: first those in the vectors, then the cells'.

    ``vectors[field][class]``; ``ports`` are 65,536 (local, remote) class pairs; ``prefixes`` maps (bits, place);
    ``cgroups`` maps marks. ``hosts`` gives of every host the rules that name it as local and as remote (two vectors),
    ``named`` what addresses are beside what ``prefixes`` say of them. ``counters`` gives each rule id its counter. A
    file of ``applications`` may have several accepted contents.
    """

    policy: ResolvedPolicy
    rules: tuple[ResolvedRule, ...]
    positions: int
    canary_end: int
    guard_end: int
    vectors: tuple[tuple[int, ...], ...]
    icmp: tuple[int, ...]
    permits: int
    applications: tuple[tuple[FileKey, ApplicationEntry], ...]
    components: tuple[ApplicationEntry, ...]
    users: Mapping[int, int]
    cgroups: Mapping[int, int]
    prefixes: Mapping[tuple[int, int], AddressClass]
    hosts: Mapping[str, tuple[int, int]]
    named: Mapping[int, Named]
    ports: tuple[tuple[int, int], ...]
    adapters: Mapping[int, AdapterPlace]
    counters: Mapping[str, int]
    rows: Rows
