"""Nodes of blocks (local components) linked to nodes of the whole scene.

Each block labels its own pixels 1..n; its frame holds the labels along its four sides.
Labels that touch across a border are one node. Numbers follow the first pixel in raster
order, so they don't depend on the blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoseg.grid import Block, BlockGrid
from geoseg.models.segmenter import Arrays

__all__ = ["Crossing", "Nodes", "first_pixels", "numbered_by_first", "ring", "roots"]

IntArray = NDArray[np.int64]
Alike = Callable[[NDArray[Any], NDArray[Any]], NDArray[np.bool_]]
_SIDES = ("top", "bottom", "left", "right")


def ring(name: str, array: NDArray[Any]) -> Arrays:
    """The four sides of a block's array (..., row, col), for its frame."""
    sides = (array[..., 0, :], array[..., -1, :], array[..., :, 0], array[..., :, -1])
    return {f"{name}_{side}": np.ascontiguousarray(a) for side, a in zip(_SIDES, sides)}


def first_pixels(labels: NDArray[Any], block: Block, scene_width: int, count: int) -> IntArray:
    """First pixel of labels 1..count in raster order over the scene, (count,)."""
    window = block.window
    flat = labels.reshape(-1)
    found, place = np.unique(flat, return_index=True)
    row, col = np.divmod(place, window.width)
    index = (row + window.row_off) * scene_width + col + window.col_off
    out = np.full(count + 1, np.iinfo(np.int64).max)
    out[found] = index
    return out[1:]


@dataclass(frozen=True, slots=True)
class Crossing:
    """Pixels that meet across borders: node and value on either side, and where.

    ``a``, ``b`` (pair,) global nodes; ``value_a``, ``value_b`` (..., pair) or None; ``row``,
    ``col`` (pair,) of the upper or left side's pixel; ``down``: the other side lies below,
    not right; ``shift``: how far the other pixel is further along it.
    """

    a: IntArray
    b: IntArray
    value_a: NDArray[Any] | None
    value_b: NDArray[Any] | None
    row: IntArray
    col: IntArray
    down: bool
    shift: int


