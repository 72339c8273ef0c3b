"""The addresses of host names in the kernel, by slot: what changes most of an image, and is changed in its place."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path

from kpf_ebpf.kernel import abi, bpf
from kpf_ebpf.kernel.hooks import opened
from kpf_ebpf.kernel.pack import pack_named

KEY_BYTES = 24
"""struct kpf_named_key."""
Rows = tuple[int, int]
"""The rows of the rules that name a host with an address, as their local and as their remote one."""


def put(pins: Path, slot: int, rows: Mapping[int, Rows]) -> None:
    """Makes these the named addresses of a slot that no program reads. Raises OSError."""
    wanted = {pack_named(slot, address): struct.pack("=II", *both) for address, both in rows.items()}
    mark = struct.pack("=I", slot)
    with opened(pins / "named") as fd:
        for key in bpf.keys(fd, KEY_BYTES, abi.NAMED):
            if key.startswith(mark) and key not in wanted:
                bpf.delete(fd, key)
        bpf.update_many(fd, wanted.items())
