"""Things that a tile missed and its neighbour saw reach as far into it as the neighbour looked.

A network may miss the part of an object that a window shows, in the middle of an object too.
A pixel of a tile's core where that tile found no thing takes the thing that a neighbouring tile
saw there, if no fragment of the tile is the same object and the tile found no thing on most of
what the neighbour saw there. Neighbours reach half a core far, so every pixel has three at most:
the one beside, the one above or below, the one across the corner. The first of these gives its
thing that has pixels in its own core, else the first whose thing is, over links, one with a
thing that a core keeps: what no core keeps is no object.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoseg.grid import Block, Tile, Window
from geoseg.models.segmenter import Arrays
from geoseg.stitch.overlap import overlaps

__all__ = ["COLUMNS", "chosen", "decided", "near_edge", "reach_of", "reached", "usable"]
__all__ += ["valid_bands"]

COLUMNS = 5
"""Columns of a reach, one row per pixel: row and column in the scene, rank, thing, block."""
LOOKED_ON = 3
"""Added to the rank of a thing that has no pixel in the core of the tile that saw it."""

Reach = NDArray[np.int64]


def reach_of(tile: Tile) -> int:
    """How many pixels a neighbour's things may reach into a core."""
    halo = tile.core.row_off - tile.read.row_off
    return min(halo, (tile.read.height - 2 * halo) // 2)


def reached(
    tile: Tile,
    own: NDArray[Any],
    other: Tile,
    theirs: NDArray[Any],
    things: NDArray[np.int64],
    kept: NDArray[np.bool_],
) -> Reach:
    """Pixels of ``tile``'s core that the other's ``things`` may take; block 0.

    ``own`` and ``theirs`` (row, col) are both tiles' fragments where their read windows
    intersect; ``things`` are numbers of fragments in ``theirs``, ``kept`` says of each number
    whether the other's core has a pixel of it.
    """
    both = tile.read & other.read
    window = tile.core & other.read
    if not len(things) or not window.pixels:
        return np.zeros((0, COLUMNS), np.int64)
    inside = window.relative_to(both).slices
    table = overlaps(own[inside], theirs[inside])
    seen = np.bincount(table.b, table.pixels)
    free = np.bincount(table.b, table.pixels * (table.a == 0), len(seen))
    missed = np.zeros(len(seen), bool)
    missed[things[things < len(seen)]] = True
    missed &= 2 * free > seen
    window &= other.core.grow(reach_of(tile))
    inside = window.relative_to(both).slices
    there = theirs[inside]
    rows, cols = np.nonzero(missed[there] & (own[inside] == 0))
    out = np.zeros((len(rows), COLUMNS), np.int64)
    out[:, 0], out[:, 1] = rows + window.row_off, cols + window.col_off
    out[:, 3] = there[rows, cols]
    out[:, 2] = _rank(tile, other) + LOOKED_ON * ~kept[out[:, 3]]
    return out


def _rank(tile: Tile, other: Tile) -> int:
    if tile.index[0] == other.index[0]:
        return 0
    return 1 if tile.index[1] == other.index[1] else 2


def chosen(reaches: Sequence[Reach]) -> Reach:
    """One row for each pixel, that of the lowest rank; in raster order within each block."""
    rows = np.concatenate([np.zeros((0, COLUMNS), np.int64), *reaches])
    rows = rows[np.lexsort((rows[:, 2], rows[:, 1], rows[:, 0], rows[:, 4]))]
    new = np.ones(len(rows), bool)
    new[1:] = (rows[1:, :2] != rows[:-1, :2]).any(1)
    return rows[new]


def decided(
    rows: Reach, shared: NDArray[np.bool_], alive: NDArray[np.bool_], open_: NDArray[np.bool_]
) -> tuple[Reach, Reach]:
    """(rows that one block can choose, rows that wait for the others).

    ``shared``: pixels that tiles of other blocks may reach too. Of each thing: ``alive``, a core
    of the block keeps some of it; ``open_``, others saw it and may keep some.
    """
    possible = alive[rows[:, 3]] | open_[rows[:, 3]]
    rows, shared = rows[possible], shared[possible]
    first = chosen([rows])
    first = first[alive[first[:, 3]]]
    span = np.int64(1) << 32
    sure = np.isin(rows[:, 0] * span + rows[:, 1], first[:, 0] * span + first[:, 1]) & ~shared
    return chosen([rows[sure]]), rows[~sure]


def near_edge(rows: Reach, window: Window, reach: int) -> NDArray[np.bool_]:
    """Which pixels tiles of other blocks may reach too."""
    row, col = rows[:, 0], rows[:, 1]
    upper, left = row < window.row_off + reach, col < window.col_off + reach
    return upper | left | (row >= window.row_end - reach) | (col >= window.col_end - reach)


def valid_bands(block: Block, valid: NDArray[np.bool_]) -> Arrays:
    """Which pixels that others may reach are valid, in bits."""
    reach = reach_of(block.tiles[0])
    bands = {
        "n": valid[:reach],
        "s": valid[max(len(valid) - reach, 0) :],
        "w": valid[:, :reach],
        "e": valid[:, max(valid.shape[1] - reach, 0) :],
    }
    return {f"valid_{side}": np.packbits(band, axis=1) for side, band in bands.items()}


def usable(rows: Reach, block: Block, frame: Arrays, side: str) -> Reach:
    """Those of the pixels that are valid; all lie in the band of one side of the block."""
    reach = reach_of(block.tiles[0])
    window = block.window
    row, col = rows[:, 0] - window.row_off, rows[:, 1] - window.col_off
    if side == "s":
        row = row - max(window.height - reach, 0)
    if side == "e":
        col = col - max(window.width - reach, 0)
    bits = frame[f"valid_{side}"][row, col >> 3] >> (7 - (col & 7))
    out: Reach = rows[(bits & 1).astype(bool)]
    return out
