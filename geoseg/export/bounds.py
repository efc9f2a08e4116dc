"""Types and bounding boxes of geometries in well-known binary, read off the bytes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numba import njit
from numpy.typing import NDArray

__all__ = ["bounds_of", "types_of"]

_TYPED = 5  # byte order, type
_HEAD = 9  # byte order, type, number of parts or rings
_POLYGON, _MULTIPOLYGON = 3, 6


def bounds_of(wkb: pa.BinaryArray | pa.LargeBinaryArray) -> NDArray[np.float64]:
    """(row, 4) least x and y, greatest x and y; NaN where there is no geometry or an empty one.

    Polygons of two dimensions are read off the outlines in the bytes themselves, all others by
    shapely.
    """
    bounds = np.full((len(wkb), 4), np.nan)
    ends = _ends(wkb)
    known = _missing(wkb)
    data = _bytes(wkb)
    _read_outlines(data, _anywhere(data, "<u4"), _anywhere(data, "<f8"), ends, known, bounds)
    if not known.all():
        import shapely

        others = wkb.filter(pa.array(~known)).to_numpy(zero_copy_only=False)
        bounds[~known] = shapely.bounds(shapely.from_wkb(others))
    return bounds


def types_of(wkb: pa.BinaryArray | pa.LargeBinaryArray) -> NDArray[np.uint32]:
    """(row,) the type of each little-endian geometry, 3 for a Polygon; 0 where there is none."""
    ends = _ends(wkb)
    there = ~_missing(wkb) & (np.diff(ends) >= _TYPED)
    starts = ends[:-1][there] + 1
    types = np.zeros(len(wkb), "<u4")
    types[there] = _bytes(wkb)[starts[:, None] + np.arange(4)].view("<u4")[:, 0]
    return types


def _ends(wkb: pa.Array) -> NDArray[Any]:
    """Where rows begin and end in the bytes."""
    kind = np.int64 if pa.types.is_large_binary(wkb.type) else np.int32
    return np.frombuffer(wkb.buffers()[1], kind)[wkb.offset : wkb.offset + len(wkb) + 1]


def _missing(wkb: pa.Array) -> NDArray[np.bool_]:
    """Rows without a geometry; ``wkb.is_null()`` would import pandas on its way to numpy."""
    valid = wkb.buffers()[0]
    if valid is None:
        return np.zeros(len(wkb), bool)
    bits = np.unpackbits(np.frombuffer(valid, np.uint8), bitorder="little")
    return bits[wkb.offset : wkb.offset + len(wkb)] == 0


def _bytes(wkb: pa.Array) -> NDArray[np.uint8]:
    data = wkb.buffers()[2]
    return np.frombuffer(data if data is not None else b"", np.uint8)


def _anywhere(data: NDArray[np.uint8], kind: str) -> NDArray[np.generic]:
    """What stands at every byte: values of a kind that overlap."""
    size = np.dtype(kind).itemsize
    return np.ndarray((max(len(data) - size + 1, 0),), kind, data, 0, (1,))


@njit(nogil=True, cache=True)
def _read_outlines(data: Any, numbers: Any, values: Any, ends: Any, known: Any, out: Any) -> None:
    """Fill the bounds of rows that are polygons and mark them as known; others are left alone.

    ``numbers`` and ``values`` are what _anywhere makes of ``data``; ``ends`` is where rows begin
    and end in it.
    """
    for row in range(len(known)):
        if known[row]:
            continue
        at, end = np.int64(ends[row]), np.int64(ends[row + 1])
        parts: Any = 1
        if end - at >= _HEAD and data[at] == 1 and numbers[at + 1] == _MULTIPOLYGON:
            parts = np.int64(numbers[at + 5])
            at += _HEAD
        west, south, east, north = np.inf, np.inf, -np.inf, -np.inf
        whole: Any = True
        for _ in range(parts):
            whole = end - at >= _HEAD and data[at] == 1 and numbers[at + 1] == _POLYGON
            if not whole:
                break
            rings = np.int64(numbers[at + 5])
            at += _HEAD
            for ring in range(rings):
                whole = end - at >= 4 and end - at - 4 >= 16 * np.int64(numbers[at])
                if not whole:
                    break
                count = np.int64(numbers[at])
                at += 4
                if ring == 0:
                    for point in range(at, at + 16 * count, 16):
                        x, y = values[point], values[point + 8]
                        west, south = min(west, x), min(south, y)
                        east, north = max(east, x), max(north, y)
                at += 16 * count
            if not whole:
                break
        if whole and at == end:
            known[row] = True
            if west <= east:
                out[row, 0], out[row, 1], out[row, 2], out[row, 3] = west, south, east, north
