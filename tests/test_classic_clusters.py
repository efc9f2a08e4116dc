"""Clusters: exact sums, samples that don't depend on blocks, scikit-learn's results."""

from __future__ import annotations

import numpy as np
import pytest
from classic_runs import array_scene, fitted, run, run_model
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import KMeans
from sklearn.mixture import GaussianMixture
from test_classic_threshold import open_crop

from geoseg.errors import ModelError
from geoseg.grid import BlockGrid, TileGrid
from geoseg.legend import Category, Legend
from geoseg.models.classic import parse
from geoseg.models.classic.clusters import KMeansPass, centres_plus_plus, lloyd
from geoseg.models.classic.nearest import accumulate, assign
from geoseg.models.classic.objects import Labelled
from geoseg.models.classic.sample import ValueSample


@given(st.integers(0, 2**32 - 1), st.integers(0, 200), st.lists(st.integers(0, 200), max_size=4))
@settings(max_examples=50, deadline=None)
def test_samples_add_up_in_any_grouping(seed: int, pixels: int, cuts: list[int]) -> None:
    rng = np.random.default_rng(seed)
    values = rng.integers(-3, 4, (2, pixels)) * rng.choice([1.0, 0.1])
    whole = ValueSample.of(values, 16)
    parts = [
        ValueSample.of(p, 16) for p in np.split(values, sorted(c % (pixels + 1) for c in cuts), 1)
    ]
    total = parts[-1]
    for part in parts[-2::-1]:
        total = total + part
    assert total.hashes.tolist() == whole.hashes.tolist()
    assert total.counts.tolist() == whole.counts.tolist()
    assert (np.abs(total.values - whole.values) == 0).all()
    assert (total.pixels, total.complete) == (whole.pixels, whole.complete)
    distinct = len(np.unique(values, axis=1).T)
    assert whole.complete == (distinct <= 16)
    assert len(whole) == min(distinct, 16)


