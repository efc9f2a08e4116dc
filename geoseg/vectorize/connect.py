"""Connectivity 8: regions that touch at a corner become one row, a valid MultiPolygon.

Tracing is always 4-connected; every corner where two equal pixels touch only there is marked,
and met exactly twice. A row is finished when all its marks have been met twice.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoseg.vectorize import columns as col
from geoseg.vectorize.columns import PIECE_HEAD, PIECE_TAIL
from geoseg.vectorize.compiled import kernel
from geoseg.vectorize.intrinsics import load_i64
from geoseg.vectorize.rings import Polygons, Rings
from geoseg.vectorize.table import Group

__all__ = ["CornerGroups"]

_TOUCHING = 2


@kernel
def _touches(address: Any, count: Any, polygons: Any, out: Any) -> int:
    """Write (key of vertex and diagonal, polygon) per mark; counts only when ``out`` is empty."""
    n = 0
    for q in range(polygons.shape[0]):
        first = polygons[q, PIECE_HEAD]
        for r in range(first, first + polygons[q, PIECE_TAIL]):
            before = load_i64(address[r] + 8 * (count[r] - 1))
            for v in range(count[r]):
                both = load_i64(address[r] + 8 * v)
                if (both >> 32) & _TOUCHING:
                    if out.shape[0]:
                        x, y = both & 0xFFFFFFFF, both >> 34
                        # upper left and lower right pixels are reached along a column
                        diagonal = x == (before & 0xFFFFFFFF)
                        out[n, 0] = (y << 32) | (x << 1) | diagonal
                        out[n, 1] = q
                    n += 1
                before = both
    return n


@kernel
def _copy(address: Any, count: Any, xy: Any) -> None:
    """Copy rings behind each other."""
    at = 0
    for r in range(address.size):
        for v in range(count[r]):
            both = load_i64(address[r] + 8 * v)
            xy[at, 0], xy[at, 1] = both & 0xFFFFFFFF, both >> 32
            at += 1


def select(rings: Rings, which: NDArray[np.int64]) -> Polygons:
    """Some polygons with their own copy of the coordinates."""
    table = rings.table[which]
    sizes = table[:, col.PIECE_TAIL]
    ends = np.cumsum(sizes)
    shift = np.repeat(table[:, col.PIECE_HEAD] - (ends - sizes), sizes)
    chosen = np.arange(int(sizes.sum())) + shift
    count = rings.count[chosen]
    xy = np.empty((int(count.sum()), 2), np.int32)
    _copy(rings.address[chosen], count, xy)
    table[:, col.PIECE_HEAD] = ends - sizes
    return Polygons(xy, np.cumsum(count) - count, count, table)


class CornerGroups:
    """Gathers polygons of a scan into rows; keeps those whose row isn't finished."""

    def __init__(self) -> None:
        self._waiting: Polygons | None = None
        self._group = np.empty(0, np.int64)  # of each waiting polygon
        self._marks = np.empty((0, 2), np.int64)  # key, waiting polygon

    def add(self, rings: Rings) -> Group:
        """The rows that the next finished polygons complete, by their lowest right vertex."""
        old = len(self._group)
        if self._waiting is not None:
            rings = Rings.of(self._waiting, *rings.parts)
        fresh = rings.table[old:]
        marks = np.empty(
            (_touches(rings.address, rings.count, fresh, self._marks[:0]), 2), np.int64
        )
        if len(marks):
            _touches(rings.address, rings.count, fresh, marks)
        marks[:, 1] += old
        marks = np.concatenate([self._marks, marks])
        marks = marks[np.argsort(marks[:, 0], kind="stable")]
        twice = np.flatnonzero(marks[1:, 0] == marks[:-1, 0])
        n = len(rings)
        # polygons of one old group stay together through their first member
        links = np.concatenate([marks[twice, 1], np.arange(old)])
        other = np.concatenate([marks[twice + 1, 1], self._group])
        from scipy.sparse import coo_array  # half a second to import
        from scipy.sparse.csgraph import connected_components

        graph = coo_array((np.ones(len(links), np.int8), (links, other)), shape=(n, n))
        _, group = connected_components(graph, directed=False)
        met = np.zeros(len(marks), bool)
        met[twice] = met[twice + 1] = True
        marks = marks[~met]
        waits = np.isin(group, group[marks[:, 1]])
        answer = self._rows(rings, group, np.flatnonzero(~waits))
        self._keep(rings, group, np.flatnonzero(waits), marks)
        return answer

    @staticmethod
    def _rows(rings: Rings, group: NDArray[Any], done: NDArray[np.int64]) -> Group:
        keys = rings.table[done, col.MAXKEY]
        last = np.full(int(group.max(initial=-1)) + 1, -1, np.int64)
        np.maximum.at(last, group[done], keys)
        order = done[np.lexsort((keys, last[group[done]]))]
        starts = np.flatnonzero(np.diff(group[order], prepend=-1))
        return Group(rings, order, np.append(starts, len(order)))

    def _keep(
        self, rings: Rings, group: NDArray[Any], which: NDArray[np.int64], marks: NDArray[Any]
    ) -> None:
        self._waiting = select(rings, which) if len(which) else None
        _, first, inverse = np.unique(group[which], return_index=True, return_inverse=True)
        self._group = first[inverse] if len(which) else np.empty(0, np.int64)
        place = np.empty(len(rings), np.int64)
        place[which] = np.arange(len(which))
        self._marks = np.stack([marks[:, 0], place[marks[:, 1]]], axis=1)