@dataclass
class Nodes:
    """All nodes of all blocks in one numbering from 0.

    ``offsets`` are per block number: global node = offset + label - 1. ``frames`` hold
    ``label_*`` rings and ``first``, and what else a method adds.
    """

    grid: BlockGrid
    frames: dict[tuple[int, int], Arrays]
    offsets: dict[tuple[int, int], int]
    count: int

    @classmethod
    def of(cls, frames: Iterable[tuple[Block, Arrays]], grid: BlockGrid) -> Nodes:
        """From the frames of all blocks in raster order."""
        held: dict[tuple[int, int], Arrays] = {}
        offsets: dict[tuple[int, int], int] = {}
        total = 0
        for block, frame in frames:
            held[block.index], offsets[block.index] = frame, total
            total += len(frame["first"])
        return cls(grid, held, offsets, total)

    def crossings(self, *, diagonal: bool = False) -> Iterator[Crossing]:
        """What meets across the borders of blocks, by sides; ``diagonal``: by corners too."""
        shifts = (-1, 0, 1) if diagonal else (0,)
        rows, cols = self.grid.counts
        for row in range(rows):
            for col in range(cols - 1):
                left, right = self._side((row, col), "right"), self._side((row, col + 1), "left")
                if left is not None and right is not None:
                    yield from (left.meet(right, shift, down=False) for shift in shifts)
            upper, lower = self._row(row, "bottom"), self._row(row + 1, "top")
            if upper is not None and lower is not None:
                yield from (upper.meet(lower, shift, down=True) for shift in shifts)

    def pairs(self, *, diagonal: bool = False, alike: Alike | None = None) -> IntArray:
        """Nodes (pair, 2) that touch; ``alike`` of both values says which pixels really do."""
        out = [np.empty((0, 2), np.int64)]
        for crossing in self.crossings(diagonal=diagonal):
            pair = np.stack([crossing.a, crossing.b], 1)
            if alike and crossing.value_a is not None and crossing.value_b is not None:
                pair = pair[alike(crossing.value_a, crossing.value_b)]
            out.append(np.unique(pair, axis=0))
        return np.concatenate(out)

    def _side(self, index: tuple[int, int], side: str) -> _Side | None:
        if index not in self.frames:
            return None
        frame, window = self.frames[index], self.grid.window(*index)
        labels = frame[f"label_{side}"].astype(np.int64)
        labels = np.where(labels > 0, labels + self.offsets[index], 0)
        row = np.arange(window.row_off, window.row_end)
        col = np.arange(window.col_off, window.col_end)
        if side in ("top", "bottom"):
            row = np.full(window.width, row[0 if side == "top" else -1])
        else:
            col = np.full(window.height, col[0 if side == "left" else -1])
        return _Side(labels, frame.get(f"value_{side}"), row, col)

    def _row(self, row: int, side: str) -> _Side | None:
        """One side of a whole row of blocks; absent blocks are unlabelled."""
        rows, cols = self.grid.counts
        sides = [self._side((row, col), side) for col in range(cols)] if row < rows else []
        some = next((s for s in sides if s is not None), None)
        if some is None:
            return None
        filled = [s or some.blank(self.grid.window(row, col).width) for col, s in enumerate(sides)]
        values = [s.values for s in filled if s.values is not None]
        return _Side(
            np.concatenate([s.labels for s in filled]),
            np.concatenate(values, axis=-1) if values else None,
            np.concatenate([s.row for s in filled]),
            np.concatenate([s.col for s in filled]),
        )

    def gather(self, name: str) -> NDArray[Any]:
        """One array over all nodes from what each frame holds of its own."""
        parts = [frame[name] for frame in self.frames.values()]
        return np.concatenate(parts) if parts else np.empty(0, np.int64)

    def inner(self, name: str) -> IntArray:
        """Pairs of labels (pair, 2) that each frame holds of its own, as pairs of nodes."""
        parts = [self.frames[i][name] + offset - 1 for i, offset in self.offsets.items()]
        return np.concatenate([np.empty((0, 2), np.int64), *parts])

    def scatter(self, values: NDArray[Any], name: str) -> Mapping[int, Arrays]:
        """Per block the values of its labels 0..n; label 0 gets 0."""
        out = {}
        for (row, col), offset in self.offsets.items():
            size = len(self.frames[row, col]["first"])
            table = np.zeros(size + 1, values.dtype)
            table[1:] = values[offset : offset + size]
            out[row * self.grid.counts[1] + col] = {name: table}
        return out


@dataclass(frozen=True, slots=True)
class _Side:
    """Labels along a line (0 none, else global node + 1), values (..., pixel), positions."""

    labels: IntArray
    values: NDArray[Any] | None
    row: IntArray
    col: IntArray

    def blank(self, size: int) -> _Side:
        none = np.zeros(size, np.int64)
        values = None
        if self.values is not None:
            values = np.zeros((*self.values.shape[:-1], size), self.values.dtype)
        return _Side(none, values, none, none)

    def meet(self, other: _Side, shift: int, *, down: bool) -> Crossing:
        """Where pixel i of one side and pixel i + shift of the other are labelled."""
        size = self.labels.size
        mine = np.arange(max(-shift, 0), size - max(shift, 0))
        theirs = mine + shift
        both = (self.labels[mine] > 0) & (other.labels[theirs] > 0)
        mine, theirs = mine[both], theirs[both]
        return Crossing(
            self.labels[mine] - 1,
            other.labels[theirs] - 1,
            None if self.values is None else self.values[..., mine],
            None if other.values is None else other.values[..., theirs],
            self.row[mine],
            self.col[mine],
            down,
            shift,
        )


def roots(count: int, pairs: IntArray) -> IntArray:
    """Component of each node, numbered from 0 in no particular order."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    ones = np.ones(len(pairs), bool)
    graph = coo_array((ones, (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    return connected_components(graph, directed=False)[1].astype(np.int64)


def numbered_by_first(component: IntArray, first: IntArray) -> IntArray:
    """Ids 1.. of components in the order of their first pixel, one per node."""
    if component.size == 0:
        return component
    earliest = np.full(int(component.max()) + 1, np.iinfo(np.int64).max)
    np.minimum.at(earliest, component, first)
    rank = np.empty(earliest.size, np.int64)
    rank[np.argsort(earliest, kind="stable")] = np.arange(1, earliest.size + 1)
    return rank[component]
