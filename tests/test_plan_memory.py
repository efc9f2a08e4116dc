"""The projected memory of methods without a network: above what they take, and near it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine

import geoseg
from geoseg.scene.arrays import from_array

ONE_RUN = """
import sys
import geoseg
from geoseg.engine.blocks import peak_bytes
scene = geoseg.open_scene(sys.argv[1])
plan = geoseg.plan(scene, sys.argv[2])
geoseg.segment(scene, sys.argv[2])
print(plan.projected_bytes, peak_bytes())
"""


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """3000 x 3000 px of three bands: coarse squares with noise on them."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(30, 220, (3, 100, 100), np.uint8).repeat(30, 1).repeat(30, 2)
    pixels += rng.integers(0, 25, pixels.shape, np.uint8)
    path = tmp_path_factory.mktemp("memory") / "scene.tif"
    profile = {"driver": "GTiff", "count": 3, "height": 3000, "width": 3000, "dtype": "uint8"}
    place = Affine(1, 0, 500000, 0, -1, 5200000)
    with rasterio.open(path, "w", crs="EPSG:32633", transform=place, tiled=True, **profile) as file:
        file.write(pixels)
        file.descriptions = ("red", "green", "blue")
    return path


@pytest.mark.slow
@pytest.mark.parametrize(
    "method", ["otsu:exg", "kmeans:k=5", "watershed:exg:on=distance,spacing=15"]
)
def test_peak_is_below_the_projection_and_near_it(scene: Path, method: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", ONE_RUN, str(scene), method],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    projected, peak = map(int, done.stdout.split())
    assert peak / 1.1 < projected < 2.5 * peak, f"{peak / 2**20:.0f} of {projected / 2**20:.0f} MB"


def test_a_method_without_a_network_is_not_charged_for_one() -> None:
    scene = from_array(np.zeros((3, 4096, 4096), np.uint8), bands=["red", "green", "blue"])
    plan = geoseg.plan(scene, "otsu:exg")
    assert plan.projected_bytes < 1 << 30
    small = geoseg.plan(scene, "otsu:exg", memory=600 << 20)
    assert small.projected_bytes <= 600 << 20
    assert small.blocks.size < plan.blocks.size
