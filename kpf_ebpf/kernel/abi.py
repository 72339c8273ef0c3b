"""The kernel side's layouts in Python: every struct and constant of bpf/kpf_abi.h, every map of bpf/maps.c.

The headers are the specification; tests/unit/kernel/test_abi.py compares sizes, offsets and values with them.
"""

from __future__ import annotations

import ctypes
import enum
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

ABI_VERSION = 1

SLOTS = 3
CHUNK_WORDS, CHUNKS = 4, 64
MAX_POSITIONS = CHUNKS * CHUNK_WORDS * 64
COUNTERS = PROCESSES = FLOWS = 65536
RECENT, MIRRORS = 16384, 8192
PATHS, PATH_BYTES = 16384, 256
ADAPTER_SLOTS = 64
PROBES = 1024
COMPONENTS, FIELDS, DEFAULTS = 8, 9, 8

KNOWS_LOCAL_ADDRESS, KNOWS_LOCAL_PORT, KNOWS_ADAPTER, KNOWS_ALL, HAS_PORTS = 1, 2, 4, 7, 8
RULE_LOG, RULE_ALERT, RULE_MIRROR_ENGINE, RULE_MIRROR_GUI = 1, 2, 4, 8
ADDRESS_GROUP, ADDRESS_OWN, ADDRESS_LOOPBACK, ADDRESS_DIRECTED = 1, 2, 4, 8
NO_POSITION = 0xFFFFFFFF


class Action(enum.IntEnum):
    """What a rule does with a flow."""

    DENY = 0
    PERMIT = 1


class Direction(enum.IntEnum):
    """Who initiates a flow: the other end (in) or this one (out)."""

    IN = 0
    OUT = 1


class Initiator(enum.IntEnum):
    """A socket's initiator: unknown until a packet or connect() tells."""

    UNKNOWN = 0
    IN = 1
    OUT = 2


class Component(enum.IntEnum):
    """A part of kpf-ebpf itself that ``up`` registered."""

    NONE = 0
    ENGINE = 1
    GUI = 2
    ASSIST = 3
    CANARY = 4


class Step(enum.IntEnum):
    """The step of the evaluation a rule belongs to."""

    CANARY = 0
    STOP_ALL = 1
    STATE = 2
    INTERNAL = 3
    GUARD = 4
    MODIFIED = 5
    PACKET_FILTER = 6
    PREDEFINED = 7
    APPLICATION = 8
    DEFAULT = 9


class Hook(enum.IntEnum):
    """The kernel hook that judged a flow."""

    CONNECT = 1
    SENDMSG = 2
    EGRESS = 3
    INGRESS = 4


class Field(enum.IntEnum):
    """The fields of a flow that rules tell apart."""

    APPLICATION = 0
    USER = 1
    CGROUP = 2
    LOCAL_ADDRESS = 3
    REMOTE_ADDRESS = 4
    PROTOCOL = 5
    LOCAL_PORT = 6
    REMOTE_PORT = 7
    SCOPE = 8


class Known(enum.IntEnum):
    """A three-valued fact, as far as a hook can know it."""

    NO = 0
    YES = 1
    UNKNOWN = 2


class Default(enum.IntEnum):
    """The default verdicts and what is counted beside them: indices of the map ``defaults``."""

    NO_IMAGE = 0
    BROKEN_IMAGE = 1
    NO_IP = 2
    NO_SOCKET = 3
    NO_MEMORY = 4
    EVENT_LOST = 5
    EVENT_SEEN = 6
    PROCESS_LOST = 7


_u8 = ctypes.c_uint8
_u16 = ctypes.c_uint16
_u32 = ctypes.c_uint32
_u64 = ctypes.c_uint64
_s64 = ctypes.c_int64


class File(ctypes.Structure):
    """A file as the kernel sees it. All zero: unknown. Inode 0, device 0, generation 1: the kernel itself."""

    _fields_ = (
        ("inode", _u64),
        ("device", _u32),
        ("generation", _u32),
        ("ctime_seconds", _s64),
        ("ctime_nanoseconds", _u32),
        ("pad", _u32),
    )


class Process(ctypes.Structure):
    """A process: the file it executes, and a registered component."""

    _fields_ = (("file", File), ("component", _u32), ("pad", _u32))


class Identity(ctypes.Structure):
    """The identity of a socket. Frozen: layout 1."""

    _fields_ = (
        ("application", File),
        ("script", File),
        ("netns_cookie", _u64),
        ("cgroup", _u64),
        ("pid", _u32),
        ("uid", _u32),
        ("version", _u8),
        ("component", _u8),
        ("initiator", _u8),
        ("adopted", _u8),
        ("pad", _u8 * 4),
    )


