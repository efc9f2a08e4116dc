"""Scenes on other grids, stacked and in mosaics: a window is the crop of the whole, to the bit."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyproj
import pytest
from affine import Affine
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from scipy.ndimage import map_coordinates

from geoseg.errors import SceneError
from geoseg.grid import Window
from geoseg.scene.arrays import from_array
from geoseg.scene.mosaic import mosaic
from geoseg.scene.opening import open_scene
from geoseg.scene.reader import Scene
from geoseg.scene.regrid import Warped, gsd_for, on_grid, resampled
from geoseg.scene.stack import stack

DATA = Path(__file__).parent / "data"
NORTH_UP = Affine(10, 0, 500_000, 0, -10, 5_000_000)
UTM = "EPSG:32633"


def scene_of(array: np.ndarray, affine: Affine = NORTH_UP, crs: str | None = UTM) -> Scene:
    return from_array(array, crs=crs, transform=affine)


def noise(*shape: int, dtype: str = "uint16", holes: bool = False, seed: int = 1) -> np.ndarray:
    rng = np.random.default_rng(seed)
    out = rng.integers(1, 4000, shape).astype(dtype)
    if holes:
        out[..., rng.random(shape[-2:]) < 0.3] = 0
    return out


def utm_to(crs: str, ratio: float) -> GeoBox:
    """A grid in another CRS around the test scene, ``ratio`` times as coarse."""
    base = GeoBox((60, 80), NORTH_UP, UTM).to_crs(crs)
    return GeoBox.from_bbox(base.boundingbox, resolution=base.resolution.x * ratio)


CASES = {
    "half": lambda s: resampled(s, 20),
    "third": lambda s: resampled(s, 30),
    "odd-coarser": lambda s: resampled(s, 27.3),
    "double": lambda s: resampled(s, 5),
    "odd-finer": lambda s: resampled(s, 3.7),
    "shifted": lambda s: on_grid(
        s, GeoBox((50, 70), NORTH_UP @ Affine.translation(-3.25, 4.5) @ Affine.scale(1.7), UTM)
    ),
    "nearest": lambda s: on_grid(
        s, GeoBox((50, 70), NORTH_UP @ Affine.translation(-3, 4) @ Affine.scale(0.6), UTM),
        method="nearest",
    ),
    "degrees": lambda s: on_grid(s, utm_to("EPSG:4326", 0.8)),
    "degrees-coarser": lambda s: on_grid(s, utm_to("EPSG:4326", 2.4)),
    "mercator-nearest": lambda s: on_grid(s, utm_to("EPSG:3857", 1.1), method="nearest"),
    "rotated": lambda s: on_grid(
        s, GeoBox((60, 60), NORTH_UP @ Affine.rotation(30) @ Affine.scale(1.3), UTM)
    ),
    "south-up": lambda s: on_grid(s, GeoBox((60, 80), Affine(10, 0, 5e5, 0, 10, 4_999_400), UTM)),
    "stack": lambda s: stack(
        [s, replace(resampled(s, 20), name="coarse"), on_grid(s, utm_to("EPSG:3857", 1.0))]
    ),
    "mosaic": lambda s: mosaic([on_grid(s, utm_to("EPSG:3857", 1.0)), s]),
}  # fmt: skip


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
@pytest.mark.parametrize("case", CASES)
def test_a_window_is_the_crop_of_the_whole(case: str, dtype: str) -> None:
    array = noise(2, 60, 80, dtype=dtype, holes=True)
    if dtype == "float32":
        array[:, 30, 20:40] = np.nan
    scene = CASES[case](_holed(array))
    pixels, valid = scene.read()
    assert pixels.dtype == dtype and 0.2 < valid.mean() < 0.95
    assert np.isfinite(pixels[:, valid]).all()
    rng = np.random.default_rng(0)
    for _ in range(25):
        row, col = rng.integers(0, scene.shape[0]), rng.integers(0, scene.shape[1])
        height = rng.integers(1, min(40, scene.shape[0] - row) + 1)
        width = rng.integers(1, min(40, scene.shape[1] - col) + 1)
        window = Window(int(row), int(col), int(height), int(width))
        got, got_valid = scene.read(window)
        assert np.array_equal(got_valid, valid[window.slices])
        here = pixels[:, window.slices[0], window.slices[1]]
        assert np.array_equal(got[:, got_valid], here[:, got_valid])
    one = scene.read(window, [1, 0])[0]
    assert np.array_equal(one[:, got_valid], got[[1, 0]][:, got_valid])
    json.dumps(scene.reader.fingerprint())
    again = pickle.loads(pickle.dumps(scene))
    assert np.array_equal(again.read(window)[0], got, equal_nan=True)


def _holed(array: np.ndarray) -> Scene:
    return from_array(array, crs=UTM, transform=NORTH_UP, nodata=0)


# resampling to a GSD


def test_twice_as_coarse_is_the_mean_of_four() -> None:
    array = noise(3, 60, 80)
    scene = resampled(scene_of(array), 20)
    assert scene.shape == (30, 40) and scene.gsd_m == pytest.approx(20, rel=1e-3)
    means = array.reshape(3, 30, 2, 40, 2).mean(axis=(2, 4))
    assert np.array_equal(scene.read()[0], np.rint(means))
    assert scene.geobox.affine == NORTH_UP @ Affine.scale(2)


def test_invalid_pixels_take_no_part() -> None:
    array = np.array([[[8, 0, 0, 0], [0, 4, 0, 6]]], "uint8")
    pixels, valid = resampled(_holed(array), 20).read()
    assert valid.tolist() == [[True, False]]  # half of the pixels are enough, a quarter is not
    assert pixels[0, 0, 0] == 6


def test_a_fraction_is_weighted_by_area() -> None:
    array = np.arange(6, dtype="float32").reshape(1, 1, 6)
    pixels, valid = resampled(scene_of(array, Affine(10, 0, 5e5, 0, -15, 5e6)), 15).read()
    assert valid.all() and pixels.shape == (1, 1, 4)
    expected = [(0 + 1 / 2) / 1.5, (1 / 2 + 2) / 1.5, (3 + 4 / 2) / 1.5, (4 / 2 + 5) / 1.5]
    assert np.allclose(pixels[0, 0], expected, rtol=1e-3)


def test_what_lies_beyond_the_edge_weighs_nothing() -> None:
    array = np.array([[[2, 4, 8, 16, 32]]], "float64")
    box = GeoBox((1, 3), Affine(30, 0, 499_990, 0, -10, 5_000_000), UTM)
    pixels, valid = on_grid(scene_of(array), box).read()
    assert valid.tolist() == [[True, True, False]]
    assert pixels[0, 0, :2].tolist() == [3, 56 / 3]


def test_finer_is_bilinear_between_centres() -> None:
    array = noise(1, 12, 14, dtype="float32")
    pixels, valid = resampled(scene_of(array), 5).read()
    row, col = np.meshgrid(np.arange(24) / 2 - 0.25, np.arange(28) / 2 - 0.25, indexing="ij")
    expected = map_coordinates(array[0], [row, col], order=1, mode="nearest")
    assert valid.all() and np.allclose(pixels[0], expected, rtol=1e-5)


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(1, 40), cols=st.integers(1, 40), gsd=st.floats(2.6, 39),
    dtype=st.sampled_from(["uint8", "int16", "float64"]),
)  # fmt: skip
def test_a_constant_stays_and_means_stay_within(
    rows: int, cols: int, gsd: float, dtype: str
) -> None:
    array = noise(1, rows, cols, dtype=dtype)
    assume(min(rows, cols) * 10 > gsd / 2 * 1.02)
    scene = resampled(scene_of(array), gsd)
    assert abs(scene.shape[0] * gsd - rows * 10) <= max(gsd, 10) / 2 * 1.01 + rows * 0.1
    pixels, valid = scene.read()
    assert valid.all()
    last_digit = 1e-12 * array.max() if dtype == "float64" else 0
    assert pixels.min() >= array.min() - last_digit
    assert pixels.max() <= array.max() + last_digit
    flat = resampled(scene_of(np.full_like(array, 7)), gsd).read()[0]
    assert np.allclose(flat, 7, rtol=1e-12)


def test_the_same_gsd_is_the_same_scene_and_beyond_four_is_an_error() -> None:
    scene = scene_of(noise(1, 40, 40))
    assert resampled(scene, 10) is scene and resampled(scene, 10.05) is scene
    for gsd in (2.5, 40):
        assert resampled(scene, gsd).gsd_m == pytest.approx(gsd, rel=1e-3)
    for gsd in (2.4, 41):
        with pytest.raises(SceneError, match="use a GSD between"):
            resampled(scene, gsd)
    with pytest.raises(SceneError, match="half a pixel"):
        resampled(scene_of(noise(1, 1, 1)), 25)
    with pytest.raises(SceneError, match="unknown"):
        resampled(from_array(noise(1, 4, 4)), 10)


def test_the_gsd_of_a_model() -> None:
    scene = scene_of(noise(1, 40, 40))
    for wanted, expected in (
        (None, None), ((5, 20), None), ((10, 10), None), ((20, 30), 20), ((1, 5), 5),
        ((10.05, 12), None),
    ):  # fmt: skip
        assert gsd_for(scene, wanted) == expected
    with pytest.raises(SceneError, match="unknown"):
        gsd_for(from_array(noise(1, 4, 4)), (1, 2))


def test_degrees_are_resampled_in_metres() -> None:
    scene = scene_of(noise(1, 50, 50), Affine(1e-4, 0, 10, 0, -1e-4, 60), "EPSG:4326")
    assert resampled(scene, 12).gsd_m == pytest.approx(12, rel=0.01)


# other CRSs, against exact coordinates


@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:3857", "EPSG:32632"])
@pytest.mark.parametrize("method", ["nearest", "mean"])
def test_warping_agrees_with_exact_coordinates(crs: str, method: str) -> None:
    scene = open_scene(DATA / "austria" / "austria_two_dates.tif")
    source, _ = scene.read(bands=[0])
    target = on_grid(scene, scene.geobox.to_crs(crs), method=method)  # type: ignore[arg-type]
    pixels, valid = target.read(bands=[0])
    col, row = np.meshgrid(np.arange(target.shape[1]) + 0.5, np.arange(target.shape[0]) + 0.5)
    a, inverse = target.geobox.affine, ~scene.geobox.affine
    back = pyproj.Transformer.from_crs(crs, UTM, always_xy=True)
    x, y = back.transform(a.a * col + a.c, a.e * row + a.f)
    row, col = inverse.e * y + inverse.f, inverse.a * x + inverse.c
    inside = (row > 0) & (row < 120) & (col > 0) & (col < 128)
    assert (valid != inside).sum() <= 2 and valid.sum() > 10_000
    if method == "nearest":
        at = np.floor(row).astype(int), np.floor(col).astype(int)
        same = source[0][np.clip(at[0], 0, 119), np.clip(at[1], 0, 127)] == pixels[0]
        assert same[valid].mean() > 0.999
    else:
        expected = map_coordinates(
            source[0].astype(float), [row - 0.5, col - 0.5], order=1, mode="nearest"
        )
        assert isinstance(target.reader, Warped) and target.reader.points_per_side == 1
        assert np.abs(expected - pixels[0])[valid].max() <= 1.5


def test_points_average_where_the_target_is_coarser() -> None:
    scene = scene_of(noise(1, 60, 60, dtype="float32"))
    turned = GeoBox((20, 20), NORTH_UP @ Affine.translation(0, 60) @ Affine.scale(3, -3), UTM)
    target = on_grid(scene, turned)
    assert isinstance(target.reader, Warped) and target.reader.points_per_side == 3
    means = scene.read()[0][0].reshape(20, 3, 20, 3).mean(axis=(1, 3))[::-1]
    assert np.allclose(target.read()[0][0], means, rtol=1e-5)


def test_a_grid_without_crs_is_refused() -> None:
    with pytest.raises(SceneError, match="--assume-crs"):
        on_grid(scene_of(noise(1, 4, 4)), GeoBox((4, 4), NORTH_UP, None))


# stacks


def test_a_stack_of_one_grid_is_its_files() -> None:
    scene = open_scene(DATA / "austria" / "austria_two_dates.tif")
    dates = [scene.select(["1", "2", "3", "4"]), scene.select(["5", "6", "7", "8"])]
    both = stack([date.with_band_names(["red", "green", "blue", "nir"]) for date in dates])
    names = ["red", "green", "blue", "nir", "red_2", "green_2", "blue_2", "nir_2"]
    assert [band.name for band in both.bands] == names
    window = Window(7, 9, 50, 60)
    assert np.array_equal(both.read(window)[0], scene.read(window)[0])
    assert np.array_equal(both.read(window, [6, 1])[0], scene.read(window, [6, 1])[0])
    assert [band.name for band in stack(dates).bands] == [str(i) for i in range(1, 9)]


def test_a_stack_is_valid_where_all_that_is_read_is_valid() -> None:
    small = scene_of(noise(1, 10, 10), NORTH_UP @ Affine.translation(20, 5))
    large = scene_of(noise(2, 40, 50, dtype="uint8"))
    both = stack([large, small])
    assert both.shape == (40, 50) and both.dtype == "uint16"
    assert both.read(bands=[0, 1])[1].all()
    valid = both.read(bands=[1, 2])[1]
    assert valid.sum() == 100 and valid[5:15, 20:30].all()
    finest = stack([resampled(large, 20), small], grid="finest")
    assert finest.geobox == small.geobox and finest.read()[1].all()
    with pytest.raises(SceneError, match="at least one"):
        stack([])


# mosaics


def test_adjacent_cuts_are_the_whole_again() -> None:
    whole = open_scene(DATA / "parana" / "parana_collar.tif", nodata=0)
    parts = []
    for window in (Window(90, 0, 90, 120), Window(0, 0, 90, 200), Window(90, 120, 90, 80)):
        pixels, valid = whole.read(window)
        affine = whole.geobox.affine @ Affine.translation(window.col_off, window.row_off)
        parts.append(from_array(pixels, crs="EPSG:32621", transform=affine, valid=valid))
    scene = mosaic(parts)
    assert scene.geobox == whole.geobox
    for got, expected in zip(scene.read(), whole.read(), strict=True):
        assert np.array_equal(got * scene.read()[1], expected * whole.read()[1])
    assert scene.name == "array and 2 more"


def test_the_first_valid_pixel_wins() -> None:
    top = np.full((1, 4, 4), 1, "uint8")
    top[0, 0, 0] = 0
    first, second = _holed(top), scene_of(np.full((1, 4, 6), 2, "uint8"))
    pixels, valid = mosaic([first, second]).read()
    assert valid.all() and pixels[0, 0, 0] == 2 and (pixels[0, 1:, :4] == 1).all()
    assert (pixels[0, :, 4:] == 2).all()
    assert (mosaic([second, first]).read()[0] == 2).all()


def test_a_mosaic_reaches_up_and_left_of_the_first_and_leaves_gaps() -> None:
    first = scene_of(np.full((1, 3, 3), 1, "uint8"))
    other = scene_of(np.full((1, 2, 2), 2, "uint8"), NORTH_UP @ Affine.translation(-4, -5))
    scene = mosaic([first, other])
    assert scene.shape == (8, 7)
    pixels, valid = scene.read()
    assert valid.sum() == 13 and (pixels[0, :2, :2] == 2).all() and (pixels[0, 5:, 4:] == 1).all()


def test_what_does_not_fit_is_refused() -> None:
    one = scene_of(noise(1, 4, 4))
    with pytest.raises(SceneError, match="same bands"):
        mosaic([one, scene_of(noise(2, 4, 4))])
    with pytest.raises(SceneError, match="no georeference"):
        mosaic([one, from_array(noise(1, 4, 4))])
    with pytest.raises(SceneError, match="far apart"):
        mosaic([one, scene_of(noise(1, 4, 4), NORTH_UP @ Affine.translation(1e5, 1e5))])
    with pytest.raises(SceneError, match="at least one"):
        mosaic([])
