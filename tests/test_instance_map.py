"""Bundles of networks of things, mapped to polygons: the same at any block size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import torch
from affine import Affine
from overfit import read

from geoseg.legend import Category, Legend
from geoseg.models.catalogue import load_model
from geoseg.models.deep.architectures import Architecture, build
from geoseg.models.deep.bundle import write_bundle
from geoseg.models.segmenter import ModelCard
from geoseg.pipeline import RunOptions, map_scene
from geoseg.radiometry import Normalization

TINY = "tu-mobilenetv3_small_050"
FIELD = Category(1, "field", "#e6ab02", True)
THINGS, MIXED = Legend((FIELD,)), Legend((Category(0, "rest", "#a6761d"), FIELD))
NETWORKS: dict[str, tuple[Legend, int, dict[str, Any], dict[str, Any]]] = {
    # legend, classes, options, parameters by which weights that learnt nothing find things
    "parcels": (THINGS, 3, {}, {"extent": 0.45, "dynamics": 0.02}),
    "centers": (THINGS, 2, {}, {"threshold": 0.3}),
    "panoptic_deeplab": (MIXED, 2, {}, {"threshold": 0.3}),
    "mask_rcnn": (THINGS, 1, {"width": 32}, {"min_score": 0.05, "min_free": 0.1}),
    "panoptic_fpn": (MIXED, 2, {"width": 32, "things": 1}, {"min_score": 0.05, "min_free": 0.1}),
}


def bundle(folder: Path, name: str) -> Path:
    torch.manual_seed(3)
    legend, classes, options, parameters = NETWORKS[name]
    given = Architecture(name=name, encoder=TINY, bands=3, classes=classes, options=options)
    card = ModelCard(
        name=name,
        task="panoptic" if legend is MIXED else "instance",
        legend=legend,
        bands=("red", "green", "blue"),
        normalization=Normalization(scale=(1 / 64,), mean=(2.0,), std=(1.0,)),
        tile_size=128,
        halo=32,
        divisor=32,
        parameters=parameters,
    )
    path = folder / f"{name}.zip"
    write_bundle(path, card, given, build(given).state_dict())
    return path


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    pixels = read("fields")[:, :192, :224]
    profile = {"driver": "GTiff", "dtype": "uint8", "count": 3, "height": 192, "width": 224}
    path = tmp_path / "scene.tif"
    where = Affine(1, 0, 500_000, 0, -1, 5_300_000)
    with rasterio.open(path, "w", crs="EPSG:32633", transform=where, **profile) as file:
        file.write(pixels)
    return path


RUNS = [
    RunOptions(block_tiles=1, workers=-1, batch=2, threads=1),
    RunOptions(block_tiles=16, workers=0, batch=2, threads=1),
    RunOptions(block_tiles=2, workers=0, batch=2, threads=1),
]
PROCESSES = RunOptions(block_tiles=1, workers=2, batch=2, threads=1)
FILES = ("map.gpkg", "map.parquet", "map.tif")


def written(scene: Path, model: Path, run: RunOptions, number: int) -> Path:
    """A folder with the map in several formats, of one name whatever the run."""
    folder = scene.parent / f"{model.stem}-{number}"
    folder.mkdir()
    map_scene(str(scene), str(model), [str(folder / name) for name in FILES], run)
    return folder


@pytest.mark.parametrize(
    ("name", "runs"),
    [
        pytest.param("parcels", RUNS),
        pytest.param("centers", [*RUNS, PROCESSES], marks=pytest.mark.slow),
        pytest.param("panoptic_deeplab", RUNS[:2], marks=pytest.mark.slow),
        pytest.param("mask_rcnn", [RUNS[0], PROCESSES], marks=pytest.mark.slow),
        pytest.param("panoptic_fpn", RUNS[:2], marks=pytest.mark.slow),
    ],
)
def test_a_bundle_of_things_is_mapped(scene: Path, name: str, runs: list[RunOptions]) -> None:
    """The same bytes in every file, whatever the blocks and workers."""
    model = bundle(scene.parent, name)
    assert load_model(model).card.name == name
    first, *others = [written(scene, model, run, n) for n, run in enumerate(runs)]
    for other in others:
        for file in FILES:
            assert (first / file).read_bytes() == (other / file).read_bytes(), (file, other)
    found = gpd.read_parquet(first / "map.parquet")
    things = found[found["isthing"]]
    assert len(things)
    numbers = np.unique(things["instance_id"].astype(int))
    np.testing.assert_array_equal(numbers, np.arange(1, len(numbers) + 1))
    if NETWORKS[name][0] is MIXED:
        assert found["pixels"].sum() == 192 * 224
