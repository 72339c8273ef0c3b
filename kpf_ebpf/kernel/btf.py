"""Offsets of kernel structures, read from the running kernel's own type information (BTF).

The format is the kernel's Documentation/bpf/btf.rst: a header, type records, a string table. Only structures are
kept; all else is skipped by size.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

VMLINUX = Path("/sys/kernel/btf/vmlinux")
MAGIC = 0xEB9F

_KIND_STRUCT, _KIND_UNION, _KIND_FUNC = 4, 5, 12
# Bytes that follow the 12-byte header of a record, per entry (vlen) and fixed, by kind.
_PER_ENTRY = {4: 12, 5: 12, 6: 8, 13: 8, 15: 12, 19: 12}
_FIXED = {1: 4, 3: 12, 14: 4, 17: 4}
_SIZES = [(12 + _FIXED.get(kind, 0), _PER_ENTRY.get(kind, 0)) for kind in range(32)]


class BtfError(Exception):
    """The kernel's type information is missing, malformed, or lacks a member that is needed."""


@dataclass(frozen=True, slots=True)
class Member:
    """A structure member: its offset in bits, and the type it has."""

    bit_offset: int
    type_id: int


class Btf:
    """The structures of one BTF blob. Raises BtfError for a malformed blob."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        try:
            self._scan()
        except struct.error as problem:
            raise BtfError(f"the kernel's type information is cut short: {problem}") from problem

    def _scan(self) -> None:
        magic, _version, _flags, header = struct.unpack_from("<HBBI", self._data, 0)
        if magic != MAGIC:
            raise BtfError(f"the kernel's type information starts with {magic:#x}, expected {MAGIC:#x}")
        type_at, type_size, string_at, _string_size = struct.unpack_from("<IIII", self._data, 8)
        self._strings = header + string_at
        self._structures: dict[int, int] = {}
        self._place: dict[int, tuple[int, int, bool]] = {}
        self._functions: dict[int, int] = {}
        self._members_of: dict[str, Mapping[str, Member]] = {}
        data, place, functions = self._data, self._place, self._functions
        at, end, type_id = header + type_at, header + type_at + type_size, 0
        unpack = struct.Struct("<II4x").unpack_from
        while at < end:  # some 100,000 times
            name, info = unpack(data, at)
            type_id += 1
            kind = info >> 24 & 31
            if kind == _KIND_FUNC:
                functions[name] = type_id
            elif kind in (_KIND_STRUCT, _KIND_UNION):
                place[type_id] = at + 12, info & 0xFFFF, info >> 31 == 1
                if name and kind == _KIND_STRUCT:
                    self._structures.setdefault(name, type_id)
            fixed, each = _SIZES[kind]
            at += fixed + each * (info & 0xFFFF) if each else fixed

    def _text(self, offset: int) -> str:
        start = self._strings + offset
        return self._data[start : self._data.index(b"\0", start)].decode("ascii", "replace")

    def _members(self, type_id: int, base: int) -> dict[str, Member]:
        found: dict[str, Member] = {}
        at, entries, has_bitfields = self._place[type_id]
        for index in range(entries):
            name, member_type, offset = struct.unpack_from("<III", self._data, at + 12 * index)
            bits = base + (offset & 0xFFFFFF if has_bitfields else offset)
            if name:
                found[self._text(name)] = Member(bits, member_type)
            elif member_type in self._place:
                found.update(self._members(member_type, bits))
        return found

    def members(self, structure: str) -> Mapping[str, Member]:
        """The members of a structure by name, those of anonymous inner structures and unions included."""
        if structure not in self._members_of:
            type_id = self._named(structure, self._structures)
            if type_id is None:
                raise BtfError(f"the kernel's type information has no struct {structure}")
            self._members_of[structure] = self._members(type_id, 0)
        return self._members_of[structure]

    def function(self, name: str) -> int | None:
        """The type id of a function of the kernel; None: it has none of this name."""
        return self._named(name, self._functions)

    def _named(self, name: str, ids: Mapping[int, int]) -> int | None:
        """Of ``ids``, which are by the place of their name, the one of this name."""
        needle = b"\0" + name.encode() + b"\0"
        at = self._data.find(needle, self._strings)
        while at >= 0:
            if (type_id := ids.get(at + 1 - self._strings)) is not None:
                return type_id
            at = self._data.find(needle, at + 1)
        return None

    def offset(self, structure: str, *candidates: str) -> int:
        """The byte offset of the first of the named members that the structure has."""
        bits = self.bit_offset(structure, *candidates)
        if bits % 8:
            raise BtfError(f"struct {structure}: {candidates[0]} is a bit field, expected whole bytes")
        return bits // 8

    def bit_offset(self, structure: str, *candidates: str) -> int:
        """The offset in bits of the first of the named members that the structure has."""
        members = self.members(structure)
        for name in candidates:
            if name in members:
                return members[name].bit_offset
        raise BtfError(f"struct {structure} has none of: {', '.join(candidates)}")


_MEMBERS = {
    "FILE_F_INODE": ("file", "f_inode"),
    "INODE_I_SB": ("inode", "i_sb"),
    "INODE_I_INO": ("inode", "i_ino"),
    "INODE_I_GENERATION": ("inode", "i_generation"),
    "SUPER_BLOCK_S_DEV": ("super_block", "s_dev"),
    "SUPER_BLOCK_S_MAGIC": ("super_block", "s_magic"),
    "SUPER_BLOCK_S_USER_NS": ("super_block", "s_user_ns"),
    "USER_NAMESPACE_LEVEL": ("user_namespace", "level"),
    "LINUX_BINPRM_FILE": ("linux_binprm", "file"),
    "LINUX_BINPRM_INTERP": ("linux_binprm", "interp"),
    "LINUX_BINPRM_FILENAME": ("linux_binprm", "filename"),
    "LINUX_BINPRM_BUF": ("linux_binprm", "buf"),
    "TASK_STRUCT_NSPROXY": ("task_struct", "nsproxy"),
    "TASK_STRUCT_FS": ("task_struct", "fs"),
    "TASK_STRUCT_CRED": ("task_struct", "cred"),
    "CRED_UID": ("cred", "uid"),
    "CRED_USER_NS": ("cred", "user_ns"),
    "NSPROXY_MNT_NS": ("nsproxy", "mnt_ns"),
    "CGROUP_KN": ("cgroup", "kn"),
    "CGROUP_ROOT": ("cgroup", "root"),
    "CGROUP_ROOT_HIERARCHY_ID": ("cgroup_root", "hierarchy_id"),
    "CGROUP_SUBSYS_STATE_PARENT": ("cgroup_subsys_state", "parent"),
    "KERNFS_NODE_ID": ("kernfs_node", "id"),
    "FS_STRUCT_ROOT": ("fs_struct", "root"),
    "PATH_MNT": ("path", "mnt"),
    "PATH_DENTRY": ("path", "dentry"),
    "TASK_STRUCT_TGID": ("task_struct", "tgid"),
    "TASK_STRUCT_SIGNAL": ("task_struct", "signal"),
    "TASK_STRUCT_FILES": ("task_struct", "files"),
    "SIGNAL_STRUCT_LIVE": ("signal_struct", "live"),
    "FILES_STRUCT_FDT": ("files_struct", "fdt"),
    "FDTABLE_FD": ("fdtable", "fd"),
    "SK_BUFF_DEV": ("sk_buff", "dev"),
    "SK_BUFF_HEAD": ("sk_buff", "head"),
    "SK_BUFF_DATA": ("sk_buff", "data"),
    "SK_BUFF_NETWORK_HEADER": ("sk_buff", "network_header"),
    "NET_DEVICE_TYPE": ("net_device", "type"),
    "INODE_CTIME_SECONDS": ("inode", "i_ctime_sec", "__i_ctime", "i_ctime"),
}


def offsets(btf: Btf) -> dict[str, int]:
    """The macros (without the KPF_BTF_ prefix) that ``bpf/`` is compiled with: byte offsets, and one bit mask.

    Raises BtfError. The ctime is a timespec64 up to 6.10 (seconds, then nanoseconds), two members after.
    """
    found = {macro: btf.offset(*place) for macro, place in _MEMBERS.items()}
    inode = btf.members("inode")
    if "i_ctime_nsec" in inode:
        found["INODE_CTIME_NANOSECONDS"] = btf.offset("inode", "i_ctime_nsec")
    else:
        found["INODE_CTIME_NANOSECONDS"] = found["INODE_CTIME_SECONDS"] + 8
    kernel_bit = btf.bit_offset("sock", "sk_kern_sock")
    found["SOCK_SK_KERN_SOCK"] = kernel_bit // 8
    found["SOCK_SK_KERN_SOCK_MASK"] = 1 << kernel_bit % 8
    return found


LOCKED_KEY, _FIRST_LOCKED = 1, 5
"""Type ids in ``locked_types``: of every key, and of the first map's values."""


