"""The kernel side's layouts in Python: every struct and constant of bpf/kpf_abi.h.

The headers are the specification; tests/unit/kernel/test_abi.py compares sizes, offsets and values with them. An
image's structs are in abi_image.py, those of memos in abi_memo.py.
"""

from __future__ import annotations

import ctypes
import enum

ABI_VERSION = 2

SLOTS = 3
CHUNK_WORDS, CHUNKS = 4, 60
MAX_POSITIONS = CHUNKS * CHUNK_WORDS * 64
ROWS = ADDRESSES = 32768
POOL = RULES = PORTS = 65536
PROTOCOLS, ICMP_CLASSES, SCOPES = 256, 768, 108
COUNTERS = PROCESSES = FLOWS = 65536
RECENT, MIRRORS = 16384, 8192
PATHS, PATH_BYTES = 16384, 256
SCRIPTS = PENDING = 4096
CGROUPS = NAMED = 65536
ADAPTERS = 16384
ADDRESS_MEMOS, OWNER_MEMOS, FLOW_MEMOS, SETTLED_MEMOS, BECAME = 16384, 4096, 8192, 4096, 4096
CTIMES = 4
ADAPTER_SLOTS = 64
HEARTBEAT_COUNTS = 800_000_000
EARLY_CHUNKS = 3
RUN_CHUNKS = 6
PROBES = 1024
COMPONENTS, FIELDS, DEFAULTS = 8, 9, 8

KNOWS_LOCAL_ADDRESS, KNOWS_LOCAL_PORT, KNOWS_ADAPTER, KNOWS_ALL, HAS_PORTS = 1, 2, 4, 7, 8
RULE_LOG, RULE_ALERT, RULE_MIRROR_ENGINE, RULE_MIRROR_GUI = 1, 2, 4, 8
ADDRESS_GROUP, ADDRESS_OWN, ADDRESS_LOOPBACK, ADDRESS_DIRECTED = 1, 2, 4, 8
NO_POSITION, UNFINISHED = 0xFFFFFFFF, 0xFFFFFFFE
ACTIVE_SOME, ACTIVE_MAY_OPEN, ACTIVE_ON_TRIAL = 15, 32, 64
SCRIPT_AT_HOME, SCRIPT_ELSEWHERE = 2, 3
CACHE_LAYOUT = 2
KIND_IPV4, KIND_ALL = 0x01000000, 0xFF0000FF
PASSES_IN, PASSES_OUT, PASSES_ANYBODY = 1, 2, 4
TOLD_AT_MOST = 2000
NEVER = 0xFFFFFFFFFFFFFFFF
ACTIVE_VALUE, NUMBER = 0x4B50462D61637476, 0x4B50462D6E756D62
REACH_IPV4, REACH_CONNECT = 1, 2


class Action(enum.IntEnum):
    """What a rule does with a flow."""

    DENY = 0
    PERMIT = 1


class Direction(enum.IntEnum):
    """Who initiates a flow: the other end (in) or this one (out)."""

    IN = 0
    OUT = 1


class Outcome(enum.IntEnum):
    """What an early hook can say: nothing yet; denied, or permitted by one rule, whatever is still unknown."""

    OPEN = 0
    DENIED = 1
    SETTLED = 2


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
    ADAPTER_EGRESS = 5
    ADAPTER_INGRESS = 6


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

    def words(self) -> tuple[int, int, int, int, int]:
        """Inode, device, generation, ctime seconds and nanoseconds: what a FileKey is made of."""
        return self.inode, self.device, self.generation, self.ctime_seconds, self.ctime_nanoseconds


class ActiveWord(ctypes.Structure):
    """The active word (see ``active_word``). ``nought`` is 0."""

    _fields_ = (("word", _u64), ("nought", _u64))


class Trial(ctypes.Structure):
    """An active word on trial, what counts in its place afterwards, and when that is (ktime, ns; 0: no trial)."""

    _fields_ = (("word", _u64), ("instead", _u64), ("until", _u64))


