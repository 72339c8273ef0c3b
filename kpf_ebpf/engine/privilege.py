"""What the Engine gives up before it begins: every capability it has no use for, and the way back to them.

It stays user 0, whose files the policy's maps, records and logs are; but a user 0 without these capabilities loads no
module, mounts nothing, ends and traces no process, and writes no file that is not root's own.
"""

from __future__ import annotations

import ctypes
import os
import struct
from pathlib import Path

KEPT = {
    "DAC_READ_SEARCH": 2,  # reads programs and group files, whoever owns them
    "NET_ADMIN": 12,  # filters of adapters that come later; asks what is attached
    "SYS_PTRACE": 19,  # whose file a process executes, for the log
    "LEASE": 28,  # looks at a program while nobody writes it (facts.steady)
    "PERFMON": 38,  # perf buffers
    "BPF": 39,  # maps of a new image
}
SYS_ADMIN = 21
"""Stands for PERFMON and BPF where a container has it in their place."""

_CAPGET, _CAPSET = 125, 126  # x86-64
_VERSION = 0x20080522
_PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS, _PR_CAP_AMBIENT, _AMBIENT_CLEAR_ALL = 24, 38, 47, 4
_LAST = Path("/proc/sys/kernel/cap_last_cap")
_libc = ctypes.CDLL(None, use_errno=True)


def drop() -> None:
    """Gives up everything else, for good. Before any thread is started. Raises OSError."""
    permitted = _permitted()
    kept = sum(1 << number for number in KEPT.values()) & permitted
    if not kept >> KEPT["BPF"] & 1:
        kept |= permitted & 1 << SYS_ADMIN
    _checked(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no new privileges")
    for number in range(int(_LAST.read_text()) + 1):
        if not kept >> number & 1:
            _libc.prctl(_PR_CAPBSET_DROP, number, 0, 0, 0)  # refused: it was not there
    _libc.prctl(_PR_CAP_AMBIENT, _AMBIENT_CLEAR_ALL, 0, 0, 0)
    low, high = kept & 0xFFFFFFFF, kept >> 32
    header = ctypes.create_string_buffer(struct.pack("=Ii", _VERSION, 0), 8)
    data = ctypes.create_string_buffer(struct.pack("=6I", low, low, 0, high, high, 0), 24)
    _checked(_libc.syscall(_CAPSET, header, data), "capset")


def _permitted() -> int:
    header = ctypes.create_string_buffer(struct.pack("=Ii", _VERSION, 0), 8)
    data = ctypes.create_string_buffer(24)
    _checked(_libc.syscall(_CAPGET, header, data), "capget")
    words = struct.unpack("=6I", data.raw)
    return int(words[1] | words[4] << 32)


def _checked(result: int, what: str) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