def locked_types(locked: Mapping[str, tuple[int, int]]) -> tuple[bytes, dict[str, int]]:
    """A BTF blob that describes values with a spin lock as far as the kernel wants to know it, and each map's type id.

    ``locked``: by map, the values' size and the offset of the lock. Ids: 1 int, 2 char, 3 struct bpf_spin_lock, 4 an
    array of char (so large as nothing is), then a structure for each map.
    """
    strings, records = bytearray(b"\0"), b""

    def text(word: str) -> int:
        strings.extend(word.encode() + b"\0")
        return len(strings) - len(word) - 1

    def record(name: str, kind: int, entries: int, size: int, rest: bytes = b"") -> bytes:
        return struct.pack("<III", text(name), kind << 24 | entries, size) + rest

    records += record("int", 1, 0, 4, struct.pack("<I", 1 << 24 | 32))
    records += record("char", 1, 0, 1, struct.pack("<I", 8))
    records += record("bpf_spin_lock", _KIND_STRUCT, 1, 4, struct.pack("<III", text("val"), 1, 0))
    records += struct.pack("<III", 0, 3 << 24, 0) + struct.pack("<III", 2, 1, 1)
    for name, (size, lock) in locked.items():
        records += record(f"kpf_{name}", _KIND_STRUCT, 1, size, struct.pack("<III", text("lock"), 3, 8 * lock))
    header = struct.pack("<HBBIIIII", MAGIC, 1, 0, 24, 0, len(records), len(records), len(strings))
    return header + records + bytes(strings), {name: _FIRST_LOCKED + at for at, name in enumerate(locked)}
