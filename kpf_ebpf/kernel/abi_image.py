"""The layouts of a compiled policy: bpf/kpf_image.h, the second part of the contract; abi.py has the first."""

from __future__ import annotations

import ctypes

from kpf_ebpf.kernel.abi import (
    ADDRESSES,
    CHUNK_WORDS,
    CHUNKS,
    COMPONENTS,
    CTIMES,
    ICMP_CLASSES,
    POOL,
    PORTS,
    PROTOCOLS,
    ROWS,
    RULES,
    SCOPES,
    Rule,
)

_u16 = ctypes.c_uint16
_u32 = ctypes.c_uint32
_u64 = ctypes.c_uint64
_s64 = ctypes.c_int64


class Application(ctypes.Structure):
    """An application's class and its cells: positions in ``rules``, indexed zone * 2 + direction (trusted = 1)."""

    _fields_ = (("class_", _u32), ("component", _u32), ("modified", _u32), ("cells", _u32 * 4), ("pad", _u32))


class ApplicationKey(ctypes.Structure):
    """What names an application's file, apart from its content."""

    _fields_ = (("inode", _u64), ("device", _u32), ("generation", _u32))


class Ctime(ctypes.Structure):
    """When a file's content was made what it is."""

    _fields_ = (("seconds", _s64), ("nanoseconds", _u32), ("pad", _u32))


class ApplicationFile(ctypes.Structure):
    """An application with the ctimes of the contents that were accepted; any other one means "modified"."""

    _fields_ = (("accepted", Ctime * CTIMES), ("application", Application))


class Image(ctypes.Structure):
    """The head of a compiled policy."""

    _fields_ = (
        ("home", _u64),
        ("internal", _u64),
        ("positions", _u32),
        ("canary_end", _u32),
        ("guard_end", _u32),
        ("administration_port", _u32),
        ("popup_port", _u32),
        ("permits", _u32),
        ("everything", _u32),
        ("users", _u32),
        ("cgroups", _u32),
        ("no_local_port", _u32),
        ("no_remote_port", _u32),
        ("no_local_address", _u32),
        ("hosts", _u32),
        ("pad", _u32),
        ("stop_all", Rule),
        ("components", Application * COMPONENTS),
        ("protocols", _u32 * PROTOCOLS),
        ("icmp", _u32 * ICMP_CLASSES),
        ("scopes", _u32 * SCOPES),
        ("sure_scopes", _u32 * SCOPES),
    )


class Chunk(ctypes.Structure):
    """A chunk of a rule vector: 256 rules."""

    _fields_ = (("words", _u64 * CHUNK_WORDS),)


class Row(ctypes.Structure):
    """A rule vector, as the numbers of its chunks; bit n of ``summary``: chunk n has a bit set."""

    _fields_ = (("chunks", _u16 * CHUNKS), ("summary", _u64))


class Rows(ctypes.Structure):
    """Every rule vector of an image."""

    _fields_ = (("row", Row * ROWS),)


class Pool(ctypes.Structure):
    """Every chunk of an image."""

    _fields_ = (("chunk", Chunk * POOL),)


class Rules(ctypes.Structure):
    """Every rule of an image."""

    _fields_ = (("rule", Rule * RULES),)


class Prefix(ctypes.Structure):
    """An address prefix: ``bits`` counts from the start of ``family``; IPv4 is the first word of ``address``."""

    _fields_ = (("bits", _u32), ("family", _u32), ("address", _u32 * 4))


class Host(ctypes.Structure):
    """An address in full, as in a flow (network order)."""

    _fields_ = (("address", _u32 * 4),)


class Address(ctypes.Structure):
    """What an image knows of an address."""

    _fields_ = (("trusted", _u64), ("local_class", _u32), ("remote_class", _u32), ("flags", _u32), ("pad", _u32))


class Addresses(ctypes.Structure):
    """What an image says of addresses, by number."""

    _fields_ = (("address", Address * ADDRESSES),)


class Port(ctypes.Structure):
    """The classes of a port."""

    _fields_ = (("local_class", _u32), ("remote_class", _u32))


class Ports(ctypes.Structure):
    """The classes of every port."""

    _fields_ = (("port", Port * PORTS),)
