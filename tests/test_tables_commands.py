"""The verbs that make tables of maps: terrain, zones, change, sample, areas."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import rasterio
import shapely
from affine import Affine
from click.testing import CliRunner

from geoseg.cli import geoseg

LEGEND = {
    "name": "two",
    "categories": [
        {"id": 0, "name": "forest & <wood>", "colour": "#00aa00"},
        {"id": 4, "name": "other", "colour": "#aaaaaa"},
    ],
}


def write(path: Path, categories: np.ndarray, col: int = 0) -> Path:
    profile = {
        "driver": "GTiff",
        "dtype": "uint8",
        "count": 1,
        "height": categories.shape[0],
        "width": categories.shape[1],
        "crs": "EPSG:32633",
        "transform": Affine(10, 0, 500_000 + 10 * col, 0, -10, 5_300_000),
        "nodata": 255,
    }
    with rasterio.open(path, "w", **profile) as file:
        file.write(categories, 1)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "two.json").write_text(json.dumps(LEGEND))
    one = np.zeros((60, 80), np.uint8)
    one[:, 40:] = 4
    one[0] = 255
    write(tmp_path / "one.tif", one)
    other = one.copy()
    other[:, 30:] = 4
    write(tmp_path / "other.tif", other)
    write(tmp_path / "moved.tif", other, col=1)
    return tmp_path


def run(folder: Path, *words: str, code: int = 0) -> str:
    legend = ["--legend", str(folder / "two.json")]
    given = [str(folder / w) if "." in w and not w.startswith("-") else w for w in words]
    result = CliRunner().invoke(geoseg, [*given, *legend])
    assert result.exit_code == code, result.output
    return result.output


def test_terrain_zones_and_change_agree(folder: Path) -> None:
    run(folder, "terrain", "one.tif", "-o", "cover.csv")
    cover = pd.read_csv(folder / "cover.csv")
    scale = 0.9996**-2  # UTM's at the central meridian
    np.testing.assert_allclose(cover["area_ha"], [23.6 * scale, 23.6 * scale], rtol=1e-3)
    zones = gpd.GeoDataFrame(
        {"N": ["left", "right"]},
        geometry=[
            shapely.box(500_000, 5_299_400, 500_400, 5_300_000),
            shapely.box(500_400, 5_299_400, 500_800, 5_300_000),
        ],
        crs="EPSG:32633",
    )
    zones.to_crs("EPSG:4326").to_file(folder / "zones.gpkg")
    run(folder, "zones", "one.tif", "zones.gpkg", "--name", "N", "-o", "zones.csv")
    table = pd.read_csv(folder / "zones.csv")
    assert table["dominant"].tolist() == ["forest & <wood>", "other"]
    assert table["area_ha"].sum() == pytest.approx(cover["area_ha"].sum(), rel=1e-6)
    assert table["unmapped_ha"].sum() == pytest.approx(0.8 * scale, rel=1e-3)
    text = run(folder, "change", "one.tif", "other.tif", "-o", "c.csv", "--map", "c.tif")
    assert "changed" in text
    matrix = pd.read_csv(folder / "c.csv", index_col=0)
    assert matrix.loc["forest & <wood>", "other"] == pytest.approx(5.9 * scale, rel=1e-3)
    with rasterio.open(folder / "c.tif") as file:
        values, counts = np.unique(file.read(1), return_counts=True)
    assert dict(zip(values.tolist(), counts.tolist())) == {0: 4130, 4: 590, 65535: 80}


def test_sample_then_areas(folder: Path) -> None:
    run(folder, "sample", "one.tif", "-o", "points.gpkg", "-n", "100", "--smallest", "20")
    points = gpd.read_file(folder / "points.gpkg", layer="points")
    assert len(points) == 100
    assert (points["reference"].fillna("") == "").all()
    with rasterio.open(folder / "one.tif") as file:
        values = [v[0] for v in file.sample([(p.x, p.y) for p in points.geometry])]
    names = {0: "forest & <wood>", 4: "other"}
    assert [names[v] for v in values] == points["stratum"].tolist()
    project = zipfile.ZipFile(folder / "points.qgz").read("points.qgs").decode()
    assert "ValueMap" in project and "forest &amp; &lt;wood&gt;" in project
    assert "./points.gpkg|layername=points" in project
    assert "no point is labelled" in run(folder, "areas", "one.tif", "points.gpkg", code=2)
    with rasterio.open(folder / "other.tif") as file:  # what is true
        values = [v[0] for v in file.sample([(p.x, p.y) for p in points.geometry])]
    points["reference"] = [names[v] for v in values]
    points.to_file(folder / "done.gpkg")
    text = run(folder, "areas", "one.tif", "done.gpkg", "-o", "areas.csv")
    assert "100 points" in text
    table = pd.read_csv(folder / "areas.csv")
    truth = np.array([59 * 30, 59 * 50]) / 100 * 0.9996**-2
    assert (np.abs(table["area_ha"] - truth) < 1.5 * table["area_ci_ha"]).all()
    assert table["area_ha"].sum() == pytest.approx(47.2 * 0.9996**-2, rel=1e-3)


def test_wrong_input_is_one_line(folder: Path) -> None:
    assert "different grids" in run(folder, "change", "one.tif", "moved.tif", code=2)
    text = run(folder, "sample", "one.tif", "-o", "points.csv", code=2)
    assert "written as .gpkg" in text
    (folder / "cover.csv").write_text("mine")
    text = run(folder, "terrain", "one.tif", "-o", "cover.csv", code=2)
    assert "exists already" in text
    assert (folder / "cover.csv").read_text() == "mine"


def test_a_damaged_raster_is_one_line(folder: Path) -> None:
    path = folder / "one.tif"
    path.write_bytes(path.read_bytes()[:-3000])
    said = run(folder, "terrain", "one.tif", "-o", "cover.csv", code=2)
    assert "one.tif" in said and len(said.strip().splitlines()) == 1, said
    assert not (folder / "cover.csv").exists()


def test_outlines_that_cross_themselves_are_repaired(folder: Path) -> None:
    bow = shapely.Polygon([(0, 0), (30, 30), (30, 0), (0, 30)])
    plants = [shapely.box(x, y, x + 0.1, y + 0.1) for x in range(30) for y in range(0, 30, 3)]
    frame = gpd.GeoDataFrame({"category": ["weed"] * 300}, geometry=plants, crs="EPSG:32633")
    crossing = shapely.Polygon([(5, 5), (6, 6), (6, 5), (5, 6)])
    frame.loc[len(frame)] = ["weed", crossing]
    frame["category_id"] = 2
    frame.set_crs("EPSG:32633", allow_override=True).to_file(folder / "plants.gpkg")
    gpd.GeoDataFrame(geometry=[bow], crs="EPSG:32633").to_file(folder / "field.gpkg")
    for outline in ([], ["--outline", str(folder / "field.gpkg")]):
        words = ["weeds", str(folder / "plants.gpkg"), "--azimuth", "0", *outline]
        done = CliRunner().invoke(geoseg, [*words, "-o", str(folder / "spray.gpkg"), "--overwrite"])
        assert done.exit_code == 0, done.output
