"""How much the labels of two arrays overlap: exact integer tables, and links from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from geoseg.grid import Tile, Window
from geoseg.stitch.components import label_regions

__all__ = ["Overlaps", "overlaps", "pieces", "seam"]


@dataclass(frozen=True, slots=True)
class Overlaps:
    """Every pair (a, b) of labels that share a pixel, labels of 0 included, sorted.

    ``pixels`` they share, ``zone`` of these inside the zone asked for, ``square``: the side of
    the largest square of shared pixels; all int64.
    """

    a: NDArray[np.int64]
    b: NDArray[np.int64]
    pixels: NDArray[np.int64]
    zone: NDArray[np.int64]
    square: NDArray[np.int64]

    def share(self, criterion: str) -> NDArray[np.float64]:
        """Overlap of each pair: of the union (``iou``) or of the smaller one (``smaller``)."""
        size_a = _sizes(self.a, self.pixels)
        size_b = _sizes(self.b, self.pixels)
        smaller = np.minimum(size_a, size_b)
        whole = smaller if criterion == "smaller" else size_a + size_b - self.pixels
        return self.pixels / whole


def overlaps(
    a: NDArray[Any],
    b: NDArray[Any],
    zone: Window = Window(0, 0, 0, 0),  # noqa: B008 - frozen
) -> Overlaps:
    """The overlap table of two label arrays (row, col) of one shape.

    >>> table = overlaps(np.array([[1, 1, 2]]), np.array([[5, 0, 0]]))
    >>> table.a.tolist(), table.b.tolist(), table.pixels.tolist()
    ([1, 1, 2], [0, 5, 0], [1, 1, 1])
    """
    bounds = np.array([zone.row_off, zone.row_end, zone.col_off, zone.col_end], np.int64)
    runs = _runs(np.ascontiguousarray(a), np.ascontiguousarray(b), bounds)
    if not len(runs):
        none = np.zeros(0, np.int64)
        return Overlaps(none, none, none, none, none)
    order = np.lexsort((runs[:, 1], runs[:, 0]))
    runs = runs[order]
    new = np.ones(len(runs), bool)
    new[1:] = (runs[1:, :2] != runs[:-1, :2]).any(1)
    starts = np.flatnonzero(new)
    pixels, inside = np.add.reduceat(runs[:, 2:4], starts, axis=0).T
    square = np.maximum.reduceat(runs[:, 4], starts)
    return Overlaps(runs[starts, 0], runs[starts, 1], pixels, inside, square)


def pieces(labels: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """4-connected pieces of labels (row, col), numbered from 1, 0 stays 0; each one's label.

    >>> pieces(np.array([[7, 0, 7]]))
    (array([[1, 0, 2]]), array([0, 7, 7]))
    """
    region, _, first = label_regions(labels, labels != 0)
    none = np.zeros(1, np.int64)
    return region.astype(np.int64), np.concatenate([none, labels.ravel()[first]])


def seam(first: Tile, second: Tile, reach: int) -> Window:
    """Where two neighbouring tiles' cores meet, ``reach`` pixels to both sides of it."""
    rows = _meeting(first.core.slices[0], second.core.slices[0], reach)
    cols = _meeting(first.core.slices[1], second.core.slices[1], reach)
    return Window(rows[0], cols[0], rows[1] - rows[0], cols[1] - cols[0])


def _meeting(a: slice, b: slice, reach: int) -> tuple[int, int]:
    if a.start == b.start:
        return a.start, a.stop
    edge = max(a.start, b.start)
    return edge - reach, edge + reach


def _sizes(labels: NDArray[np.int64], pixels: NDArray[np.int64]) -> NDArray[np.int64]:
    _, inverse = np.unique(labels, return_inverse=True)
    sums = np.zeros(len(labels), np.int64)
    np.add.at(sums, inverse, pixels)
    return sums[inverse]


@njit(cache=True, nogil=True)
def _runs(a: Any, b: Any, zone: Any) -> Any:  # pragma: no cover - compiled
    """Rows of (a, b, length, length inside the zone, side of the largest square that ends
    here), one per run of equal pairs.
    """
    rows, cols = a.shape
    count = 0
    for row in range(rows):
        for col in range(cols):
            if col == 0 or a[row, col] != a[row, col - 1] or b[row, col] != b[row, col - 1]:
                count += 1
    out = np.zeros((count, 5), np.int64)
    # side of the square whose lower right corner is this pixel, one row of pixels at a time
    side = np.zeros(cols, np.int64)
    at = -1
    for row in range(rows):
        in_rows = zone[0] <= row < zone[1]
        corner = 0
        for col in range(cols):
            x, y = a[row, col], b[row, col]
            new = col == 0 or x != a[row, col - 1] or y != b[row, col - 1]
            if new:
                at += 1
                out[at, 0] = x
                out[at, 1] = y
            out[at, 2] += 1
            if in_rows and zone[2] <= col < zone[3]:
                out[at, 3] += 1
            above = side[col]
            if (
                new
                or row == 0
                or a[row - 1, col] != x
                or b[row - 1, col] != y
                or a[row - 1, col - 1] != x
                or b[row - 1, col - 1] != y
            ):
                side[col] = 1
            else:
                side[col] = min(above, corner, side[col - 1]) + 1
            out[at, 4] = max(out[at, 4], side[col])
            corner = above
    return out
