"""Rings of lattice vertices to well-known binary, straight into an Arrow array."""

from __future__ import annotations

import itertools
import struct
from typing import Any

import numpy as np
import pyarrow as pa
from affine import Affine
from numpy.typing import NDArray

from geoseg.errors import GeosegError
from geoseg.vectorize.columns import PIECE_HEAD, PIECE_TAIL
from geoseg.vectorize.compiled import inlined, kernel
from geoseg.vectorize.intrinsics import load_i64, store_f64, store_u32
from geoseg.vectorize.rings import Rings

__all__ = ["wkb_array", "wkb_sizes"]

_POLYGON, _MULTIPOLYGON = 3, 6
_HEAD = 9  # byte order, type, count
_LARGEST = 2**31 - 1
_LARGE = 32 << 20


@kernel
def _sizes(count: Any, polygons: Any, groups: Any, out: Any) -> None:
    """Bytes of each group's geometry; see _write for the arguments."""
    order, bounds, multi = groups
    for g in range(bounds.size - 1):
        total = _HEAD if multi else 0
        for i in range(bounds[g], bounds[g + 1]):
            q = order[i]
            total += _HEAD
            first = polygons[q, PIECE_HEAD]
            for r in range(first, first + polygons[q, PIECE_TAIL]):
                total += 4 + 16 * (count[r] + 1)
        out[g] = total


@inlined
def _write_ring(first: int, n: int, at: int, t: Any, reverse: bool) -> int:
    """Write one closed ring to an address; returns the address behind it."""
    store_u32(at, np.uint32(n + 1))
    at += 4
    both = load_i64(first)
    # the first vertex begins and ends the ring
    x, y = np.float64(both & 0xFFFFFFFF), np.float64(both >> 34)
    x0, y0 = t[0] * x + t[1] * y + t[2], t[3] * x + t[4] * y + t[5]
    store_f64(at, x0)
    store_f64(at + 8, y0)
    at += 16
    from_, step = first + 8, 8
    if reverse:
        from_, step = first + 8 * (n - 1), -8
    for _ in range(n - 1):
        both = load_i64(from_)
        x, y = np.float64(both & 0xFFFFFFFF), np.float64(both >> 34)
        store_f64(at, t[0] * x + t[1] * y + t[2])
        store_f64(at + 8, t[3] * x + t[4] * y + t[5])
        from_ += step
        at += 16
    store_f64(at, x0)
    store_f64(at + 8, y0)
    return at + 16


@kernel
def _write_rings(rings: Any, first: int, last: int, place: Any) -> int:
    """Write rings ``first`` to ``last``; arguments as of _write."""
    at, transform, reverse = place
    address, count = rings
    for r in range(first, last):
        at = _write_ring(address[r], count[r], at, transform, reverse)
    return at


@kernel
def _write(rings: Any, polygons: Any, groups: Any, place: Any) -> None:
    """Write geometries behind each other.

    Args:
        rings: (address, count) per ring; vertices are int32 x and ``y << 2``.
        polygons: PIECE_HEAD and PIECE_TAIL, first ring and number of rings.
        groups: (order: polygons, bounds: where each geometry begins in order, multi).
        place: (address to write to, transform as a tuple of six, reverse rings).

    """
    address, count = rings
    order, bounds, multi = groups
    at, t, reverse = place
    one = np.uint32(1)
    for g in range(bounds.size - 1):
        if multi:
            store_u32(at, one)  # little endian: the byte 1; the three zeros are overwritten
            store_u32(at + 1, np.uint32(_MULTIPOLYGON))
            store_u32(at + 5, np.uint32(bounds[g + 1] - bounds[g]))
            at += _HEAD
        for i in range(bounds[g], bounds[g + 1]):
            q = order[i]
            first, n_rings = polygons[q, PIECE_HEAD], polygons[q, PIECE_TAIL]
            store_u32(at, one)
            store_u32(at + 1, np.uint32(_POLYGON))
            store_u32(at + 5, np.uint32(n_rings))
            at += _HEAD
            for r in range(first, first + n_rings):
                at = _write_ring(address[r], count[r], at, t, reverse)


def wkb_sizes(
    rings: Rings, order: NDArray[np.int64], bounds: NDArray[np.int64], multi: bool
) -> NDArray[np.int64]:
    """Bytes of each geometry, MultiPolygons or, one polygon each, Polygons; see ``wkb_array``."""
    sizes = np.empty(len(bounds) - 1, np.int64)
    _sizes(rings.count, rings.table, (order, bounds, multi), sizes)
    return sizes


def _write_large(rings: Rings, q: int, data: NDArray[np.uint8], how: Any) -> None:
    """Write one huge polygon piece by piece, letting go of what was read in between."""
    multi, transform, reverse = how
    first, n_rings = (int(v) for v in rings.table[q, [PIECE_HEAD, PIECE_TAIL]])
    head = struct.pack("<BII", 1, _POLYGON, n_rings)
    if multi:
        head = struct.pack("<BII", 1, _MULTIPOLYGON, 1) + head
    data[: len(head)] = np.frombuffer(head, np.uint8)
    at, last = data.ctypes.data + len(head), first + n_rings
    vertices = np.cumsum(rings.count[first:last]) // (_LARGE // 16)
    edges = [*(first + np.flatnonzero(np.diff(vertices, prepend=-1))).tolist(), last]
    for start, end in itertools.pairwise(edges):
        at = _write_rings((rings.address, rings.count), start, end, (at, transform, reverse))
        rings.release()


def wkb_array(
    rings: Rings,
    order: NDArray[np.int64],
    transform: Affine,
    bounds: NDArray[np.int64] | None,
    sizes: NDArray[np.int64],
) -> pa.BinaryArray:
    """Geometries as WKB: Polygons, or MultiPolygons when ``bounds`` says which belong together.

    Outer rings run counterclockwise in the coordinates of ``transform``, holes clockwise.

    Args:
        rings: in pixel coordinates.
        order: polygons to write, in this order.
        transform: pixel to CRS.
        bounds: where each MultiPolygon begins in ``order``, and its end.
        sizes: their bytes, see ``wkb_sizes``.

    Raises:
        GeosegError: the geometries take more than 2 GiB, the most one array can hold.

    """
    multi = bounds is not None
    if bounds is None:
        bounds = np.arange(len(order) + 1)
    groups = (order, bounds, multi)
    total = int(sizes.sum())
    if total > _LARGEST:
        raise GeosegError(
            f"a polygon takes {int(sizes.max()) / 2**30:.1f} GiB: file formats hold at most 2; "
            "dice it with max_vertices, or leave the background out as nodata"
        )
    offsets = np.zeros(len(bounds), np.int32)
    np.cumsum(sizes, out=offsets[1:])
    data = np.empty(max(total, 1), np.uint8)
    coefficients = tuple(float(v) for v in transform[:6])
    place = (data.ctypes.data, coefficients, transform.determinant < 0)
    if total > _LARGE and len(sizes) == 1 and len(order) == 1:
        _write_large(rings, int(order[0]), data, (multi, coefficients, place[2]))
    else:
        _write((rings.address, rings.count), rings.table, groups, place)
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(data[:total])]
    return pa.Array.from_buffers(pa.binary(), len(sizes), buffers)
