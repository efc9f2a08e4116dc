"""How kernels are compiled: once, kept on disk, without the interpreter's lock."""

from __future__ import annotations

from numba import njit

__all__ = ["inlined", "inner", "kernel"]

kernel = njit(nogil=True, cache=True, no_cfunc_wrapper=True)
"""A function that Python calls."""

inner = njit(nogil=True, cache=True, no_cfunc_wrapper=True, no_cpython_wrapper=True)
"""A function that only kernels call: without wrappers it compiles in half the time."""

inlined = njit(
    nogil=True, cache=True, no_cfunc_wrapper=True, no_cpython_wrapper=True, inline="always"
)
"""An inner function whose body takes the place of each call: arrays are counted at every call else,
which costs more than a short body."""
