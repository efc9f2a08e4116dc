"""Samples, seeds and plots from the command line, on a real crop."""

from __future__ import annotations

import base64
import json
import re
import shutil
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rasterio
from click.testing import CliRunner
from shapely.geometry import MultiPoint, Point, box

from geoseg import Region, open_scene
from geoseg.cli import geoseg
from geoseg.commands.explain import figure_of
from geoseg.errors import InputError, ModelError
from geoseg.export.web import add_plot
from geoseg.models.classic import parse
from geoseg.shapes import read_shapes

CROP = Path(__file__).parent / "data" / "classic" / "naip.tif"


def call(*arguments: object) -> str:
    result = CliRunner().invoke(geoseg, [str(a) for a in arguments])
    assert result.exit_code == 0, result.output
    return result.output


def pixel_box(row: int, col: int, size: int) -> object:
    with rasterio.open(CROP) as source:
        left, top = source.transform * (col, row)
        right, bottom = source.transform * (col + size, row + size)
    return box(left, bottom, right, top)


def crs() -> object:
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


@pytest.mark.parametrize("model", ["terrain", "otsu:ndwi", "my_model.zip"])
@pytest.mark.parametrize(("option", "method"), [("--samples", "objects"), ("--seeds", "grow")])
def test_samples_and_seeds_belong_to_classic_methods(model, option, method) -> None:
    done = CliRunner().invoke(
        geoseg, ["map", str(CROP), "-m", model, option, "s.gpkg", "-o", "never.gpkg"]
    )
    assert done.exit_code == 2 and done.output.count("\n") == 1
    for words in (option, model, f"classic method {method}", f"--model {method}"):
        assert words in done.output


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["--samples", "s.gpkg", "--seeds", "p.gpkg"], "--samples and --seeds"),
        (["--sample-column", "kind"], "--sample-column"),
        (["--samples", "s.gpkg", "--set", "size=3"], "size=3"),
        (["--samples", "s.gpkg", "--layers", "probs"], "layers=probs"),
    ],
)
def test_what_no_method_would_use_is_not_passed_over(given: list[str], words: str) -> None:
    done = CliRunner().invoke(geoseg, ["map", str(CROP), "-m", "objects", "-o", "n.gpkg", *given])
    assert done.exit_code == 2 and done.output.count("\n") == 1
    assert words in done.output


@pytest.mark.parametrize("verb", ["map", "plan"])
def test_objects_without_samples_are_refused_before_a_pass(verb: str, tmp_path: Path) -> None:
    """A file whose pixels can't be read: what asks for them would say so."""
    broken = tmp_path / "broken.tif"
    with rasterio.open(CROP) as source:
        profile, pixels = source.profile | {"compress": None}, source.read()
    with rasterio.open(broken, "w", **profile) as file:
        file.write(pixels)
    with broken.open("r+b") as file:
        file.truncate(broken.stat().st_size // 2)
    out = ["-o", str(tmp_path / "o.gpkg")] if verb == "map" else []
    done = CliRunner().invoke(geoseg, [verb, str(broken), "-m", "objects:size=5", *out])
    assert done.exit_code == 2 and done.output.count("\n") == 1
    assert "--samples" in done.output


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_advice_names_only_bands_that_are_there(count: int) -> None:
    scene = open_scene(np.zeros((count, 4, 4), np.uint8))
    with pytest.raises(ModelError) as caught:
        parse("otsu:ndvi").for_scene(scene)
    said = str(caught.value).partition("'nir'")[2]
    numbers = {int(n) for n in re.findall(r"(?<![\w.])b?(\d+)", said)}
    assert numbers and max(numbers) <= count
    (named,) = re.findall(r"--bands (\S+);", said)
    chosen = scene.select(named.split(","))
    assert len(chosen.bands) == count and "nir" in [band.name for band in chosen.bands]


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


def test_seeds_of_one_multipoint_are_seeds_each(tmp_path: Path) -> None:
    points = [Point(pixel_box(r, c, 1).centroid) for r, c in ((40, 200), (200, 100))]  # type: ignore[attr-defined]
    maps = []
    for name, shapes in (("each", points), ("all", [MultiPoint(points)])):
        gpd.GeoDataFrame(geometry=shapes, crs=crs()).to_file(tmp_path / f"{name}.gpkg")
        out = tmp_path / f"{name}.tif"
        call("map", CROP, "-m", "grow:b1:tolerance=0.01", "--seeds", tmp_path / f"{name}.gpkg",
             "-o", out)  # fmt: skip
        with rasterio.open(out) as found:
            maps.append(found.read())
    assert (maps[0] == maps[1]).all()


def test_samples_without_shapes_are_one_line(tmp_path: Path) -> None:
    table, broken = tmp_path / "table.csv", tmp_path / "broken.geojson"
    table.write_text("class,x\nwater,1\n")
    open_ring = [[[0, 0], [1, 0], [1, 1], [0, 1]]]
    feature = {
        "type": "Feature",
        "properties": {"class": "water"},
        "geometry": {"type": "Polygon", "coordinates": open_ring},
    }
    broken.write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))
    for path, words in (
        (table, "without geometry"),
        (broken, "broken geometry"),
        (tmp_path / "nowhere.gpkg", "No such file"),
        (CROP, "no polygons can be read|without geometry"),
    ):
        with pytest.raises(InputError, match=words):
            read_shapes(path)
    with pytest.raises(InputError, match="broken geometry"):
        Region.open(broken)
    arguments = ["map", str(CROP), "-m", "objects", "--samples", str(table), "-o", "x.gpkg"]
    result = CliRunner().invoke(geoseg, arguments)
    assert result.exit_code == 2
    assert "without geometry" in result.output


def test_plots_show_names_and_fixed_thresholds_as_they_are(tmp_path: Path) -> None:
    scene = tmp_path / r"a $\bad_{$.tif"
    shutil.copy(CROP, scene)
    call("explain", scene, "-m", "threshold:ndvi>0.2", "-o", tmp_path / "why.png")
    model, _ = parse("threshold:ndvi>0.2").for_scene(open_scene(scene))
    (left, _) = figure_of(model, open_scene(scene)).axes
    assert left.patches  # a histogram
    assert "middle" in left.get_title()


def test_a_method_takes_no_smaller_halo(tmp_path: Path) -> None:
    arguments = ["map", str(CROP), "-m", "canny:b1", "--halo", "2", "-o", str(tmp_path / "o.tif")]
    result = CliRunner().invoke(geoseg, arguments)
    assert result.exit_code == 2
    assert "leave --halo out" in result.output
    assert not list(tmp_path.iterdir())


def test_a_plot_is_checked_before_any_work(tmp_path: Path) -> None:
    out, taken = tmp_path / "o.gpkg", tmp_path / "taken.png"
    taken.write_bytes(b"mine")
    for model, plot, words in (
        ("terrain", tmp_path / "why.png", "nothing to explain"),
        ("otsu:ndwi", taken, "exists"),
        ("otsu:ndwi", tmp_path / "why.doc", "is not one of .png, .svg"),
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
