"""Compiled programs, as BCC made them and as they are kept on disk: compiling takes seconds, loading does not.

Kept below CACHE by a key of everything that the compiler saw. Only root may have written there; and whatever is
there, the kernel verifies it anew at each load.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from kpf_ebpf.kernel import abi

CACHE = Path("/var/cache/kpf-ebpf")
KEPT = 12
"""Compilations that are kept: the newest."""
MAX_BYTES = 16 << 20
"""Bytes of a file that are read."""
FORMAT = 1
SEVERAL = {"kpf_reach": ("kpf_sendmsg6", "kpf_sendmsg4", "kpf_connect6", "kpf_connect4")}
"""Functions that make several programs, each with its place here where bpf/ says KPF_NUMBER."""
VALUES = {abi.ACTIVE_VALUE: "active"}
"""Numbers in bpf/ that stand for the address of what a map of one element holds: reached without a call."""
_LOAD_NUMBER, _PSEUDO_MAP, _PSEUDO_VALUE = 0x18, 1, 2
"""A load of a 64-bit number, by two instructions; its source register can say that it is a map's, or the address of
what a map holds (linux/bpf.h)."""


@dataclass(frozen=True, slots=True)
class Program:
    """A program's instructions, 8 bytes each; ``maps``: the index of each that names a map or its value, and which."""

    code: bytes
    maps: tuple[tuple[int, str], ...]

    def linked(self, descriptors: Mapping[str, int]) -> bytes:
        """The instructions with these maps' descriptors in them."""
        code = bytearray(self.code)
        for index, name in self.maps:
            code[8 * index + 4 : 8 * index + 8] = descriptors[name].to_bytes(4, "little")
        return bytes(code)


@dataclass(frozen=True, slots=True)
class Compiled:
    """Every function of bpf/ that is a program, by its name."""

    programs: Mapping[str, Program]


def unlink_maps(code: bytes, names: Mapping[int, str]) -> Program:
    """Takes descriptors out of instructions, and numbers in VALUES; ``names``: the map of each descriptor."""
    found, made = [], bytearray(code)
    for at in (at for at in range(0, len(code) - 8, 8) if code[at] == _LOAD_NUMBER):
        if code[at + 1] >> 4 == _PSEUDO_MAP:
            found.append((at // 8, names[int.from_bytes(code[at + 4 : at + 8], "little")]))
        elif (number := _loaded(code, at)) in VALUES:
            made[at + 1] |= _PSEUDO_VALUE << 4
            made[at + 4 : at + 8] = made[at + 12 : at + 16] = bytes(4)
            found.append((at // 8, VALUES[number]))
    return Program(bytes(made), tuple(found))


def _loaded(code: bytes, at: int) -> int:
    return int.from_bytes(code[at + 4 : at + 8] + code[at + 12 : at + 16], "little")


def numbered(name: str, program: Program) -> dict[str, Program]:
    """The programs that a function makes, by their names: itself, or several. Raises ValueError without KPF_NUMBER."""
    if name not in SEVERAL:
        return {name: program}
    code = program.code
    places = [at for at in range(0, len(code) - 8, 8) if code[at] == _LOAD_NUMBER and _loaded(code, at) == abi.NUMBER]
    if not places:
        raise ValueError(f"{name} says nowhere which of {', '.join(SEVERAL[name])} it is")
    made = {}
    for number, one in enumerate(SEVERAL[name]):
        text = bytearray(code)
        for at in places:
            text[at + 4 : at + 8], text[at + 12 : at + 16] = number.to_bytes(4, "little"), bytes(4)
        made[one] = Program(bytes(text), program.maps)
    return made


def encode(compiled: Compiled) -> bytes:
    """As JSON."""
    programs = {
        name: {"code": base64.b64encode(program.code).decode(), "maps": program.maps}
        for name, program in compiled.programs.items()
    }
    return json.dumps({"format": FORMAT, "programs": programs}).encode()


def decode(data: bytes) -> Compiled:
    """The reverse of ``encode``. Raises ValueError for anything else."""
    try:
        document = json.loads(data)
        if document["format"] != FORMAT:
            raise ValueError(f"format {document['format']}, expected {FORMAT}")
        programs = {
            str(name): Program(
                base64.b64decode(one["code"], validate=True),
                tuple((int(index), str(map_name)) for index, map_name in one["maps"]),
            )
            for name, one in document["programs"].items()
        }
    except (KeyError, TypeError, AttributeError) as problem:
        raise ValueError(f"not a compilation: {problem}") from problem
    return Compiled(MappingProxyType(programs))


def key_of(parts: Iterable[str]) -> str:
    """A name for what is compiled from these."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode()
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()


def fetch(key: str, folder: Path = CACHE) -> Compiled | None:
    """What was kept under a key; None: nothing, or nothing that can be trusted to be root's and whole."""
    try:
        if not _roots_alone(folder.lstat(), stat.S_IFDIR):
            return None
        descriptor = os.open(folder / key, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    with os.fdopen(descriptor, "rb") as file:
        if not _roots_alone(os.fstat(descriptor), stat.S_IFREG):
            return None
        data = file.read(MAX_BYTES)
    try:
        return decode(data)
    except ValueError:
        return None


def _roots_alone(status: os.stat_result, kind: int) -> bool:
    return stat.S_IFMT(status.st_mode) == kind and status.st_uid == 0 and not status.st_mode & 0o022


def keep(key: str, compiled: Compiled, folder: Path = CACHE) -> bool:
    """Keeps a compilation for the next time. False: the disk does not take it, which costs time and nothing else."""
    fresh = folder / f".{os.getpid()}.{key}"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not _roots_alone(folder.lstat(), stat.S_IFDIR):
            return False
        fresh.unlink(missing_ok=True)
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
            file.write(encode(compiled))
        fresh.rename(folder / key)
        kept = sorted(folder.glob("[0-9a-f]*"), key=lambda path: path.stat().st_mtime, reverse=True)
        for old in kept[KEPT:]:
            old.unlink(missing_ok=True)
    except OSError:
        return False
    return True
