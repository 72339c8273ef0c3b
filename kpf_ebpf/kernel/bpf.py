"""The bpf(2) calls that are needed on descriptors: maps, pins, attachments. Everything raises OSError."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import struct
from collections.abc import Iterable
from pathlib import Path

_SYSCALL = 321  # bpf, x86-64
_libc = ctypes.CDLL(None, use_errno=True)

MAP_CREATE, LOOKUP, UPDATE, DELETE, NEXT_KEY = 0, 1, 2, 3, 4
PROG_LOAD, OBJ_PIN, OBJ_GET, PROG_ATTACH, PROG_DETACH, PROG_TEST_RUN = 5, 6, 7, 8, 9, 10
PROGRAM_BY_ID, MAP_BY_ID, INFO_BY_FD, PROG_QUERY = 13, 14, 15, 16
RAW_TRACEPOINT_OPEN, BTF_LOAD, UPDATE_BATCH = 17, 18, 26
ALLOW_MULTI, REPLACE = 2, 4
NAME_BYTES = 15
"""Bytes of a map's or program's name that the kernel keeps."""
LOG_BYTES = 4 << 20
"""Bytes of the verifier's text that are read."""
NOEXIST = 1
"""Flag of ``update``: only if there is no such element yet."""


def _exchange(command: int, attributes: bytes) -> tuple[int, bytes]:
    """bpf(command, attributes): what it returned, and the attributes as the kernel left them."""
    block = ctypes.create_string_buffer(attributes.ljust(128, b"\0"), 128)
    result = _libc.syscall(_SYSCALL, command, block, 128)
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return int(result), block.raw


def call(command: int, attributes: bytes) -> int:
    """bpf(command, attributes); the caller keeps alive what the attributes point to."""
    return _exchange(command, attributes)[0]


def _pointer(data: ctypes.Array[ctypes.c_char]) -> int:
    return ctypes.addressof(data)


def lift_limit() -> None:
    """Lets this process have as many maps as it needs: up to 5.10 they count as locked memory.

    Where the limit may not be lifted and holds, the kernel refuses the maps with EPERM.
    """
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def create_map(
    kind: int,
    key: int,
    value: int,
    entries: int,
    flags: int,
    *,
    name: str = "",
    inner: int = 0,
    types: tuple[int, int, int] | None = None,
) -> int:
    """A new map's descriptor. ``inner`` is a map of maps' template; ``types`` a BTF, and key and value in it."""
    sizes = struct.pack("=IIIIIII", kind, key, value, entries, flags, inner, 0)
    return call(MAP_CREATE, sizes + _short(name) + struct.pack("=IIII", 0, *(types or (0, 0, 0))))


def load_btf(data: bytes) -> int:
    """The descriptor of a BTF blob, as the kernel has taken it."""
    block = ctypes.create_string_buffer(data, len(data))
    return call(BTF_LOAD, struct.pack("=QQIII", _pointer(block), 0, len(data), 0, 0))


def _short(name: str) -> bytes:
    return name.encode()[:NAME_BYTES].ljust(NAME_BYTES + 1, b"\0")


