"""What changes most of an image, in its place: what addresses are by themselves, and adapters. By slot."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path

from kpf_ebpf.image.model import AdapterPlace
from kpf_ebpf.kernel import abi, bpf
from kpf_ebpf.kernel.hooks import opened
from kpf_ebpf.kernel.pack import pack_named

NAMED_KEY_BYTES, ADAPTER_KEY_BYTES = 24, 8
Rows = tuple[int, int]
"""The rows of the rules that name a host with an address, as their local and as their remote one."""
Said = tuple[int, int, int]
"""The same, and flags (OWN, DIRECTED)."""


def put(pins: Path, slot: int, said: Mapping[int, Said]) -> None:
    """Makes these what addresses are by themselves in a slot that no program reads. Raises OSError."""
    wanted = {pack_named(slot, address): struct.pack("=3I", *all_of_it) for address, all_of_it in said.items()}
    _put(pins / "named", slot, wanted, NAMED_KEY_BYTES, abi.NAMED)


def put_adapters(pins: Path, slot: int, adapters: Mapping[int, AdapterPlace]) -> None:
    """Makes these the adapters of a slot that no program reads. Raises OSError."""
    wanted = {
        struct.pack("=II", slot, index): struct.pack("=II", one.place, one.own_zone) for index, one in adapters.items()
    }
    _put(pins / "adapters", slot, wanted, ADAPTER_KEY_BYTES, abi.ADAPTERS)


def _put(path: Path, slot: int, wanted: Mapping[bytes, bytes], key_bytes: int, entries: int) -> None:
    mark = struct.pack("=I", slot)
    with opened(path) as fd:
        for key in bpf.keys(fd, key_bytes, entries):
            if key.startswith(mark) and key not in wanted:
                bpf.delete(fd, key)
        bpf.update_many(fd, wanted.items())
