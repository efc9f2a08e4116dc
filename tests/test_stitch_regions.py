"""Connected regions across blocks against SciPy on the whole."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from geoseg.grid import BlockGrid, TileGrid
from geoseg.models.segmenter import LabelTile
from geoseg.stitch.frame import join_in_memory
from geoseg.stitch.regions import ConnectedJoin

CROSS, SQUARE = (ndimage.generate_binary_structure(2, k) for k in (1, 2))


@st.composite
def labelled(draw):
    shape = draw(st.tuples(st.integers(1, 30), st.integers(1, 30)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    category = rng.choice(3, shape, p=draw(st.sampled_from([(0.5, 0.4, 0.1), (0.3, 0.65, 0.05)])))
    valid = rng.random(shape) >= draw(st.sampled_from([0, 0.03]))
    tiles = TileGrid(shape, draw(st.integers(1, 14)))
    return category.astype(np.uint8), valid, BlockGrid(tiles, draw(st.integers(1, 3)))


def joined(join, category, valid, grid):
    def results(block):
        return [
            (tile, LabelTile(part := category[tile.core.slices], np.full(part.shape, 7, np.uint8)))
            for tile in block.tiles
        ]

    return join_in_memory(grid, join, results, valid)


@settings(max_examples=80, deadline=None)
@given(labelled(), st.sampled_from([4, 8]))
def test_hysteresis_keeps_what_holds_a_strong_pixel(scene, connectivity):
    category, valid, grid = scene
    join = ConnectedJoin(
        together=((1, 2),), connectivity=connectivity, need=2, becomes=1, otherwise=0
    )
    found = joined(join, category, valid, grid)["category_id"]
    part, _ = ndimage.label((category > 0) & valid, SQUARE if connectivity == 8 else CROSS)
    strong = np.unique(part[(category == 2) & valid])
    expected = np.where(valid, np.isin(part, strong[strong > 0]), 255)
    np.testing.assert_array_equal(found, expected)


@settings(max_examples=80, deadline=None)
@given(labelled(), st.sampled_from([4, 8]), st.booleans())
def test_regions_are_numbered_as_on_the_whole(scene, connectivity, closed):
    category, valid, grid = scene
    join = ConnectedJoin(
        together=((0,), (1,)), connectivity=connectivity, closed=closed, otherwise=9, numbered=True
    )
    out = joined(join, category, valid, grid)
    expected = np.zeros(category.shape, int)
    parts = []
    void = np.pad(~valid, 1, constant_values=True)
    beside_void = ndimage.binary_dilation(void, CROSS)[1:-1, 1:-1]
    for kind in (0, 1):
        structure = SQUARE if connectivity == 8 else CROSS
        part, n = ndimage.label((category == kind) & valid, structure)
        parts += [part == k for k in range(1, n + 1)]
    parts = [p for p in parts if not (closed and (p & beside_void).any())]
    for number, part in enumerate(sorted(parts, key=lambda p: np.flatnonzero(p)[0]), 1):
        expected[part] = number
    np.testing.assert_array_equal(out["instance_id"], expected)
    dropped = valid & (category < 2) & (expected == 0)
    assert (out["category_id"][dropped] == 9).all()
    kept = valid & ~dropped
    assert (out["category_id"][kept] == category[kept]).all()


def test_a_snake_through_all_blocks_is_one_region():
    category = np.zeros((60, 60), np.uint8)
    category[::4] = 1
    category[0:56, -1] = 1
    category[2::8, 0] = 1
    join = ConnectedJoin(together=((1,),), numbered=True)
    grid = BlockGrid(TileGrid((60, 60), 7), 1)
    ids = joined(join, category, np.ones((60, 60), bool), grid)["instance_id"]
    part, n = ndimage.label(category == 1, CROSS)
    np.testing.assert_array_equal(ids > 0, part > 0)
    assert ids.max() == n


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1)])
def test_thin_scenes(shape):
    category = np.ones(shape, np.uint8)
    join = ConnectedJoin(together=((1,),), numbered=True)
    grid = BlockGrid(TileGrid(shape, 3), 2)
    assert (joined(join, category, category > 0, grid)["instance_id"] == 1).all()
