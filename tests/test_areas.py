"""Areas: the worked example of Olofsson et al. 2014, and what must hold for any sample."""

from __future__ import annotations

import warnings
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pyogrio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geoseg.assess.areas import (
    allocate,
    draw_sample,
    error_matrix,
    estimate_areas,
    sample_size,
)
from geoseg.commands.areas import read_points
from geoseg.errors import InputError
from geoseg.grid import Window
from geoseg.shapes import read_shapes

CLASSES = ("deforestation", "forest gain", "stable forest", "stable non-forest")
COUNTS = [[66, 0, 5, 4], [0, 55, 8, 12], [1, 0, 153, 11], [2, 1, 9, 313]]
HECTARES = np.array([200_000, 150_000, 3_200_000, 6_450_000]) * 0.09  # Landsat pixels


def test_the_worked_example_of_the_paper() -> None:
    found = estimate_areas(COUNTS, HECTARES, CLASSES)
    half = found.interval(found.area_se)
    # section 5.2: hectares and their 95 % intervals; the paper rounds on its way
    np.testing.assert_allclose(found.area, [21158, 11686, 285770, 581386], rtol=2e-4)
    np.testing.assert_allclose(half, [6158, 3756, 15510, 16282], rtol=2e-3)
    np.testing.assert_allclose(found.users.round(2), [0.88, 0.73, 0.93, 0.96])
    np.testing.assert_allclose(found.interval(found.users_se).round(2), [0.07, 0.10, 0.04, 0.02])
    np.testing.assert_allclose(found.producers.round(2), [0.75, 0.85, 0.93, 0.96])
    assert found.interval(found.producers_se[[0, 2]]).round(2).tolist() == [0.21, 0.03]
    assert round(found.overall, 2) == 0.95
    assert float(found.interval(found.overall_se).round(2)) == 0.02
    assert sample_size(HECTARES, [0.7, 0.6, 0.9, 0.95], 0.01) == 641


def test_a_perfect_map_keeps_its_areas() -> None:
    found = estimate_areas(np.diag([10, 20, 30, 40]), HECTARES, CLASSES)
    np.testing.assert_allclose(found.area, HECTARES)
    np.testing.assert_allclose(found.area_se, 0, atol=1e-9)
    assert found.overall == pytest.approx(1)


matrices = st.integers(2, 5).flatmap(
    lambda k: st.tuples(
        st.lists(
            st.lists(st.integers(0, 40), min_size=k, max_size=k), min_size=k, max_size=k
        ).filter(lambda rows: all(sum(row) > 1 for row in rows)),
        st.lists(st.floats(1, 1e6), min_size=k, max_size=k),
    )
)


@settings(max_examples=60, deadline=None)
@given(matrices)
def test_areas_sum_to_the_mapped_area(case: tuple[list[list[int]], list[float]]) -> None:
    counts, area = case
    found = estimate_areas(counts, area, [str(i) for i in range(len(area))])
    assert found.area.sum() == pytest.approx(sum(area))
    assert found.proportions.sum() == pytest.approx(1)
    assert (found.area_se >= 0).all()
    # the area of a class and of everything else vary alike
    merged = np.asarray(counts)[:, :1], np.asarray(counts)[:, 1:].sum(1, keepdims=True)
    two = np.pad(np.hstack(merged), [(0, 0), (0, len(area) - 2)])
    rest = estimate_areas(two, area, [str(i) for i in range(len(area))])
    assert rest.area_se[0] == pytest.approx(rest.area_se[1])
    assert rest.area_se[0] == pytest.approx(found.area_se[0])


def test_the_standard_error_is_that_of_repeated_samples() -> None:
    rng = np.random.default_rng(5)
    truth = rng.random((100, 100)) < 0.3
    mapped = np.where(rng.random((100, 100)) < 0.15, ~truth, truth)
    area = np.array([(~mapped).sum(), mapped.sum()], float)
    areas, errors, producers, producers_errors = [], [], [], []
    strata = [np.flatnonzero(~mapped.ravel()), np.flatnonzero(mapped.ravel())]
    for _ in range(600):
        hits = [truth.ravel()[rng.choice(where, 60)].sum() for where in strata]
        found = estimate_areas([[60 - hits[0], hits[0]], [60 - hits[1], hits[1]]], area, "01")
        areas.append(found.area[1])
        errors.append(found.area_se[1])
        producers.append(found.producers[1])
        producers_errors.append(found.producers_se[1])
    assert np.mean(areas) == pytest.approx(truth.sum(), rel=0.02)
    assert np.mean(errors) == pytest.approx(np.std(areas), rel=0.1)
    assert np.mean(producers_errors) == pytest.approx(np.std(producers), rel=0.1)


