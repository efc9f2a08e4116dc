"""Which values are no measurement: one rule for every source.

* NaN and infinity in any of the bands that are read;
* a nodata value that no sensor measures (negative, or beyond 1e9) in any band that is read;
* any other nodata value (0, 255, 65535) where *all* image bands have it. A dark pixel whose red
  happens to be 0 is no hole, and a collar stays a collar whichever bands are read.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["measured"]

BoolArray = NDArray[np.bool_]

_SENTINEL = 1e9


def measured(
    pixels: NDArray[Any],
    bands: Sequence[int],
    nodata: Sequence[float | None],
    read_band: Callable[[int], NDArray[Any]],
) -> BoolArray:
    """Valid (row, col) as far as the values of ``pixels`` (band, row, col) tell.

    ``bands`` are the indices that were read, ``nodata`` the values of all image bands.
    ``read_band`` gives (row, col) of another band and is called only where it matters.
    """
    valid = np.ones(pixels.shape[1:], bool)
    if pixels.dtype.kind == "f":
        valid &= np.isfinite(pixels).all(axis=0)
    values = [_as_stored(value, pixels.dtype) for value in nodata]
    if all(value is None for value in values):
        return valid
    empty = valid.copy()  # every band seen so far holds a nodata value that could be measured
    for layer, band in zip(pixels, bands, strict=True):
        value = values[band]
        if _is_sentinel(value):
            valid &= layer != value
        empty &= _could_be_measured(value) & (layer == value)
    return valid & ~_all_bands(empty, bands, values, read_band)


def _all_bands(
    empty: BoolArray,
    bands: Sequence[int],
    values: Sequence[Any],
    read_band: Callable[[int], NDArray[Any]],
) -> BoolArray:
    """Where the bands that were not read hold their nodata value, too."""
    for band in sorted(set(range(len(values))) - set(bands)):
        if not empty.any():
            break
        if _could_be_measured(values[band]):
            empty = empty & (read_band(band) == values[band])
        else:
            return np.zeros_like(empty)
    return empty


def _is_sentinel(value: Any) -> bool:
    return value is not None and bool(value < 0 or value > _SENTINEL)


def _could_be_measured(value: Any) -> bool:
    return value is not None and not _is_sentinel(value)


def _as_stored(value: float | None, dtype: np.dtype[Any]) -> Any:
    """A nodata value in the type of the pixels; None where no pixel can hold it."""
    if value is None or not math.isfinite(value):
        return None  # NaN and infinity are never valid anyway
    if dtype.kind == "f":
        with np.errstate(over="ignore"):
            stored = dtype.type(value)
        return stored if np.isfinite(stored) else None
    limits = np.iinfo(dtype)
    if value != int(value) or not limits.min <= value <= limits.max:
        return None
    return dtype.type(int(value))
