"""What a block publishes of its outermost tiles: strips of fragments, and how they are cut."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoseg.grid import Block, Tile, Window
from geoseg.models.segmenter import Arrays

__all__ = ["NEXT", "cut", "holds", "later", "lies_below", "outer", "strips"]

NEXT = ((0, 1), (1, -1), (1, 0), (1, 1))
"""From a tile to those neighbours that come later in raster order."""


def later(index: tuple[int, int]) -> Iterator[tuple[int, int]]:
    """Those neighbours of a tile that come after it in raster order."""
    return ((index[0] + row, index[1] + col) for row, col in NEXT)


def strips(block: Block, tiles: Mapping[tuple[int, int], tuple[Tile, NDArray[Any]]]) -> Arrays:
    """Fragments of the outermost tiles, as far as tiles of other blocks saw them too."""
    first, last = block.tiles[0], block.tiles[-1]
    size, halo = first.read.height, first.core.row_off - first.read.row_off
    rows = range(first.index[0], last.index[0] + 1)
    cols = range(first.index[1], last.index[1] + 1)
    out: Arrays = {
        "n": np.zeros((len(cols), 2 * halo, size), np.int32),
        "s": np.zeros((len(cols), 2 * halo, size), np.int32),
        "w": np.zeros((len(rows), size, 2 * halo), np.int32),
        "e": np.zeros((len(rows), size, 2 * halo), np.int32),
        "tiles": np.array([rows.start, rows.stop, cols.start, cols.stop], np.int64),
    }
    for (row, col), (_, own) in tiles.items():
        if row == rows.start:
            out["n"][col - cols.start] = own[: 2 * halo]
        if row == rows.stop - 1:
            out["s"][col - cols.start] = own[size - 2 * halo :]
        if col == cols.start:
            out["w"][row - rows.start] = own[:, : 2 * halo]
        if col == cols.stop - 1:
            out["e"][row - rows.start] = own[:, size - 2 * halo :]
    return out


def holds(frame: Arrays, index: tuple[int, int]) -> bool:
    """Whether a tile is one of the frame's block."""
    row, row_end, col, col_end = frame["tiles"].tolist()
    return bool(row <= index[0] < row_end and col <= index[1] < col_end)


def lies_below(frame: Arrays, other: Arrays) -> bool:
    """Whether a block lies in a later row of blocks than the other."""
    return bool(frame["tiles"][0] >= other["tiles"][1])


def outer(frame: Arrays) -> Iterator[tuple[int, int]]:
    """Indices of the tiles of a block's first row and first column."""
    row, row_end, col, col_end = frame["tiles"].tolist()
    yield from ((row, c) for c in range(col, col_end))
    yield from ((r, col) for r in range(row + 1, row_end))


def cut(frame: Arrays, tile: Tile, window: Window, side: str) -> NDArray[Any]:
    """Fragments of a tile in a window, out of its block's strips."""
    row, _, col, _ = frame["tiles"].tolist()
    strip = frame[side][tile.index[0] - row if side in "we" else tile.index[1] - col]
    height, width = strip.shape
    row_off = tile.read.row_end - height if side == "s" else tile.read.row_off
    col_off = tile.read.col_end - width if side == "e" else tile.read.col_off
    return strip[window.relative_to(Window(row_off, col_off, height, width)).slices]
