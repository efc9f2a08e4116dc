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

import numpy as np
from numpy.typing import NDArray

from geoseg.errors import InputError
from geoseg.grid import Block, BlockGrid, Tile, Window
from geoseg.models.segmenter import Arrays, TileResult
from geoseg.stitch.sums import HostSums, OpenSums, Reading, Sums, read_sums

__all__ = ["FeatherJoin", "feather"]

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

    ``how`` says what is read off the blended probabilities, ``sums`` where they are added up.
    The halo may be at most as wide as a tile's core: raises InputError otherwise.
    """

    how: Reading
    sums: OpenSums = HostSums

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
        kept = sums.read(block.window.relative_to(block.read), valid, self.how)
        within = [w.relative_to(block.read) for w in _ring(block.window, halo)]
        outside = [w.relative_to(block.read) for w in _ring(block.window.grow(halo), halo)]
        kept["sums"] = sums.taken(within)
        kept["valid"] = valid
        place = [block.window.row_off, block.window.col_off, *block.window.shape]
        return kept, {"sums": sums.taken(outside), "window": np.array(place, np.int64)}

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
        names = ("category_id", "score", *self.how.layers)
        out = {name: kept[name].copy() for name in names}
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
            for name, array in read_sums(total, kept["valid"][target], self.how).items():
                out[name][target] = array
        return out

    def _sums(self, block: Block, results: Sequence[tuple[Tile, TileResult]]) -> Sums:
        # (class + 1, row, col) over all that the block's tiles read; the last: weights
        sums = self.sums((len(self.how.category_ids) + 1, *block.read.shape))
        for tile, result in results:
            ramp = feather(tile.read.height, tile.core.row_off - tile.read.row_off)
            sums.add(result, tile.read.relative_to(block.read), ramp)
        return sums


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


def _pieces(
    sums: NDArray[np.uint32], windows: Sequence[Window]
) -> Iterator[tuple[Window, NDArray[np.uint32]]]:
    """What ``Sums.taken`` took: each window and its (class + 1, row, col)."""
    start = 0
    for window in windows:
        part = sums[:, start : start + window.pixels]
        yield window, part.reshape(len(sums), *window.shape)
        start += window.pixels
