"""Polygons with too many vertices, cut along lines of the pixel grid.

A background that spans the scene is one polygon, which no GIS enjoys. It is drawn again, band
by band and cell by cell, and traced; cells halve until their pieces are small enough. Cuts lie
on multiples of powers of two of the scene's grid, so they don't depend on anything else.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoseg.grid import Window
from geoseg.vectorize import columns as col
from geoseg.vectorize.compiled import kernel
from geoseg.vectorize.intrinsics import load_i64
from geoseg.vectorize.merge import Tile, trace_tiles
from geoseg.vectorize.rings import Polygons, Rings
from geoseg.vectorize.table import Group

__all__ = ["diced"]

_CELL = 2048
_LEAST = 4


@kernel
def _vertices(count: Any, polygons: Any, out: Any) -> None:
    """Number of vertices of each polygon."""
    for q in range(polygons.shape[0]):
        first = polygons[q, col.PIECE_HEAD]
        out[q] = 0
        for r in range(first, first + polygons[q, col.PIECE_TAIL]):
            out[q] += count[r]


@kernel
def _band_edges(address: Any, count: Any, rows: Any, out: Any) -> int:
    """Vertical edges of rings within some rows as (x, first row, end); counts without ``out``."""
    top, end = rows
    m = 0
    for r in range(address.size):
        both = load_i64(address[r] + 8 * (count[r] - 1))
        px, py = both & 0xFFFFFFFF, both >> 34
        for v in range(count[r]):
            both = load_i64(address[r] + 8 * v)
            x, y = both & 0xFFFFFFFF, both >> 34
            if x == px:
                low, high = max(min(y, py), top), min(max(y, py), end)
                if low < high:
                    if out.shape[0]:
                        out[m, 0], out[m, 1], out[m, 2] = x, low, high
                    m += 1
            px, py = x, y
    return m


@kernel
def _fill(edges: Any, origin: Any, inside: Any, mask: Any) -> None:
    """Draw a cell: toggle at every edge, then run from the left; ``inside`` ends at its right."""
    top, left = origin
    for i in range(edges.shape[0]):
        for y in range(edges[i, 1], edges[i, 2]):
            mask[y - top, edges[i, 0] - left] ^= 1
    for y in range(mask.shape[0]):
        now = inside[y]
        for x in range(mask.shape[1]):
            now ^= mask[y, x]
            mask[y, x] = now
        inside[y] = now


@dataclass(frozen=True)
class _Cutter:
    most: int

    def pieces(self, mask: NDArray[np.uint8], window: Window) -> Iterator[Polygons]:
        """Trace a cell, in quarters where a piece is still too large."""
        if not mask.any():
            return
        framed = np.pad(mask, 1)
        lattice = Window(window.row_off, window.col_off, window.height + 1, window.width + 1)
        found, _ = trace_tiles([[Tile(lattice, framed, 0)]])
        sizes = np.empty(len(found), np.int64)
        _vertices(found.count, found.table, sizes)
        if sizes.max() <= self.most or max(window.shape) <= _LEAST:
            yield found
            return
        half = 1 << (max(window.shape) - 1).bit_length() - 1
        for row in range(0, window.height, half):
            for at in range(0, window.width, half):
                part = mask[row : row + half, at : at + half]
                yield from self.pieces(
                    part, Window(window.row_off + row, window.col_off + at, *part.shape)
                )


def _cut(rings: Rings, q: int, most: int) -> Polygons:
    """The pieces of one polygon, by their lower right vertex."""
    row = rings.table[q]
    ours = slice(int(row[col.PIECE_HEAD]), int(row[col.PIECE_HEAD] + row[col.PIECE_TAIL]))
    address, count = rings.address[ours], rings.count[ours]
    top, bottom = int(row[col.MINKEY] >> 32), int(row[col.MAXKEY] >> 32)
    left, right = int(row[col.XMIN]), int(row[col.XMAX])
    parts: list[Polygons] = []
    nothing = np.empty((0, 3), np.int64)
    for start in range(top // _CELL * _CELL, bottom, _CELL):
        rows = (max(start, top), min(start + _CELL, bottom))
        edges = np.empty((_band_edges(address, count, rows, nothing), 3), np.int64)
        _band_edges(address, count, rows, edges)
        rings.release()
        edges = edges[np.argsort(edges[:, 0], kind="stable")]
        inside = np.zeros(rows[1] - rows[0], np.uint8)
        for cell in range(left // _CELL * _CELL, right, _CELL):
            cols = (max(cell, left), min(cell + _CELL, right))
            first, last = np.searchsorted(edges[:, 0], cols)
            mask = np.zeros((rows[1] - rows[0], cols[1] - cols[0]), np.uint8)
            _fill(edges[first:last], (rows[0], cols[0]), inside, mask)
            parts += _Cutter(most).pieces(mask, Window(rows[0], cols[0], *mask.shape))
    cut = Polygons.concatenate(parts)
    table = cut.table[np.argsort(cut.table[:, col.MAXKEY])]
    for column in (col.LABEL, col.SCORES, col.SCORED):
        table[:, column] = row[column]
    return replace(cut, table=table)


def diced(group: Group, most: int) -> Group:
    """The group with polygons of more than ``most`` vertices in pieces, in their place.

    Pieces have the label and the mean score of the whole. Cuts add vertices that neighbours
    don't have.
    """
    rings = group.rings
    sizes = np.empty(len(rings), np.int64)
    _vertices(rings.count, rings.table, sizes)
    large = np.flatnonzero(sizes[group.order] > most)
    if not len(large):
        return group
    cut = [_cut(rings, int(q), most) for q in group.order[large]]
    base: Any = len(rings)
    order: list[NDArray[np.int64]] = []
    before: Any = 0
    for at, pieces in zip(large, cut, strict=True):
        order += [group.order[before:at], base + np.arange(len(pieces))]
        base += len(pieces)
        before = at + 1
    order.append(group.order[before:])
    return Group(rings.followed_by(cut), np.concatenate(order))
