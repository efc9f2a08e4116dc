"""What a project, page or item takes of the run's outputs, and where its scene lies."""

from __future__ import annotations

import itertools
import json
import sqlite3
import zipfile
import zlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import geopandas as gpd
import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
from affine import Affine
from click.testing import CliRunner, Result
from rasterio.io import MemoryFile
from test_export_raster import grid
from test_export_stac import check_extensions
from test_scene_sources import make_safe

from geoseg.cli import geoseg
from geoseg.export.columns import aliases_in, closed
from geoseg.export.facts import read_facts
from geoseg.export.layout import print_layout
from geoseg.export.mapcells import MapCells
from geoseg.export.pagegrid import Grid
from geoseg.export.scenetiles import SceneTiles
from geoseg.export.vector import write_vector
from geoseg.legend import Category, Legend
from geoseg.scene.opening import SceneOptions, open_scene, open_scenes
from geoseg.scenefiles import colour_sources, files_of, one_file, taken_of
from geoseg.sharing import companions, credit_line


def call(*arguments: object) -> Result:
    return CliRunner().invoke(geoseg, [str(a) for a in arguments])


def write(path: Path, values: np.ndarray, step: float = 10, **more: Any) -> Path:
    """A (band, row, col) raster whose upper left corner is that of ``grid``."""
    count, rows, cols = values.shape
    at = grid(rows, cols).affine
    profile = {"driver": "GTiff", "width": cols, "height": rows, "count": count,
               "dtype": str(values.dtype), "crs": "EPSG:32721",
               "transform": Affine(step, 0, at.c, 0, -step, at.f)} | more  # fmt: skip
    with rasterio.open(path, "w", **profile) as file:
        file.write(values)
    return path


