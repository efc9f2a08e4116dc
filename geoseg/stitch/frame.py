"""A join without an engine: its three steps over blocks in memory, one after the other.

The engine runs the same calls in the same order on blocks that lie in a store.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoseg.grid import Block, BlockGrid
from geoseg.models.segmenter import Arrays, Join

__all__ = ["join_in_memory"]


def join_in_memory(
    grid: BlockGrid, join: Join, results: Callable[[Block], Any], valid: NDArray[np.bool_]
) -> Arrays:
    """The whole map (row, col) by name.

    ``results`` gives what ``join.collect`` takes for a block: (tile, result) pairs, or the
    arrays of the step before. ``valid`` (row, col) is the whole scene's.
    """
    kept: dict[tuple[int, int], Arrays] = {}
    frames: dict[tuple[int, int], Arrays] = {}
    for block in grid:
        own = valid[block.window.slices]
        kept[block.index], frames[block.index] = join.collect(block, results(block), own)
    tables = join.solve(((block, frames[block.index]) for block in grid), grid)
    whole: Arrays = {}
    for block in grid:
        near = {index: frame for index, frame in frames.items() if _touches(index, block.index)}
        table = tables.get(block.number, {})
        for name, array in join.apply(block, kept[block.index], table, near).items():
            target = whole.setdefault(name, np.zeros(valid.shape, array.dtype))
            target[block.window.slices] = array
    return whole


def _touches(a: tuple[int, int], b: tuple[int, int]) -> bool:
    return max(abs(a[0] - b[0]), abs(a[1] - b[1])) <= 1
