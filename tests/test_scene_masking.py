"""Clouds, shadows and other masks: what is left out, and that it is counted once."""

from __future__ import annotations

import pickle
from itertools import pairwise
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st

from geoseg.errors import SceneError
from geoseg.grid import Window
from geoseg.scene.arrays import from_array
from geoseg.scene.masked import left_out, masked
from geoseg.scene.masking import ArrayMask, open_mask
from geoseg.scene.opening import open_scene
from geoseg.scene.regrid import resampled

NAIP = Path(__file__).parent / "data" / "naip_fields" / "naip_corner.tif"
NORTH_UP = Affine(10, 0, 500_000, 0, -10, 5_000_000)
UTM = "EPSG:32633"


def write(path: Path, pixels: np.ndarray, affine: Affine = NORTH_UP, **profile: object) -> Path:
    with rasterio.open(
        path, "w", driver="GTiff", count=len(pixels), height=pixels.shape[1],
        width=pixels.shape[2], dtype=pixels.dtype, crs=UTM, transform=affine, **profile,
    ) as dataset:  # fmt: skip
        dataset.write(pixels)
    return path


def named(path: Path, *names: str) -> Path:
    with rasterio.open(path, "r+") as dataset:
        dataset.descriptions = names
    return path


def image(rows: int = 20, cols: int = 30) -> np.ndarray:
    return np.random.default_rng(0).integers(1, 99, (2, rows, cols)).astype("uint16")


def test_scl_by_name_in_a_file(tmp_path: Path) -> None:
    pixels = np.concatenate([image(), np.arange(600).reshape(1, 20, 30) % 12]).astype("uint16")
    path = named(write(tmp_path / "a.tif", pixels), "B02", "B03", "SCL")
    scene = open_scene(path, mask="SCL", bands=["B03", "B02"])
    valid = scene.read()[1]
    kept = {int(v) for v in np.unique(pixels[2][valid])}
    assert kept == {2, 4, 5, 6, 7, 11}
    assert np.array_equal(scene.read()[0], pixels[[1, 0]])
    for name in ("SCL", "QA_PIXEL"):
        with pytest.raises(SceneError, match="no band"):
            open_scene(write(tmp_path / "b.tif", image()), mask=name)


def test_qa_pixel_bits_in_a_file(tmp_path: Path) -> None:
    # values of real Landsat 8 Collection 2 scenes, with what USGS says they mean
    meaning = {
        21824: True, 21952: True, 30048: True, 1: False, 22280: False, 23888: False,
        54596: False, 22018: False,
    }  # fmt: skip
    # clear, water, snow; fill, cloud, cloud shadow, cirrus, dilated cloud
    qa = np.array([[list(meaning)]], "uint16")
    path = named(write(tmp_path / "a.tif", np.concatenate([qa, qa])), "red", "QA_PIXEL")
    scene = open_scene(path, mask="QA_PIXEL", bands=["red"])
    assert scene.read()[1][0].tolist() == list(meaning.values())


def test_polygons_in_another_crs(tmp_path: Path) -> None:
    path = tmp_path / "clouds.geojson"
    box = shapely.box(500_050, 4_999_900, 500_100, 4_999_960)
    gpd.GeoDataFrame(geometry=[box], crs=UTM).to_crs(4326).to_file(path)
    scene = open_scene(write(tmp_path / "a.tif", image()), mask=path)
    valid = scene.read()[1]
    assert not valid[4:10, 5:10].any() and valid.sum() == 600 - 30
    assert np.array_equal(scene.read(Window(3, 4, 9, 9))[1], valid[3:12, 4:13])
    far = tmp_path / "far.geojson"
    gpd.GeoDataFrame(geometry=[shapely.box(0, 0, 1, 1)], crs=4326).to_file(far)
    with pytest.raises(SceneError, match="mask region"):
        open_scene(tmp_path / "a.tif", mask=far)


