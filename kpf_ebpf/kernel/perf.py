"""Reads perf buffers through libbcc_bpf (no LLVM, about 2 MB): what the programs report, as bytes."""

from __future__ import annotations

import ctypes
import struct
import time
from collections.abc import Callable
from pathlib import Path

from kpf_ebpf.kernel import bpf

LIBRARY = "libbcc_bpf.so.0"
PAGES, MOST_PAGES, FEWEST_PAGES = 2048, 64, 8
"""Pages (4 KiB, some 19 events) of all processors' buffers of a kind together, and of one processor's."""
FLOOD = 1000
"""Events of one look from which on the programs wake nobody; a look with half as many ends that."""
FLOOD_PERIOD = 0.25
"""Seconds between looks during a flood."""
MOST_AT_A_LOOK = 2000
"""Events after which a look ends though more come: the rest of them is counted and lost. It bounds a reader's work."""

_NEVER = 0x7FFFFFFF
_RAW = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int)
_LOST = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_uint64)


class _Options(ctypes.Structure):
    """``struct bcc_perf_buffer_opts``."""

    _fields_ = (("pid", ctypes.c_int), ("cpu", ctypes.c_int), ("wakeup_events", ctypes.c_int))


def _online() -> list[int]:
    cpus: list[int] = []
    for part in Path("/sys/devices/system/cpu/online").read_text().strip().split(","):
        first, _, last = part.partition("-")
        cpus += range(int(first), int(last or first) + 1)
    return cpus


def _library() -> ctypes.CDLL:
    library = ctypes.CDLL(LIBRARY, use_errno=True)
    library.bpf_open_perf_buffer_opts.restype = ctypes.c_void_p
    library.bpf_open_perf_buffer_opts.argtypes = [_RAW, _LOST, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p]
    library.perf_reader_fd.argtypes = [ctypes.c_void_p]
    library.perf_reader_poll.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_int]
    library.perf_reader_consume.argtypes = [ctypes.c_int, ctypes.c_void_p]
    return library


def _pages(cpus: int) -> int:
    """Pages of a processor's buffer: a power of two."""
    fair: int = 1 << max(0, (PAGES // cpus).bit_length() - 1)
    return min(MOST_PAGES, max(FEWEST_PAGES, fair))


class EventReader:
    """The perf buffers of every processor. ``on_event`` gets each event's bytes.

    Each processor has two: one into which every event wakes the reader, and one, for a flood, that is looked into now
    and then. What wakes somebody costs the program that caused it more than all the rest of being denied. What finds no
    room, or (once this process ended) no buffer, the programs count: ``Default.EVENT_LOST``.
    """

    def __init__(self, events: Path, on_event: Callable[[bytes], None]) -> None:
        self._library = _library()
        self._on_event = on_event
        self._raw = _RAW(self._take)
        self._lost = _LOST(lambda cookie, count: None)  # without one, the library writes to standard error
        self._taken = 0
        self._map = bpf.open_pinned(events)  # kept open: the kernel takes the buffers out of the map with it
        self._cpus = _online()
        self._prompt, self._quiet = (self._open(wakeup) for wakeup in (1, _NEVER))
        self.flooded = False
        """Whether events come so fast that they are fetched now and then, and not each at once."""
        self._use(self._prompt)

    def poll(self, milliseconds: int) -> None:
        """Hands out what is there; waits so long at most if nothing is, and during a flood FLOOD_PERIOD at most."""
        self._taken = 0
        if self.flooded:
            if milliseconds:
                time.sleep(min(milliseconds / 1000, FLOOD_PERIOD))
            self._library.perf_reader_consume(len(self._cpus), self._quiet)
            if milliseconds and self._taken < FLOOD // 2:
                self._change(self._quiet, self._prompt)
        else:
            self._library.perf_reader_poll(len(self._cpus), self._prompt, milliseconds)
            if self._taken >= FLOOD:
                self._change(self._prompt, self._quiet)
        if self._taken >= MOST_AT_A_LOOK:
            self._use(self._quiet if self.flooded else self._prompt)

    def _take(self, _: object, data: int, size: int) -> None:
        """The library goes on as long as there is something: at some point nothing more must come."""
        self._taken += 1
        if self._taken == MOST_AT_A_LOOK:
            for cpu in self._cpus:
                bpf.delete(self._map, struct.pack("=I", cpu))
        self._on_event(ctypes.string_at(data, size))

    def _open(self, wakeup: int) -> ctypes.Array[ctypes.c_void_p]:
        readers, pages = [], _pages(len(self._cpus))
        for cpu in self._cpus:
            options = _Options(-1, cpu, wakeup)
            reader = self._library.bpf_open_perf_buffer_opts(
                self._raw, self._lost, None, pages, ctypes.addressof(options)
            )
            if not reader:
                raise OSError(ctypes.get_errno(), f"a perf buffer on processor {cpu} could not be opened")
            readers.append(reader)
        return (ctypes.c_void_p * len(readers))(*readers)

    def _change(self, former: ctypes.Array[ctypes.c_void_p], to: ctypes.Array[ctypes.c_void_p]) -> None:
        """Has them write elsewhere, and hands out what came meanwhile: it is older than all that will come."""
        self._use(to)
        self.flooded = to is self._quiet
        self._library.perf_reader_consume(len(self._cpus), former)

    def _use(self, readers: ctypes.Array[ctypes.c_void_p]) -> None:
        """Has the programs write into these from now on."""
        for cpu, reader in zip(self._cpus, readers, strict=True):
            bpf.update(self._map, struct.pack("=I", cpu), struct.pack("=I", self._library.perf_reader_fd(reader)))
