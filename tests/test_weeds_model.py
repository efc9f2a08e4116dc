"""The weeds model that comes with geoseg, on a place that it was not trained on."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import numpy as np
import rasterio
from click.testing import CliRunner

from geoseg.assess.segmentation import Confusion
from geoseg.cli import geoseg
from geoseg.models.deep.bundle import open_bundle

DATA = Path(__file__).parent / "data" / "weeds"


def test_it_is_small_and_says_what_it_is() -> None:
    folder = Path(str(resources.files("geoseg") / "data" / "weeds"))
    assert (folder / "weights.safetensors").stat().st_size < 15e6
    card = open_bundle(folder).card
    assert [category.name for category in card.legend] == ["soil", "crop", "weed"]
    for text in (card.accuracy, card.training_data, card.licence):
        assert text
    assert (folder / "LICENSE").is_file() and (folder / "SOURCE.txt").is_file()


def test_it_tells_weeds_from_crop_where_it_never_was(tmp_path: Path) -> None:
    target = tmp_path / "map.tif"
    done = CliRunner().invoke(
        geoseg,
        ["map", str(DATA / "plants.tif"), "--model", "weeds", "--gsd", "model", "-o", str(target)],
    )
    assert done.exit_code == 0, done.output
    with rasterio.open(DATA / "plants_truth.tif") as file:
        truth, affine = file.read(1), file.transform
    with rasterio.open(target) as file:
        assert 0.005 <= file.res[0] <= 0.0061
        found, own = file.read(1), file.transform
    # the map's label at the centre of each pixel of the truth
    rows, cols = np.mgrid[: truth.shape[0], : truth.shape[1]] + 0.5
    x, y = affine.a * cols + affine.c, affine.e * rows + affine.f
    at_row = np.clip(((y - own.f) / own.e).astype(int), 0, found.shape[0] - 1)
    at_col = np.clip(((x - own.c) / own.a).astype(int), 0, found.shape[1] - 1)
    confusion = Confusion.of(truth, found[at_row, at_col])
    assert confusion.iou(1) > 0.7, confusion.iou(1)
    assert confusion.iou(2) > 0.4, confusion.iou(2)
