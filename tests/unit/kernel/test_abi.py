"""The kernel's layouts in Python are those of bpf/kpf_abi.h and bpf/maps.c, byte for byte."""

from __future__ import annotations

import ctypes
import enum
import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from kpf_ebpf.kernel import abi, abi_image, abi_memo, maps

BPF = Path(__file__).parents[3] / "bpf"
SCALARS = {"u8": 1, "u16": 2, "u32": 4, "u64": 8, "s64": 8, "char": 1, "int": 4}
MAP_FLAGS = {"0": 0, "BPF_F_MMAPABLE": 1 << 10, "BPF_F_NO_PREALLOC": 1, "BPF_F_CLONE": 1 << 9}


@dataclass
class Layout:
    """A struct as a C compiler lays it out: size, alignment, and (offset, size) by field."""

    size: int
    alignment: int
    fields: dict[str, tuple[int, int]]


def without_comments(name: str) -> str:
    """Read a file of bpf/, without comments."""
    return re.sub(r"/\*.*?\*/|//[^\n]*", " ", (BPF / name).read_text(), flags=re.S)


HEADER = without_comments("kpf_abi.h") + without_comments("kpf_image.h")
MAPS = without_comments("maps.c")


def value_of(expression: str, known: dict[str, int]) -> int:
    """Compute a constant: integers and known names, multiplied."""
    product = 1
    for word in re.findall(r"\w+", expression):
        product *= known[word] if word in known else int(word, 0)
    return product


def read_enums() -> dict[str, dict[str, int]]:
    """Enums by their name without kpf_."""
    return {
        name: {word: int(number) for word, number in re.findall(r"(\w+)\s*=\s*(\d+)", body)}
        for name, body in re.findall(r"enum kpf_(\w+)\s*\{(.*?)\};", HEADER, flags=re.S)
    }


def read_constants() -> dict[str, int]:
    """Values of #define lines without arguments."""
    known = {word: number for words in read_enums().values() for word, number in words.items()}
    found: dict[str, int] = {}
    for name, expression in re.findall(r"^#define (KPF_\w+)[ \t]+(\S.*)$", HEADER, flags=re.M):
        found[name] = value_of(expression, known | found)
    return found


ENUMS = read_enums()
CONSTANTS = read_constants()


