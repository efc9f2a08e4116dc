"""Samples, seeds and plots from the command line, on a real crop."""

from __future__ import annotations

import base64
from pathlib import Path

import geopandas as gpd
import pytest
from click.testing import CliRunner
from shapely.geometry import Point, box

from geoseg.cli import geoseg
from geoseg.errors import InputError
from geoseg.export.web import add_plot

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
                                   "watershed:b1", "grow:b1:spacing=20", "felzenszwalb:scale=60",
                                   "quadtree:b1,b4:split=0.15", "slic:size=20,rounds=1",
                                   "sauvola:b1:window=51", "threshold:ndvi>0.2"])  # fmt: skip
def test_every_family_is_explained(model: str, tmp_path: Path) -> None:
    call("explain", CROP, "-m", model, "-o", tmp_path / "why.png")
    assert (tmp_path / "why.png").stat().st_size > 10_000
    assert [p.name for p in tmp_path.iterdir()] == ["why.png"]


def test_a_plot_is_checked_before_any_work(tmp_path: Path) -> None:
    out, taken = tmp_path / "o.gpkg", tmp_path / "taken.png"
    taken.write_bytes(b"mine")
    for model, plot, words in (
        ("terrain", tmp_path / "why.png", "nothing to explain"),
        ("otsu:ndwi", taken, "exists"),
        ("otsu:ndwi", tmp_path / "why.doc", ".png or .svg"),
        ("otsu:ndwi", tmp_path / "nowhere" / "why.png", "no folder"),
    ):
        arguments = ["map", str(CROP), "-m", model, "-o", str(out), "--explain", str(plot)]
        result = CliRunner().invoke(geoseg, arguments)
        assert result.exit_code != 0
        assert words in result.output
        assert [p.name for p in tmp_path.iterdir()] == ["taken.png"]
    assert taken.read_bytes() == b"mine"


def test_the_page_holds_the_plot(tmp_path: Path) -> None:
    page, plot = tmp_path / "map.html", tmp_path / "why.png"
    call("map", CROP, "-m", "otsu:ndwi", "-o", page, "--explain", plot)
    text = page.read_text(encoding="utf-8")
    image = base64.b64encode(plot.read_bytes()).decode()
    assert text.count(f"data:image/png;base64,{image}") == 1
    assert "img-src data:" in text
    with pytest.raises(InputError, match="already"):
        add_plot(page, plot)
    assert page.read_text(encoding="utf-8") == text
    assert sorted(p.name for p in tmp_path.iterdir()) == ["map.html", "why.png"]
