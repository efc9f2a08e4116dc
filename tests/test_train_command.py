"""geoseg train: from files to a bundle that maps, and what it says of wrong input."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import rasterio.features
import shapely
import shapely.affinity
import shapely.geometry
import torch
from click.testing import CliRunner, Result
from rasterio.transform import from_origin
from scipy import ndimage

from geoseg.cli import geoseg
from geoseg.models.deep.architectures import Architecture, build
from geoseg.models.deep.bundle import open_bundle

SIZE = 256
FAST = ["--steps", "10", "--batch", "2", "--size-px", "64", "--threads", "1",
        "--checkpoint-every", "3", "--evaluate-every", "0"]  # fmt: skip
TINY = ["--encoder", "tu-mobilenetv3_small_050"]


def scene(path: Path, *, west: float = 500000.0, bands: int = 3, seed: int = 0) -> np.ndarray:
    """A scene of 1 m with bright blobs; True where they are."""
    rng = np.random.default_rng(seed)
    blobs = ndimage.gaussian_filter(rng.random((SIZE, SIZE)), 6) > 0.5
    values = 60 + 90 * blobs + rng.normal(0, 8, (bands, SIZE, SIZE))
    profile = {"driver": "GTiff", "count": bands, "dtype": "uint8", "crs": "EPSG:32633",
               "width": SIZE, "height": SIZE, "transform": from_origin(west, 5.4e6, 1, 1)}  # fmt: skip
    with rasterio.open(path, "w", **profile) as file:
        file.write(np.clip(values, 1, 255).astype(np.uint8))
    return blobs


def polygons(blobs: np.ndarray, west: float = 500000.0) -> gpd.GeoDataFrame:
    """Everything as polygons, by class."""
    transform = from_origin(west, 5.4e6, 1, 1)
    shapes = rasterio.features.shapes(blobs.astype(np.uint8), transform=transform)
    rows = [(shapely.geometry.shape(s), ("low", "high")[int(v)]) for s, v in shapes]
    return gpd.GeoDataFrame(
        {"category": [n for _, n in rows]}, geometry=[g for g, _ in rows], crs="EPSG:32633"
    )


def train(*arguments: Any) -> Result:
    return CliRunner().invoke(geoseg, ["train", *map(str, arguments)])


def refused(*arguments: Any) -> str:
    result = train(*arguments)
    assert result.exit_code == 2, result.output
    assert isinstance(result.exception, SystemExit), result.exception
    line = [x for x in result.output.splitlines() if x.startswith("geoseg:")][-1]
    return line


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path, np.ndarray]:
    blobs = scene(tmp_path / "scene.tif")
    polygons(blobs).to_file(tmp_path / "labels.gpkg")
    return tmp_path / "scene.tif", tmp_path / "labels.gpkg", blobs


def test_ends_with_a_bundle_that_maps_and_a_report(files, tmp_path: Path) -> None:
    image, labels, blobs = files
    out = tmp_path / "blobs.zip"
    result = train(image, "-l", labels, "-o", out, *FAST, "--lr", "5e-3", "--steps", "30")
    assert result.exit_code == 0, result.output
    assert re.search(r"step 30/30, loss [\d.]+, validation mIoU [\d.]+", result.output)
    assert not (tmp_path / "blobs.zip.geoseg-train").exists(), "nothing unfinished is left"
    bundle = open_bundle(out)
    assert [c.name for c in bundle.card.legend] == ["high", "low"]
    assert "not trained on" in bundle.card.accuracy
    page = (tmp_path / "blobs.html").read_text()
    assert page.count("<img") >= 3 and "Worst places" in page and "Confusion" in page
    assert "<script" not in page and "http" not in page
    mapped = CliRunner().invoke(
        geoseg, ["map", str(image), "--model", str(out), "-o", str(tmp_path / "map.tif"), "-q"]
    )
    assert mapped.exit_code == 0, mapped.output
    with rasterio.open(tmp_path / "map.tif") as file:
        found = file.read(1) == 0
    assert (found == blobs).mean() > 0.85


def command_line(image: Path, labels: Path, out: Path) -> list[str]:
    options = [*FAST, *TINY, "--focal", "1", "--seed", "3"]
    return [sys.executable, "-m", "geoseg.cli", "train", image, "-l", labels, "-o", out, *options]


def test_killed_and_run_again_gives_the_same_weights(files, tmp_path: Path) -> None:
    image, labels, _ = files
    assert train(*command_line(image, labels, tmp_path / "whole.zip")[4:]).exit_code == 0
    cut = tmp_path / "cut.zip"
    checkpoint = tmp_path / "cut.zip.geoseg-train" / "checkpoint.pt"
    process = subprocess.Popen(command_line(image, labels, cut), stderr=subprocess.DEVNULL)
    while process.poll() is None and not checkpoint.exists():
        time.sleep(0.005)
    process.kill()
    process.wait()
    assert not cut.exists(), "it was killed before its end"
    state = torch.load(checkpoint, weights_only=True)
    assert 0 < state["step"] < 10
    again = train(*command_line(image, labels, cut)[4:])
    assert again.exit_code == 0, again.output
    one, other = (open_bundle(tmp_path / n).read_weights() for n in ("whole.zip", "cut.zip"))
    for name, value in one.items():
        assert torch.equal(value, other[name]), name


def test_an_unfinished_training_of_something_else_is_refused(files, tmp_path: Path) -> None:
    image, labels, _ = files
    folder = tmp_path / "out.zip.geoseg-train"
    folder.mkdir()
    (folder / "job.json").write_text(json.dumps({"job": {}, "sha256": ""}))
    result = train(image, "-l", labels, "-o", tmp_path / "out.zip", *FAST)
    assert result.exit_code == 6 and "begun with other inputs" in result.output


def test_another_crs_is_reprojected_and_said(files, tmp_path: Path) -> None:
    from geoseg.learn.ground import LabelOptions, read_labels
    from geoseg.scene.opening import open_scene

    image, labels, _ = files
    opened = open_scene(image)
    straight = read_labels(opened, labels, LabelOptions(), 0)
    gpd.read_file(labels).to_crs("EPSG:4326").to_file(tmp_path / "degrees.gpkg")
    turned = read_labels(opened, tmp_path / "degrees.gpkg", LabelOptions(), 0)
    assert any("reprojected from WGS 84" in note for note in turned.notes)
    assert (straight.position == turned.position).mean() > 0.999


def test_a_raster_of_another_crs_is_warped_and_said(files, tmp_path: Path) -> None:
    from geoseg.learn.ground import LabelOptions, read_labels
    from geoseg.scene.opening import open_scene

    image, _, blobs = files
    profile = {"driver": "GTiff", "count": 1, "dtype": "uint8", "crs": "EPSG:32633", "nodata": 255,
               "width": SIZE, "height": SIZE, "transform": from_origin(500000, 5.4e6, 1, 1)}  # fmt: skip
    with rasterio.open(tmp_path / "same.tif", "w", **profile) as file:
        file.write(blobs.astype(np.uint8), 1)
    half = profile | {"width": SIZE // 2, "height": SIZE // 2}
    half["transform"] = from_origin(500000, 5.4e6, 2, 2)
    with rasterio.open(tmp_path / "half.tif", "w", **half) as file:
        file.write(blobs[::2, ::2].astype(np.uint8), 1)
    opened = open_scene(image)
    same = read_labels(opened, tmp_path / "same.tif", LabelOptions(), 0)
    assert same.names == ("0", "1") and not same.notes
    np.testing.assert_array_equal(same.position, blobs)
    other = read_labels(opened, tmp_path / "half.tif", LabelOptions(), 0)
    assert "warped" in other.notes[0]
    np.testing.assert_array_equal(other.position, blobs[::2, ::2].repeat(2, 0).repeat(2, 1))


def test_unlabelled_is_ignored_unless_an_extent_says_so(files, tmp_path: Path) -> None:
    from geoseg.learn.ground import LabelOptions, read_labels
    from geoseg.scene.opening import open_scene

    image, labels, blobs = files
    few = gpd.read_file(labels).query("category == 'high'")
    few.to_file(tmp_path / "few.gpkg", layer="labels")
    opened = open_scene(image)
    found = read_labels(opened, tmp_path / "few.gpkg", LabelOptions(), SIZE)
    assert found.names == ("high",)
    np.testing.assert_array_equal(found.position == 0, blobs)
    assert set(np.unique(found.position)) == {0, 255}
    box = gpd.GeoDataFrame(geometry=[shapely.box(500000, 5.4e6 - 100, 500256, 5.4e6)], crs=few.crs)
    box.to_file(tmp_path / "few.gpkg", layer="extent", mode="a")
    found = read_labels(opened, tmp_path / "few.gpkg", LabelOptions(background="rest"), SIZE)
    assert found.names == ("high", "rest")
    expected = np.where(blobs, 0, 255)
    expected[:100][~blobs[:100]] = 1
    np.testing.assert_array_equal(found.position, expected)


def test_wrong_input_says_what_is_wrong(files, tmp_path: Path) -> None:
    image, labels, _ = files
    frame = gpd.read_file(labels)
    out = ("-o", tmp_path / "out.zip", *FAST)

    off = tmp_path / "off.gpkg"
    frame.set_geometry(frame.translate(5000)).to_file(off)
    assert "no label lies on scene" in refused(image, "-l", off, *out)
    assert "unknown class 'low'" in refused(image, "-l", labels, "--classes", "high,x", *out)
    empty = refused(image, "-l", labels, "--classes", "high,low,mud", *out)
    assert "class 'mud' has no label" in empty
    one = tmp_path / "one.gpkg"
    frame.query("category == 'high'").to_file(one)
    assert "only one class, 'high'" in refused(image, "-l", one, *out)
    few = refused(image, "-l", labels, *out, "--size-px", "256", "--batch", "9")
    assert re.search(r"in 1 windows of 256 px, fewer than a batch of 9", few)
    assert "no column 'kind'" in refused(image, "-l", labels, "--column", "kind", *out)
    assert "no such file" in refused(image, "-l", tmp_path / "none.gpkg", *out)
    assert "3 scenes and 2" in refused(image, image, image, "-l", labels, "-l", labels, *out)
    bare = tmp_path / "bare.geojson"
    frame.set_crs(None, allow_override=True).to_file(tmp_path / "bare.shp")
    assert "has no CRS" in refused(image, "-l", tmp_path / "bare.shp", *out)
    bare.write_text('{"type": "FeatureCollection", "features": []}')
    refused(image, "-l", bare, *out)
    assert not list(tmp_path.glob("out*")), "nothing is left behind"


def test_self_intersecting_polygons_are_repaired_and_counted(files, tmp_path: Path) -> None:
    from geoseg.learn.ground import LabelOptions, read_labels
    from geoseg.scene.opening import open_scene

    image, _, _ = files
    bow = shapely.Polygon([(0, 0), (40, 40), (40, 0), (0, 40)])
    frame = gpd.GeoDataFrame(
        {"category": ["a", "b"]},
        geometry=[
            shapely.affinity.translate(bow, 500010, 5.4e6 - 60),
            shapely.box(500100, 5.4e6 - 50, 500120, 5.4e6 - 10),
        ],
        crs="EPSG:32633",
    )
    frame.to_file(tmp_path / "bow.gpkg")
    found = read_labels(open_scene(image), tmp_path / "bow.gpkg", LabelOptions(), 0)
    assert any("1 self-intersecting polygons are repaired" in note for note in found.notes)
    assert 700 < (found.position == 0).sum() < 900, "both wings of 400 px"


def test_several_scenes_with_a_folder_of_labels(tmp_path: Path) -> None:
    folder = tmp_path / "labels"
    folder.mkdir()
    images = []
    for number in (1, 2):
        image = tmp_path / f"scene{number}.tif"
        blobs = scene(image, west=500000.0 + 1000 * number, seed=number, bands=2)
        polygons(blobs, 500000.0 + 1000 * number).to_file(folder / f"scene{number}_labels.gpkg")
        images.append(image)
    result = train(*images, "-l", folder, "-o", tmp_path / "two.zip", *FAST, "--steps", "2")
    assert result.exit_code == 0, result.output
    assert open_bundle(tmp_path / "two.zip").architecture.bands == 2


def test_the_first_convolution_is_spread_over_other_bands(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    from geoseg.learn.start import start_from

    three = build(Architecture(name="unet", bands=3, classes=2))
    state = {k.removeprefix("encoder.model."): v.contiguous()
             for k, v in three.state_dict().items() if k.startswith("encoder.model.")}  # fmt: skip
    save_file(state, tmp_path / "encoder.safetensors")
    five = build(Architecture(name="unet", bands=5, classes=2))
    assert "tensors" in start_from(five, tmp_path / "encoder.safetensors", ("soil", "crop"))
    first = "encoder.model.conv_stem.weight"
    torch.testing.assert_close(five.state_dict()[first].sum(1), three.state_dict()[first].sum(1))
    second = "encoder.model.blocks.1.0.conv_pw.weight"
    assert torch.equal(five.state_dict()[second], three.state_dict()[second])


def test_every_fold_validates_once_and_finished_ones_are_kept(files, tmp_path: Path) -> None:
    image, labels, _ = files
    out = tmp_path / "m.zip"
    arguments = (image, "-l", labels, "-o", out, *FAST, *TINY, "--steps", "1",
                 "--folds", "2", "--cross-validate")  # fmt: skip
    result = train(*arguments)
    assert result.exit_code == 0, result.output
    assert not out.exists()
    kept = json.loads((tmp_path / "m-folds.json").read_text())
    bundles = [open_bundle(tmp_path / f"m-fold{k}.zip").card for k in (1, 2)]
    assert ["fold 1 of 2" in bundles[0].accuracy, "fold 2 of 2" in bundles[1].accuracy] == [
        True
    ] * 2
    mean = (kept["1"]["figures"]["mIoU"] + kept["2"]["figures"]["mIoU"]) / 2
    line = next(x for x in result.output.splitlines() if x.startswith("mIoU"))
    assert f"{mean:.4f}" in line
    (tmp_path / "m-fold2.zip").unlink()
    again = train(*arguments, "--overwrite")
    assert again.exit_code == 0 and "fold 1: " in again.output, again.output
    assert json.loads((tmp_path / "m-folds.json").read_text()) == kept
    assert "m-fold1.zip: exists already" in train(*arguments, "--lr", "0.1").output
    assert "leave --fold" in refused(*arguments, "--fold", "1")


def test_a_start_whose_classes_are_in_another_order_is_refused(tmp_path: Path) -> None:
    image, first = tmp_path / "scene.tif", tmp_path / "first.zip"
    polygons(scene(image)).to_file(tmp_path / "labels.gpkg")
    labels = ("-l", tmp_path / "labels.gpkg", *FAST, *TINY, "--steps", "1")
    assert train(image, *labels, "-o", first, "--classes", "low,high").exit_code == 0
    result = train(image, *labels, "-o", tmp_path / "second.zip", "--start", first)
    assert result.exit_code == 2
    assert f"--start {first}: its classes are low, high, here they are high, low" in result.output
    assert not (tmp_path / "second.zip").exists()
    again = ("--start", first, "--classes", "low,high")
    assert train(image, *labels, "-o", tmp_path / "second.zip", *again).exit_code == 0