def read_structs() -> dict[str, Layout]:
    """Structs by their name without kpf_, with natural alignment."""
    known = {word: number for words in ENUMS.values() for word, number in words.items()} | CONSTANTS
    found = {"bpf_spin_lock": Layout(4, 4, {})} | {name: Layout(size, size, {}) for name, size in SCALARS.items()}
    for struct, body in re.findall(r"struct (kpf_\w+)\s*\{(.*?)\};", HEADER, flags=re.S):
        layout = Layout(0, 1, {})
        for line in filter(None, map(str.strip, body.split(";"))):
            match = re.fullmatch(r"(?:struct\s+)?(\w+)\s+(\w+)(?:\[(\w+)\])?", line)
            assert match, f"{struct}: {line}"
            kind = found[match[1]]
            size = kind.size * (value_of(match[3], known) if match[3] else 1)
            offset = -(-layout.size // kind.alignment) * kind.alignment
            layout.fields[match[2]] = (offset, size)
            layout.size = offset + size
            layout.alignment = max(layout.alignment, kind.alignment)
        layout.size = -(-layout.size // layout.alignment) * layout.alignment
        found[struct] = layout
    return {name.removeprefix("kpf_"): layout for name, layout in found.items() if name.startswith("kpf_")}


STRUCTS = read_structs()


def camel(name: str) -> str:
    """Turn application_key into ApplicationKey."""
    return "".join(word.capitalize() for word in name.split("_"))


def mirrored() -> dict[str, type[ctypes.Structure]]:
    """Every ctypes structure of abi.py, abi_image.py and abi_memo.py."""
    return {
        name: value
        for name, value in (vars(abi) | vars(abi_image) | vars(abi_memo)).items()
        if isinstance(value, type) and issubclass(value, ctypes.Structure)
    }


def type_size(word: str) -> int:
    """Size of a C type named in maps.c."""
    word = word.strip()
    return STRUCTS[word.removeprefix("struct kpf_")].size if word.startswith("struct") else SCALARS[word]


def flags_of(expression: str) -> int:
    """Compute the flags of a map."""
    return sum(MAP_FLAGS[word.strip()] for word in expression.split("|"))


def test_every_struct_of_the_header_is_mirrored_and_no_other() -> None:
    """Both sides name the same structs."""
    assert len(STRUCTS) == len(re.findall(r"^struct kpf_\w+ *\{", HEADER, flags=re.M))
    assert set(mirrored()) == {camel(name) for name in STRUCTS}


@pytest.mark.parametrize("name", STRUCTS)
def test_a_struct_has_the_size_and_offsets_of_the_header(name: str) -> None:
    """Fields have the same names, order, offsets and sizes; the whole has the same size."""
    mirror = mirrored()[camel(name)]
    fields = {field[0]: (getattr(mirror, field[0]).offset, getattr(mirror, field[0]).size) for field in mirror._fields_}
    assert list(fields.items()) == list(STRUCTS[name].fields.items())
    assert ctypes.sizeof(mirror) == STRUCTS[name].size


@pytest.mark.parametrize("name", STRUCTS)
def test_a_struct_has_no_hidden_padding(name: str) -> None:
    """Hidden padding would hand stack garbage to map keys and refuse the program in the verifier."""
    assert sum(size for _, size in STRUCTS[name].fields.values()) == STRUCTS[name].size


@pytest.mark.parametrize("name", CONSTANTS)
def test_a_constant_has_the_value_of_the_header(name: str) -> None:
    """Every #define is a module constant."""
    assert getattr(abi, name.removeprefix("KPF_")) == CONSTANTS[name]


@pytest.mark.parametrize("name", ENUMS)
def test_an_enum_has_the_members_of_the_header(name: str) -> None:
    """Every enum is an IntEnum; the number of its members, where the header counts them, a module constant."""
    words = dict(ENUMS[name])
    count = words.pop(f"KPF_{name.upper()}S", None)
    if count is not None:
        assert getattr(abi, f"{name.upper()}S") == count
    mirror = getattr(abi, camel(name))
    assert issubclass(mirror, enum.IntEnum)
    members = {re.sub(rf"^KPF_({name.upper()}_)?", "", word): number for word, number in words.items()}
    assert {member.name: member.value for member in mirror} == members


def test_the_pinned_maps_are_those_of_maps_c() -> None:
    """Kinds, sizes, entries and flags agree."""
    known = {word: number for words in ENUMS.values() for word, number in words.items()} | CONSTANTS
    specs: dict[str, maps.MapSpec] = {"events": maps.MapSpec("perf_event_array", 4, 4, 4, 0, 0)}
    for value, name, flags in re.findall(r"^KPF_SOCKET_STORAGE\((.*?), (\w+), (.*?)\);", MAPS, flags=re.M):
        specs[name] = maps.MapSpec("sk_storage", 24, 4, type_size(value), 0, flags_of(flags))
    for kind, key, value, name, entries, flags in re.findall(
        r'^KPF_PINNED\("(\w+)", (.*?), (.*?), (\w+), (\w+), (.*?)\);', MAPS, flags=re.M
    ):
        specs[name] = maps.MapSpec(
            kind, maps.MAP_TYPES[kind], type_size(key), type_size(value), value_of(entries, known), flags_of(flags)
        )
    for name in re.findall(r"^KPF_SLOTTED\(.*, (\w+), [^,]*\);", MAPS, flags=re.M):
        specs[name] = maps.MapSpec("array_of_maps", 12, 4, 4, CONSTANTS["KPF_SLOTS"], 0)
    assert dict(maps.MAPS) == specs
    assert len(specs) == 43


def test_the_inner_maps_are_those_of_maps_c() -> None:
    """The eleven maps of a slot agree."""
    specs = {
        name: maps.MapSpec(
            kind, maps.MAP_TYPES[kind], type_size(key), type_size(value), int(kind == "array"), flags_of(flags)
        )
        for kind, key, value, name, flags in re.findall(
            r'^KPF_SLOTTED\("(\w+)", (.*?), (.*?), (\w+), (.*?)\);', MAPS, flags=re.M
        )
    }
    assert dict(maps.INNER_MAPS) == specs
    assert len(specs) == 11


def test_the_active_word_is_read_as_it_is_written() -> None:
    """Slot and stop-all come back; zero is "nothing is active"."""
    word = abi.active_word(7, True, 2)
    assert word == 7 << 8 | 1 << 4 | 3
    assert abi.active_slot(word) == 2
    assert abi.active_stop_all(word)
    assert not abi.active_stop_all(abi.active_word(7, False, 0))
    assert abi.active_slot(0) is None
