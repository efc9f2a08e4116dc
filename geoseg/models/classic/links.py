"""Nodes of blocks (local components) linked to nodes of the whole scene.

Each block labels its own pixels 1..n; its frame holds the labels along its four sides.
Labels that touch across a border are one node. Numbers follow the first pixel in raster
order, so they don't depend on the blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoseg.grid import Block, BlockGrid
from geoseg.models.segmenter import Arrays

__all__ = ["Nodes", "first_pixels", "numbered_by_first", "ring", "roots"]

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


@dataclass
class Nodes:
    """All nodes of all blocks in one numbering from 0, and the pairs that touch.

    ``offsets`` are per block number: global node = offset + label - 1. ``frames`` are kept.
    """

    offsets: dict[int, int]
    frames: dict[int, Arrays]
    pairs: IntArray
    count: int

    @classmethod
    def of(
        cls,
        frames: Iterable[tuple[Block, Arrays]],
        grid: BlockGrid,
        *,
        diagonal: bool,
        alike: Alike | None = None,
    ) -> Nodes:
        """From frames with ``label_*`` rings and ``first``, in raster order.

        ``alike`` sees ``value_*`` of both sides and says which pixels really touch; without
        it all that are labelled do. ``diagonal``: corners touch too.
        """
        held: dict[tuple[int, int], Arrays] = {}
        offsets: dict[int, int] = {}
        kept: dict[int, Arrays] = {}
        windows: dict[tuple[int, int], Block] = {}
        total = 0
        for block, frame in frames:
            offsets[block.number] = total
            total += len(frame["first"])
            held[block.index], kept[block.number] = frame, frame
            windows[block.index] = block
        pairs = [np.empty((0, 2), np.int64)]
        shifts = (-1, 0, 1) if diagonal else (0,)
        rows, cols = grid.counts
        for row in range(rows):
            strips = [(held.get((row, c)), windows.get((row, c))) for c in range(cols)]
            for (a, block_a), (b, block_b) in zip(strips[:-1], strips[1:]):
                if a is not None and b is not None and block_a and block_b:
                    ends = (offsets[block_a.number], offsets[block_b.number])
                    left = _Side.of(a, "right", ends[0])
                    right = _Side.of(b, "left", ends[1])
                    pairs += [left.touching(right, shift, alike) for shift in shifts]
            if row + 1 < rows:
                upper = _Side.row(grid, row, "bottom", held, offsets, windows)
                lower = _Side.row(grid, row + 1, "top", held, offsets, windows)
                pairs += [upper.touching(lower, shift, alike) for shift in shifts]
        return cls(offsets, kept, np.unique(np.concatenate(pairs), axis=0), total)

    def gather(self, name: str) -> NDArray[Any]:
        """One array over all nodes from what each frame holds of its own."""
        parts = [frame[name] for frame in self.frames.values()]
        return np.concatenate(parts) if parts else np.empty(0, np.int64)

    def inner(self, name: str) -> IntArray:
        """Pairs of labels (pair, 2) that each frame holds of its own, as pairs of nodes."""
        parts = [self.frames[n][name] + offset - 1 for n, offset in self.offsets.items()]
        return np.concatenate([np.empty((0, 2), np.int64), *parts])

    def scatter(self, values: NDArray[Any], name: str) -> Mapping[int, Arrays]:
        """Per block the values of its labels 0..n; label 0 gets 0."""
        out = {}
        for number, offset in self.offsets.items():
            size = len(self.frames[number]["first"])
            table = np.zeros(size + 1, values.dtype)
            table[1:] = values[offset : offset + size]
            out[number] = {name: table}
        return out


@dataclass
class _Side:
    """Labels along a line (0 none, else global node + 1) and values (..., pixel)."""

    labels: IntArray
    values: NDArray[Any] | None

    @classmethod
    def of(cls, frame: Arrays, side: str, offset: int) -> _Side:
        labels = frame[f"label_{side}"].astype(np.int64)
        return cls(np.where(labels > 0, labels + offset, 0), frame.get(f"value_{side}"))

    @classmethod
    def row(
        cls,
        grid: BlockGrid,
        row: int,
        side: str,
        held: Mapping[tuple[int, int], Arrays],
        offsets: Mapping[int, int],
        blocks: Mapping[tuple[int, int], Block],
    ) -> _Side:
        """One side of a whole row of blocks; absent blocks are unlabelled."""
        labels, values = [], []
        for col in range(grid.counts[1]):
            index = (row, col)
            if index in held:
                one = cls.of(held[index], side, offsets[blocks[index].number])
                labels.append(one.labels)
                values.append(one.values)
            else:
                labels.append(np.zeros(grid.window(row, col).width, np.int64))
                values.append(None)
        some = next((v for v in values if v is not None), None)
        if some is None:
            return cls(np.concatenate(labels), None)
        filled = [
            np.zeros((*some.shape[:-1], n.size), some.dtype) if v is None else v
            for v, n in zip(values, labels)
        ]
        return cls(np.concatenate(labels), np.concatenate(filled, axis=-1))

    def touching(self, other: _Side, shift: int, alike: Alike | None) -> IntArray:
        """Pairs (node, node) where pixel i of one side meets pixel i + shift of the other."""
        size = self.labels.size
        mine = slice(max(-shift, 0), size - max(shift, 0))
        theirs = slice(max(shift, 0), size - max(-shift, 0))
        a, b = self.labels[mine], other.labels[theirs]
        meet = (a > 0) & (b > 0)
        if alike is not None and self.values is not None and other.values is not None:
            meet &= alike(self.values[..., mine], other.values[..., theirs])
        return np.unique(np.stack([a[meet], b[meet]], 1), axis=0) - 1


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
