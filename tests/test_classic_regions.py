"""Edges, floods and regions: the same map however the scene is cut, equal to a reference."""

from __future__ import annotations

import numpy as np
import pytest
from classic_runs import array_scene, fitted, run
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from skimage.feature import canny
from skimage.filters import sobel
from skimage.segmentation import felzenszwalb, watershed
from sklearn.metrics import adjusted_rand_score
from test_classic_threshold import open_crop, whole

from geoseg.models.classic import parse
from geoseg.models.classic.relief import smoothed

METHODS = [
    "canny:b1:low=0.02,high=0.05,sigma=1.5",
    "contours:b1:low=0.02,high=0.05,sigma=1.5",
    "sobel:b1:threshold=0.03",
    "watershed:b1:sigma=2,spacing=5",
    "watershed:exg:on=distance,spacing=5,reach=20",
    "grow:b1,b2:tolerance=0.03",
    "quadtree:b1,b2:split=0.1,merge=0.02,largest=16",
    "felzenszwalb:b1,b2,b3:scale=2",
    "slic:b1,b2,b3:size=6,rounds=2",
]


@pytest.mark.parametrize("spec", METHODS)
def test_tiled_is_whole(spec: str) -> None:
    scene = open_crop("naip")
    expected = run(spec, scene)
    divisor = parse(spec).card.divisor
    for tile, side in ((48, 1), (33, 2)):
        found = run(spec, scene, -(-tile // divisor) * divisor, side)
        for name, array in expected.items():
            assert (found[name] == array).all(), (name, tile)
    ids = expected.get("instance_id")
    if ids is not None:
        # dense, in the order of first pixels, never on what is not valid
        unique, first = np.unique(ids[ids > 0], return_index=True)
        assert unique.tolist() == list(range(1, int(ids.max()) + 1))
        assert (np.diff(first) > 0).all()
        assert not ids[expected["category_id"] == 255].any()


@given(st.integers(0, 2**32 - 1), st.integers(5, 20), st.integers(1, 3), st.sampled_from(METHODS))
@settings(max_examples=30, deadline=None)
def test_tiled_is_whole_on_noise_with_holes(seed: int, tile: int, side: int, spec: str) -> None:
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(6, 40, 2))
    # few levels: many ties
    pixels = rng.integers(0, 5, (3, *shape)).astype(np.uint8) * 50
    valid = rng.random(shape) > rng.choice([0.0, 0.1, 0.4])
    scene = array_scene(pixels, valid)
    expected = run(spec, scene)
    divisor = parse(spec).card.divisor
    found = run(spec, scene, -(-tile // divisor) * divisor, side)
    for name, array in expected.items():
        assert (found[name] == array).all(), name
    assert (expected["category_id"][~valid] == 255).all()


def test_edges_are_scikit_images() -> None:
    for name, band in (("naip", 0), ("parana", 1), ("potato", 2)):
        scene = open_crop(name)
        pixels, valid = scene.read()
        levels = (0.01, 0.02) if name == "parana" else (0.03, 0.08)
        top = np.iinfo(pixels.dtype).max
        spec = f"canny:b{band + 1}:sigma=1.5,low={levels[0]},high={levels[1]}"
        edges = run(spec, scene, 70)["category_id"]
        expected = canny(pixels[band], 1.5, levels[0] * top, levels[1] * top, mask=valid)
        assert 0 < expected.sum() < expected.size / 2
        assert (edges[valid] == expected[valid]).all()
        steep = run(f"sobel:b{band + 1}:threshold=0.02", scene, 70)["category_id"]
        inner = ndimage.binary_erosion(valid, np.ones((3, 3)), border_value=1)
        magnitude = sobel(pixels[band], mode="mirror")
        assert (steep[inner] == (magnitude > 0.02)[inner]).all()
        regions = run(spec.replace("canny", "contours"), scene, 70)["instance_id"]
        assert (regions == ndimage.label(valid & ~expected)[0]).all()


@pytest.mark.parametrize(
    "spec,share",
    [
        ("watershed:b1:sigma=2,spacing=5", 0.985),
        ("watershed:b1:sigma=1,spacing=9", 0.97),
        ("watershed:exg:on=distance,spacing=5,reach=20", 0.93),
    ],
)
def test_watershed_is_close_to_scikit_images(spec: str, share: float) -> None:
    scene = open_crop("naip")
    model = fitted(spec, scene)
    pixels, valid = scene.read(bands=scene.band_indices(model.card.bands))
    values, usable = model.features.value(pixels, valid)
    relief, flooded, markers = model.join.relief(values[None], usable)
    found = run(spec, scene, 64)["instance_id"]
    seeds = np.where(markers, found, 0).astype(int)
    assert len(np.unique(seeds)) == markers.sum() + 1  # a marker each
    expected = watershed(relief, seeds, mask=flooded)
    assert (found == expected)[flooded].mean() >= share


def test_basins_are_connected_and_hold_their_marker() -> None:
    scene = open_crop("naip")
    found = run("watershed:b1:sigma=2,spacing=5", scene, 50)["instance_id"]
    for label, window in enumerate(ndimage.find_objects(found.astype(int)), 1):
        assert ndimage.label(found[window] == label)[1] == 1


def test_growing_stops_at_the_tolerance_and_starts_at_seeds() -> None:
    pixels = np.zeros((1, 30, 40), np.float32)
    pixels[0, :, 20:] = 1.0
    scene = array_scene(pixels)
    model = parse("grow:b1:tolerance=0.01,sigma=0").with_seeds([(3, 4), (20, 10)])
    from classic_runs import run_model

    found = run_model(model, scene, 16)["instance_id"]
    assert set(np.unique(found[:, :20])) == {1, 2}
    assert not found[:, 20:].any()
    assert found[3, 4] != found[20, 10]


def test_felzenszwalb_is_scikit_images() -> None:
    for name, scale in (("naip", 2), ("potato", 20)):
        scene = open_crop(name, hole=False)
        pixels, valid = scene.read(bands=(0, 1, 2))
        smooth = np.stack([smoothed(band / 255.0, valid, 0.8) for band in pixels], axis=2)
        expected = felzenszwalb(smooth, scale=scale, sigma=0, min_size=1)
        found = run(f"felzenszwalb:b1,b2,b3:scale={scale}", scene, 64)["instance_id"]
        # steps of equal length come in no particular order there
        assert adjusted_rand_score(expected.ravel(), found.ravel()) > 0.99


def test_quadtree_squares_are_even() -> None:
    scene = open_crop("naip")
    found = run("quadtree:b1:split=0.1,merge=0,largest=16", scene, 48)["instance_id"]
    values = whole(scene, "b1")[0] / 255.0
    ids = np.arange(1, int(found.max()) + 1)
    spread = ndimage.maximum(values, found, ids) - ndimage.minimum(values, found, ids)
    same_mean = ndimage.standard_deviation(values, found, ids)
    assert np.median(spread) <= 0.1
    assert same_mean.max() <= 0.1


def test_superpixels_are_connected_and_of_their_size() -> None:
    scene = open_crop("potato", hole=False)
    found = run("slic:size=8,rounds=3", scene, 96)["instance_id"]
    sizes = np.bincount(found.ravel())[1:]
    assert 40 < np.median(sizes) < 90
    parts = [
        ndimage.label(found[window] == label)[1]
        for label, window in enumerate(ndimage.find_objects(found.astype(int)), 1)
    ]
    assert np.mean(np.array(parts) == 1) > 0.99