@given(
    st.integers(0, 2**32 - 1), st.integers(1, 700), st.integers(1, 6), st.integers(1, 5),
    st.sampled_from(["uint8", "float32", "float64"]),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_runs_of_pixels_go_to_the_first_nearest_centre(
    seed: int, pixels: int, classes: int, width: int, dtype: str
) -> None:
    rng = np.random.default_rng(seed)
    # few values: centres that are equally near, and runs that lie in a narrow box
    values = (rng.integers(0, 4, (width, pixels)) + 9 * (np.arange(pixels) // 300)).astype(dtype)
    usable = rng.random(pixels) < rng.choice([0.0, 0.7, 1.0])
    centres = rng.integers(0, 25, (classes, width)) / 2
    squares = ((values[:, None].astype(float) - centres.T[:, :, None]) ** 2).sum(0)
    assert (assign(values.astype(float), centres) == squares.argmin(0)).all()
    if dtype != "uint8":
        values[0, rng.random(pixels) < 0.1] = rng.choice([np.nan, np.inf])
    sums, counts = np.ones((classes, width), np.int64), np.ones(classes, np.int64)
    accumulate(values, usable, centres, np.zeros(width), np.ones(width), sums, counts)
    kept = usable & np.isfinite(values).all(0)
    nearest = squares.argmin(0)[kept]
    assert (counts == 1 + np.bincount(nearest, minlength=classes)).all()
    for feature, column in enumerate(values[:, kept]):
        assert (sums[:, feature] == 1 + np.bincount(nearest, column, classes)).all()


@pytest.mark.parametrize("name", ["naip", "parana"])
def test_k_means_is_scikit_learns_from_the_same_start(name: str) -> None:
    scene = open_crop(name)
    pixels, valid = scene.read()
    if name == "naip":  # floats too
        pixels = pixels.astype(np.float32) / np.float32(7)
        scene = array_scene(pixels, valid)
    model, _ = parse("kmeans:k=5").for_scene(scene)
    sample = model.observe(pixels, valid)
    start = centres_plus_plus(sample, 5)
    columns = pixels[:, valid].T.astype(np.float64)
    reference = KMeans(5, init=start, n_init=1, tol=1e-14, max_iter=1000).fit(columns)
    order = np.lexsort(reference.cluster_centers_.T[::-1])
    results = []
    for side in (50, 90):
        step = KMeansPass(model.card, model.features, start, sample, 0.0, 1000)
        while isinstance(step, KMeansPass):
            total = None
            for block in BlockGrid(TileGrid(scene.shape, side), 1):
                sums = step.observe(*scene.read(block.window))
                total = sums if total is None else total + sums
            step = step.fitted(total)
        results.append(step.centres)
        spread = np.abs(step.centres - reference.cluster_centers_[order]).max()
        assert spread < 1e-6 * np.abs(step.centres).max()
        labels = step.predict(pixels[None], valid[None])[0].category_id
        distance = ((columns[:, None] - step.centres) ** 2).sum(2)
        distance.sort(axis=1)
        ties = distance[:, 1] - distance[:, 0] < 1e-6 * distance[:, 1]
        assert (labels[valid] == np.argsort(order)[reference.labels_])[~ties].all()
        assert ties.mean() < 1e-3
        assert (labels[~valid] == 255).all()
    assert (results[0] == results[1]).all()


@pytest.mark.parametrize("spec", ["kmeans:k=4", "minibatch:k=4", "gmm:k=3", "kmeans:exg,b4:k=3"])
def test_clusters_do_not_depend_on_blocks(spec: str) -> None:
    scene = open_crop("naip")
    expected = run(spec, scene)["category_id"]
    assert len(np.unique(expected)) == int(spec[-1]) + 1  # 255 too
    for tile in (64, 41):
        assert (run(spec, scene, tile, 2)["category_id"] == expected).all()


def test_mini_batches_come_near_k_means() -> None:
    scene = open_crop("naip")
    full, mini = fitted("kmeans:k=5", scene), fitted("minibatch:k=5", scene)
    assert mini.inertia < 1.05 * full.inertia


@pytest.mark.parametrize("name", ["naip", "parana"])
def test_a_mixture_is_as_likely_as_scikit_learns(name: str) -> None:
    scene = open_crop(name)
    pixels, valid = scene.read()
    columns = pixels[:, valid].astype(np.float64)
    found = fitted("gmm:k=3", scene)
    sample = found.sample
    start = centres_plus_plus(sample, 3)
    start = lloyd(sample.values, sample.counts.astype(float), start, 0.0, 50)
    nearest = assign(np.ascontiguousarray(columns), start)
    covariances = [np.cov(columns[:, nearest == c], bias=True) for c in range(3)]
    reference = GaussianMixture(
        3,
        tol=1e-4,
        max_iter=200,
        means_init=[columns[:, nearest == c].mean(1) for c in range(3)],
        weights_init=np.bincount(nearest) / nearest.size,
        precisions_init=[np.linalg.inv(c) for c in covariances],
    ).fit(columns.T)
    own = found.gaussians.posterior(columns)[1].mean()
    assert own == pytest.approx(reference.score(columns.T), rel=1e-3)


def test_too_few_values_say_so() -> None:
    scene = array_scene(np.array([[[1, 2], [2, 1]]], np.uint8))
    with pytest.raises(ModelError, match="ask for fewer"):
        fitted("kmeans:k=3", scene)
    with pytest.raises(ModelError, match="ask for fewer"):
        fitted("gmm:k=2", scene)
    empty = array_scene(np.zeros((2, 9, 9), np.uint8), np.zeros((9, 9), bool))
    for spec in ("kmeans:k=3", "gmm:k=2", "minibatch:k=2", "slic:size=3,rounds=1"):
        assert (run(spec, empty, 6)["category_id"] == 255).all()


def test_objects_learn_from_samples_and_do_not_depend_on_tiles() -> None:
    scene = open_crop("naip")
    pixels, valid = scene.read()
    green, infrared = pixels[1].astype(float), pixels[3].astype(float)
    water = green - infrared > 0.2 * (green + infrared)
    classes = np.where(valid, water, 255).astype(np.uint8)
    classes[:, 130:] = 255  # train on the left half
    fit, _ = parse("objects:size=5,rounds=1").adapted(scene)
    legend = Legend((Category(0, "land", "#aa9977"), Category(1, "water", "#3377bb")))
    maps = []
    for core in (50, 100):
        grid = TileGrid(scene.shape, core + 2 * fit.card.halo, fit.card.halo, fit.card.divisor)
        objects = fit.described(fit.observe(pixels, valid))
        samples = []
        for tile in grid:
            known = array_scene(classes[None], valid).read(tile.read)[0][0]
            samples.append(Labelled(tile, *scene.read(tile.read), known))
        model = objects.train(samples, legend)
        maps.append(run_model(model, scene, core)["category_id"])
        assert sum(weight for _, weight in model.importances) == pytest.approx(1)
    assert (maps[0] == maps[1]).all()
    right = valid.copy()
    right[:, :130] = False
    assert (maps[0][right] == water[right]).mean() > 0.93
    with pytest.raises(ModelError, match="--samples"):
        fit.fitted(fit.observe(pixels, valid))