class Process(ctypes.Structure):
    """A process: its file, the script that file interprets, a registered component, whether it is an AppImage."""

    _fields_ = (("file", File), ("script", File), ("component", _u32), ("appimage", _u32))


class Home(ctypes.Structure):
    """Where the policy's paths are meant: a mount namespace and its root folder (kernel pointers)."""

    _fields_ = (("mount_namespace", _u64), ("mount", _u64), ("dentry", _u64))


class Reach(ctypes.Structure):
    """What is firewalled: the namespace whose adapters are filtered, and the cgroup with its depth below the root."""

    _fields_ = (("netns_cookie", _u64), ("cgroup", _u64), ("level", _u32), ("pad", _u32))


class Rule(ctypes.Structure):
    """What a verdict is made of; ``counter`` is stable as long as the rule's id is."""

    _fields_ = (("counter", _u32), ("action", _u8), ("step", _u8), ("flags", _u8), ("pad", _u8))


class Cache(ctypes.Structure):
    """What a connected socket's last packet was judged by. ``lock`` is a struct bpf_spin_lock."""

    _fields_ = (
        ("lock", _u32),
        ("writes", _u32),
        ("active", _u64),
        ("last", _u32 * 2),
        ("ports", _u32),
        ("ifindex", _u32),
        ("kind", _u32),
        ("counter", _u32),
    )


class Upper(ctypes.Structure):
    """The words of a flow's two addresses that are not the last ones."""

    _fields_ = (("words", _u64 * 3),)


class Identity(ctypes.Structure):
    """The identity of a socket. Frozen: layout 2."""

    _fields_ = (
        ("cache", Cache),
        ("upper", Upper),
        ("spare", _u64),
        ("application", File),
        ("netns_cookie", _u64),
        ("cookie", _u64),
        ("cgroup", _u64),
        ("pid", _u32),
        ("uid", _u32),
        ("version", _u8),
        ("component", _u8),
        ("initiator", _u8),
        ("adopted", _u8),
        ("unsent", _u8),
        ("pad", _u8 * 3),
    )


FILE_BYTES, PROCESS_BYTES, IDENTITY_BYTES = ctypes.sizeof(File), ctypes.sizeof(Process), ctypes.sizeof(Identity)


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


class Search(ctypes.Structure):
    """A search for a rule that goes on in the next run of its program, for the same packet."""

    _fields_ = (("packet", _u64), ("active", _u64), ("done", _u64))


class NamedKey(ctypes.Structure):
    """An address that a host name has, or this host, in a slot (network order)."""

    _fields_ = (("slot", _u32), ("family", _u32), ("address", _u32 * 4))


class Named(ctypes.Structure):
    """The rows of the rules that name a host with an address, as local and as remote one; and what else it is."""

    _fields_ = (("local_row", _u32), ("remote_row", _u32), ("flags", _u32))


class AdapterKey(ctypes.Structure):
    """An adapter of the home namespace, in a slot."""

    _fields_ = (("slot", _u32), ("ifindex", _u32))


class Adapter(ctypes.Structure):
    """Its bit in the adapters on which an address is trusted, and the zone of its own addresses."""

    _fields_ = (("place", _u32), ("own_zone", _u32))


class Told(ctypes.Structure):
    """How many flows were told of in a stretch of two seconds."""

    _fields_ = (("stretch", _u64), ("count", _u64))


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
    return (word & ACTIVE_SOME) - 1 if word & ACTIVE_SOME else None


def active_stop_all(word: int) -> bool:
    """Whether stop-all is on in an active word."""
    return bool(word >> 4 & 1)


def active_opens(word: int) -> bool:
    """Whether the policy of an active word permits everything while no Engine lives."""
    return bool(word >> 5 & 1)


def active_word(generation: int, stop_all: bool, slot: int, opens: bool = False) -> int:
    """The active word: generation << 8 | opens << 5 | stop-all << 4 | slot + 1."""
    return generation << 8 | int(opens) << 5 | int(stop_all) << 4 | slot + 1