IDENTITY_BYTES = ctypes.sizeof(Identity)


class Flow(ctypes.Structure):
    """A flow, as every hook describes it."""

    _fields_ = (
        ("local", _u32 * 4),
        ("remote", _u32 * 4),
        ("application", File),
        ("cgroup", _u64),
        ("netns_cookie", _u64),
        ("uid", _u32),
        ("ifindex", _u32),
        ("local_port", _u16),
        ("remote_port", _u16),
        ("icmp", _u16),
        ("protocol", _u8),
        ("direction", _u8),
        ("known", _u8),
        ("component", _u8),
        ("pad", _u8 * 6),
    )


class Rule(ctypes.Structure):
    """What a verdict is made of; ``counter`` is stable as long as the rule's id is."""

    _fields_ = (("counter", _u32), ("action", _u8), ("step", _u8), ("flags", _u8), ("pad", _u8))


class Application(ctypes.Structure):
    """An application's class and its cells: positions in ``rules``, indexed zone * 2 + direction (trusted = 1)."""

    _fields_ = (("class_", _u32), ("component", _u32), ("modified", _u32), ("cells", _u32 * 4), ("pad", _u32))


class ApplicationKey(ctypes.Structure):
    """What names an application's file, apart from its content."""

    _fields_ = (("inode", _u64), ("device", _u32), ("generation", _u32))


class ApplicationFile(ctypes.Structure):
    """An application with the ctime of the file the policy means; another ctime means "modified"."""

    _fields_ = (("ctime_seconds", _s64), ("ctime_nanoseconds", _u32), ("pad", _u32), ("application", Application))


class Image(ctypes.Structure):
    """The head of a compiled policy."""

    _fields_ = (
        ("home", _u64),
        ("internal", _u64),
        ("positions", _u32),
        ("chunks", _u32),
        ("canary_end", _u32),
        ("guard_end", _u32),
        ("administration_port", _u32),
        ("popup_port", _u32),
        ("permits", _u32),
        ("everything", _u32),
        ("icmp", _u32),
        ("base", _u32 * FIELDS),
        ("stop_all", Rule),
        ("components", Application * COMPONENTS),
    )


class Chunk(ctypes.Structure):
    """A chunk of a rule vector: 256 rules."""

    _fields_ = (("words", _u64 * CHUNK_WORDS),)


class Prefix(ctypes.Structure):
    """An address prefix: ``bits`` counts from the start of the 16 bytes (network order)."""

    _fields_ = (("bits", _u32), ("address", _u32 * 4))


class Address(ctypes.Structure):
    """What an image knows of an address."""

    _fields_ = (("trusted", _u64), ("local_class", _u32), ("remote_class", _u32), ("flags", _u32), ("pad", _u32))


class Port(ctypes.Structure):
    """The classes of a port."""

    _fields_ = (("local_class", _u32), ("remote_class", _u32))


class Adapter(ctypes.Structure):
    """An adapter of the home namespace, by ifindex."""

    _fields_ = (("slot", _u32), ("own_zone", _u32))


class Cache(ctypes.Structure):
    """A connected socket's last verdict. ``lock`` is a struct bpf_spin_lock."""

    _fields_ = (
        ("lock", _u32),
        ("ifindex", _u32),
        ("active", _u64),
        ("rule", Rule),
        ("local", _u32 * 4),
        ("remote", _u32 * 4),
        ("local_port", _u16),
        ("remote_port", _u16),
        ("protocol", _u8),
        ("pad", _u8 * 3),
    )


class FlowKey(ctypes.Structure):
    """What names an unconnected flow."""

    _fields_ = (
        ("cookie", _u64),
        ("remote", _u32 * 4),
        ("remote_port", _u16),
        ("id", _u16),
        ("protocol", _u8),
        ("pad", _u8 * 3),
    )


class FlowState(ctypes.Structure):
    """The state of an unconnected flow."""

    _fields_ = (
        ("application", File),
        ("active", _u64),
        ("seen", _u64),
        ("rule", Rule),
        ("pid", _u32),
        ("uid", _u32),
        ("ifindex", _u32),
        ("component", _u8),
        ("initiator", _u8),
        ("answered", _u8),
        ("pad", _u8),
    )


class Recent(ctypes.Structure):
    """A flow judged lately that no state remembers."""

    _fields_ = (("active", _u64), ("seen", _u64), ("counter", _u32), ("pad", _u32))


