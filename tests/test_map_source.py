"""What the vectorizer reads of a map: the same pixels by rows of any height, chunks unpacked once."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from affine import Affine
from odc.geo.geobox import GeoBox

from geoseg.engine import segmentmap
from geoseg.engine.segmentmap import SegmentMap
from geoseg.errors import OutputError
from geoseg.grid import Window
from geoseg.legend import Legend
from geoseg.mapsource import MapSource
from geoseg.vectorize.table import pack_labels

LEGEND = Legend.open("dynamic_world")
SHAPE = (1300, 5000)


def a_map(things: bool) -> SegmentMap:
    rng = np.random.default_rng(3)
    geobox = GeoBox(SHAPE, Affine(1, 0, 5e5, 0, -1, 5e6), "EPSG:32633")
    return SegmentMap.from_arrays(
        rng.integers(0, 8, SHAPE, np.uint8),
        geobox,
        LEGEND,
        score=rng.integers(0, 255, SHAPE, np.uint8),
        instance_id=rng.integers(0, 99, SHAPE, np.uint32) if things else None,
    )


@pytest.mark.parametrize("things", [False, True])
@pytest.mark.parametrize("high", [100, 512, 700])
def test_rows_of_any_height(things: bool, high: int) -> None:
    whole = a_map(things)
    # a region that begins within a row of chunks
    part = replace(whole, region=Window(100, 7, 1150, 4900), geobox=whole.geobox[100:1250, 7:4907])
    source = MapSource(part)
    found = [
        source.read(Window(row, 0, min(high, 1150 - row), 4900)) for row in range(0, 1150, high)
    ]
    arrays = part.read()
    labels = arrays["category_id"]
    if things:
        labels = pack_labels(labels, arrays["instance_id"])
    assert (np.concatenate([one for one, _ in found]) == labels).all()
    assert (np.concatenate([score for _, score in found]) == arrays["score"]).all()
    # a window that doesn't span the map
    one, score = source.read(Window(3, 5, 70, 80))
    assert (one == labels[3:73, 5:85]).all() and (score == arrays["score"][3:73, 5:85]).all()


def test_low_rows_unpack_a_chunk_once(monkeypatch: pytest.MonkeyPatch) -> None:
    source, reads = MapSource(a_map(False)), Counter[tuple[int, int]]()
    read = segmentmap._read

    def counted(array: Any, window: Window) -> Any:
        for row in range(window.row_off // 512, -(-window.row_end // 512)):
            reads[row, window.col_off] += 1
        return read(array, window)

    monkeypatch.setattr(segmentmap, "_read", counted)
    for row in range(0, 1300, 65):
        source.read(Window(row, 0, 65, 5000))
    assert set(reads.values()) == {2}, "category_id and score"


def test_no_room_for_waiting_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(**_: Any) -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("geoseg.mapsource.tempfile.TemporaryFile", full)
    with pytest.raises(OutputError, match="No space left"):
        MapSource(a_map(False)).read(Window(0, 0, 65, 5000))
