"""The fields model that comes with geoseg, on a place that it was not trained on."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rasterio
from click.testing import CliRunner
from rasterio.features import rasterize

from geoseg.assess.instances import match_segments
from geoseg.assess.overlap import BACKGROUND, OverlapTable, segment_key
from geoseg.cli import geoseg
from geoseg.models.deep.bundle import open_bundle

DATA = Path(__file__).parent / "data" / "fields_model"


def test_it_is_small_and_says_what_it_is() -> None:
    folder = Path(str(resources.files("geoseg") / "data" / "fields"))
    assert (folder / "weights.safetensors").stat().st_size < 15e6
    bundle = open_bundle(folder)
    assert bundle.architecture.name == "parcels" and bundle.card.task == "instance"
    assert [(c.name, c.isthing) for c in bundle.card.legend] == [("field", True)]
    for text in (bundle.card.accuracy, bundle.card.training_data, bundle.card.licence):
        assert text
    assert (folder / "LICENSE").is_file() and (folder / "SOURCE.txt").is_file()


def test_it_finds_fields_where_it_never_was(tmp_path: Path) -> None:
    target = tmp_path / "parcels.gpkg"
    done = CliRunner().invoke(geoseg, ["fields", str(DATA / "fields.tif"), "-o", str(target)])
    assert done.exit_code == 0, done.output
    parcels = gpd.read_file(target)
    with rasterio.open(DATA / "fields_ids.tif") as file:
        truth, affine = file.read(1).astype(np.int32), file.transform
    shapes = ((shape, k) for k, shape in enumerate(parcels.geometry, 1))
    found = rasterize(shapes, out_shape=truth.shape, transform=affine, dtype="int32")
    both, either = (truth > 0) & (found > 0), (truth > 0) | (found > 0)
    assert both.sum() / either.sum() > 0.85
    # the garden plots of the corners are smaller than what the model is made for
    large = np.flatnonzero(np.bincount(truth.ravel()) >= 5000)
    keys = [segment_key(np.where(ids > 0, 1, 255), ids, none=BACKGROUND) for ids in (truth, found)]
    matches = match_segments(OverlapTable.of(*keys))
    hits = np.isin(large[large > 0], matches.truth - segment_key(np.uint8(1)))
    assert hits.sum() >= len(hits) - 1, "fields of half a hectare and more"
    assert parcels["area_ha"].sum() == pytest.approx((found > 0).sum() / 1e4, rel=0.02)


def test_strips_of_two_crops_are_told_apart(tmp_path: Path) -> None:
    with rasterio.open(DATA / "fields.tif") as file:
        pixels, affine, crs = file.read().astype(np.float32), file.transform, file.crs
    with rasterio.open(DATA / "fields_ids.tif") as file:
        ids = file.read(1)
    # the largest field in wavy strips of 24 m, every other one redder
    field = ids == np.bincount(ids.ravel())[1:].argmax() + 1
    row, col = np.mgrid[: ids.shape[0], : ids.shape[1]]
    wave = 12 * np.sin((0.8 * col - 0.6 * row) / 40)
    strip = ((0.8 * row + 0.6 * col + wave) // 24).astype(np.int32)
    pixels[:, field & (strip % 2 == 1)] += np.array([[35], [-10], [5]], np.float32)
    truth = np.where(field, strip - strip.min() + 1, 0)
    size = {"height": ids.shape[0], "width": ids.shape[1], "transform": affine, "crs": crs}
    with rasterio.open(
        tmp_path / "strips.tif", "w", driver="GTiff", count=3, dtype="uint8", **size
    ) as file:
        file.write(pixels.clip(0, 255).astype(np.uint8))
    target = tmp_path / "parcels.gpkg"
    done = CliRunner().invoke(geoseg, ["fields", str(tmp_path / "strips.tif"), "-o", str(target)])
    assert done.exit_code == 0, done.output
    shapes = ((shape, k) for k, shape in enumerate(gpd.read_file(target).geometry, 1))
    found = rasterize(shapes, out_shape=ids.shape, transform=affine, dtype="int32") * field
    keys = [segment_key(np.where(i > 0, 1, 255), i, none=BACKGROUND) for i in (truth, found)]
    quality = match_segments(OverlapTable.of(*keys)).quality()
    assert quality.tp + quality.fn == 19 and quality.tp >= 13


def test_a_scene_without_a_place_has_no_parcels(tmp_path: Path) -> None:
    with rasterio.open(DATA / "fields.tif") as file:
        pixels = file.read()
    with rasterio.open(
        tmp_path / "bare.tif", "w", driver="GTiff", count=3, dtype="uint8", width=560, height=560
    ) as file:
        file.write(pixels)
    done = CliRunner().invoke(geoseg, ["fields", str(tmp_path / "bare.tif")])
    assert done.exit_code == 2 and "has no CRS" in done.output
