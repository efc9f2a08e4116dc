"""Law 1: cores partition the scene; blocks partition the tiles."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geoseg.errors import InputError
from geoseg.grid import BlockGrid, TileGrid, Window
from geoseg.scene.reader import reflect_indices


@st.composite
def grids(draw: st.DrawFn) -> TileGrid:
    divisor = draw(st.sampled_from([1, 2, 4]))
    halo = divisor * draw(st.integers(0, 3))
    tile = 2 * halo + divisor * draw(st.integers(1, 8))
    shape = draw(st.tuples(st.integers(1, 60), st.integers(1, 60)))
    return TileGrid(shape, tile, halo, divisor)


@given(grids(), st.integers(1, 4))
def test_cores_and_blocks_partition_the_scene(grid: TileGrid, side: int) -> None:
    seen = np.zeros(grid.shape, int)
    for tile in grid:
        assert tile.core.pixels > 0
        seen[tile.core.slices] += 1
        assert tile.read.shape == (grid.tile_size, grid.tile_size)
        assert tile.core in tile.read
        assert tile.read.row_off % grid.divisor == 0
        assert tile.read.col_off % grid.divisor == 0
    assert (seen == 1).all()

    blocks = BlockGrid(grid, side)
    by_block = np.zeros(grid.shape, int)
    tiles = []
    for number, block in enumerate(blocks):
        assert block.number == number
        by_block[block.window.slices] += 1
        tiles += [tile.index for tile in block.tiles]
        assert all(tile.core in block.window and tile.read in block.read for tile in block.tiles)
    assert (by_block == 1).all()
    assert sorted(tiles) == sorted(tile.index for tile in grid)


@given(st.integers(1, 9), st.integers(-40, 10), st.integers(0, 50))
def test_reflection_is_numpys(size: int, start: int, length: int) -> None:
    before, after = max(-start, 0), max(start + length - size, 0)
    padded = np.pad(np.arange(size), (before, after), mode="reflect" if size > 1 else "edge")
    expected = padded[start + before : start + before + length]
    assert reflect_indices(start, start + length, size).tolist() == expected.tolist()


def test_halo_must_fit_the_divisor() -> None:
    with pytest.raises(InputError, match="use 32 or 36"):
        TileGrid((9, 9), tile_size=34, halo=4, divisor=4)
    with pytest.raises(InputError, match="leaves no core"):
        TileGrid((9, 9), tile_size=8, halo=4)


def test_windows_meet() -> None:
    assert (Window(0, 0, 4, 4) & Window(4, 4, 2, 2)).pixels == 0
    assert Window(1, 1, 2, 2) in Window(0, 0, 4, 4)
