"""Feathered blending: each tile once, sums in whole numbers, no trace of the blocks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geoseg.errors import InputError
from geoseg.grid import BlockGrid, TileGrid
from geoseg.models.segmenter import SemanticTile
from geoseg.stitch.blend import FeatherJoin, feather
from geoseg.stitch.frame import join_in_memory
from geoseg.stitch.sums import Reading

IDS = (4, 0, 9)


def probs_of(tile, classes=3):
    """What a network says about a tile: something else for each tile."""
    rng = np.random.default_rng([5, *tile.index])
    raw = rng.random((classes, *tile.read.shape), np.float32) ** 4
    return raw / raw.sum(0, dtype=np.float32)


def blended(tiles, side, valid, predicted=None):
    def results(block):
        live = [tile for tile in block.tiles if valid[tile.core.slices].any()]
        if predicted is not None:
            predicted.extend(tile.index for tile in live)
        return [(tile, SemanticTile(probs_of(tile))) for tile in live]

    return join_in_memory(
        BlockGrid(tiles, side), FeatherJoin(Reading(category_ids=IDS)), results, valid
    )


def reference(tiles, valid):
    """Whole-scene sums, in Python's way of adding, of all tiles."""
    high, wide = tiles.shape
    pad = tiles.tile_size
    sums = np.zeros((4, high + 2 * pad, wide + 2 * pad), object)
    for tile in tiles:
        if not valid[tile.core.slices].any():
            continue
        ramp = feather(tiles.tile_size, tiles.halo).astype(int)
        weight = ramp[:, None] * ramp
        levels = np.floor(probs_of(tile).astype(float) * 65535 + 0.5).astype(int)
        rows = slice(tile.read.row_off + pad, tile.read.row_end + pad)
        cols = slice(tile.read.col_off + pad, tile.read.col_end + pad)
        sums[:3, rows, cols] += levels * weight
        sums[3, rows, cols] += weight
    sums = sums[:, pad : pad + high, pad : pad + wide].astype(np.int64)
    category = np.array(IDS, np.uint8)[sums[:3].argmax(0)]
    total = np.maximum(sums[3], 1) * 65535
    score = ((2 * 254 * sums[:3].max(0) + total) // (2 * total)).astype(np.uint8)
    return np.where(valid, category, 255), np.where(valid, score, 255)


@settings(max_examples=40, deadline=None)
@given(
    st.tuples(st.integers(1, 60), st.integers(1, 60)),
    st.integers(0, 9),
    st.integers(0, 12),
    st.integers(1, 5),
    st.booleans(),
)
def test_equals_the_whole_scene_to_the_byte(shape, halo, more, side, hole):
    tiles = TileGrid(shape, 3 * halo + more + 3, halo)
    valid = np.ones(shape, bool)
    if hole:
        valid[2:40, 5:33] = False
    predicted = []
    out = blended(tiles, side, valid, predicted)
    category, score = reference(tiles, valid)
    assert (out["category_id"] == category).all()
    assert (out["score"] == score).all()
    assert len(predicted) == len(set(predicted))


@pytest.mark.parametrize(("size", "halo"), [(64, 16), (512, 64), (128, 32), (48, 0), (100, 3)])
def test_weights_of_neighbours_add_up_evenly(size, halo):
    ramp = feather(size, halo).astype(int)
    stride = size - 2 * halo
    total = np.zeros(stride * 5 + size, int)
    for k in range(6):
        total[k * stride : k * stride + size] += ramp
    inner = total[size : stride * 5]
    assert (ramp == ramp[::-1]).all()
    assert ramp.min() >= 1
    assert inner.max() - inner.min() <= 2
    assert inner.max() <= 256


def test_largest_sums_fit():
    tiles = TileGrid((90, 90), 30, 10)

    def results(block):
        shape = (3, 30, 30)
        return [(tile, SemanticTile(np.ones(shape, np.float32))) for tile in block.tiles]

    valid = np.ones((90, 90), bool)
    out = join_in_memory(
        BlockGrid(tiles, 9), FeatherJoin(Reading(category_ids=IDS)), results, valid
    )
    assert (out["score"] == 254).all()
    assert (out["category_id"] == 4).all()


def test_a_halo_wider_than_the_core_is_refused():
    with pytest.raises(InputError, match="at least 30 px"):
        blended(TileGrid((50, 50), 29, 10), 1, np.ones((50, 50), bool))
