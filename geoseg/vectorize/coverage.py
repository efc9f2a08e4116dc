"""Whole coverages, simplified: kept on disk when they are large, the same for any tiling."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from geoseg.vectorize import columns as col
from geoseg.vectorize.arcs import build_set, keep_vertices
from geoseg.vectorize.connect import select
from geoseg.vectorize.rings import Polygons, Rings
from geoseg.vectorize.spill import Growing

__all__ = ["Coverage"]

_CHUNK_VERTICES = 1 << 20
_ROUNDS = 64


class Coverage:
    """All polygons of a raster with shared vertices, nodata regions included."""

    def __init__(self, shape: tuple[int, int], spill_bytes: int | None) -> None:
        self._shape = shape
        self._xy = Growing(2, np.int32, spill_bytes)
        self._rings = Growing(2, np.int64, spill_bytes)
        self._table = Growing(col.POLYGON_WIDTH, np.int64, spill_bytes)
        self._keep = Growing(1, np.uint8, spill_bytes)

    def extend(self, parts: Iterable[Rings]) -> None:
        """Take the polygons that a scan finishes, strip by strip."""
        for rings in parts:
            some = select(rings, rings.in_order())
            table = some.table
            table[:, col.PIECE_HEAD] += len(self._rings)
            self._rings.extend(np.stack([some.start + len(self._xy), some.count], axis=1))
            self._table.extend(table)
            self._xy.extend(some.xy)
            self._release()

    def simplify(self, tolerance: tuple[float, float]) -> None:
        """Choose vertices; ``tolerance`` in pixels along x and along y.

        Rounds end when no polygon finds a chord wrong that another has not split already.
        """
        self._keep.resize(len(self._xy))
        known = build_set(np.empty(0, np.int64))
        fresh = touched = known
        keys: list[NDArray[np.int64]] = []
        for turn in range(_ROUNDS):
            scale = 1 / tolerance[0], 1 / tolerance[1]
            how = (self._shape, *scale, known, fresh, touched, int(turn == 0))
            found = np.concatenate([self._round(*chunk, how) for chunk in self._chunks()])
            if not len(found):
                return
            keys.append(np.ascontiguousarray(found[:, 0]))
            known, fresh = build_set(np.concatenate(keys)), build_set(keys[-1])
            touched = build_set(np.ascontiguousarray(found[:, 1]))
        raise AssertionError("simplifying did not come to an end")

    def _round(self, start: int, end: int, how: object) -> NDArray[np.int64]:
        rings = self._rings.data
        found: NDArray[np.int64] = keep_vertices(
            self._xy.data,
            (np.ascontiguousarray(rings[:, 0]), np.ascontiguousarray(rings[:, 1])),
            self._table.data[start:end],
            how,
            self._keep.data[:, 0],
        )
        self._release()
        return found

    def polygons(self) -> Iterator[Polygons]:
        """The polygons with the vertices that were kept, chunk by chunk, in order."""
        for start, end in self._chunks():
            table = self._table.data[start:end].copy()
            ring_start, ring_end = table[0, col.PIECE_HEAD], table[-1, col.PIECE_HEAD]
            ring_end += table[-1, col.PIECE_TAIL]
            rings = self._rings.data[ring_start:ring_end]
            low, high = rings[0, 0], rings[-1].sum()
            kept = self._keep.data[low:high, 0].astype(bool)
            count = np.add.reduceat(kept, rings[:, 0] - low, dtype=np.int64)
            table[:, col.PIECE_HEAD] -= ring_start
            yield Polygons(self._xy.data[low:high][kept], np.cumsum(count) - count, count, table)
            self._release()

    def _chunks(self) -> Iterator[tuple[int, int]]:
        """Ranges of polygons of about a million vertices."""
        table, rings = self._table.data, self._rings.data
        if not len(table):
            return
        first = rings[table[:, col.PIECE_HEAD], 0] // _CHUNK_VERTICES
        edges = [*np.flatnonzero(np.diff(first, prepend=-1)).tolist(), len(table)]
        yield from itertools.pairwise(edges)

    def _release(self) -> None:
        for table in (self._xy, self._rings, self._table, self._keep):
            table.release()
