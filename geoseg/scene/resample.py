"""Pixels of one grid from those of another: pure functions on arrays.

Every value depends on its absolute place in the target grid alone, never on the window that is
asked for: a window equals the crop of the whole, to the bit. For that, the sums of a pixel run
over its taps in a fixed order; a matrix product may add in another order for another shape.

Along an axis, target pixel ``i`` covers the source interval ``[a i + b, a (i + 1) + b)``:
coarser (``a > 1``) takes the mean of what it covers, weighted by area; finer interpolates
between the two nearest centres; ``a == 1`` with whole ``b`` copies. Only valid pixels take
part. A target pixel is valid where its centre lies in the source, or on its edge, and at least
half of the weight comes from valid pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from geoseg.grid import Window

__all__ = ["Axis", "Lattice", "Taps", "combine", "interpolate", "store_as"]

BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float64]
IntArray = NDArray[np.intp]
Method = Literal["mean", "nearest"]


@dataclass(frozen=True, slots=True)
class Taps:
    """Per target pixel of an axis: ``index`` and ``weight`` (target, tap), ``inside``."""

    index: IntArray
    weight: FloatArray
    inside: BoolArray


@dataclass(frozen=True, slots=True)
class Axis:
    """Target pixel ``i`` covers ``[a i + b, a (i + 1) + b)`` of ``size`` source pixels."""

    a: float
    b: float
    size: int

    def taps(self, start: int, stop: int, method: Method) -> Taps:
        """Taps of the target pixels start..stop-1; indices are clipped to the source."""
        target = np.arange(start, stop, dtype=np.float64)
        centre = self.a * (target + 0.5) + self.b
        inside = (centre >= 0) & (centre <= self.size)
        if method == "nearest":
            index = np.floor(centre)[:, None]
            weight = np.ones_like(index)
        elif self.a > 1:
            index, weight = self._covered(target)
        else:
            left = np.floor(centre - 0.5)
            share = (centre - 0.5) - left
            index = np.stack([left, left + 1], axis=1)
            weight = np.stack([1 - share, share], axis=1)
        return Taps(np.clip(index, 0, self.size - 1).astype(np.intp), weight, inside)

    def _covered(self, target: FloatArray) -> tuple[FloatArray, FloatArray]:
        first, last = self.a * target + self.b, self.a * (target + 1) + self.b
        taps = np.arange(math.ceil(self.a) + 1, dtype=np.float64)
        index = np.floor(first)[:, None] + taps
        weight = np.minimum(last[:, None], index + 1) - np.maximum(first[:, None], index)
        # beyond the source nothing is covered
        weight = np.where((index >= 0) & (index < self.size), np.maximum(weight, 0), 0)
        return index, weight


def combine(
    pixels: NDArray[Any], valid: BoolArray, rows: Taps, cols: Taps
) -> tuple[FloatArray, BoolArray]:
    """Weighted means (band, row, col) float64 and valid (row, col) of the target pixels.

    ``pixels`` (band, row, col) and ``valid`` (row, col) hold the source pixels that the taps
    point at, counted from the same origin. Not valid: 0.
    """
    from geoseg.scene.kernels import combine_taps

    out = np.zeros((len(pixels), len(rows.index), len(cols.index)))
    out_valid = rows.inside[:, None] & cols.inside[None, :]
    combine_taps(
        _summable(pixels), valid, rows.index, rows.weight, cols.index, cols.weight, out, out_valid
    )
    return out, out_valid


@dataclass(frozen=True, slots=True)
class Lattice:
    """Source coordinates at every ``step``-th corner of the target grid.

    ``row`` and ``col`` (node row, node col) float64 are coordinates in the source grid, pixel
    centres at halves; the first node is the corner ``first`` x ``step`` (row, col) of the
    target grid. Between nodes coordinates are bilinear.
    """

    row: FloatArray
    col: FloatArray
    first: tuple[int, int]
    step: int


def interpolate(
    pixels: NDArray[Any],
    valid: BoolArray,
    lattice: Lattice,
    windows: tuple[Window, Window],
    points_per_side: int,
) -> tuple[FloatArray, BoolArray]:
    """Means (band, row, col) float64 and valid (row, col) through a lattice.

    A target pixel is the mean of ``points_per_side`` squared points in it, each bilinear
    between four source pixels; 0 points: the source pixel that its centre falls into.
    ``windows`` are that of the target and that of the source which ``pixels`` (band, row, col)
    and ``valid`` (row, col) hold. Not valid: 0.
    """
    from geoseg.scene.kernels import interpolate_points

    target, source = windows
    out = np.zeros((len(pixels), *target.shape))
    out_valid = np.zeros(target.shape, np.bool_)
    nodes = np.stack([lattice.row, lattice.col])
    origins = (*lattice.first, target.row_off, target.col_off, source.row_off, source.col_off)
    interpolate_points(
        _summable(pixels), valid, nodes, lattice.step, origins, points_per_side, out, out_valid
    )
    return out, out_valid


def _summable(pixels: NDArray[Any]) -> NDArray[Any]:
    """float32 where that is exact, else float64: two kernels are compiled, not ten."""
    exact = pixels.dtype.itemsize <= 2 or pixels.dtype == np.float32
    return np.ascontiguousarray(pixels, np.float32 if exact else np.float64)


def store_as(values: FloatArray, dtype: str) -> NDArray[Any]:
    """float64 in the scene's type: integers to the nearest (ties to even) within range."""
    kind = np.dtype(dtype)
    if kind.kind == "f":
        return values.astype(kind)
    limits = np.iinfo(kind)
    return np.clip(np.rint(values), limits.min, limits.max).astype(kind)
