"""Compiled programs: what is kept comes back as it was, or not at all."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kpf_ebpf.kernel.compiled import (
    KEPT,
    SEVERAL,
    Compiled,
    Program,
    decode,
    encode,
    fetch,
    keep,
    key_of,
    numbered,
    unlink_maps,
)

LOAD_MAP_5 = bytes([0x18, 0x11, 0, 0, 5, 0, 0, 0])
LOAD_NUMBER_5 = bytes([0x18, 0x01, 0, 0, 5, 0, 0, 0])
LOAD_ACTIVE = bytes([0x18, 0x01, 0, 0, *b"vtca", 0, 0, 0, 0, *b"-FPK"])
LOAD_NUMBER = bytes([0x18, 0x01, 0, 0, *b"bmun", 0, 0, 0, 0, *b"-FPK"])
LEAVE = bytes([0x95, 0, 0, 0, 0, 0, 0, 0])
ONE = Compiled({"kpf_one": Program(LOAD_MAP_5 + bytes(8) + LEAVE, ((0, "flows"),))})


def test_only_references_to_maps_are_taken_out_and_put_in() -> None:
    """A 64-bit load is a map's only if its source register says so; other numbers stay."""
    program = unlink_maps(LOAD_NUMBER_5 + bytes(8) + LOAD_MAP_5 + bytes(8) + LEAVE, {5: "flows"})
    assert program.maps == ((2, "flows"),)
    linked = program.linked({"flows": 258})
    assert linked[:16] == LOAD_NUMBER_5 + bytes(8)
    assert linked[16:24] == bytes([0x18, 0x11, 0, 0, 2, 1, 0, 0])


def test_the_number_that_stands_for_a_value_becomes_its_address() -> None:
    """What says KPF_ACTIVE_VALUE loads the address of the value in `active`, at offset 0; a number like it stays."""
    other = LOAD_ACTIVE[:12] + b"like"
    program = unlink_maps(LOAD_NUMBER_5 + bytes(8) + LOAD_ACTIVE + other + LEAVE, {})
    assert program.maps == ((2, "active"),)
    linked = program.linked({"active": 258})
    assert linked[16:32] == bytes([0x18, 0x21, 0, 0, 2, 1, 0, 0]) + bytes(8)
    assert linked[:16] + linked[32:] == LOAD_NUMBER_5 + bytes(8) + other + LEAVE


def test_each_program_of_a_text_has_its_number() -> None:
    """Wherever the text says KPF_NUMBER, the n-th program has n; nothing else differs, and other functions stay."""
    program = Program(
        LOAD_MAP_5 + bytes(8) + LOAD_NUMBER + LOAD_NUMBER_5 + bytes(8) + LOAD_NUMBER + LEAVE, ((0, "flows"),)
    )
    (name, names), *_ = SEVERAL.items()
    made = numbered(name, program)
    assert tuple(made) == names
    for number, one in enumerate(made.values()):
        load = bytes([0x18, 0x01, 0, 0, number, 0, 0, 0]) + bytes(8)
        assert one.code == LOAD_MAP_5 + bytes(8) + load + LOAD_NUMBER_5 + bytes(8) + load + LEAVE
        assert one.maps == program.maps
    assert numbered("kpf_one", program) == {"kpf_one": program}


def test_a_text_without_its_number_is_refused() -> None:
    """Else several hooks would run one program, and each think that it is the first."""
    with pytest.raises(ValueError, match="says nowhere which"):
        numbered(next(iter(SEVERAL)), ONE.programs["kpf_one"])


@given(st.dictionaries(st.text(), st.builds(Program, st.binary(), st.just(((3, "flows"),)))))
def test_a_compilation_survives_its_encoding(programs: dict[str, Program]) -> None:
    """encode and decode are each other's reverse."""
    assert decode(encode(Compiled(programs))).programs == programs


JSON = st.recursive(
    st.none() | st.text() | st.integers(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
)


@given(st.binary() | JSON.map(lambda found: json.dumps({"format": 1, "programs": found}).encode()))
def test_other_bytes_are_refused_with_a_value_error(data: bytes) -> None:
    """Whatever lies there: a compilation, or ValueError."""
    with contextlib.suppress(ValueError):
        assert isinstance(decode(data), Compiled)


def test_what_is_kept_is_fetched_by_its_key_alone(tmp_path: Path) -> None:
    """Another key finds nothing; the file is root's alone."""
    folder = tmp_path / "cache"
    assert keep("aa", ONE, folder)
    assert fetch("aa", folder) == ONE
    assert fetch("ab", folder) is None
    assert (folder / "aa").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("what", ["folder", "file", "owner", "link", "cut"])
def test_what_others_could_have_written_is_not_used(tmp_path: Path, what: str) -> None:
    """A folder or file that others may write, a file of another user's, a link, half a file: compiled anew."""
    folder = tmp_path / "cache"
    keep("aa", ONE, folder)
    if what == "folder":
        folder.chmod(0o777)
    elif what == "file":
        (folder / "aa").chmod(0o666)
    elif what == "owner":
        os.chown(folder / "aa", 65534, 65534)
    elif what == "link":
        (folder / "aa").rename(folder / "ac")
        (folder / "aa").symlink_to("ac")
    else:
        (folder / "aa").write_bytes((folder / "aa").read_bytes()[:40])
    assert fetch("aa", folder) is None


def test_a_disk_that_takes_nothing_costs_time_only(tmp_path: Path) -> None:
    """Where the folder cannot be made, keeping says no and raises nothing."""
    (tmp_path / "file").touch()
    assert not keep("aa", ONE, tmp_path / "file" / "cache")


def test_the_newest_are_kept(tmp_path: Path) -> None:
    """Old compilations go, so that the folder stays small."""
    for number in range(KEPT + 3):
        keep(f"{number:02x}", ONE, tmp_path / "cache")
    assert len(list((tmp_path / "cache").iterdir())) == KEPT
    assert fetch(f"{KEPT + 2:02x}", tmp_path / "cache") == ONE


def test_a_key_depends_on_where_one_part_ends() -> None:
    """Text moved from one part to the next makes another key."""
    assert key_of(["ab", "c"]) != key_of(["a", "bc"])
