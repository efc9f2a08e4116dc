"""``geoseg coco``: any map as a COCO file that reads back as the same map."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from click.testing import CliRunner
from odc.geo.geobox import GeoBox

from geoseg.cli import geoseg
from geoseg.engine.segmentmap import SegmentMap
from geoseg.labels.coco import read_coco
from geoseg.legend import Category, Legend

LEGEND = Legend(
    (
        Category(0, "soil", "#885500"),
        Category(3, "maize", "#00ff00", isthing=True),
        Category(7, "weed", "#ff0000", isthing=True),
    ),
)
WHERE = Affine(0.5, 0, 500_000, 0, -0.5, 5_300_000)


def call(*arguments: object, code: int = 0) -> str:
    done = CliRunner().invoke(geoseg, [str(a) for a in arguments])
    assert done.exit_code == code, done.output
    if code:
        assert len(done.output.strip().splitlines()) == 1, done.output
    return done.output


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """A map of 40 x 56 px with stuff, things of two categories, and pixels without any."""
    rng = np.random.default_rng(5)
    instance = np.kron(rng.permutation(35).reshape(5, 7), np.ones((8, 8), int)).astype(np.uint32)
    category = np.where(instance % 3 == 0, 0, np.where(instance % 3 == 1, 3, 7)).astype(np.uint8)
    category[:, 50:] = 255
    instance[np.isin(category, [0, 255])] = 0
    score = np.where(category == 255, 255, (instance * 7) % 255).astype(np.uint8)
    geobox = GeoBox((40, 56), WHERE, "EPSG:32633")
    path = tmp_path / "map.zarr"
    SegmentMap.from_arrays(
        category, geobox, LEGEND, instance_id=instance, score=score, url=str(path)
    )
    return path


@pytest.mark.parametrize("task", ["panoptic", "instance"])
def test_a_kept_map_reads_back_as_itself(kept: Path, task: str) -> None:
    out = kept.with_name("out.json")
    said = call("coco", kept, "-o", out, *([] if task == "panoptic" else ["--task", task]))
    before = SegmentMap.open(str(kept))
    legend, images = read_coco(out)
    (image,) = images
    assert [(c.id, c.name, c.isthing) for c in legend] == [
        (c.id, c.name, c.isthing) for c in LEGEND
    ]
    category = before.category_id.copy()
    if task == "instance":
        category[category == 0] = 255
    np.testing.assert_array_equal(image.category_id, category)
    np.testing.assert_array_equal(image.instance_id, before.instance_id)
    things = before.instance_id > 0
    np.testing.assert_array_equal(image.score[things], before.score[things])
    assert image.transform == tuple(WHERE)[:6]
    assert GeoBox((40, 56), WHERE, image.crs).crs == before.geobox.crs
    assert f"{len(np.unique(before.instance_id)) - (task == 'instance')} segments" in said
    figures = kept.with_name("figures.json")
    call("evaluate", kept, out, "--json", figures)
    found = json.loads(figures.read_text())["panoptic"]
    assert found["things"]["pq"] == 1.0
    assert found["all" if task == "panoptic" else "things"]["pq"] == 1.0
    again = kept.with_name("again.json")  # COCO in, COCO out: place and all
    call("coco", out, "-o", again, "--image", image.file_name, "--task", task)
    assert json.loads(again.read_text()) == json.loads(out.read_text())
    left = {p.name for p in kept.parent.iterdir()}
    assert not any("part" in name for name in left)


def test_rasters_and_polygons_are_written(kept: Path) -> None:
    tif, out = kept.with_name("scene.tif"), kept.with_name("out.json")
    before = SegmentMap.open(str(kept))
    profile = {"driver": "GTiff", "dtype": "uint16", "count": 1, "height": 40, "width": 56}
    with rasterio.open(tif, "w", crs="EPSG:32633", transform=WHERE, **profile) as file:
        file.write(before.instance_id.astype(np.uint16), 1)
    call("coco", tif, "-o", out)
    (image,) = read_coco(out)[1]
    np.testing.assert_array_equal(image.instance_id, before.instance_id)
    assert (image.file_name, image.transform) == ("scene.tif", tuple(WHERE)[:6])
    polygons = kept.with_name("map.gpkg")
    call("polygonize", kept, "-o", polygons, "-q")
    call("coco", polygons, "--like", tif, "-o", out, "--overwrite", "--task", "panoptic")
    (image,) = read_coco(out)[1]
    np.testing.assert_array_equal(image.category_id, before.category_id)
    assert image.file_name == "scene.tif"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (["missing.zarr", "-o", "x.json"], "missing.zarr"),
        (["map.zarr", "-o", "x.gpkg"], "x.gpkg: is not one of .json"),
        (["map.zarr", "-o", "nowhere/x.json"], "there is no folder"),
        (["map.zarr", "-o", "there.json"], "there.json: exists already"),
        (["map.zarr", "-o", "held.json"], "held/map.png: exists already"),
        (["stuff.zarr", "-o", "x.json", "--task", "instance"], "use --task panoptic"),
        (["huge.json", "-o", "x.json"], "10000000 x 10000000 px"),
        (["huge.json", "-o", "x.json", "--task", "panoptic"], "10000000 x 10000000 px"),
    ],
)
def test_what_is_wrong_is_one_line(
    kept: Path, monkeypatch: pytest.MonkeyPatch, change: list[str], says: str
) -> None:
    monkeypatch.chdir(kept.parent)
    Path("there.json").write_text("{}")
    Path("held").mkdir()
    Path("held/map.png").write_text("someone's picture")
    stuff = Legend((Category(0, "soil", "#885500"),))
    geobox = GeoBox((4, 5), WHERE, "EPSG:32633")
    SegmentMap.from_arrays(np.zeros((4, 5), np.uint8), geobox, stuff, url="stuff.zarr")
    image = {"id": 1, "file_name": "a.tif", "height": 10**7, "width": 10**7}
    categories = [{"id": 1, "name": "plant"}]
    runs = {"size": [10**7, 10**7], "counts": [5, 10**14 - 5]}
    note = {"id": 1, "image_id": 1, "category_id": 1, "segmentation": runs}
    document = {"images": [image], "categories": categories, "annotations": [note]}
    Path("huge.json").write_text(json.dumps(document))
    files = {p: p.stat().st_mtime_ns for p in Path().rglob("*")}
    assert says in call("coco", *change, code=2)
    assert {p: p.stat().st_mtime_ns for p in Path().rglob("*")} == files
