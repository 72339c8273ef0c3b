"""What a flow that is only spoken of looks like to the hooks: over which adapter it goes, which file a path is."""

from __future__ import annotations

import os
from collections.abc import Mapping

from kpf_ebpf.facts.addresses import is_loopback
from kpf_ebpf.facts.files import Identify
from kpf_ebpf.facts.model import FileKey
from kpf_ebpf.image.model import MapImage

LOOPBACK_INDEX = 1


def own_addresses(image: MapImage) -> Mapping[int, int]:
    """This host's addresses, with the adapter (by index) that each belongs to."""
    return {one: adapter.index for adapter in image.policy.adapters for one in adapter.addresses}


def adapter_of(image: MapImage, local: int, remote: int) -> int:
    """The index of the adapter of a flow between two addresses; 0: none that is known."""
    own = own_addresses(image)
    return LOOPBACK_INDEX if is_loopback(remote) or remote in own else own.get(local, 0)


def key_at(path: str, identify: Identify) -> FileKey | None:
    """The file at a path as the hooks see it; None: none is there, or nobody knows who it is. Raises OSError."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    try:
        return identify(descriptor)
    except OSError:
        return None
    finally:
        os.close(descriptor)