def test_a_raster_on_another_grid(tmp_path: Path) -> None:
    flags = np.zeros((1, 10, 15), "uint8")
    flags[0, 2, 3], flags[0, 5, 5] = 1, 255
    mask = write(tmp_path / "m.tif", flags, NORTH_UP @ Affine.scale(2), nodata=255)
    scene = open_scene(write(tmp_path / "a.tif", image()), mask=mask)
    valid = scene.read()[1]
    assert not valid[4:6, 6:8].any() and valid.sum() == 600 - 4  # 255 is nodata: it masks nothing
    with pytest.raises(SceneError, match="float32"):
        open_scene(tmp_path / "a.tif", mask=write(tmp_path / "f.tif", flags.astype("float32")))
    with pytest.raises(SceneError, match="neither a file"):
        open_scene(tmp_path / "a.tif", mask="clouds.tif")


def test_a_raster_of_another_place_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", image())
    elsewhere = write(tmp_path / "m.tif", image()[:1], NORTH_UP @ Affine.translation(0, 40))
    with pytest.raises(SceneError, match=r"m\.tif: lies beside a\.tif"):
        open_scene(path, mask=elsewhere)


def test_a_map_of_another_model() -> None:
    labels = np.zeros((20, 30), "uint8")
    labels[3:6], labels[10] = 4, 7
    scene = from_array(image(), crs=UTM, transform=NORTH_UP)
    mask = ArrayMask(labels, "clouds", {"cloud": 4, "shadow": 7})
    covered = masked(scene, mask)
    valid = covered.read()[1]
    assert not valid[3:6].any() and not valid[10].any() and valid.sum() == 600 - 4 * 30
    assert left_out(covered, covered.window) == {
        "nodata": 0, "clouds: cloud": 90, "clouds: shadow": 30,
    }  # fmt: skip
    assert masked(scene) is scene
    assert masked(scene, mask).reader.fingerprint() != scene.reader.fingerprint()


@settings(max_examples=30, deadline=None)
@given(
    cuts=st.lists(st.integers(1, 255), max_size=4, unique=True),
    seed=st.integers(0, 9),
)
def test_counts_add_up_over_any_partition(cuts: list[int], seed: int) -> None:
    scene = open_scene(NAIP)
    rng = np.random.default_rng(seed)
    masks = [
        ArrayMask(rng.integers(0, 6, (256, 256)).astype("uint8"), name, {"a": 1, "b": 2})
        for name in ("first", "second")
    ]
    covered = pickle.loads(pickle.dumps(masked(scene, *masks)))
    whole = left_out(covered, covered.window)
    valid = covered.read()[1]
    assert sum(whole.values()) + valid.sum() == 256 * 256
    assert whole["nodata"] == (~scene.read()[1]).sum() == left_out(scene, scene.window)["nodata"]
    edges = [0, *sorted(cuts), 256]
    total = dict.fromkeys(whole, 0)
    for start, stop in pairwise(edges):
        part = left_out(covered, Window(start, 0, stop - start, 256))
        total = {reason: total[reason] + part[reason] for reason in whole}
    assert total == whole


def test_masks_come_before_resampling(tmp_path: Path) -> None:
    labels = np.zeros((20, 30), "uint8")
    labels[:10] = 1
    scene = from_array(image(), crs=UTM, transform=NORTH_UP)
    small = resampled(masked(scene, ArrayMask(labels, "m", {"cloud": 1})), 20)
    assert not small.read()[1][:5].any() and small.read()[1][5:].all()


def test_several_masks(tmp_path: Path) -> None:
    pixels = np.concatenate([image(), np.full((1, 20, 30), 4)]).astype("uint16")
    pixels[2, 0] = 9
    path = named(write(tmp_path / "a.tif", pixels), "B02", "B03", "SCL")
    flags = np.zeros((1, 20, 30), "uint8")
    flags[0, -1] = 1
    scene = open_scene(path, mask=["SCL", str(write(tmp_path / "m.tif", flags))])
    counts = left_out(scene, scene.window)
    assert counts == {
        "nodata": 0, "SCL: defective": 0, "SCL: shadow": 0, "SCL: cloud": 30, "m.tif: masked": 30,
    }  # fmt: skip
    assert len(open_mask(open_scene(path), "scl")) == 1
