"""Laws 4 and 5: objects that touch stay apart, one object is one however many tiles it spans."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import FAIR, NONE, Noise, blobs, parcels, predict, rings, stitched, strips

from geoseg.assess.instances import match_segments
from geoseg.assess.overlap import OverlapTable, segment_key
from geoseg.grid import TileGrid
from geoseg.stitch.labels import OverlapJoin

SCENES = {
    "parcels": parcels((301, 260), 14, 1),
    "strips": strips((200, 330), 3),
    "ten tiles": np.kron(np.arange(1, 31, dtype=np.int32)[:, None], np.ones((4, 340), np.int32)),
    "rings": rings((210, 190)),
    "corners": np.kron(np.arange(1, 50, dtype=np.int32).reshape(7, 7), np.ones((32, 32), np.int32)),
    "blobs": blobs((420, 420), 5000, 2),
}


def quality(truth, found):
    table = OverlapTable.of(
        segment_key(np.where(truth > 0, 1, 255).astype(np.uint8), truth),
        segment_key(np.where(found > 0, 1, 255).astype(np.uint8), found),
    )
    # what was found where nothing is counts as false
    table = OverlapTable(np.where(table.truth < 0, 1 << 50, table.truth), table.found, table.pixels)
    matches = match_segments(table)
    keep = matches.missed != 1 << 50
    matches = type(matches)(
        matches.truth, matches.found, matches.iou, matches.missed[keep], matches.false
    )
    return matches.quality()


def stitch(truth, tiles, side, noise=NONE, join=None, *, pieces=False, seed=0):
    return stitched(
        truth,
        join or OverlapJoin(),
        tiles,
        side,
        lambda tile: predict(truth, tile, noise, seed, pieces=pieces),
    )


def assert_same_partition(truth, ids):
    pairs = np.unique(np.stack([truth.ravel(), ids.ravel()]), axis=1)
    assert len(np.unique(pairs[0])) == len(np.unique(pairs[1])) == pairs.shape[1]


@pytest.mark.parametrize("name", SCENES)
@pytest.mark.parametrize(("tile", "halo"), [(48, 8), (32, 8), (80, 24), (128, 8), (512, 16)])
@pytest.mark.parametrize("pieces", [False, True])
def test_without_noise_every_object_comes_back(name, tile, halo, pieces):
    truth = SCENES[name]
    found = stitch(truth, TileGrid(truth.shape, tile, halo), 2, pieces=pieces)["instance_id"]
    assert quality(truth, found).pq == 1.0
    assert_same_partition(truth, found)
