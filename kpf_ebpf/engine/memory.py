"""Memory that was needed for a while, given back: a record of 10,000 rules takes 40 MB while it is read."""

from __future__ import annotations

import ctypes
import gc

_ARENA_MAX = -8  # M_ARENA_MAX of malloc.h
_libc = ctypes.CDLL(None)


def spare() -> None:
    """Lets all threads share one arena: each of their own would keep what was freed in it. For a process that stays."""
    _libc.mallopt(_ARENA_MAX, 1)


def give_back() -> None:
    """Gives back what is free, also between what is in use; what is in use now is left alone by later collections."""
    gc.unfreeze()
    gc.collect()
    gc.freeze()
    _libc.malloc_trim(0)
