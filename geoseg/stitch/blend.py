"""Feathered blending: probabilities of overlapping tiles added up, then the best class.

Each tile counts in full inside and less towards the edge of its read window: the weight is
the product of a ramp down the rows and one along the columns, linear over twice the halo.
Weights and probabilities are whole numbers, so their sums don't depend on the order in which
they are added, nor on the blocks. Each tile is predicted once: what reaches into another
block is handed to it in the frame.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from geoseg.errors import InputError
from geoseg.grid import Block, BlockGrid, Tile, Window
from geoseg.legend import NODATA_CATEGORY
from geoseg.models.segmenter import Arrays, SemanticTile, TileResult

__all__ = ["FeatherJoin", "feather"]

PROB_LEVELS = 65535
"""A probability of 1."""

TOTAL_WEIGHT = 256
"""No more than this from all tiles together, per axis: sums then fit 32 bits."""


def feather(tile_size: int, halo: int) -> NDArray[np.uint32]:
    """Weight of each row (or column) of a tile, 1 to 128, symmetric; all 128 without halo.

    Two neighbouring tiles' weights add up to about 128 wherever only these two overlap.
    """
    most = TOTAL_WEIGHT // max(2, -(-tile_size // (tile_size - 2 * halo)))
    if not halo:
        return np.full(tile_size, most, np.uint32)
    place = np.arange(tile_size)
    far = np.minimum(place, place[::-1])
    ramp = (2 * far + 1) * most // (4 * halo)
    return np.clip(ramp, 1, most).astype(np.uint32)


@dataclass(frozen=True)
class FeatherJoin:
    """A Join for segmenters that give SemanticTile.

    ``category_ids``: the category of each class, in the order of the probabilities. The halo
    may be at most as wide as a tile's core: raises InputError otherwise. Ties go to the
    first class.
    """

    category_ids: tuple[int, ...]

    def collect(
        self, block: Block, results: Sequence[tuple[Tile, TileResult]], valid: NDArray[np.bool_]
    ) -> tuple[Arrays, Arrays]:
        """See Join. Kept: labels, and the sums where other blocks' tiles reach in. The frame:
        sums where this block's tiles reach out. Sums are (class and total weight, pixel).
        """
        halo = _halo(block)
        if 3 * halo > block.tiles[0].read.height:
            raise InputError(
                f"blending with a halo of {halo} px needs a tile size of at least {3 * halo} px, "
                f"not {block.tiles[0].read.height}"
            )
        sums = self._sums(block, results)
        inside = block.window.relative_to(block.read)
        kept = self._labels(sums[:, inside.slices[0], inside.slices[1]], valid)
        within = [w.relative_to(block.read) for w in _ring(block.window, halo)]
        outside = [w.relative_to(block.read) for w in _ring(block.window.grow(halo), halo)]
        kept["sums"] = _taken(sums, within)
        kept["valid"] = valid
        place = [block.window.row_off, block.window.col_off, *block.window.shape]
        return kept, {"sums": _taken(sums, outside), "window": np.array(place, np.int64)}

    def solve(
        self, frames: Iterable[tuple[Block, Arrays]], grid: BlockGrid
    ) -> Mapping[int, Arrays]:
        """See Join: there is nothing to decide."""
        return {}

    def apply(
        self, block: Block, kept: Arrays, table: Arrays, frames: Mapping[tuple[int, int], Arrays]
    ) -> Arrays:
        """See Join: adds the neighbours' sums and decides along the block's edge."""
        halo = _halo(block)
        out = {name: kept[name].copy() for name in ("category_id", "score")}
        theirs = [f for index, f in sorted(frames.items()) if index != block.index]
        for window, sums in _pieces(kept["sums"], _ring(block.window, halo)):
            total = sums.copy()
            for frame in theirs:
                around = Window(*frame["window"].tolist()).grow(halo)
                for place, more in _pieces(frame["sums"], _ring(around, halo)):
                    both = window & place
                    if both.pixels:
                        rows, cols = both.relative_to(window).slices
                        source = both.relative_to(place).slices
                        total[:, rows, cols] += more[:, source[0], source[1]]
            target = window.relative_to(block.window).slices
            for name, array in self._labels(total, kept["valid"][target]).items():
                out[name][target] = array
        return out

    def _sums(self, block: Block, results: Sequence[tuple[Tile, TileResult]]) -> NDArray[np.uint32]:
        # (class + 1, row, col) over all that the block's tiles read; the last: weights
        sums = np.zeros((len(self.category_ids) + 1, *block.read.shape), np.uint32)
        for tile, result in results:
            assert isinstance(result, SemanticTile)
            ramp = feather(tile.read.height, tile.core.row_off - tile.read.row_off)
            rows, cols = tile.read.relative_to(block.read).slices
            _add(sums[:, rows, cols], result.probs, ramp)
        return sums

    def _labels(self, sums: NDArray[np.uint32], valid: NDArray[np.bool_]) -> Arrays:
        """Category and score level (of 254) of sums; a valid pixel always has some weight."""
        best, level = _decide(sums)
        ids = np.array(self.category_ids, np.uint8)
        known = valid & (sums[-1] > 0)
        return {
            "category_id": np.where(known, ids[best], NODATA_CATEGORY).astype(np.uint8),
            "score": np.where(known, level, 255).astype(np.uint8),
        }


def _halo(block: Block) -> int:
    return block.tiles[0].core.row_off - block.tiles[0].read.row_off


def _ring(window: Window, width: int) -> list[Window]:
    """The pixels of a window within ``width`` of its edge: up to four rectangles."""
    if not width:
        return []
    high = min(width, window.height)
    low = min(width, window.height - high)
    middle = window.height - high - low
    left = min(width, window.width)
    right = min(width, window.width - left)
    row, col = window.row_off, window.col_off
    parts = [
        Window(row, col, high, window.width),
        Window(row + high, col, middle, left),
        Window(row + high, window.col_end - right, middle, right),
        Window(row + high + middle, col, low, window.width),
    ]
    return [part for part in parts if part.pixels]


def _taken(sums: NDArray[np.uint32], windows: Sequence[Window]) -> NDArray[np.uint32]:
    """Sums of some windows, one after the other: (class + 1, pixel)."""
    parts = [sums[:, w.slices[0], w.slices[1]].reshape(len(sums), -1) for w in windows]
    return np.concatenate([np.zeros((len(sums), 0), np.uint32), *parts], 1)


def _pieces(
    sums: NDArray[np.uint32], windows: Sequence[Window]
) -> Iterator[tuple[Window, NDArray[np.uint32]]]:
    """What ``_taken`` took: each window and its (class + 1, row, col)."""
    start = 0
    for window in windows:
        part = sums[:, start : start + window.pixels]
        yield window, part.reshape(len(sums), *window.shape)
        start += window.pixels


@njit(cache=True, nogil=True)
def _add(sums: Any, probs: Any, ramp: Any) -> None:  # pragma: no cover - compiled
    classes, rows, cols = probs.shape
    for k in range(classes + 1):
        for row in range(rows):
            for col in range(cols):
                weight = np.uint32(ramp[row] * ramp[col])
                if k == classes:
                    sums[k, row, col] += weight
                    continue
                prob = min(max(probs[k, row, col], np.float32(0)), np.float32(1))
                level = np.uint32(np.float64(prob) * PROB_LEVELS + 0.5)
                sums[k, row, col] += np.uint32(weight * level)


@njit(cache=True, nogil=True)
def _decide(sums: Any) -> Any:  # pragma: no cover - compiled
    classes, rows, cols = sums.shape
    best = np.zeros((rows, cols), np.uint8)
    level = np.zeros((rows, cols), np.uint8)
    for row in range(rows):
        for col in range(cols):
            weight = np.int64(sums[classes - 1, row, col])
            if weight == 0:
                continue
            top, value = 0, np.int64(-1)
            for k in range(classes - 1):
                if np.int64(sums[k, row, col]) > value:
                    top, value = k, np.int64(sums[k, row, col])
            best[row, col] = top
            whole = weight * PROB_LEVELS
            level[row, col] = min((2 * 254 * value + whole) // (2 * whole), 254)
    return best, level
