"""An image as bytes: every element has the size its map has, and the header reads back as the contract says."""

from __future__ import annotations

import pytest

from kpf_ebpf.facts.model import Facts
from kpf_ebpf.image.compile import compile_image
from kpf_ebpf.image.model import MapImage
from kpf_ebpf.kernel import abi, maps
from kpf_ebpf.kernel.pack import pack_image, vector_layout
from kpf_ebpf.policy.model import Policy
from kpf_ebpf.resolve.resolve import resolve


@pytest.fixture(scope="module")
def image() -> MapImage:
    """The image of an empty policy."""
    return compile_image(resolve(Policy(), Facts(netns_cookie=7)))


def test_every_element_has_the_sizes_of_its_map(image: MapImage) -> None:
    """Keys and values are exactly as long as the map's specification has them, for all ten maps."""
    packed = pack_image(image)
    assert set(packed) == set(maps.INNER_MAPS)
    for name, items in packed.items():
        spec = maps.INNER_MAPS[name]
        assert {(len(key), len(value)) for key, value in items} <= {(spec.key_size, spec.value_size)}, name


def test_the_header_reads_back_field_by_field(image: MapImage) -> None:
    """struct kpf_image, read through the checked layout, says what the image says."""
    header = abi.Image.from_buffer_copy(pack_image(image)["images"][0][1])
    _, special, bases = vector_layout(image)
    assert (header.home, header.positions, header.chunks) == (7, image.positions, 1)
    assert (header.canary_end, header.guard_end) == (image.canary_end, image.guard_end)
    assert (header.administration_port, header.popup_port) == (44334, 44501)
    assert (header.permits, header.everything, header.icmp) == (
        special["permits"],
        special["everything"],
        special["icmp"],
    )
    assert list(header.base) == bases
    assert header.stop_all.step == abi.Step.STOP_ALL
    assert [entry.component for entry in header.components][:5] == [0, 1, 2, 3, 4]


def test_rules_carry_their_step_action_and_counter(image: MapImage) -> None:
    """struct kpf_rule at each position is the rule that stands there."""
    for (_, value), rule in zip(pack_image(image)["rules"], image.rules, strict=True):
        packed = abi.Rule.from_buffer_copy(value)
        assert packed.counter == image.counters[rule.id]
        assert packed.action == (rule.action.value == "permit")
        assert abi.Step(packed.step).name.lower().replace("_", "-") == rule.origin
