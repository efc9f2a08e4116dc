"""Thresholds of a scene in blocks are scikit-image's of the whole array."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from classic_runs import array_scene, fitted, run
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from skimage import filters

from geoseg.errors import ModelError
from geoseg.models.classic import METHODS, parse
from geoseg.models.classic.counts import ValueCounts
from geoseg.models.classic.formula import parse_formula
from geoseg.models.classic.indices import INDICES, Features
from geoseg.models.classic.multiotsu import multiotsu
from geoseg.models.classic.objects import ObjectFit
from geoseg.models.classic.rules import Histogram
from geoseg.scene.reader import Scene

DATA = Path(__file__).parent / "data" / "classic"


def open_crop(name: str, *, hole: bool = True) -> Scene:
    with rasterio.open(DATA / f"{name}.tif") as source:
        pixels = source.read()
    valid = np.ones(pixels.shape[1:], bool)
    if hole:
        valid[40:90, 60:130] = False
        valid[:, :3] = False
        pixels[:, ~valid] = 0
    names = {"parana": ["blue", "green", "red"]}.get(name)
    return array_scene(pixels, valid, names)


def whole(scene: Scene, feature: str) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    features, _ = Features.parse([feature]).for_scene(scene)
    pixels, valid = scene.read(bands=scene.band_indices(features.bands))
    return features.value(pixels, valid)


REFERENCES = {
    "otsu": filters.threshold_otsu,
    "multiotsu": filters.threshold_multiotsu,
    "triangle": filters.threshold_triangle,
    "li": lambda values: filters.threshold_li(values.copy()),
}
FEATURES = [
    ("naip", "ndwi"),
    ("naip", "b4"),
    ("potato", "exg"),
    ("potato", "(b2-b1)/(b2+b1)"),
    ("parana", "red"),
    ("parana", "(green-red)/(green+red)"),
]


@pytest.mark.parametrize("name,feature", FEATURES)
@pytest.mark.parametrize("method", REFERENCES)
def test_labels_are_those_of_the_whole_array(method: str, name: str, feature: str) -> None:
    scene = open_crop(name)
    values, usable = whole(scene, feature)
    thresholds = np.atleast_1d(REFERENCES[method](values[usable]))
    for tile, side in ((None, 1), (41, 2)):
        labels = run(f"{method}:{feature}", scene, tile, side)["category_id"]
        assert (labels[~usable] == 255).all()
        expected = np.digitize(values[usable], thresholds, right=True)
        assert (labels[usable] == expected).all()
        found = fitted(f"{method}:{feature}", scene, tile or 300).thresholds
        # Li's mean is summed in another order than numpy's on the whole array
        np.testing.assert_allclose(found, thresholds, rtol=1e-12 if method == "li" else 0)


def test_percentile_valley_and_peak() -> None:
    scene = open_crop("naip")
    values, usable = whole(scene, "ndvi")
    found = fitted("percentile:ndvi:33.3", scene).thresholds[0]
    assert found == pytest.approx(np.percentile(values[usable], 33.3), rel=1e-14)
    water, water_usable = whole(scene, "ndwi")
    found = fitted("valley:ndwi", scene).thresholds[0]
    assert found == filters.threshold_minimum(water[water_usable])
    # a background of known spread and a few bright objects
    rng = np.random.default_rng(1)
    noisy = rng.normal(100, 5, (1, 200, 200)).astype(np.float32)
    noisy[0, 20:40, 20:40] = rng.normal(200, 5, (20, 20))
    (threshold,) = fitted("peak:b1", array_scene(noisy)).thresholds
    assert 100 + 2 * 5 < threshold < 100 + 4 * 5
    labels = run("peak:b1", array_scene(noisy), 50)["category_id"]
    assert labels[20:40, 20:40].all()


@given(
    st.lists(st.integers(0, 60), min_size=3, max_size=60),
    st.integers(2, 4),
    st.integers(0, 2**32 - 1),
)
@settings(max_examples=25, deadline=None)
def test_wide_multiotsu_finds_an_optimum(values: list[int], classes: int, seed: int) -> None:
    counts = np.random.default_rng(seed).integers(1, 50, len(values))
    whole_values = np.repeat(values, counts)
    if len(set(values)) <= classes:
        return
    histogram = Histogram.of_values(ValueCounts.of(whole_values))
    narrow = multiotsu(histogram, classes)
    spread = np.zeros(90 * histogram.counts.size, np.int64)
    spread[::90] = histogram.counts  # the same histogram, too wide for the table
    wide = Histogram(spread[: spread.size - 89], np.arange(spread.size - 89))
    found = [t // 90 + int(histogram.centres[0]) for t in multiotsu(wide, classes)]

    def variance(thresholds: Any) -> float:
        place = np.digitize(whole_values, thresholds, right=True)
        parts = [whole_values[place == c] for c in range(classes)]
        return sum(p.size * (p.mean() - whole_values.mean()) ** 2 for p in parts if p.size)

    # scikit-image adds up in float32, and at times misses the best by a little
    assert variance(found) >= variance(narrow) * (1 - 1e-9)


@given(st.lists(st.integers(-5, 5), max_size=40), st.integers(0, 40), st.booleans())
def test_value_counts_add_up(values: list[int], cut: int, whole_numbers: bool) -> None:
    array = np.array(values, np.int16 if whole_numbers else np.float32)
    total = ValueCounts.of(array[:cut]) + ValueCounts.of(array[cut:])
    unique, counts = np.unique(array, return_counts=True)
    assert total.values is not None
    assert total.values.tolist() == unique.tolist()
    assert total.counts.tolist() == counts.tolist()


@pytest.mark.parametrize("sign", [">", ">=", "<", "<="])
def test_fixed_thresholds_compare_as_written(sign: str) -> None:
    scene = array_scene(np.arange(6, dtype=np.uint8).reshape(1, 2, 3))
    labels = run(f"threshold:b1{sign}3", scene)["category_id"]
    assert labels.tolist() == eval(f"(np.arange(6).reshape(2, 3) {sign} 3).astype(int)").tolist()


def test_sauvola_is_scikit_images_wherever_tiles_begin() -> None:
    scene = open_crop("naip", hole=False)
    for spec, feature, window, spread in (
        ("sauvola:b1:window=25", "b1", 25, 127.5),
        ("sauvola:ndvi:window=31,r=0.5,k=0.1", "ndvi", 31, 0.5),
    ):
        values, _ = whole(scene, feature)
        k = 0.1 if "k=" in spec else 0.2
        levels = filters.threshold_sauvola(values, window, k, spread)
        near = np.abs(values - levels) <= 1e-9 * np.maximum(np.abs(values), np.abs(levels))
        first = None
        for tile in (None, 64, 41):
            labels = run(spec, scene, tile)["category_id"]
            assert (labels == (values > levels))[~near].all()
            first = labels if first is None else first
            assert (labels == first).all()


def test_nodata_and_undefined_values_never_enter() -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(1, 200, (2, 40, 40)).astype(np.uint8)
    pixels[:, 5, 5] = 0  # 0/0
    valid = np.ones((40, 40), bool)
    clean = fitted("otsu:(b1-b2)/(b1+b2)", array_scene(pixels, valid)).thresholds
    pixels[:, :10], valid[:10] = 255, False
    pixels[0, 0, :] = 0
    masked = fitted("otsu:(b1-b2)/(b1+b2)", array_scene(pixels, valid)).thresholds
    only = fitted("otsu:(b1-b2)/(b1+b2)", array_scene(pixels[:, 10:])).thresholds
    assert masked == only
    assert clean != masked
    labels = run("otsu:(b1-b2)/(b1+b2)", array_scene(pixels, valid), 16)["category_id"]
    assert (labels[:10] == 255).all()


def test_a_scene_of_one_value_or_none() -> None:
    flat = array_scene(np.full((1, 9, 9), 7, np.uint8))
    for method in ("otsu", "multiotsu", "triangle", "li", "percentile", "peak"):
        assert (run(f"{method}:b1", flat)["category_id"] == 0).all()
    empty = array_scene(np.zeros((1, 9, 9), np.float32), np.zeros((9, 9), bool))
    for method in ("otsu", "multiotsu", "triangle", "li", "percentile", "peak", "valley"):
        assert (run(f"{method}:b1", empty, 4)["category_id"] == 255).all()


def test_formulas_agree_with_the_catalogue() -> None:
    spyndex = pytest.importorskip("spyndex")
    rng = np.random.default_rng(0)
    names = {"red": "R", "green": "G", "blue": "B", "nir": "N", "swir1": "S1"}
    bands = {name: rng.random((4, 5)) for name in names}
    params = {symbol: bands[name] for name, symbol in names.items()}
    for name in INDICES:
        official = {"exg": "ExG"}.get(name, name.upper())
        # SAVI's L is 0.5 where EVI's is 1
        constants = {"g": 2.5, "C1": 6.0, "C2": 7.5, "L": 0.5 if name == "savi" else 1.0}
        expected = spyndex.computeIndex(official, params | constants)
        found = parse_formula(INDICES[name].formula)(bands)
        np.testing.assert_allclose(found, expected, rtol=1e-12, err_msg=name)


@pytest.mark.parametrize(
    "text",
    ["__import__('os')", "b1.real", "b1[0]", "lambda: 1", "b1 if b2 else b3", "open(b1)", "b1 and b2",
     "True", "'b1'", "b1*1e301", "b1*" + "9" * 320, "b1(", "3 + 4", "b1 @ b2", "sqrt(b1, b2)", "1 < b1", "b1 " + "+ b1 " * 200],
)  # fmt: skip
def test_formulas_are_only_arithmetic(text: str) -> None:
    with pytest.raises(ModelError):
        parse_formula(text)


def test_whole_numbers_far_apart_take_bounded_memory() -> None:
    rng = np.random.default_rng(0)
    near = rng.integers(0, 9, (1, 40, 50))
    pixels = (near + 2_000_000_000 * (rng.random((1, 40, 50)) < 0.4)).astype(np.int32)
    scene = array_scene(pixels)
    for method in ("otsu", "triangle", "peak", "multiotsu:classes=2"):
        name, _, option = method.partition(":")
        labels = run(f"{name}:b1:{option}", scene, 16)["category_id"]
        assert set(np.unique(labels)) == {0, 1}
        if "otsu" in name:
            assert (labels == (pixels[0] > 1_000_000_000)).all()
    squares = array_scene(rng.integers(0, 65536, (1, 40, 50)).astype(np.uint16))
    (found,) = fitted("otsu:b1*b1", squares).thresholds
    values = squares.read()[0].astype(np.int64) ** 2
    expected = filters.threshold_otsu(values.astype(np.float64), nbins=1 << 20)
    assert found == pytest.approx(expected, rel=1e-6)


@given(st.lists(st.integers(0, 65535), min_size=4, max_size=4), st.sampled_from([
    "b1*b2*b3*b4", "b1*b1*b1-b2*b3*b4", "-b1*b2*b3*b4*b1", "abs(b1-b2)*b3*b4*b4+1",
    "max(b1, 10000000000)*b2*b3", "b1*99999999999999999999", "min(b1*b2, b3)*3 - b4",
    "9999999999*9999999999*b1/9999999999", "b1 - 18446744073709551616 + 18446744073709551616",
]))  # fmt: skip
def test_formulas_never_wrap_around(values: list[int], text: str) -> None:
    bands = {f"b{i + 1}": np.array([[v]], np.uint16) for i, v in enumerate(values)}
    (found,) = parse_formula(text)(bands).ravel().tolist()
    exact = eval(text, {}, {name: int(band[0, 0]) for name, band in bands.items()})
    assert found == pytest.approx(exact, rel=1e-12, abs=2**13 if "184467" in text else 0)


def test_whole_numbers_stay_whole() -> None:
    bands = {n: np.array([[250, 3]], np.uint8) for n in ("red", "green", "blue")}
    value = parse_formula("2*green-red-blue")(bands)
    assert value.dtype == np.int64
    assert parse_formula("b1 / 2")({"b1": np.array([[3]], np.uint8)}).tolist() == [[1.5]]
    assert parse_formula("-b1^2")({"b1": np.array([[3.0]])}).tolist() == [[-9.0]]


def test_bands_are_found_by_name_number_and_wavelength() -> None:
    sentinel = array_scene(np.zeros((4, 2, 2), np.uint16), names=["B04", "B08", "B8A", "B11"])
    features, warnings = Features.parse(["ndvi"]).for_scene(sentinel)
    assert features.bands == ("B04", "B08")
    assert not warnings
    by_number, _ = Features.parse(["b8-b3"]).for_scene(sentinel)
    assert by_number.bands == ("B08", "B8A")
    unnamed = array_scene(np.zeros((4, 2, 2), np.uint8))
    assert "does not name its bands" in Features.parse(["ndvi"]).for_scene(unnamed)[1][0]
    with pytest.raises(ModelError, match="swir1"):
        Features.parse(["ndbi"]).for_scene(unnamed)
    assert "scale=0.0001" in Features.parse(["evi"]).for_scene(unnamed)[1][-1]


@pytest.mark.parametrize(
    "text,says",
    [
        ("otsuu:ndvi", "known are threshold, otsu"),
        ("otsu", "otsu:ndvi"),
        ("otsu:ndvi,ndwi", "takes one index"),
        ("otsu:ndvi:bins=3", "no option 'bins'"),
        ("multiotsu:ndvi:9", "from 2 to 5"),
        ("multiotsu:ndvi:2.5", "whole number"),
        ("percentile:ndvi:101", "from 0 to 100"),
        ("percentile:ndvi:90:80", "no option '80'"),
        ("otsu:ndvi:3", "no option '3'"),
        ("kmeans:5", "no option '5': kmeans takes k,"),
        ("sauvola:b1:window=4", "odd"),
        ("kmeans:k=1", "from 2 to 200"),
        ("canny:b1:low=0.5,high=0.1", "swap"),
        ("threshold:ndvi", "threshold:ndvi>0.4"),
        ("quadtree:b1:largest=48", "power of two"),
        ("watershed:b1:on=colour", "one of gradient, distance"),
    ],
)
def test_bad_specs_say_what_to_write(text: str, says: str) -> None:
    with pytest.raises(ModelError, match=says):
        parse(text)


def test_every_example_is_a_model_that_can_travel() -> None:
    import pickle

    scene = open_crop("naip")
    for summary, example in METHODS.values():
        model = parse(example)
        assert summary.endswith(".")
        # Objects are refused by for_scene until they have samples; what travels then is adapted.
        adapt = model.adapted if isinstance(model, ObjectFit) else model.for_scene
        adapted, _ = adapt(scene)
        assert pickle.loads(pickle.dumps(adapted)).card == adapted.card
        assert adapted.card.to_dict()["name"] == example