def pattern(bands: int = 4, side: int = 120, seed: int = 0) -> np.ndarray:
    """Dark and bright squares, a little different in every band."""
    y, x = np.mgrid[:side, :side]
    base = np.where((x // 40 + y // 40) % 2 == 0, 40, 200)
    noise = np.random.default_rng(seed).integers(0, 20, (bands, side, side))
    return (base + noise).astype("uint8")


def layers_in(project: Path) -> dict[str, str]:
    """Sources by name of layer."""
    with zipfile.ZipFile(project) as archive:
        root = ET.fromstring(archive.read(archive.namelist()[0]).decode().split("\n", 1)[1])
    return {
        str(one.findtext("layername")): str(one.findtext("datasource"))
        for one in root.iter("maplayer")
    }


@pytest.mark.parametrize(
    ("outputs", "needed"),
    [
        (["m.qgz"], ["m.gpkg", "m.tif"]),
        (["a.gpkg", "a.tif", "m.qgz"], []),
        (["a.fgb", "m.qgz"], ["m.tif"]),
        (["m.qgz", "a.pmtiles", "b.parquet", "c.shp", "d.geojson"], ["m.gpkg", "m.tif"]),
        (["a.gpkg", "a.entropy.tif", "a.prob_water.tif", "m.qgz"], ["m.tif"]),
        (["a.pmtiles"], []),
    ],
)
def test_a_project_brings_what_qgis_can_show(outputs: list[str], needed: list[str]) -> None:
    assert companions(outputs) == needed


def test_tiles_and_layers_are_not_taken_for_the_map(tmp_path: Path) -> None:
    scene = write(tmp_path / "scene.tif", pattern(1))
    names = ("m.pmtiles", "m.score.tif", "m.qgz", "m.parquet")
    asked = [a for name in names for a in ("-o", tmp_path / name)]
    done = call("map", scene, "-m", "otsu:b1", "-q", *asked)
    assert done.exit_code == 0, done.output
    assert layers_in(tmp_path / "m.qgz") == {
        "Polygons": "./m.gpkg|layername=m", "Classes": "./m.tif",
        "Confidence": "./m_confidence.tif", "Score": "./m.score.tif", "scene.tif": "./scene.tif",
    }  # fmt: skip


def test_the_file_is_found_through_masks_resampling_and_selection(tmp_path: Path) -> None:
    scene = write(tmp_path / "scene.tif", pattern(4).astype("uint16"))
    mask = write(tmp_path / "mask.tif", np.zeros((1, 120, 120), "uint8"))
    for options in (
        SceneOptions(),
        SceneOptions(gsd_m=20),
        SceneOptions(mask=str(mask)),
        SceneOptions(mask=str(mask), gsd_m=20),
    ):
        found = colour_sources(open_scenes([str(scene)], options))
        assert found is not None and one_file(found) == (scene, (1, 2, 3)), options
    chosen = open_scenes([str(scene)], SceneOptions(bands=("4", "2", "1")))
    assert one_file(colour_sources(chosen) or []) == (scene, (4, 2, 1))
    assert files_of(chosen) == [scene]
    assert colour_sources(open_scene(pattern(3))) is None  # of memory alone


def test_a_stack_is_shown_as_one_picture(tmp_path: Path) -> None:
    pixels = pattern(3)
    files = [write(tmp_path / f"{n}.tif", pixels[n : n + 1]) for n in range(2)]
    coarse = pixels[2:, ::2, ::2]
    files.append(write(tmp_path / "2.tif", coarse, step=20))
    (tmp_path / "out").mkdir()
    outputs = [tmp_path / "out" / name for name in ("m.qgz", "m.html", "m.json")]
    asked = [a for path in outputs for a in ("-o", path)]
    done = call("map", *files, "--stack", "-m", "otsu:b1", "-q", *asked)
    assert done.exit_code == 0, done.output
    assert "./m_scene.vrt" in layers_in(outputs[0]).values()
    text = (tmp_path / "out" / "m_scene.vrt").read_text()
    assert "../0.tif" in text and str(tmp_path) not in text
    with rasterio.open(tmp_path / "out" / "m_scene.vrt") as file:
        np.testing.assert_array_equal(file.read([1, 2]), pixels[:2])
        np.testing.assert_array_equal(file.read(3), np.kron(coarse[0], np.ones((2, 2), "uint8")))
        assert file.crs.to_epsg() == 32721
    assert '"s-0-0-0"' in outputs[1].read_text()  # the scene's tiles are in the page
    item = json.loads(outputs[2].read_text())
    links = [one["href"] for one in item["links"] if one["title"] == "the scene"]
    assert links == ["../0.tif", "../1.tif", "../2.tif"]
    assert {"m_scene.vrt", "m_confidence.tif", "m.qml", "m.tif.aux.xml"} <= set(item["assets"])
    assert (
        item["links"][-1]["mlm:name"]
        == json.loads((tmp_path / "out" / "m_model.json").read_text())["properties"]["mlm:name"]
    )
    again = call("map", *files, "--stack", "-m", "otsu:b1", "-q", "-o", tmp_path / "out" / "n.qgz")
    assert again.exit_code == 0, again.output


def test_a_mosaic_lies_in_its_order(tmp_path: Path) -> None:
    left, right = pattern(3), pattern(3, seed=1)
    right[:, :, :5] = 0
    files = [write(tmp_path / "left.tif", left)]
    at = grid(120, 120).affine
    moved = Affine(10, 0, at.c + 1000, 0, -10, at.f)
    files.insert(0, write(tmp_path / "right.tif", right, transform=moved, nodata=0))
    done = call("map", *files, "--mosaic", "-m", "otsu:b1", "-q", "-o", tmp_path / "m.qgz")
    assert done.exit_code == 0, done.output
    with rasterio.open(tmp_path / "m_scene.vrt") as file:
        seen = file.read()
    assert seen.shape == (3, 120, 220)
    np.testing.assert_array_equal(seen[:, :, 105:], right[:, :, 5:])  # on top
    np.testing.assert_array_equal(seen[:, :, :105], left[:, :, :105])  # where that has no data


def test_the_item_tells_when_the_scene_was_taken(tmp_path: Path) -> None:
    scene = write(tmp_path / "scene.tif", pattern(1))
    assert taken_of(open_scene(str(scene))) is None
    with rasterio.open(scene, "r+") as file:
        file.update_tags(DATETIME="20190713")
    assert taken_of(open_scene(str(scene))) == datetime(2019, 7, 13, tzinfo=UTC)
    done = call("map", scene, "-m", "otsu:b1", "-q", "-o", tmp_path / "m.json",
                "-o", tmp_path / "m.shp")  # fmt: skip
    assert done.exit_code == 0, done.output
    item = json.loads((tmp_path / "m.json").read_text())
    assert item["properties"]["datetime"] == "2019-07-13T00:00:00Z"
    # a shapefile is all of its files
    assert set(item["assets"]) == {f"m.{ending}" for ending in ("shp", "shx", "dbf", "prj", "cpg")}
    assert check_extensions(item) == 4


def test_tables_made_of_a_map_say_what_their_columns_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    boxes = [shapely.box(x, y, x + 3, y + 3) for x in range(0, 60, 10) for y in range(0, 60, 10)]
    plants = gpd.GeoDataFrame(
        {"category": ["weed", "crop"] * 18, "isthing": True, "note": "mine"},
        geometry=boxes, crs=32632,
    )  # fmt: skip
    facts = {"model": "m", "scene": "s.tif", "model_licence": "CC0-1.0"}
    write_vector(plants, tmp_path / "map.gpkg", provenance=facts)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    made = (
        ("count", "--cell", 20, "--prefix", "new_"),
        ("weeds", "--azimuth", 0, "--cell", "20x20"),
    )
    for verb, *options in made:
        path = tmp_path / f"{verb}.gpkg"
        done = call(verb, tmp_path / "map.gpkg", "-o", path, *options)
        assert done.exit_code == 0, done.output
        with sqlite3.connect(path) as db:
            told = {name: (alias, text) for name, alias, text in db.execute(
                "SELECT column_name, name, description FROM gpkg_data_columns"
                f" WHERE table_name = '{verb}'"
            )}  # fmt: skip
        names = set(pyogrio.read_info(path, layer=verb)["fields"])
        assert set(told) == names and all(all(words) for words in told.values())
        found = read_facts(path)
        assert {name: found[name] for name in facts} == facts
        assert found["made_by"] == f"geoseg {verb}" and found["made_of"] == "map.gpkg"
        assert found["date"] == "2023-11-14T22:13:20Z" and "legend" not in found
    assert told["rate_l_ha"] == ("Rate (l/ha)", "What to spray in litres per hectare")
    words = aliases_in(["new_count", "new_per_ha", "new_count_weed", "note", "row", "per_ha"])
    assert words == {"new_count": "Objects (new)", "new_per_ha": "Objects per ha (new)",
                     "new_count_weed": "weed (new)"}  # fmt: skip


@pytest.mark.parametrize("name", ["a|b.qgz", "a%20b.qgz"])
def test_names_that_qgis_misreads_are_refused_before_any_work(tmp_path: Path, name: str) -> None:
    scene = write(tmp_path / "scene.tif", pattern(1))
    done = call("map", scene, "-m", "otsu:b1", "-q", "-o", tmp_path / name)
    assert done.exit_code == 2 and "QGIS can't open" in done.output, done.output
    assert [path.name for path in tmp_path.iterdir()] == ["scene.tif"]


def test_tiles_are_refused_and_shapefiles_coloured(tmp_path: Path) -> None:
    scene = write(tmp_path / "scene.tif", pattern(1))
    names = ("m.shp", "m.pmtiles")
    done = call(
        "map", scene, "-m", "otsu:b1", "-q", *(a for n in names for a in ("-o", tmp_path / n))
    )
    assert done.exit_code == 0, done.output
    (tmp_path / "l.json").write_text(json.dumps({"name": "l", "categories": [
        {"id": 0, "name": "low", "colour": "#000000"}, {"id": 1, "name": "high", "colour": "#ffffff"},
    ]}))  # fmt: skip
    legend = ("--legend", tmp_path / "l.json", "-o", tmp_path / "m.qgz")
    done = call("project", tmp_path / "m.pmtiles", *legend)
    assert done.exit_code == 2 and "in pieces" in done.output
    done = call("project", tmp_path / "m.shp", *legend)
    assert done.exit_code == 0, done.output
    with zipfile.ZipFile(tmp_path / "m.qgz") as archive:
        assert 'attr="cat_id"' in archive.read("m.qgs").decode()


@pytest.mark.parametrize(("high", "page"), [(500, "297.0,210.0,mm"), (900, "210.0,297.0,mm")])
def test_a_sheet_has_the_shape_of_its_map(high: int, page: str) -> None:
    title = "a title that is far too long " * 20
    sheet = print_layout(title, "note", (0, 0, 500, high), 1.0, [("id", "x", {0: "y" * 90})])
    wide, tall = map(float, page.split(",")[:2])
    kinds = {item.get("type"): item for item in sheet.iter("LayoutItem")}
    assert kinds["65638"].get("size") == page
    boxes = []
    for item in sheet.findall("LayoutItem"):
        x, y = map(float, str(item.get("position")).split(",")[:2])
        w, h = map(float, str(item.get("size")).split(",")[:2])
        assert x >= 0 and y >= 0 and x + w <= wide and y + h <= tall
        boxes.append(shapely.box(x, y, x + w, y + h))
    for one, other in itertools.combinations(boxes, 2):  # nothing hides another part
        assert one.intersection(other).area == 0
    texts = [str(item.get("labelText")) for item in sheet.iter("LayoutItem")]
    assert any(text.endswith("…") and len(text) < 250 for text in texts)


def test_objects_that_touch_are_told_apart_from_afar() -> None:
    boxes = [shapely.box(0, 0, 200, 400), shapely.box(200, 0, 400, 400),
             shapely.box(400, 0, 600, 400), shapely.box(600, 0, 608, 400)]  # fmt: skip
    frame = gpd.GeoDataFrame(
        {"category_id": [1, 1, 2, 2], "isthing": [True, True, False, True]}, geometry=boxes
    )
    where = Grid(Affine.identity(), (1024, 1024), None)

    def row(frame: gpd.GeoDataFrame) -> list[int]:
        tile = MapCells(frame, where).classes(1, 0, 0)
        assert tile is not None
        return np.frombuffer(zlib.decompress(tile), "uint8").reshape(512, 512)[100].tolist()

    assert row(frame)[98:102] == [1, 255, 1, 1]  # one pixel between the two
    assert row(frame)[199:201] == [1, 2]  # other classes have other colours
    assert row(frame)[298:303] == [2, 2, 2, 2, 2]  # cover, and things of few pixels, stay whole
    assert row(frame.assign(isthing=False))[98:102] == [1, 1, 1, 1]
    assert MapCells(frame, where).classes(0, 1, 1) is None


def test_dark_scenes_are_lifted_on_the_page(tmp_path: Path) -> None:
    ramp = np.broadcast_to(np.arange(500, dtype="uint16"), (3, 300, 500))
    scene = write(tmp_path / "ramp.tif", np.ascontiguousarray(ramp))
    grid_of_scene = Grid(Affine.identity(), (300, 500), None)
    with MemoryFile(SceneTiles(scene, grid_of_scene, (1, 2, 3)).tile(0, 0, 0)) as memory:
        with memory.open() as file:
            seen = file.read(1)[150].astype(int)
    assert abs(seen[250] - 157) < 6 and seen[5] < 6 and seen[495] > 249


def test_a_product_folder_is_shown_below_maps_that_are_there(tmp_path: Path) -> None:
    safe, _ = make_safe(tmp_path, "L1C")
    out = tmp_path / "out"
    out.mkdir()
    done = call("map", safe, "-m", "otsu:B04", "-q", "-o", out / "m.gpkg")
    assert done.exit_code == 0, done.output
    done = call("project", out / "m.gpkg", safe, "-o", out / "m.qgz")
    assert done.exit_code == 0, done.output
    assert layers_in(out / "m.qgz")[safe.stem] == "./m_scene.vrt"
    with rasterio.open(out / "m_scene.vrt") as shown:
        assert shown.nodatavals == (0, 0, 0)  # products don't state it
        red = next(safe.glob("GRANULE/*/IMG_DATA/**/*_B04*.jp2"))
        with rasterio.open(red) as file:
            np.testing.assert_array_equal(shown.read(1), file.read(1))
    for bands in ((), ("--bands", "8,4,3")):
        page = ("-o", out / "m.html", "--overwrite")
        done = call("view", out / "m.gpkg", "--scene", safe, *page, *bands)
        assert done.exit_code == 0, done.output
        assert 'id="s-0-0-0"' in (out / "m.html").read_text()
    again = call("project", out / "m.gpkg", safe, "-o", out / "m.qgz")
    assert again.exit_code == 2 and "--overwrite" in again.output


@pytest.mark.parametrize(
    ("text", "end"),
    [("plain", ""), ("\u202eab", "\u202c"), ("\u202ea\u202c", ""), ("\u2067\u202da", "\u202c\u2069"),
     ("a\u202c", ""), ("", "")],
)  # fmt: skip
def test_what_follows_a_name_is_not_turned_around(text: str, end: str) -> None:
    assert closed(text) == text + end
    assert credit_line({"model": text or "m", "model_licence": "CC0"}).endswith(f"{end} (CC0)")


def test_areas_in_a_project_are_not_turned_around(tmp_path: Path) -> None:
    legend = Legend((Category(1, "\u202eab", "#000000"),), name="l")
    frame = gpd.GeoDataFrame(
        {"category_id": [1], "category": ["\u202eab"], "isthing": [True], "area_m2": [5e4]},
        geometry=[shapely.box(0, 0, 9, 9)], crs=32721,
    )  # fmt: skip
    write_vector(frame, tmp_path / "m.gpkg", legend=legend)
    done = call("project", tmp_path / "m.gpkg", "-o", tmp_path / "m.qgz")
    assert done.exit_code == 0, done.output
    with zipfile.ZipFile(tmp_path / "m.qgz") as archive:
        text = archive.read("m.qgs").decode()
    assert text.count("\u202eab\u202c (5.00 ha)") == 2 and "1. \u202eab\u202c, 5.00 ha" in text