def load_program(
    name: str,
    kind: int,
    code: bytes,
    attach_type: int,
    target: int = 0,
    log: ctypes.Array[ctypes.c_char] | None = None,
    level: int = 1,
) -> int:
    """Has the kernel verify and take a program; its descriptor. ``target``: the BTF id of what it attaches to.

    ``level``: what the verifier writes to a ``log``: 1 its way, 4 its figures.
    """
    block, license_text = ctypes.create_string_buffer(code, len(code)), ctypes.create_string_buffer(b"GPL")
    attributes = struct.pack("=IIQQ", kind, len(code) // 8, _pointer(block), _pointer(license_text))
    attributes += struct.pack("=IIQII", level, len(log), _pointer(log), 0, 0) if log else bytes(24)
    attributes += _short(name) + struct.pack("=II", 0, attach_type) + bytes(36) + struct.pack("=I", target)
    return call(PROG_LOAD, attributes)


def complaint(name: str, kind: int, code: bytes, attach_type: int, target: int) -> list[str]:
    """What the verifier says of a program that it refuses, in lines."""
    log = ctypes.create_string_buffer(LOG_BYTES)
    try:
        os.close(load_program(name, kind, code, attach_type, target, log))
    except OSError:
        return log.value.decode("utf-8", "replace").splitlines()
    return []


def update(fd: int, key: bytes, value: bytes, flags: int = 0) -> None:
    """Sets one element."""
    keys, values = ctypes.create_string_buffer(key, len(key)), ctypes.create_string_buffer(value, len(value))
    call(UPDATE, struct.pack("=IxxxxQQQ", fd, _pointer(keys), _pointer(values), flags))


def update_many(fd: int, items: Iterable[tuple[bytes, bytes]]) -> None:
    """Sets many elements, by batches where the kernel has them for this kind of map."""
    pairs = list(items)
    if not pairs:
        return
    keys = b"".join(key for key, _ in pairs)
    values = b"".join(value for _, value in pairs)
    key_block, value_block = (
        ctypes.create_string_buffer(keys, len(keys)),
        ctypes.create_string_buffer(values, len(values)),
    )
    attributes = struct.pack("=QQQQIIQQ", 0, 0, _pointer(key_block), _pointer(value_block), len(pairs), fd, 0, 0)
    try:
        call(UPDATE_BATCH, attributes)
    except OSError:
        for key, value in pairs:
            update(fd, key, value)


def lookup(fd: int, key: bytes, size: int) -> bytes | None:
    """One element's value, or None. ``size`` is that of the value as user space sees it."""
    keys, value = ctypes.create_string_buffer(key, len(key)), ctypes.create_string_buffer(size)
    try:
        call(LOOKUP, struct.pack("=IxxxxQQQ", fd, _pointer(keys), _pointer(value), 0))
    except FileNotFoundError:
        return None
    return value.raw


def delete(fd: int, key: bytes) -> None:
    """Removes one element; none is there: nothing happens."""
    keys = ctypes.create_string_buffer(key, len(key))
    try:
        call(DELETE, struct.pack("=IxxxxQQQ", fd, _pointer(keys), 0, 0))
    except FileNotFoundError:
        return


def keys(fd: int, size: int, most: int) -> list[bytes]:
    """The keys of a hash, up to ``most``; other processes may change it meanwhile."""
    found: list[bytes] = []
    key, following = None, ctypes.create_string_buffer(size)
    while len(found) < most:
        try:
            call(NEXT_KEY, struct.pack("=IxxxxQQ", fd, _pointer(key) if key else 0, _pointer(following)))
        except FileNotFoundError:
            break
        found.append(following.raw)
        key = ctypes.create_string_buffer(following.raw, size)
    return found


def pin(fd: int, path: Path) -> None:
    """Gives a map, program or link a name below a bpffs mount."""
    name = ctypes.create_string_buffer(os.fsencode(path))
    call(OBJ_PIN, struct.pack("=QII", _pointer(name), fd, 0))


def open_pinned(path: Path) -> int:
    """The descriptor of what is pinned at a path."""
    name = ctypes.create_string_buffer(os.fsencode(path))
    return call(OBJ_GET, struct.pack("=QII", _pointer(name), 0, 0))


def attach(cgroup: int, program: int, kind: int, replaced: int | None = None) -> None:
    """Attaches beside others (multi); with ``replaced`` in that program's place, at one stroke."""
    flags = ALLOW_MULTI | (REPLACE if replaced is not None else 0)
    call(PROG_ATTACH, struct.pack("=IIIII", cgroup, program, kind, flags, replaced or 0))


def detach(cgroup: int, program: int, kind: int) -> None:
    """Detaches one program."""
    call(PROG_DETACH, struct.pack("=III", cgroup, program, kind))


def attached(cgroup: int, kind: int) -> tuple[int, ...]:
    """The ids of the programs attached to a cgroup."""
    ids = ctypes.create_string_buffer(4 * 64)
    _, answer = _exchange(PROG_QUERY, struct.pack("=IIIIQI", cgroup, kind, 0, 0, _pointer(ids), 64))
    (count,) = struct.unpack_from("=I", answer, 24)
    return struct.unpack_from(f"={count}I", ids.raw)


def identity_of(fd: int) -> int:
    """The id of a map or program."""
    info = ctypes.create_string_buffer(256)
    call(INFO_BY_FD, struct.pack("=IIQ", fd, 256, _pointer(info)))
    return int(struct.unpack_from("=I", info.raw, 4)[0])


def open_program(program_id: int) -> int:
    """The descriptor of a loaded program, by its id."""
    return call(PROGRAM_BY_ID, struct.pack("=III", program_id, 0, 0))


def open_map(map_id: int) -> int:
    """The descriptor of a map, by its id."""
    return call(MAP_BY_ID, struct.pack("=III", map_id, 0, 0))


def maps_of(program: int) -> tuple[int, ...]:
    """The ids of the maps that a program uses (``struct bpf_prog_info``: nr_map_ids at 52, map_ids at 56)."""
    ids = ctypes.create_string_buffer(4 * 64)
    info = ctypes.create_string_buffer(256)
    struct.pack_into("=IQ", info, 52, 64, _pointer(ids))
    call(INFO_BY_FD, struct.pack("=IIQ", program, 256, _pointer(info)))
    (count,) = struct.unpack_from("=I", info.raw, 52)
    return struct.unpack_from(f"={min(count, 64)}I", ids.raw)


def verified(program: int) -> int:
    """How many instructions the verifier walked (``bpf_prog_info.verified_insns`` at 216, since 5.16); else 0."""
    info = ctypes.create_string_buffer(256)
    call(INFO_BY_FD, struct.pack("=IIQ", program, 256, _pointer(info)))
    return int(struct.unpack_from("=I", info.raw, 216)[0])


def map_shape(fd: int) -> tuple[int, int, int, int, int]:
    """(type, key size, value size, entries, flags) of a map (``struct bpf_map_info``)."""
    info = ctypes.create_string_buffer(256)
    call(INFO_BY_FD, struct.pack("=IIQ", fd, 256, _pointer(info)))
    kind, _, key, value, entries, flags = struct.unpack_from("=6I", info.raw)
    return kind, key, value, entries, flags


def open_raw_tracepoint(name: str, program: int) -> int:
    """Attaches a program to a raw tracepoint; it stays as long as the link returned is open or pinned.

    Without a name: to the kernel function that an fentry or LSM program was loaded for.
    """
    text = ctypes.create_string_buffer(name.encode())
    return call(RAW_TRACEPOINT_OPEN, struct.pack("=QI", _pointer(text) if name else 0, program))


def run(program: int, *arguments: int) -> int:
    """Runs a raw tracepoint program once, in this process; returns what it returned."""
    context = struct.pack(f"={len(arguments)}Q", *arguments)
    block = ctypes.create_string_buffer(context, len(context))
    # prog_fd, retval, four data fields that raw tracepoints do not have, repeat, duration, then the context
    where = _pointer(block) if context else 0
    attributes = struct.pack("=IIIIQQIIIIQ", program, 0, 0, 0, 0, 0, 0, 0, len(context), 0, where)
    _, answer = _exchange(PROG_TEST_RUN, attributes)
    return int(struct.unpack_from("=I", answer, 4)[0])


_FRAME = bytes(12) + b"\x88\xb5" + bytes(50)
"""A packet for programs that look at its mark only (an Ethernet type for experiments)."""


def run_marked(program: int, mark: int, repeat: int = 1) -> int:
    """Runs a tc program so many times on one packet with this mark; nanoseconds a run, as the kernel measures them."""
    data = ctypes.create_string_buffer(_FRAME, len(_FRAME))
    context = ctypes.create_string_buffer(struct.pack("=III", 0, 0, mark), 192)  # struct __sk_buff
    attributes = struct.pack(
        "=IIIIQQIIIIQQ",
        program, 0, len(_FRAME), 0, _pointer(data), 0, repeat, 0, len(context), 0, _pointer(context), 0,
    )  # fmt: skip
    _, answer = _exchange(PROG_TEST_RUN, attributes)
    return int(struct.unpack_from("=I", answer, 36)[0])
