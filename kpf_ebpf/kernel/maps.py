"""Every map of bpf/maps.c: its kind, sizes and flags, by its name (its file below the pin folder)."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from kpf_ebpf.kernel import abi, abi_image, abi_memo

_u32 = ctypes.c_uint32
_u64 = ctypes.c_uint64

MAP_TYPES: Mapping[str, int] = MappingProxyType(
    dict(
        hash=1,
        array=2,
        prog=3,
        perf_event_array=4,
        percpu_array=6,
        lru_hash=9,
        lpm_trie=11,
        array_of_maps=12,
        sk_storage=24,
    )
)
"""Kinds of maps in the words of BCC, by the kernel's numbers (enum bpf_map_type)."""

NO_PREALLOC, CLONE, MMAPABLE = 1 << 0, 1 << 9, 1 << 10


JUDGES = ("judge_packet", "judge_frame")
"""Programs (kpf_NAME) that others go on in: each is in a map of its name."""


@dataclass(frozen=True, slots=True)
class MapSpec:
    """What a map must be like. ``entries`` 0: not fixed here (per CPU, or as many as an image needs)."""

    kind: str
    type: int
    key_size: int
    value_size: int
    entries: int
    flags: int


def _spec(kind: str, key: type, value: type, entries: int, flags: int = 0) -> MapSpec:
    return MapSpec(kind, MAP_TYPES[kind], ctypes.sizeof(key), ctypes.sizeof(value), entries, flags)


INNER_MAPS: Mapping[str, MapSpec] = MappingProxyType(
    {
        "images": _spec("array", _u32, abi_image.Image, 1, MMAPABLE),
        "rows": _spec("array", _u32, abi_image.Rows, 1, MMAPABLE),
        "pool": _spec("array", _u32, abi_image.Pool, 1, MMAPABLE),
        "rules": _spec("array", _u32, abi_image.Rules, 1, MMAPABLE),
        "ports": _spec("array", _u32, abi_image.Ports, 1, MMAPABLE),
        "address_kinds": _spec("array", _u32, abi_image.Addresses, 1, MMAPABLE),
        "applications": _spec("hash", abi_image.ApplicationKey, abi_image.ApplicationFile, 0, NO_PREALLOC),
        "users": _spec("hash", _u32, _u32, 0, NO_PREALLOC),
        "cgroups": _spec("hash", _u64, _u32, 0, NO_PREALLOC),
        "addresses": _spec("lpm_trie", abi_image.Prefix, _u32, 0, NO_PREALLOC),
        "hosts": _spec("hash", abi_image.Host, _u32, 0, NO_PREALLOC),
    }
)
"""What the inner maps of an image are like, by the name of the outer map; 0 entries: as many as the image needs."""

MAPS: Mapping[str, MapSpec] = MappingProxyType(
    {
        "identity": _spec("sk_storage", _u32, abi.Identity, 0, NO_PREALLOC | CLONE),
        "processes": _spec("hash", _u32, abi.Process, abi.PROCESSES),
        "became": _spec("array", _u32, _u64, abi.BECAME),
        "paths": _spec("lru_hash", abi.File, abi.Path, abi.PATHS),
        "scripts": _spec("hash", abi.Path, abi.File, abi.SCRIPTS),
        "pending": _spec("lru_hash", _u64, abi.File, abi.PENDING),
        "cgroup_marks": _spec("hash", _u64, _u64, abi.CGROUPS),
        "cgroup_paths": _spec("hash", abi.Path, _u64, abi.SCRIPTS),
        "home": _spec("array", _u32, abi.Home, 1),
        "reach": _spec("array", _u32, abi.Reach, 1),
        "scratch": _spec("percpu_array", _u32, abi.Path, 1),
        "flows": _spec("lru_hash", abi.FlowKey, abi.FlowState, abi.FLOWS),
        "recent": _spec("lru_hash", abi.FlowKey, abi.Recent, abi.RECENT),
        "mirrors": _spec("lru_hash", abi.MirrorKey, abi.Mirror, abi.MIRRORS),
        "searches": _spec("percpu_array", _u32, abi.Search, 1),
        **{name: _spec("prog", _u32, _u32, 1) for name in JUDGES},
        "named": _spec("hash", abi.NamedKey, abi.Named, abi.NAMED, NO_PREALLOC),
        "adapters": _spec("hash", abi.AdapterKey, abi.Adapter, abi.ADAPTERS, NO_PREALLOC),
        "address_memos": _spec("array", _u32, abi_memo.AddressMemo, abi.ADDRESS_MEMOS),
        "owner_memos": _spec("array", _u32, abi_memo.OwnerMemo, abi.OWNER_MEMOS),
        "flow_memos": _spec("array", _u32, abi_memo.FlowMemo, abi.FLOW_MEMOS, MMAPABLE),
        "settled_memos": _spec("array", _u32, abi_memo.SettledMemo, abi.SETTLED_MEMOS),
        "told": _spec("array", _u32, abi.Told, 1),
        "counters": _spec("percpu_array", _u32, abi.Counter, abi.COUNTERS),
        "defaults": _spec("percpu_array", _u32, _u64, abi.DEFAULTS),
        "active": _spec("array", _u32, abi.ActiveWord, 1),
        "trial": _spec("array", _u32, abi.Trial, 1),
        "heartbeat": _spec("array", _u32, _u64, 1),
        "probes": _spec("array", _u32, abi.Probe, abi.PROBES),
        "identified": _spec("array", _u32, abi.File, 1),
        **{name: _spec("array_of_maps", _u32, _u32, abi.SLOTS) for name in INNER_MAPS},
        "events": _spec("perf_event_array", _u32, _u32, 0),
    }
)
"""Every pinned map, by its name (its file below the pin folder)."""

LOCKED: Mapping[str, tuple[int, int]] = MappingProxyType(
    {
        "identity": (abi.IDENTITY_BYTES, abi.Identity.cache.offset + abi.Cache.lock.offset),
        "address_memos": (ctypes.sizeof(abi_memo.AddressMemo), abi_memo.AddressMemo.lock.offset),
        "owner_memos": (ctypes.sizeof(abi_memo.OwnerMemo), abi_memo.OwnerMemo.lock.offset),
        "settled_memos": (ctypes.sizeof(abi_memo.SettledMemo), abi_memo.SettledMemo.lock.offset),
        "flow_memos": (ctypes.sizeof(abi_memo.FlowMemo), abi_memo.FlowMemo.cache.offset + abi.Cache.lock.offset),
    }
)
"""Maps with a spin lock in their values: the values' size, and where it is. The kernel asks for their types."""
