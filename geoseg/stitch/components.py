"""Connected regions of equal labels inside one array, and the borders between them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = ["label_regions", "region_borders", "summed_pairs"]


def label_regions(
    labels: NDArray[Any], inside: NDArray[np.bool_]
) -> tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.int64]]:
    """(region, pixels, first): 4-connected regions of equal labels, from 1 in raster order.

    ``labels`` (row, col) integers; ``inside`` False: region 0. ``pixels`` and ``first`` (the
    flat index of the first pixel) have one entry per region, that of region 1 at 0.

    >>> label_regions(np.array([[3, 3, 1], [1, 3, 3]]), np.ones((2, 3), bool))[0]
    array([[1, 1, 2],
           [3, 1, 1]], dtype=int32)
    """
    return _label(np.ascontiguousarray(labels), np.ascontiguousarray(inside))


def region_borders(
    region: NDArray[np.int32], wanted: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """(a, b, edges): how many pixel edges each pair a < b of regions shares, sorted.

    Only pairs of which at least one is ``wanted`` (by region number, 0 included).
    """
    pairs = _edges(region, wanted)
    return summed_pairs(pairs[:, 0], pairs[:, 1], pairs[:, 2])


def summed_pairs(
    a: NDArray[np.int64], b: NDArray[np.int64], edges: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Equal pairs made one, their edges added; a < b; sorted."""
    low, high = np.minimum(a, b), np.maximum(a, b)
    order = np.lexsort((high, low))
    low, high, edges = low[order], high[order], edges[order]
    if not len(low):
        return low, high, edges
    new = np.ones(len(low), bool)
    new[1:] = (low[1:] != low[:-1]) | (high[1:] != high[:-1])
    starts = np.flatnonzero(new)
    return low[starts], high[starts], np.add.reduceat(edges, starts)


@njit(cache=True, nogil=True)
def _root(parent: Any, node: int) -> int:  # pragma: no cover - compiled
    while parent[node] != node:
        parent[node] = parent[parent[node]]
        node = parent[node]
    return node


@njit(cache=True, nogil=True)
def _union(parent: Any, a: int, b: int) -> int:  # pragma: no cover - compiled
    a, b = _root(parent, a), _root(parent, b)
    if a < b:
        parent[b] = a
        return a
    parent[a] = b
    return b


@njit(cache=True, nogil=True)
def _label(labels: Any, inside: Any) -> Any:  # pragma: no cover - compiled
    rows, cols = labels.shape
    region = np.zeros((rows, cols), np.int32)
    count = 0
    for row in range(rows):
        for col in range(cols):
            if inside[row, col] and not (
                (col > 0 and inside[row, col - 1] and labels[row, col - 1] == labels[row, col])
                or (row > 0 and inside[row - 1, col] and labels[row - 1, col] == labels[row, col])
            ):
                count += 1
    parent = np.zeros(count + 1, np.int32)
    used = 0
    for row in range(rows):
        for col in range(cols):
            if not inside[row, col]:
                continue
            value = labels[row, col]
            own = 0
            if col > 0 and inside[row, col - 1] and labels[row, col - 1] == value:
                own = region[row, col - 1]
            if row > 0 and inside[row - 1, col] and labels[row - 1, col] == value:
                up = region[row - 1, col]
                own = up if own == 0 else _union(parent, own, up)
            if own == 0:
                used += 1
                parent[used] = used
                own = used
            region[row, col] = own
    # roots are the smallest of their set, so numbering them in order is raster order
    number = np.zeros(used + 1, np.int32)
    found = 0
    for node in range(1, used + 1):
        if parent[node] == node:
            found += 1
            number[node] = found
        else:
            number[node] = number[_root(parent, node)]
    pixels = np.zeros(found, np.int64)
    first = np.full(found, -1, np.int64)
    for row in range(rows):
        for col in range(cols):
            k = number[region[row, col]]
            region[row, col] = k
            if k > 0:
                if first[k - 1] < 0:
                    first[k - 1] = row * cols + col
                pixels[k - 1] += 1
    return region, pixels, first


@njit(cache=True, nogil=True)
def _edges(region: Any, wanted: Any) -> Any:  # pragma: no cover - compiled
    rows, cols = region.shape
    count = 0
    out = np.zeros((0, 3), np.int64)
    for fill in range(2):
        if fill:
            out = np.zeros((count, 3), np.int64)
            count = 0
        for row in range(rows):
            for col in range(cols):
                a = region[row, col]
                for step in range(2):
                    if (step == 0 and col + 1 >= cols) or (step == 1 and row + 1 >= rows):
                        continue
                    b = region[row, col + 1] if step == 0 else region[row + 1, col]
                    if a != b and (wanted[a] or wanted[b]):
                        if fill:
                            out[count, 0] = a
                            out[count, 1] = b
                            out[count, 2] = 1
                        count += 1
    return out