class MirrorKey(ctypes.Structure):
    """What names a mirrored loopback flow."""

    _fields_ = (
        ("netns_cookie", _u64),
        ("sender", _u32 * 4),
        ("receiver", _u32 * 4),
        ("sender_port", _u16),
        ("receiver_port", _u16),
        ("protocol", _u8),
        ("pad", _u8 * 3),
    )


class Mirror(ctypes.Structure):
    """The rule that permitted the sender's half of a loopback flow."""

    _fields_ = (("rule", Rule), ("component", _u32), ("pad", _u32))


class Counter(ctypes.Structure):
    """What one rule has judged, on one CPU."""

    _fields_ = (("hits", _u64), ("packets", _u64), ("bytes", _u64))


class Event(ctypes.Structure):
    """A flow and its verdict, as the perf buffer hands it out."""

    _fields_ = (
        ("flow", Flow),
        ("time", _u64),
        ("active", _u64),
        ("counter", _u32),
        ("pid", _u32),
        ("action", _u8),
        ("hook", _u8),
        ("flags", _u8),
        ("pad", _u8 * 5),
    )


class Path(ctypes.Structure):
    """The path of an executed file, ended by a zero byte."""

    _fields_ = (("text", ctypes.c_char * PATH_BYTES),)


class Probe(ctypes.Structure):
    """The classifier's test probe: a flow in, a verdict out."""

    _fields_ = (("flow", Flow), ("active", _u64), ("rule", Rule), ("early", _u32), ("ok", _u32))


def active_slot(word: int) -> int | None:
    """The slot an active word names; None: nothing is active."""
    return (word & 15) - 1 if word & 15 else None


def active_stop_all(word: int) -> bool:
    """Whether stop-all is on in an active word."""
    return bool(word >> 4 & 1)


def active_word(generation: int, stop_all: bool, slot: int) -> int:
    """The active word: generation << 8 | stop-all << 4 | slot + 1."""
    return generation << 8 | int(stop_all) << 4 | slot + 1


MAP_TYPES: Mapping[str, int] = MappingProxyType(
    dict(hash=1, array=2, perf_event_array=4, percpu_array=6, lru_hash=9, lpm_trie=11, array_of_maps=12, sk_storage=24)
)
"""Kinds of maps, by the kernel's numbers (enum bpf_map_type)."""

NO_PREALLOC, CLONE, INNER_MAP = 1 << 0, 1 << 9, 1 << 12


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
        "images": _spec("array", _u32, Image, 0, INNER_MAP),
        "summaries": _spec("array", _u32, _u64, 0, INNER_MAP),
        "vectors": _spec("array", _u32, Chunk, 0, INNER_MAP),
        "rules": _spec("array", _u32, Rule, 0, INNER_MAP),
        "applications": _spec("hash", ApplicationKey, ApplicationFile, 0, NO_PREALLOC),
        "users": _spec("hash", _u32, _u32, 0, NO_PREALLOC),
        "cgroups": _spec("hash", _u64, _u32, 0, NO_PREALLOC),
        "addresses": _spec("lpm_trie", Prefix, Address, 0, NO_PREALLOC),
        "ports": _spec("array", _u32, Port, 0, INNER_MAP),
        "adapters": _spec("hash", _u32, Adapter, 0, NO_PREALLOC),
    }
)
"""What the inner maps of an image are like, by the name of the outer map; their size is the image's affair."""

MAPS: Mapping[str, MapSpec] = MappingProxyType(
    {
        "identity": _spec("sk_storage", _u32, Identity, 0, NO_PREALLOC | CLONE),
        "cache": _spec("sk_storage", _u32, Cache, 0, NO_PREALLOC),
        "processes": _spec("hash", _u32, Process, PROCESSES),
        "paths": _spec("lru_hash", File, Path, PATHS),
        "flows": _spec("lru_hash", FlowKey, FlowState, FLOWS),
        "recent": _spec("lru_hash", FlowKey, Recent, RECENT),
        "mirrors": _spec("lru_hash", MirrorKey, Mirror, MIRRORS),
        "counters": _spec("percpu_array", _u32, Counter, COUNTERS),
        "defaults": _spec("percpu_array", _u32, _u64, DEFAULTS),
        "active": _spec("array", _u32, _u64, 1),
        "probes": _spec("array", _u32, Probe, PROBES),
        "identified": _spec("array", _u32, File, 1),
        **{name: _spec("array_of_maps", _u32, _u32, SLOTS) for name in INNER_MAPS},
        "events": _spec("perf_event_array", _u32, _u32, 0),
    }
)
"""Every pinned map, by its name (its file below the pin folder)."""
