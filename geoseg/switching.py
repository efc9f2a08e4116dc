"""How threads of Python share the interpreter while a network runs in some of them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["quick_switches"]

_SWITCH_S = 0.0005


@contextmanager
def quick_switches() -> Iterator[None]:
    """A thread that wants the interpreter waits half a millisecond for one that computes in it.

    By default it waits ten times as long, and the thread of a network wants it for a moment at
    every operation, a thousand times a tile.
    """
    before = sys.getswitchinterval()
    sys.setswitchinterval(_SWITCH_S)
    try:
        yield
    finally:
        sys.setswitchinterval(before)
