"""How this process gets memory from the operating system: settings of glibc's malloc.

Elsewhere nothing is set, and nothing is lost but some speed and tightness. See mallopt(3).
"""

from __future__ import annotations

import ctypes
import platform
import sys
from functools import lru_cache

__all__ = ["give_back", "keep_memory", "one_heap"]

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -2, -3, -4, -8
_LARGE = 4 << 20


@lru_cache(maxsize=1)
def _libc() -> ctypes.CDLL | None:
    glibc = sys.platform == "linux" and platform.libc_ver()[0] == "glibc"
    return ctypes.CDLL(None) if glibc else None


def _set(*settings: tuple[int, int]) -> bool:
    libc = _libc()
    return libc is not None and all(libc.mallopt(name, value) for name, value in settings)


def give_back() -> bool:
    """Return to the operating system what is free in the heap, between two stages of work that
    need memory of different sizes; returns whether there was any.

    Not where a network runs, for which it is kept: outputs need less than it does, and the next
    scene would have to ask for all of it again.
    """
    libc = _libc()
    kept = keep_memory.cache_info().currsize > 0
    return libc is not None and not kept and bool(libc.malloc_trim(0))


@lru_cache(maxsize=1)
def one_heap() -> bool:
    """Let all threads share one heap from now on, and large arrays have memory of their own;
    returns whether that was set.

    By default each thread gets a heap, and each keeps its own holes: blocks that are read,
    predicted and written by turns in many threads left twice as much memory behind. Arrays of
    up to 32 MiB end up there too, once one of them was freed, and leave holes of that size.
    """
    return _set((_M_ARENA_MAX, 1), (_M_MMAP_THRESHOLD, _LARGE))


@lru_cache(maxsize=1)
def keep_memory() -> bool:
    """Keep glibc from giving the memory of large tensors back after every operation.

    Each operation of a network allocates its output; by default glibc maps and unmaps
    buffers of that size, and every page of them is a fault: a third of the time of a U-Net.
    Threads of the process share one heap, since only the main one can hold large buffers.
    Returns whether it was set: False off glibc.
    """
    return one_heap() and _set(
        (_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, 2**31 - 1), (_M_TOP_PAD, 64 << 20)
    )
