"""A halo that is measured is the one that the network's reach asks for."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter

import geoseg
from geoseg.cli import geoseg as program
from geoseg.engine.halo import HaloMeasure
from geoseg.errors import InputError
from geoseg.legend import Category, Legend
from geoseg.models.segmenter import LabelTile, ModelCard, TileResult

LEGEND = Legend((Category(1, "low", "#000000"), Category(2, "high", "#ffffff")), "two")


@dataclass(frozen=True)
class Mean:
    """Above the mean of (2 reach + 1) squared pixels; the tile's edge is padded with zeros."""

    reach: int
    vertical: bool = True
    horizontal: bool = True
    join: None = None

    @property
    def card(self) -> ModelCard:
        return ModelCard(name="mean", task="semantic", legend=LEGEND, tile_size=256, divisor=4)

    def predict(self, pixels: NDArray[Any], valid: NDArray[np.bool_]) -> list[TileResult]:
        size = [2 * self.reach * way + 1 for way in (self.vertical, self.horizontal)]
        tiles = []
        for tile in pixels:
            mean = uniform_filter(tile[0].astype(float), size, mode="constant")
            total = np.rint(mean * size[0] * size[1])  # running sums are not exact
            label = np.where(total > 100 * size[0] * size[1], 2, 1).astype(np.uint8)
            tiles.append(LabelTile(label, np.full(label.shape, 254, np.uint8)))
        return tiles

    def for_scene(self, scene: Any) -> tuple[Mean, list[str]]:
        return self, []


def noise(rows: int = 700, cols: int = 900) -> geoseg.Scene:
    pixels = np.random.default_rng(0).integers(0, 200, (1, rows, cols), np.uint8)
    return geoseg.from_array(pixels)


@pytest.mark.parametrize(("reach", "halo"), [(0, 0), (5, 8), (8, 8), (9, 16), (30, 32)])
@pytest.mark.parametrize("ways", [(True, True), (True, False), (False, True)])
def test_the_halo_is_the_reach(reach: int, halo: int, ways: tuple[bool, bool]) -> None:
    measured = geoseg.measure_halo(noise(), Mean(reach, *ways), places=6)
    assert measured.recommended == halo
    assert measured.interior == 0
    for h in measured.halos:
        share, error = measured.at(h)
        assert (share > 0) == (h < reach), h
        assert error >= 0 and (share == 0) == (error == 0)


def test_a_tile_that_is_too_small_says_so() -> None:
    measured = geoseg.measure_halo(noise(), Mean(70), places=4)
    assert measured.recommended is None
    assert "--tile-size 512" in str(measured)
    with pytest.raises(InputError, match="300 x 300 px are too few .* at most 200"):
        geoseg.measure_halo(noise(300, 300), Mean(3))
    with pytest.raises(InputError, match="too small to measure"):
        geoseg.measure_halo(noise(), Mean(3), tile_size=32)


def test_only_valid_pixels_are_compared() -> None:
    pixels = np.ma.masked_array(
        np.full((1, 600, 600), 150, np.uint8), np.zeros((1, 600, 600), bool)
    )
    pixels.mask[:, :, 300:] = True
    measured = geoseg.measure_halo(geoseg.from_array(pixels, nodata=None), Mean(3), places=1)
    assert (
        measured.compared.sum() == 128 * 64 + 128 * 128
    )  # half of the right one, all of the lower
    pixels.mask[:] = True
    with pytest.raises(InputError, match="no valid pixel"):
        geoseg.measure_halo(geoseg.from_array(pixels, nodata=None), Mean(3), places=1)


def test_methods_fitted_to_the_scene_have_their_halo() -> None:
    with pytest.raises(InputError, match="has the halo that it needs"):
        geoseg.measure_halo(noise(), "otsu:b1")


def test_the_standard_error_is_that_of_a_ratio() -> None:
    rng = np.random.default_rng(3)
    compared = rng.integers(500, 1500, (40, 8))
    differing = rng.binomial(compared, 0.1)
    share, error = HaloMeasure(tile_size=256, step=8, differing=differing, compared=compared).at(0)
    picks = rng.integers(0, 40, (4000, 40))
    again = differing[picks, 0].sum(axis=1) / compared[picks, 0].sum(axis=1)
    assert share == differing[:, 0].sum() / compared[:, 0].sum()
    assert error == pytest.approx(again.std(), rel=0.1)


def test_the_command_prints_both(tmp_path: Path) -> None:
    import rasterio

    pixels = np.random.default_rng(0).integers(0, 200, (3, 800, 800), np.uint8)
    scene = tmp_path / "scene.tif"
    profile = {"driver": "GTiff", "width": 800, "height": 800, "count": 3, "dtype": "uint8"}
    with rasterio.open(
        scene,
        "w",
        **profile,
        transform=rasterio.Affine(0.005, 0, 5e5, 0, -0.005, 5e6),
        crs="EPSG:32633",
    ) as out:
        out.write(pixels)
    call = ["plan", str(scene), "-m", "sauvola:b1", "--tile-size", "256", "--measure-halo"]
    result = CliRunner().invoke(program, [*call, "--places", "2", "--json"])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["measured_halo"]["places"] == 2
    # a window of 51 pixels reaches 25 far
    assert [row["halo"] for row in found["measured_halo"]["seams"] if row["share"] > 0] == [
        0,
        8,
        16,
        24,
    ]
    assert found["measured_halo"]["recommended"] in (24, 32)
    assert found["halo"] == 25
    text = CliRunner().invoke(program, [*call, "--places", "2"])
    assert "<- enough" in text.output
