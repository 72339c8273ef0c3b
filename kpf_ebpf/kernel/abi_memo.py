"""The layouts of what was looked up and judged lately: the memos of bpf/kpf_abi.h, whose other structs abi.py has."""

from __future__ import annotations

import ctypes

from kpf_ebpf.kernel.abi import Cache, File, Named, Rule, Upper

_u8 = ctypes.c_uint8
_u16 = ctypes.c_uint16
_u32 = ctypes.c_uint32
_u64 = ctypes.c_uint64


class AddressMemo(ctypes.Structure):
    """What was looked up of an address lately."""

    _fields_ = (
        ("lock", _u32),
        ("writes", _u32),
        ("active", _u64),
        ("address", _u32 * 4),
        ("number", _u32),
        ("named", Named),
    )


class Owner(ctypes.Structure):
    """What an image says of who owns a flow."""

    _fields_ = (
        ("class_", _u32),
        ("component", _u32),
        ("cells", _u32 * 4),
        ("instead", _u32),
        ("modified", _u32),
        ("user", _u32),
        ("cgroup", _u32),
    )


class OwnerMemo(ctypes.Structure):
    """What was looked up of an owner lately."""

    _fields_ = (
        ("lock", _u32),
        ("writes", _u32),
        ("active", _u64),
        ("application", File),
        ("cgroup", _u64),
        ("uid", _u32),
        ("component", _u32),
        ("owner", Owner),
    )


class FlowMemo(ctypes.Structure):
    """A flow of a datagram socket that is connected to nobody, as its last packet was judged."""

    _fields_ = (
        ("cache", Cache),
        ("cookie", _u64),
        ("became", _u64),
        ("pid", _u32),
        ("seen", _u32),
        ("upper", Upper),
        ("owner", _u64),
        ("spare", _u64 * 4),
    )


class SettledMemo(ctypes.Structure):
    """By which rule connect() to a point was settled lately."""

    _fields_ = (
        ("lock", _u32),
        ("writes", _u32),
        ("active", _u64),
        ("application", File),
        ("cgroup", _u64),
        ("netns_cookie", _u64),
        ("remote", _u64 * 2),
        ("uid", _u32),
        ("remote_port", _u16),
        ("component", _u8),
        ("pad", _u8),
        ("rule", Rule),
    )
