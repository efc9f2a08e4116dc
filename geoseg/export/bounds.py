"""Bounding boxes of geometries in well-known binary, for formats that keep one per row."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

__all__ = ["bounds_of"]

_ROWS = 4096
"""Looked at together: shapely's geometries are several times as large as their WKB."""
_POINTS = 1 << 16
"""Outlines of more points are looked at alone, where they lie."""
_HEAD = 9  # byte order, type, number of parts or rings
_POLYGON, _MULTIPOLYGON = 3, 6


def bounds_of(wkb: pa.BinaryArray | pa.LargeBinaryArray) -> NDArray[np.float64]:
    """(row, 4) least x and y, greatest x and y; NaN where there is no geometry or an empty one.

    Polygons of one part are read off the outline in the bytes themselves, all others by shapely.
    """
    bounds = np.full((len(wkb), 4), np.nan)
    for start in range(0, len(wkb), _ROWS):
        some = wkb.slice(start, _ROWS)
        out = bounds[start : start + len(some)]
        rows, first, count = _outlines(some)
        _read_outlines(some, (rows, first, count), out)
        other = np.ones(len(some), bool)
        other[rows] = False
        if other.any():
            import shapely

            others = some.filter(pa.array(other)).to_numpy(zero_copy_only=False)
            out[other] = shapely.bounds(shapely.from_wkb(others))
    return bounds


def _bytes(wkb: pa.Array) -> NDArray[np.uint8]:
    data = wkb.buffers()[2]
    return np.frombuffer(data if data is not None else b"", np.uint8)


def _outlines(wkb: pa.Array) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Rows that are polygons of one part, byte of their outline's first point, number of points."""
    kind = np.int64 if pa.types.is_large_binary(wkb.type) else np.int32
    ends = np.frombuffer(wkb.buffers()[1], kind)[wkb.offset : wkb.offset + len(wkb) + 1]
    ends = ends.astype(np.int64)
    data = _bytes(wkb)
    numbers = _anywhere(data, "<u4")
    rows = np.flatnonzero((np.diff(ends) >= 2 * _HEAD + 4) & np.asarray(wkb.is_valid()))
    rows = rows[data[ends[rows]] == 1]
    at = ends[rows]
    multi = numbers[at + 1] == _MULTIPOLYGON
    at = at + np.where(multi, _HEAD, 0)  # of the part
    fit = (numbers[at + 1] == _POLYGON) & (data[at] == 1) & (numbers[at + 5] > 0)
    fit &= ~multi | (numbers[ends[rows] + 5] == 1)
    rows, at = rows[fit], at[fit]
    count = numbers[at + _HEAD].astype(np.int64)
    at = at + _HEAD + 4
    whole = (count > 0) & (at + 16 * count <= ends[rows + 1])
    return rows[whole], at[whole], count[whole]


def _anywhere(data: NDArray[np.uint8], kind: str) -> NDArray[np.generic]:
    """What stands at every byte: values of a kind that overlap."""
    size = np.dtype(kind).itemsize
    return np.ndarray((max(len(data) - size + 1, 0),), kind, data, 0, (1,))


def _read_outlines(
    wkb: pa.Array,
    outlines: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]],
    out: NDArray[np.float64],
) -> None:
    """Fill the bounds of the rows that _outlines gives."""
    data = _bytes(wkb)
    rows, first, count = outlines
    for i in np.flatnonzero(count > _POINTS):
        points: NDArray[np.float64] = np.ndarray((count[i], 2), "<f8", data, int(first[i]))
        out[rows[i]] = *points.min(0), *points.max(0)
    small = count <= _POINTS
    rows, first, count = rows[small], first[small], count[small]
    if not len(rows):
        return
    begin = np.cumsum(count) - count
    place = np.repeat(first - 16 * begin, count) + 16 * np.arange(count.sum())
    values = _anywhere(data, "<f8")
    for axis in (0, 1):
        along = values[place + 8 * axis]
        out[rows, axis] = np.minimum.reduceat(along, begin)
        out[rows, axis + 2] = np.maximum.reduceat(along, begin)