def test_allocation_gives_rare_classes_enough() -> None:
    assert allocate(641, HECTARES, 75).sum() == 641
    assert allocate(641, HECTARES, 75).tolist()[:2] == [75, 75]
    assert allocate(100, [1.0, 0.0, 99.0], 10).tolist() == [10, 0, 90]
    with pytest.raises(InputError, match="draw more"):
        allocate(10, [1, 1, 1], 50)


def in_windows(categories: np.ndarray, size: int):
    def windows():
        for row in range(0, categories.shape[0], size):
            for col in range(0, categories.shape[1], size):
                part = categories[row : row + size, col : col + size]
                yield Window(row, col, *part.shape), part

    return windows


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([7, 16, 100]))
def test_a_sample_is_distinct_and_of_the_stratum(seed: int, size: int) -> None:
    categories = np.random.default_rng(1).integers(0, 4, (40, 50)).astype(np.uint8)
    points = draw_sample(in_windows(categories, size), {0: 20, 2: 35}, seed)
    assert len({(p.row, p.col) for p in points}) == 55
    assert all(categories[p.row, p.col] == p.category_id for p in points)
    assert sum(p.category_id == 2 for p in points) == 35


def test_every_pixel_is_as_likely() -> None:
    categories = np.array([[0, 1, 0, 0], [1, 0, 0, 1]], np.uint8)
    hits = np.zeros(categories.shape)
    for seed in range(2000):
        for point in draw_sample(in_windows(categories, 3), {0: 2}, seed):
            hits[point.row, point.col] += 1
    expected = 2000 * 2 / 5
    assert (hits[categories == 1] == 0).all()
    assert np.abs(hits[categories == 0] - expected).max() < 4 * np.sqrt(expected)


def test_points_with_their_style_are_read_without_a_word(tmp_path: Path) -> None:
    """As 'geoseg sample' writes them: the style is a second table."""
    points = gpd.GeoDataFrame(
        {"stratum": ["a", "b"], "reference": ["a", " "]},
        geometry=gpd.points_from_xy([0, 1], [0, 1]),
    )
    points.to_file(tmp_path / "p.gpkg", layer="p", engine="pyogrio")
    style = pd.DataFrame({"styleQML": ["<qgis/>"]})
    pyogrio.write_dataframe(style, tmp_path / "p.gpkg", layer="layer_styles", append=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_points(str(tmp_path / "p.gpkg"), "reference") == (["a"], ["a"], 1)


def test_wrong_input_says_what_is_wrong() -> None:
    with pytest.raises(InputError, match="two or more samples: b"):
        estimate_areas([[5, 0], [0, 1]], [1, 1], "ab")
    with pytest.raises(InputError, match="square matrix"):
        estimate_areas([[5, 0]], [1, 1], "ab")
    with pytest.raises(InputError, match="'c' is none of a, b"):
        error_matrix(["a"], ["c"], ["a", "b"])
    with pytest.raises(InputError, match="fewer than the 9 to draw"):
        draw_sample(in_windows(np.zeros((2, 2), np.uint8), 2), {0: 9})
    assert error_matrix(["a", "b"], ["b", "b"], ["a", "b"]).tolist() == [[0, 1], [0, 1]]


@pytest.mark.parametrize("where", ["s3://bucket/a.gpkg", "/vsicurl/http://127.0.0.1:9/a.gpkg"])
def test_shapes_are_not_looked_for_on_the_network(where: str) -> None:
    with pytest.raises(InputError, match="not a local file: fetch it"):
        read_shapes(where)
    with pytest.raises(InputError, match="not a local file: fetch it"):
        read_points(where, "reference")
