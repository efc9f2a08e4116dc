"""Which pixel centres lie in polygons: even-odd along each row, in the grid's own coordinates.

Every crossing is computed from absolute coordinates, so that a pixel's answer does not depend
on the window it is asked in. Centres so close to an edge that rounding could decide are given
back apart, for an exact predicate.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoseg.grid import Window

__all__ = ["edges_of", "fill"]

BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float64]
IntArray = NDArray[np.intp]

_CLOSE_PX = 1e-6


def edges_of(polygons: Any) -> FloatArray:
    """All edges (edge, 4) as x1, y1, x2, y2 of a Polygon or MultiPolygon, holes included."""
    import shapely

    rings = shapely.get_rings(shapely.get_parts(polygons))
    points, ring = shapely.get_coordinates(rings, return_index=True)
    same = ring[:-1] == ring[1:]
    return np.hstack([points[:-1][same], points[1:][same]])


def fill(edges: FloatArray, window: Window) -> tuple[BoolArray, IntArray, IntArray]:
    """Mask (row, col) of centres inside, and rows and columns of those too close to an edge."""
    up = edges[:, 1] <= edges[:, 3]
    x1, y1, x2, y2 = np.where(up[:, None], edges, edges[:, [2, 3, 0, 1]]).T
    toggles = np.zeros((window.height, window.width + 1), bool)
    # half-open in y: a vertex belongs to one of the two edges that share it
    edge, row = _spread(np.ceil(y1 - 0.5), np.ceil(y2 - 0.5) - 1, window.row_off, window.row_end)
    share = (row + 0.5 - y1[edge]) / (y2[edge] - y1[edge])
    x = x1[edge] + share * (x2[edge] - x1[edge])
    col = np.clip(np.ceil(x - 0.5) - window.col_off, 0, window.width).astype(np.intp)
    np.logical_xor.at(toggles, (row - window.row_off, col), True)
    mask = np.logical_xor.accumulate(toggles[:, :-1], axis=1)
    return mask, *_close(x1, y1, x2, y2, window)


def _close(
    x1: FloatArray, y1: FloatArray, x2: FloatArray, y2: FloatArray, window: Window
) -> tuple[IntArray, IntArray]:
    """Rows and columns of centres within a hair of an edge; y1 <= y2."""
    low, high = np.ceil(y1 - 0.5 - _CLOSE_PX), np.floor(y2 - 0.5 + _CLOSE_PX)
    edge, row = _spread(low, high, window.row_off, window.row_end)
    rise = y2[edge] - y1[edge]
    flat = rise <= 4 * _CLOSE_PX
    steep = np.where(flat, 1.0, rise)
    # the part of the edge within a hair of the row's centres
    first = np.where(flat, 0.0, (row + 0.5 - _CLOSE_PX - y1[edge]) / steep).clip(0, 1)
    last = np.where(flat, 1.0, (row + 0.5 + _CLOSE_PX - y1[edge]) / steep).clip(0, 1)
    run = x2[edge] - x1[edge]
    xs = np.sort([x1[edge] + first * run, x1[edge] + last * run], axis=0)
    low, high = np.ceil(xs[0] - 0.5 - _CLOSE_PX), np.floor(xs[1] - 0.5 + _CLOSE_PX)
    part, col = _spread(low, high, window.col_off, window.col_end)
    return row[part] - window.row_off, col - window.col_off


def _spread(low: FloatArray, high: FloatArray, start: int, stop: int) -> tuple[IntArray, IntArray]:
    """Pairs of item and whole number, for each of low..high within start..stop-1."""
    first = np.clip(low, start, stop).astype(np.intp)
    counts = np.clip(np.clip(high, start - 1, stop - 1).astype(np.intp) + 1 - first, 0, None)
    item = np.repeat(np.arange(len(low)), counts)
    within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    return item, first[item] + within
