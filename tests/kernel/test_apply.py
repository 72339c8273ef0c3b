"""A change of one thing makes one thing anew: slots share what stays the same, and nothing is lost with either."""

from __future__ import annotations

import os
import struct

from kpf_ebpf.facts.gather import gather
from kpf_ebpf.image.compile import compile_image
from kpf_ebpf.kernel import bpf, maps
from kpf_ebpf.kernel.active import read_active
from kpf_ebpf.kernel.apply import Contents, Manner, apply
from kpf_ebpf.policy.parse import parse
from kpf_ebpf.resolve.resolve import resolve
from tests.kernel.conftest import Kernel


def inner_ids(kernel: Kernel) -> dict[str, int]:
    """The ids of the active slot's inner maps."""
    slot = read_active(kernel.programs.pins).slot
    found = {}
    for name in maps.INNER_MAPS:
        outer = bpf.open_pinned(kernel.programs.pins / name)
        found[name] = int.from_bytes(bpf.lookup(outer, struct.pack("=I", slot), 4) or b"", "little")
        os.close(outer)
    return found


def test_one_address_that_changes_makes_one_map(kernel: Kernel) -> None:
    """Of two policies that differ in an address, nine maps of ten are the same maps, however often they take turns."""
    known: Contents | None = None

    def enforce(address: str) -> dict[str, int]:
        nonlocal known
        text = (
            '[[packet-filter]]\ndescription = "one"\naction = "deny"\ndirection = "out"\n'
            f'remote = {{ address = "{address}" }}\n'
        )
        policy, _ = parse(text.encode(), "test.toml", lambda path: b"", kernel.folder)
        image = compile_image(resolve(policy, gather(policy, kernel.programs.identify, netns_cookie=kernel.home)))

        def announce(generation: int, contents: Contents) -> None:
            nonlocal known
            known = contents

        apply(kernel.programs.pins, image, (), announce, Manner(known=known))
        kernel.counters = dict(image.counters)
        return inner_ids(kernel)

    first, second, third = enforce("198.51.100.1"), enforce("198.51.100.2"), enforce("198.51.100.2")
    assert {name for name in first if first[name] != second[name]} == {"addresses"}
    assert second == third
    for _ in range(5):  # slots are taken over and over
        assert enforce("198.51.100.1")["ports"] == first["ports"]
        assert enforce("198.51.100.2")["ports"] == first["ports"]
    assert kernel.run("any", "import socket\nprint(socket.socket().connect_ex(('127.0.0.1', 9)))") == "111"
