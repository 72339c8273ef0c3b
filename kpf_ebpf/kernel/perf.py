"""Reads perf buffers through libbcc_bpf (no LLVM, about 2 MB): what the programs report, as bytes."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable
from pathlib import Path

from kpf_ebpf.kernel import bpf

LIBRARY = "libbcc_bpf.so.0"
PAGES = 64
"""Pages of each processor's buffer: 256 KiB, some 1,200 events."""

_RAW = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int)
_LOST = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_uint64)


def _online() -> list[int]:
    cpus: list[int] = []
    for part in Path("/sys/devices/system/cpu/online").read_text().strip().split(","):
        first, _, last = part.partition("-")
        cpus += range(int(first), int(last or first) + 1)
    return cpus


class EventReader:
    """The perf buffers of every processor. ``on_event`` gets each event's bytes.

    What finds no room, or (once this process ended) no buffer, the programs count: ``Default.EVENT_LOST``.
    """

    def __init__(self, events: Path, on_event: Callable[[bytes], None], pages: int = PAGES) -> None:
        self._library = ctypes.CDLL(LIBRARY, use_errno=True)
        self._library.bpf_open_perf_buffer.restype = ctypes.c_void_p
        self._library.perf_reader_fd.argtypes = [ctypes.c_void_p]
        self._library.perf_reader_free.argtypes = [ctypes.c_void_p]
        self._raw = _RAW(lambda _, data, size: on_event(ctypes.string_at(data, size)))
        self._lost = _LOST(lambda cookie, count: None)  # without one, the library writes to standard error
        self._map = bpf.open_pinned(events)  # kept open: the kernel takes the buffers out of the map with it
        self._readers: list[int] = []
        for cpu in _online():
            reader = self._library.bpf_open_perf_buffer(self._raw, self._lost, None, -1, cpu, pages)
            if not reader:
                raise OSError(ctypes.get_errno(), f"a perf buffer on processor {cpu} could not be opened")
            self._readers.append(reader)
            bpf.update(self._map, struct.pack("=I", cpu), struct.pack("=I", self._library.perf_reader_fd(reader)))
        self._array = (ctypes.c_void_p * len(self._readers))(*self._readers)

    def poll(self, milliseconds: int) -> None:
        """Hands out what is there; waits so long at most if nothing is."""
        self._library.perf_reader_poll(len(self._readers), self._array, milliseconds)
