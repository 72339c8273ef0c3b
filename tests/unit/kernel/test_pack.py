"""An image as bytes: every element has the size its map has, and the header reads back as the contract says."""

from __future__ import annotations

import ctypes
from typing import TypeVar

import pytest

from kpf_ebpf.facts.model import Facts
from kpf_ebpf.image.compile import compile_image
from kpf_ebpf.image.model import MapImage
from kpf_ebpf.kernel import abi, abi_image, maps
from kpf_ebpf.kernel.pack import pack_image
from kpf_ebpf.policy.model import Policy
from kpf_ebpf.resolve.resolve import resolve

Whole = TypeVar("Whole", bound=ctypes.Structure)


@pytest.fixture(scope="module")
def image() -> MapImage:
    """The image of an empty policy."""
    return compile_image(resolve(Policy(), Facts(netns_cookie=7)))


def test_every_element_has_the_sizes_of_its_map(image: MapImage) -> None:
    """Keys and values are exactly as long as the map's specification has them, for every map."""
    packed = pack_image(image)
    assert set(packed) == set(maps.INNER_MAPS)
    for name, items in packed.items():
        spec = maps.INNER_MAPS[name]
        if isinstance(items, bytes):
            assert 0 < len(items) <= spec.value_size, name
            assert spec.entries == 1, name
        else:
            assert {(len(key), len(value)) for key, value in items} <= {(spec.key_size, spec.value_size)}, name


def whole(image: MapImage, name: str, kind: type[Whole]) -> Whole:
    """The only element of a map."""
    packed = pack_image(image)[name]
    assert isinstance(packed, bytes)
    return kind.from_buffer_copy(packed.ljust(ctypes.sizeof(kind), b"\0"))


def test_the_header_reads_back_field_by_field(image: MapImage) -> None:
    """struct kpf_image, read through the checked layout, says what the image says."""
    header, row = whole(image, "images", abi_image.Image), image.rows.numbers
    assert (header.home, header.positions) == (7, image.positions)
    assert (header.canary_end, header.guard_end) == (image.canary_end, image.guard_end)
    assert (header.administration_port, header.popup_port) == (44334, 44501)
    assert (header.permits, header.everything) == (row[image.permits], row[(1 << image.positions) - 1])
    free = {field: row[image.vectors[field][0]] for field in abi.Field}
    assert (header.users, header.cgroups) == (free[abi.Field.USER], free[abi.Field.CGROUP])
    assert (header.no_local_port, header.no_remote_port) == (free[abi.Field.LOCAL_PORT], free[abi.Field.REMOTE_PORT])
    assert header.no_local_address == free[abi.Field.LOCAL_ADDRESS]
    assert list(header.protocols) == [row[vector] for vector in image.vectors[abi.Field.PROTOCOL]]
    assert list(header.icmp) == [row[vector] for vector in image.icmp]
    scopes = [row[vector] for vector in image.vectors[abi.Field.SCOPE]]
    assert (list(header.scopes), list(header.sure_scopes)) == (scopes[::2], scopes[1::2])
    assert header.stop_all.step == abi.Step.STOP_ALL
    assert [entry.component for entry in header.components][:5] == [0, 1, 2, 3, 4]


def test_rules_carry_their_step_action_and_counter(image: MapImage) -> None:
    """struct kpf_rule at each position is the rule that stands there."""
    rules = whole(image, "rules", abi_image.Rules)
    for packed, rule in zip(rules.rule, image.rules, strict=False):
        assert packed.counter == image.counters[rule.id]
        assert packed.action == (rule.action.value == "permit")
        assert abi.Step(packed.step).name.lower().replace("_", "-") == rule.origin


def test_a_row_puts_its_vector_together(image: MapImage) -> None:
    """The chunks of a row, one after the other, are the vector; its summary has a bit for each that is not empty."""
    rows, pool = whole(image, "rows", abi_image.Rows), whole(image, "pool", abi_image.Pool)
    for vector, number in image.rows.numbers.items():
        row = rows.row[number]
        words = [word for chunk in row.chunks for word in pool.chunk[chunk].words]
        assert sum(word << 64 * place for place, word in enumerate(words)) == vector
        assert row.summary == sum(1 << place for place, chunk in enumerate(row.chunks) if chunk)
