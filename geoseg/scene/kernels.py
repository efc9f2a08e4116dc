"""The compiled loops of scene/resample.py, apart because numba takes a while to load.

No fast-math: the sums of a pixel run in the order of its taps, whatever surrounds it.
"""

from __future__ import annotations

import math

import numba
import numpy as np

__all__ = ["combine_taps", "interpolate_points"]


@numba.njit(cache=True, nogil=True)
def combine_taps(pixels, valid, row_index, row_weight, col_index, col_weight, out, out_valid):  # type: ignore[no-untyped-def]  # compiled
    """Means of the taps into ``out`` (band, row, col) float64, where ``out_valid`` allows."""
    bands = pixels.shape[0]
    sums = np.zeros(bands)
    for i in range(out.shape[1]):
        for j in range(out.shape[2]):
            if not out_valid[i, j]:
                continue
            sums[:] = 0.0
            known, total = 0.0, 0.0
            for m in range(row_index.shape[1]):
                for n in range(col_index.shape[1]):
                    weight = row_weight[i, m] * col_weight[j, n]
                    r, c = row_index[i, m], col_index[j, n]
                    total += weight
                    # an invalid pixel may hold NaN, which times 0 is NaN
                    if weight > 0.0 and valid[r, c]:
                        known += weight
                        for band in range(bands):
                            sums[band] += weight * pixels[band, r, c]
            if known > 0.0 and known * 2.0 >= total:
                for band in range(bands):
                    out[band, i, j] = sums[band] / known
            else:
                out_valid[i, j] = False


@numba.njit(cache=True, nogil=True)
def interpolate_points(pixels, valid, nodes, step, origins, points, out, out_valid):  # type: ignore[no-untyped-def]  # compiled
    """Means of the points into ``out`` (band, row, col) float64 and ``out_valid``."""
    first_row, first_col, row_off, col_off, source_row, source_col = origins
    bands, height, width = pixels.shape
    per_side = max(points, 1)
    sums = np.zeros(bands)
    for i in range(out.shape[1]):
        for j in range(out.shape[2]):
            sums[:] = 0.0
            known = 0.0
            for m in range(per_side):
                down = (row_off + i + (m + 0.5) / per_side) / step
                node_i = math.floor(down)
                down -= node_i
                node_i -= first_row
                for n in range(per_side):
                    right = (col_off + j + (n + 0.5) / per_side) / step
                    node_j = math.floor(right)
                    right -= node_j
                    node_j -= first_col
                    # subtracted last: a whole number from a larger one is exact, so that
                    # no window rounds otherwise
                    row = _at(nodes[0], node_i, node_j, down, right) - source_row
                    col = _at(nodes[1], node_i, node_j, down, right) - source_col
                    # not a number, where a projection has no place for it, is outside, too
                    if not (0.0 <= row < height and 0.0 <= col < width):
                        continue
                    if points == 0:
                        r, c = int(row), int(col)
                        if valid[r, c]:
                            known = 1.0
                            for band in range(bands):
                                sums[band] = pixels[band, r, c]
                        continue
                    known += _bilinear(pixels, valid, row - 0.5, col - 0.5, sums)
            if known > 0.0 and known * 2.0 >= per_side * per_side:
                out_valid[i, j] = True
                for band in range(bands):
                    out[band, i, j] = sums[band] / known


@numba.njit(cache=True, nogil=True, inline="always")
def _at(nodes, i, j, down, right):  # type: ignore[no-untyped-def]  # compiled
    top = nodes[i, j] * (1.0 - right) + nodes[i, j + 1] * right
    low = nodes[i + 1, j] * (1.0 - right) + nodes[i + 1, j + 1] * right
    return top * (1.0 - down) + low * down


@numba.njit(cache=True, nogil=True, inline="always")
def _bilinear(pixels, valid, row, col, sums):  # type: ignore[no-untyped-def]  # compiled
    """Add a point's four pixels to ``sums``; returns the weight of the valid ones."""
    bands, height, width = pixels.shape
    top, left = math.floor(row), math.floor(col)
    known = 0.0
    for m in range(2):
        row_weight = row - top if m else 1.0 - (row - top)
        r = min(max(top + m, 0), height - 1)
        for n in range(2):
            weight = row_weight * (col - left if n else 1.0 - (col - left))
            c = min(max(left + n, 0), width - 1)
            if weight > 0.0 and valid[r, c]:
                known += weight
                for band in range(bands):
                    sums[band] += weight * pixels[band, r, c]
    return known
