"""Rows, pressure, prescription and task data."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import shapely
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from geoseg.cli import geoseg
from geoseg.errors import InputError
from geoseg.products.rows import find_rows, stand_table
from geoseg.products.taskdata import to_taskdata
from geoseg.products.weeds import SprayRule, grid_along, prescribe

ORIGIN = np.array([691_000.0, 5_363_000.0])


def plants(azimuth: float, spacing: float, seed: int = 0, jitter: float = 0.04) -> np.ndarray:
    """Plants in 12 rows of 15 m, a plant each 0.33 m, a fifth of them missing."""
    rng = np.random.default_rng(seed)
    along, row = np.meshgrid(np.arange(0, 15, 0.33), np.arange(12) * spacing)
    uv = np.stack([along.ravel(), row.ravel()], 1)[rng.random(along.size) > 0.2]
    uv = uv + rng.normal(0, jitter, uv.shape)
    a = np.deg2rad(azimuth)
    turn = np.array([[np.sin(a), np.cos(a)], [np.cos(a), -np.sin(a)]])
    return uv @ turn + ORIGIN


@settings(max_examples=12, deadline=None)
@given(st.floats(0, 179.9), st.floats(0.45, 0.9), st.integers(0, 99))
def test_rows_are_found(azimuth: float, spacing: float, seed: int) -> None:
    xy = plants(azimuth, spacing, seed)
    rows = find_rows(xy)
    off = abs((rows.azimuth_deg - azimuth + 90) % 180 - 90)
    assert off < 0.5
    assert rows.spacing_m == pytest.approx(spacing, rel=0.01)
    assert rows.strength > 0.8
    table = stand_table(xy, rows)
    assert len(table) == 12
    assert table["plants"].sum() == len(xy)
    assert table["plants_per_m"].mean() == pytest.approx(0.8 / 0.33, rel=0.1)


def test_a_given_direction_is_kept() -> None:
    rows = find_rows(plants(30, 0.75), azimuth_deg=30)
    assert rows.azimuth_deg == 30
    assert rows.spacing_m == pytest.approx(0.75, rel=0.01)


def test_too_few_plants() -> None:
    with pytest.raises(InputError, match="3 plants are too few"):
        find_rows(np.zeros((3, 2)))


def field(side: float = 20) -> shapely.Polygon:
    return shapely.box(*ORIGIN, *(ORIGIN + side))


def weeds(points: np.ndarray, radius: float = 0.05) -> gpd.GeoDataFrame:
    shapes = shapely.buffer(shapely.points(points + ORIGIN), radius)
    return gpd.GeoDataFrame(geometry=shapes, crs="EPSG:32632")


@settings(max_examples=25, deadline=None)
@given(st.floats(0, 180), st.floats(0.4, 3), st.floats(0.4, 3))
def test_cells_cover_the_field_once(azimuth: float, length: float, width: float) -> None:
    area = shapely.MultiPoint([(0, 0), (9, 1), (7, 8), (2, 6)]).convex_hull
    cells, place = grid_along(area, azimuth, (length, width))
    common = shapely.area(shapely.intersection(cells, area))
    assert common.sum() == pytest.approx(area.area, rel=1e-6)
    np.testing.assert_allclose(shapely.area(cells), length * width)
    assert len(np.unique(place, axis=0)) == len(cells)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 999), st.floats(0, 180))
def test_every_weed_is_counted_and_sprayed(seed: int, azimuth: float) -> None:
    points = np.random.default_rng(seed).uniform(1, 19, (40, 2))
    rule = SprayRule(cell_m=(1.0, 0.5), buffer_m=0.2)
    found = prescribe(weeds(points), field(), azimuth, rule)
    assert found.cells["weeds"].sum() == 40
    union = shapely.union_all(weeds(points).geometry.to_numpy())
    assert found.cells["weed_m2"].sum() == pytest.approx(union.area, rel=1e-6)
    sprayed = shapely.union_all(found.cells.geometry[found.cells["rate_l_ha"] > 0].to_numpy())
    spots = shapely.union_all(shapely.buffer(weeds(points).geometry.to_numpy(), 0.2))
    assert shapely.area(shapely.difference(spots, sprayed)) < 1e-6
    assert found.saving == pytest.approx(1 - found.sprayed_share)
    assert found.litres == pytest.approx(found.sprayed_share * 200 * 400 / 1e4)


def test_buffer_and_smallest_spot() -> None:
    points = np.array([[2.25, 2.25], [8.2, 8.2], [8.4, 8.2], [8.3, 8.4]])
    none = prescribe(weeds(points), field(), 0, SprayRule(smallest_spot_m2=1.0))
    assert none.sprayed_share == 0
    assert none.saving == 1
    near = prescribe(weeds(points), field(), 0, SprayRule(buffer_m=0.1, smallest_spot_m2=0.1))
    sprayed = near.cells[near.cells["rate_l_ha"] > 0]
    assert shapely.union_all(sprayed.geometry.to_numpy()).bounds[0] > ORIGIN[0] + 7, "one is small"
    wide = prescribe(weeds(points), field(), 0, SprayRule(buffer_m=0.5))
    tight = prescribe(weeds(points), field(), 0, SprayRule(buffer_m=0.0))
    assert wide.sprayed_share > tight.sprayed_share > 0


def test_doses_rise_with_the_cover() -> None:
    points = np.vstack([[[2.25, 2.25]], np.random.default_rng(0).uniform(10.05, 10.45, (60, 2))])
    rule = SprayRule(buffer_m=0.0, doses=((0.0, 80.0), (0.5, 150.0)))
    cells = prescribe(weeds(points), field(), 0, rule).cells
    assert cells["rate_l_ha"].max() == 150
    assert set(cells["rate_l_ha"]) == {0.0, 80.0, 150.0}
    for wrong in ((), ((0.5, 1.0), (0.1, 2.0)), ((0.0, 0.0),)):
        with pytest.raises(InputError, match="doses"):
            SprayRule(doses=wrong)


def test_task_data_says_what_the_prescription_says() -> None:
    points = np.random.default_rng(4).uniform(1, 19, (25, 2))
    found = prescribe(weeds(points), field(), 20, SprayRule(cell_m=(1.0, 1.0)))
    task = to_taskdata(found, "Südfeld")
    root = ET.fromstring(task.xml)
    assert root.tag == "ISO11783_TaskData"
    grid = root.find("TSK/GRD")
    cols, rows = int(grid.get("E")), int(grid.get("F"))
    assert len(task.grid) == rows * cols == int(grid.get("H"))
    rates = {int(z.get("A")): int(z.find("PDV").get("B")) for z in root.findall("TSK/TZN")}
    assert rates == {code: rate * 10_000 for code, rate in task.rates_l_ha.items()}
    assert rates[max(rates)] == 2_000_000, "200 l/ha in 0.01 mm³/m²"
    # the bytes, looked up at the weeds' places in degrees, give the full rate
    codes = np.frombuffer(task.grid, np.uint8).reshape(rows, cols)
    degrees = weeds(points).centroid.to_crs("EPSG:4326")
    row = ((degrees.y - float(grid.get("A"))) / float(grid.get("C"))).astype(int)
    col = ((degrees.x - float(grid.get("B"))) / float(grid.get("D"))).astype(int)
    assert np.mean([rates[c] > 0 for c in codes[row, col]]) > 0.95
    # the area that is sprayed is the same within the size of its cells
    cell_m2 = 0.5 * 0.5
    sprayed = sum(rates[c] > 0 for c in codes.ravel().tolist()) * cell_m2
    wanted = found.cells.geometry.area[found.cells["rate_l_ha"] > 0].sum()
    assert sprayed == pytest.approx(wanted, rel=0.05)


def test_a_category_that_is_not_there_is_said(tmp_path: Path) -> None:
    """A name that is spelt wrong must not pass for a field without weeds."""
    crop = weeds(plants(10.0, 0.7))
    crop["category"] = "crop"
    crop.to_file(tmp_path / "plants.gpkg")
    run = CliRunner().invoke(geoseg, ["weeds", str(tmp_path / "plants.gpkg"), "--weed", "thistle"])
    assert run.exit_code == 0, run.output
    assert "no polygon is 'thistle' (there are crop): nothing is sprayed" in run.output


def test_a_prescription_needs_metres() -> None:
    with pytest.raises(InputError, match="CRS in metres"):
        prescribe(weeds(np.ones((2, 2))).to_crs("EPSG:4326"), field(), 0, SprayRule())
    with pytest.raises(InputError, match="no area"):
        prescribe(weeds(np.ones((2, 2))), shapely.Polygon(), 0, SprayRule())
