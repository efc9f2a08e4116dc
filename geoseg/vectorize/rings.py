"""Finished polygons: rings of lattice vertices, and where they lie in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geoseg.vectorize import columns as col

__all__ = ["Polygons", "Rings", "Table"]

Table = NDArray[np.int64]


@dataclass(frozen=True)
class Polygons:
    """Finished polygons as rings of lattice vertices.

    Attributes:
        xy: int32 (n, 2): x and ``y << 2 | touching << 1 | node``.
        start: first vertex of each ring.
        count: its number of vertices; the first is not repeated. The outer ring of a polygon
            comes first, holes follow by lower right vertex; each starts there.
        table: (polygons, POLYGON_WIDTH), columns as in columns.py.

    """

    xy: NDArray[np.int32]
    start: Table
    count: Table
    table: Table

    def __len__(self) -> int:
        return len(self.table)

    @classmethod
    def concatenate(cls, parts: Sequence[Polygons]) -> Polygons:
        """All of them, in the given order."""
        if len(parts) == 1:
            return parts[0]
        tables, starts, n_xy, n_rings = [], [], 0, 0
        for part in parts:
            table = part.table.copy()
            table[:, col.PIECE_HEAD] += n_rings
            tables.append(table)
            starts.append(part.start + n_xy)
            n_xy += len(part.xy)
            n_rings += len(part.start)
        return cls(
            np.concatenate([np.empty((0, 2), np.int32), *(p.xy for p in parts)]),
            np.concatenate([np.empty(0, np.int64), *starts]),
            np.concatenate([np.empty(0, np.int64), *(p.count for p in parts)]),
            np.concatenate([np.empty((0, col.POLYGON_WIDTH), np.int64), *tables]),
        )


def _nothing() -> None:
    """There is nothing to let go of."""


@dataclass(frozen=True)
class Rings:
    """Polygons of several parts, their coordinates left where they are.

    Attributes:
        address: of each ring's first vertex in memory.
        count: its number of vertices.
        table: as in Polygons.
        parts: keeps the memory.
        release: lets go of memory that can be read again from a file.

    """

    address: Table
    count: Table
    table: Table
    parts: tuple[Polygons, ...]
    release: Callable[[], None] = _nothing

    @classmethod
    def of(cls, *parts: Polygons) -> Rings:
        """All polygons of the parts, in the given order."""
        table = np.empty((sum(map(len, parts)), col.POLYGON_WIDTH), np.int64)
        address = np.empty(sum(len(part.start) for part in parts), np.int64)
        m = n_rings = 0
        for part in parts:
            some = table[m : m + len(part)]
            some[:] = part.table
            some[:, col.PIECE_HEAD] += n_rings
            m += len(part)
            some = address[n_rings : n_rings + len(part.start)]
            np.multiply(part.start, 8, out=some)
            some += part.xy.ctypes.data
            n_rings += len(part.start)
        return cls(address, np.concatenate([part.count for part in parts]), table, parts)

    def __len__(self) -> int:
        return len(self.table)

    def followed_by(self, more: Sequence[Polygons]) -> Rings:
        """These and more polygons."""
        others = Rings.of(*more)
        table = others.table
        table[:, col.PIECE_HEAD] += len(self.address)
        return Rings(
            np.concatenate([self.address, others.address]),
            np.concatenate([self.count, others.count]),
            np.concatenate([self.table, table]),
            (*self.parts, *others.parts),
            self.release,
        )

    def without(self, label: int) -> Rings:
        """Without the polygons of a label."""
        kept = self.table[:, col.LABEL] != label
        return Rings(self.address, self.count, self.table[kept], self.parts, self.release)

    def in_order(self) -> NDArray[np.int64]:
        """Indices that sort by lower right vertex: the order in which a scan finishes them."""
        return np.argsort(self.table[:, col.MAXKEY], kind="stable")
