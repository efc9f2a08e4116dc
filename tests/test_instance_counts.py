"""What stands for an object, and how many lie where."""

from __future__ import annotations

from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from click.testing import CliRunner
from hypothesis import example, given, settings
from hypothesis import strategies as st

from geoseg.cli import geoseg
from geoseg.errors import InputError
from geoseg.products.counts import count_table, grid_cells


def run(*words: object, code: int = 0) -> str:
    result = CliRunner().invoke(geoseg, [str(word) for word in words])
    assert result.exit_code == code, result.output
    return result.output


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    """A ring, whose centre of mass lies outside of it, and a block; 10 m pixels."""
    array = np.zeros((40, 60), np.uint8)
    array[5:25, 5:25] = 1
    array[8:22, 8:22] = 0
    array[30:36, 40:50] = 2
    path = tmp_path / "labels.tif"
    profile = {"driver": "GTiff", "dtype": "uint8", "count": 1, "height": 40, "width": 60}
    where = Affine(10, 0, 500_000, 0, -10, 5_300_000)
    with rasterio.open(path, "w", crs="EPSG:32633", transform=where, **profile) as file:
        file.write(array, 1)
    return path


@pytest.mark.parametrize("suffix", ["gpkg", "parquet"])
def test_boxes_and_points_stand_for_the_same_objects(labels: Path, suffix: str) -> None:
    frames = {}
    for kind in ("polygon", "box", "point"):
        out = labels.with_name(f"{kind}.{suffix}")
        run("polygonize", labels, "-o", out, "--leave-out", 0, "--geometry", kind, "-q")
        frames[kind] = gpd.read_parquet(out) if suffix == "parquet" else gpd.read_file(out)
    outlines = frames["polygon"].geometry
    assert (frames["point"].geom_type == "Point").all()
    assert (frames["box"].geom_type == "MultiPolygon").all()
    assert outlines.contains(frames["point"].geometry).all()
    assert not outlines.contains(outlines.centroid).all()
    np.testing.assert_array_equal(frames["box"].bounds, outlines.bounds)
    assert (shapely.area(shapely.box(*outlines.bounds.to_numpy().T)) == frames["box"].area).all()
    for kind in ("box", "point"):
        table = frames[kind].drop(columns="geometry")
        assert table.equals(frames["polygon"].drop(columns="geometry"))


def test_a_map_has_points_too(tmp_path: Path) -> None:
    scene = tmp_path / "scene.tif"
    pixels = np.zeros((64, 64), np.uint8)
    pixels[10:20, 10:20] = pixels[40:60, 40:50] = 200
    profile = {"driver": "GTiff", "dtype": "uint8", "count": 1, "height": 64, "width": 64}
    where = Affine(1, 0, 500_000, 0, -1, 5_300_000)
    with rasterio.open(scene, "w", crs="EPSG:32633", transform=where, **profile) as file:
        file.write(pixels, 1)
    run("map", scene, "-m", "otsu:b1", "-o", tmp_path / "p.gpkg", "--geometry", "point", "-q")
    frame = gpd.read_file(tmp_path / "p.gpkg")
    assert (frame.geom_type == "Point").all()
    assert sorted(frame["pixels"]) == [100, 200, 64 * 64 - 300]
    said = run(
        "map", scene, "-m", "otsu:b1", "-o", tmp_path / "q.gpkg", "-o", tmp_path / "q.qgz",
        "--geometry", "point", "-q", code=2,
    )  # fmt: skip
    assert "project" in said


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.3, 9))
@example(250, 1 / 3)  # cells had a gap of one bit between them
def test_every_object_counts_once(seed: int, side: float) -> None:
    rng = np.random.default_rng(seed)
    places = np.round(rng.uniform(-20, 20, (80, 2)), 1)  # some on the borders of cells
    cells = grid_cells((*places.min(0), *places.max(0)), side)
    names = rng.choice(np.array(["a", "b"], object), 80)
    hectares = np.full(len(cells), side**2 / 1e4)
    table = count_table(shapely.points(places), names, cells, hectares)
    assert table["count"].sum() == 80
    assert (table["count"] == table["count_a"] + table["count_b"]).all()
    whole = shapely.union_all(cells)
    assert whole.area == pytest.approx(side**2 * len(cells))
    brute = np.zeros(len(cells), int)
    for x, y in places:
        brute[np.flatnonzero(shapely.intersects_xy(cells, x, y))[0]] += 1
    np.testing.assert_array_equal(table["count"], brute)


def test_counts_per_cell_and_per_zone(labels: Path) -> None:
    things, folder = labels.with_name("things.gpkg"), labels.parent
    run("polygonize", labels, "-o", things, "--leave-out", 0, "-q")
    said = run("count", things, "--cell", 100, "-o", folder / "cells.gpkg")
    assert said.startswith("2 of 2 objects in 2 zones")
    cells = gpd.read_file(folder / "cells.gpkg")
    assert cells["count"].sum() == 2
    assert cells["per_ha"].max() == pytest.approx(1.0, rel=2e-3)  # a cell is a hectare
    west = shapely.box(500_000, 5_299_000, 500_300, 5_300_000)
    zones = gpd.GeoDataFrame({"stand": ["west"]}, geometry=[west], crs="EPSG:32633")
    zones.to_crs("EPSG:4326").to_file(folder / "zones.gpkg")
    run("count", things, "--zones", folder / "zones.gpkg", "-o", folder / "stands.gpkg")
    stands = gpd.read_file(folder / "stands.gpkg")
    assert stands["stand"].tolist() == ["west"]
    assert stands["count"].tolist() == [1]


def test_columns_of_the_zones_are_never_replaced(labels: Path) -> None:
    folder, things = labels.parent, labels.with_name("t.gpkg")
    run("polygonize", labels, "-o", things, "--leave-out", 0, "-q")
    place = shapely.box(500_000, 5_299_000, 500_300, 5_300_000)
    zones = gpd.GeoDataFrame({"Count": [77]}, geometry=[place], crs="EPSG:32633")
    zones.to_file(folder / "z.gpkg")
    given = ("count", things, "--zones", folder / "z.gpkg", "-o", folder / "c.gpkg")
    said = run(*given, code=2)
    assert "z.gpkg" in said and "'Count'" in said and "--prefix" in said
    assert not (folder / "c.gpkg").exists()
    run(*given, "--prefix", "plants_")
    found = gpd.read_file(folder / "c.gpkg")
    assert found["Count"].tolist() == [77] and found["plants_count"].tolist() == [1]
    assert "plants_per_ha" in found and "per_ha" not in found


def test_what_can_not_be_counted_is_said(labels: Path) -> None:
    things = labels.with_name("things.gpkg")
    run("polygonize", labels, "-o", things, "--leave-out", 0, "-q")
    assert "either" in run("count", things, "-o", labels.with_name("x.gpkg"), code=2)
    with pytest.raises(InputError, match="above 0"):
        grid_cells((0, 0, 1, 1), 0)
    with pytest.raises(InputError, match="larger"):
        grid_cells((0, 0, 1e6, 1e6), 1)
