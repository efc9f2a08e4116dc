"""Samples, seeds and plots from the command line, on a real crop."""

from __future__ import annotations

from pathlib import Path

import geopandas as gpd
import pytest
from click.testing import CliRunner
from shapely.geometry import Point, box

from geoseg.cli import geoseg

CROP = Path(__file__).parent / "data" / "classic" / "naip.tif"


def call(*arguments: object) -> str:
    result = CliRunner().invoke(geoseg, [str(a) for a in arguments])
    assert result.exit_code == 0, result.output
    return result.output


def pixel_box(row: int, col: int, size: int) -> object:
    import rasterio

    with rasterio.open(CROP) as source:
        left, top = source.transform * (col, row)
        right, bottom = source.transform * (col + size, row + size)
    return box(left, bottom, right, top)


def crs() -> object:
    import rasterio

    with rasterio.open(CROP) as source:
        return source.crs


def test_objects_learn_from_a_file_and_show_what_matters(tmp_path: Path) -> None:
    # rows and columns where the picture shows open water, and fields
    places = {"water": [(57, 230), (193, 134)], "land": [(61, 133), (122, 191)]}
    shapes = [(name, pixel_box(r, c, 25)) for name, at in places.items() for r, c in at]
    frame = gpd.GeoDataFrame(
        {"class": [n for n, _ in shapes]}, geometry=[g for _, g in shapes], crs=crs()
    )
    samples, out, plot = tmp_path / "s.gpkg", tmp_path / "o.gpkg", tmp_path / "o.png"
    frame.to_crs(4326).to_file(samples)
    text = call("map", CROP, "-m", "objects:size=5,rounds=1", "--samples", samples, "-o", out,
                "--explain", plot, "--workers", 0)  # fmt: skip
    assert "what matters" in text
    assert set(gpd.read_file(out)["category"]) == {"land", "water"}
    assert plot.stat().st_size > 10_000
    result = CliRunner().invoke(
        geoseg, ["map", str(CROP), "-m", "otsu:ndwi", "--samples", str(samples), "-o", "x.gpkg"]
    )
    assert result.exit_code == 2
    assert "--model objects" in result.output


def test_regions_grow_from_a_file(tmp_path: Path) -> None:
    seeds = gpd.GeoDataFrame(
        geometry=[Point(pixel_box(40, 200, 1).centroid), Point(pixel_box(200, 100, 1).centroid)],  # type: ignore[attr-defined]
        crs=crs(),
    )  # fmt: skip
    seeds.to_file(tmp_path / "seeds.gpkg")
    out = tmp_path / "grown.gpkg"
    call("map", CROP, "-m", "grow:b1:tolerance=0.01", "--seeds", tmp_path / "seeds.gpkg", "-o", out)
    grown = gpd.read_file(out)
    assert (grown["category"] == "region").sum() == 2


@pytest.mark.parametrize("model", ["li:exg", "gmm:k=3", "sobel:b1", "contours:b1:low=0.03,high=0.06",
                                   "watershed:b1"])  # fmt: skip
def test_every_family_is_explained(model: str, tmp_path: Path) -> None:
    call("explain", CROP, "-m", model, "-o", tmp_path / "why.png")
    assert (tmp_path / "why.png").stat().st_size > 10_000
    assert [p.name for p in tmp_path.iterdir()] == ["why.png"]
