"""The verbs that share a map, and the outputs of ``map`` that are made of others."""

from __future__ import annotations

import base64
import json
import re
import shutil
import zipfile
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pystac
import pytest
import rasterio
import rasterio.shutil
from affine import Affine
from click.testing import CliRunner, Result
from pystac.validation.stac_validator import JsonSchemaSTACValidator
from test_export_raster import class_map, grid
from test_export_stac import check_extensions
from test_export_vector import FORMATS, HOSTILE, LEGEND, names_in, polygons

from geoseg.cli import geoseg
from geoseg.export.columns import area_text
from geoseg.export.facts import legend_of, read_facts
from geoseg.export.raster import write_raster
from geoseg.export.vector import write_vector


def call(*arguments: object) -> Result:
    return CliRunner().invoke(geoseg, [str(a) for a in arguments])


@pytest.mark.parametrize("suffix", [s for s in FORMATS if s != ".shp"])
def test_files_carry_their_legend_and_provenance(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"map{suffix}"
    write_vector(polygons(), path, legend=LEGEND, provenance={"model": HOSTILE})
    assert legend_of(path) == LEGEND
    assert read_facts(path)["model"] == HOSTILE
    assert names_in(tmp_path) == {path.name}


@pytest.mark.parametrize(
    ("area_m2", "text"),
    [
        *[(7_085_000, "708.5 ha"), (12_345.6, "1.23 ha"), (1000, "0.10 ha"), (264.4, "264 m²")],
        *[(3.14159, "3.1 m²"), (0.0213, "0.021 m²"), (0, "0.000 m²")],
    ],
)
def test_areas_of_a_plant_and_of_a_district_can_be_read(area_m2: float, text: str) -> None:
    assert area_text(area_m2) == text


def test_rasters_carry_theirs(tmp_path: Path) -> None:
    write_raster(class_map(9, 9), tmp_path / "map.tif", geobox=grid(9, 9), legend=LEGEND)
    assert legend_of(tmp_path / "map.tif") == LEGEND


def test_project_and_view_of_files_that_are_there(tmp_path: Path) -> None:
    write_vector(polygons(), tmp_path / "map.gpkg", legend=LEGEND)
    write_raster(class_map(50, 40), tmp_path / "map.tif", geobox=grid(50, 40), legend=LEGEND)
    project, page = tmp_path / "map.qgz", tmp_path / "map.html"
    done = call("project", tmp_path / "map.tif", tmp_path / "map.gpkg", "-o", project)
    assert done.exit_code == 0, done.output
    with zipfile.ZipFile(project) as archive:
        text = archive.read("map.qgs").decode()
    assert text.index("./map.gpkg|layername=map") < text.index("./map.tif")
    assert re.findall("<layername>(.*?)</", text) == ["Polygons", "Classes"]
    assert str(tmp_path) not in text
    done = call("view", tmp_path / "map.gpkg", "-o", page)
    assert done.exit_code == 0, done.output
    assert "<script>alert" not in page.read_text()
    for verb, output in (("project", project), ("view", page)):
        again = call(verb, tmp_path / "map.gpkg", "-o", output)
        assert again.exit_code == 2 and "--overwrite" in again.output


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("view", "no.gpkg", "-o", "x.html"), "no.gpkg"),
        (("view", "no.gpkg", "-o", "x.png"), ".html"),
        (("project", "no.gpkg", "-o", "x.qgz"), "no.gpkg"),
        (("serve", "no.gpkg", "--bands", "1,2"), "three numbers"),
    ],
)
def test_what_cannot_be_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], word: str
) -> None:
    monkeypatch.chdir(tmp_path)
    done = call(*arguments)
    assert done.exit_code == 2 and word in done.output
    assert len(done.output.strip().splitlines()) == 1
    assert names_in(tmp_path) == set()


def test_a_page_takes_polygons_and_the_scene_they_lie_on(tmp_path: Path) -> None:
    write_vector(polygons(), tmp_path / "map.gpkg", legend=LEGEND)
    write_raster(class_map(50, 40), tmp_path / "map.tif", geobox=grid(50, 40), legend=LEGEND)
    far = write_scene(tmp_path / "far.tif", Affine(10, 0, 9e5, 0, -10, 9e6))
    before = names_in(tmp_path)
    for arguments, word in (
        (("view", tmp_path / "map.tif"), "geoseg polygonize"),
        (("view", tmp_path / "map.gpkg", "--scene", far), "lies elsewhere"),
    ):
        done = call(*arguments, "-o", tmp_path / "page.html")
        assert done.exit_code == 2 and word in done.output, done.output
        assert len(done.output.strip().splitlines()) == 1
    assert names_in(tmp_path) == before
    assert call("serve", tmp_path / "map.gpkg", "--port", "99999").exit_code == 2


def facts_of(page: Path) -> dict[str, Any]:
    text = page.read_text().partition('id="facts">')[2].partition("</script>")[0]
    facts: dict[str, Any] = json.loads(text)
    return facts


def test_maps_of_several_files_share_a_page(tmp_path: Path) -> None:
    for name in ("2020", "2025"):
        (tmp_path / name).mkdir()
    first, second = tmp_path / "2020" / "map.gpkg", tmp_path / "2025" / "map.parquet"
    write_vector(polygons(), first, legend=LEGEND, provenance={"model_licence": "CC0-1.0"})
    write_vector(polygons(crs="EPSG:32721"), second, legend=LEGEND)
    frame = polygons().to_crs(4326)
    write_vector(frame, tmp_path / "degrees.gpkg", legend=LEGEND)
    frame.to_file(tmp_path / "plain.fgb")
    (tmp_path / "new.json").write_text(json.dumps(replace(LEGEND, name="new").to_dict()))
    page = tmp_path / "page.html"
    new, given = tmp_path / "new.json", (first, tmp_path / "degrees.gpkg", "-o", page)
    done = call("view", *given)
    assert done.exit_code == 0, done.output
    facts = facts_of(page)
    assert [one["name"] for one in facts["maps"]] == ["map", "degrees"]
    assert facts["title"] == "map, degrees" and facts["note"] == "CC0-1.0"
    assert all(one["areas"] and len(one["legend"]) == 3 for one in facts["maps"])
    # without a scene the page is in the first map's CRS: both have the same place in it
    box = re.compile(r'id="t-(\d)">([^<]*)<')
    tables = [zlib.decompress(base64.b64decode(text)) for _, text in box.findall(page.read_text())]
    boxes = [np.array(json.loads(table)["box"]) for table in tables]
    assert np.abs(boxes[0] - boxes[1]).max() <= 1
    # the same name twice, and a legend for each
    done = call("view", first, second, first, "-o", page, "--overwrite")
    assert done.exit_code == 0, done.output
    assert [one["name"] for one in facts_of(page)["maps"]] == [
        "2020/map", "2025/map", "2020/map (2)",
    ]  # fmt: skip
    done = call("view", tmp_path / "plain.fgb", first, "-o", page, "--overwrite",
                "--legend", new, "--legend", new)  # fmt: skip
    assert done.exit_code == 0, done.output


def test_one_bad_map_of_several_is_one_line_and_no_page(tmp_path: Path) -> None:
    good = tmp_path / "map.gpkg"
    write_vector(polygons(), good, legend=LEGEND)
    (tmp_path / "broken.gpkg").write_text("no database")
    frame = polygons()
    frame.set_crs(None, allow_override=True).to_parquet(tmp_path / "nowhere.parquet")
    frame.set_geometry(frame.centroid).to_parquet(tmp_path / "points.parquet")
    frame.set_crs(4326, allow_override=True).to_parquet(tmp_path / "mars.parquet")
    far = write_scene(tmp_path / "far.tif", Affine(10, 0, 9e5, 0, -10, 9e6))
    (tmp_path / "l.json").write_text(json.dumps(LEGEND.to_dict()))
    legend = ("--legend", tmp_path / "l.json")
    before = names_in(tmp_path)
    for arguments, word in (
        ((good, tmp_path / "broken.gpkg"), "broken.gpkg"),
        ((good, tmp_path / "no.gpkg"), "no.gpkg"),
        ((good, far), "geoseg polygonize"),
        ((good, tmp_path / "map.pmtiles"), "in pieces"),
        ((good, tmp_path / "nowhere.parquet", *legend), "'nowhere' has no CRS"),
        ((good, tmp_path / "points.parquet", *legend), "'points': holds Point"),
        ((good, tmp_path / "mars.parquet", *legend), "'mars' has no place in EPSG:32721"),
        ((good, good, "--scene", far), "the map 'map' lies elsewhere"),
        ((good, good, good, *legend, *legend), "2 times for 3 maps"),
    ):
        done = call("view", *arguments, "-o", tmp_path / "page.html")
        assert done.exit_code == 2 and word in done.output, done.output
        assert len(done.output.strip().splitlines()) == 1, done.output
        assert names_in(tmp_path) == before


def test_a_scene_is_shown_in_its_own_colours(tmp_path: Path) -> None:
    write_vector(polygons(), tmp_path / "map.gpkg", legend=LEGEND,
                 provenance={"model": "m", "model_licence": "CC0-1.0"})  # fmt: skip
    profile = {"count": 4, "height": 60, "width": 50, "dtype": "uint8", "crs": "EPSG:32721",
               "transform": Affine(10, 0, 4e5, 0, -10, 7e6)}  # fmt: skip
    pixels = np.random.default_rng(0).integers(0, 255, (4, 60, 50)).astype("uint8")
    for name, driver in (("scene.tif", "GTiff"), ("scene.jp2", "JP2OpenJPEG")):
        with rasterio.open(tmp_path / name, "w", driver=driver, **profile) as file:
            file.write(pixels)
            file.descriptions = ("B02", "B03", "B04", "B08")
    for scene, bands, shown in (
        ("scene.tif", (), ["3", "2", "1"]),  # by their names
        ("scene.tif", ("--bands", "4,3,2"), ["4", "3", "2"]),
        ("scene.jp2", ("--bands", "1,2,4"), ["1", "2", "4"]),
    ):
        path = tmp_path / "map.qgz"
        done = call("project", tmp_path / "map.gpkg", tmp_path / scene, *bands, "-o", path,
                    "--overwrite")  # fmt: skip
        assert done.exit_code == 0, done.output
        with zipfile.ZipFile(path) as archive:
            text = archive.read("map.qgs").decode()
        found = [re.search(f'{name}Band="(.)"', text) for name in ("red", "green", "blue")]
        assert [one and one[1] for one in found] == shown
        assert "Map: geoseg, m (CC0-1.0)" in text
    done = call("project", tmp_path / "map.gpkg", tmp_path / "scene.tif", "--bands", "1",
                "-o", tmp_path / "no.qgz")  # fmt: skip
    assert done.exit_code == 2 and "--bands" in done.output


@pytest.mark.filterwarnings("error::RuntimeWarning")  # a flat scene has no contrast to stretch
def test_a_vrt_in_disguise_is_not_followed(tmp_path: Path) -> None:
    write_vector(polygons(), tmp_path / "map.gpkg", legend=LEGEND)
    scene = write_scene(tmp_path / "scene.tif", Affine(10, 0, 4e5, 0, -10, 7e6))
    rasterio.shutil.copy(scene, tmp_path / "scene.vrt", driver="VRT")
    shutil.copy(tmp_path / "scene.vrt", tmp_path / "false.tif")
    given, page = ("view", tmp_path / "map.gpkg", "--scene"), tmp_path / "page.html"
    done = call(*given, tmp_path / "false.tif", "-o", page)
    assert done.exit_code == 2 and "VRT" in done.output and "--allow" not in done.output
    assert call(*given, tmp_path / "scene.vrt", "-o", page).exit_code == 0
    given = ("project", tmp_path / "map.gpkg", "-o", tmp_path / "map.qgz")
    done = call(*given, tmp_path / "false.tif")
    assert done.exit_code == 2 and "false.tif" in done.output


def write_scene(path: Path, transform: Affine) -> Path:
    pixels = np.full((3, 60, 50), 90, "uint8")
    profile = {"count": 3, "height": 60, "width": 50, "dtype": "uint8", "crs": "EPSG:32721"}
    with rasterio.open(path, "w", driver="GTiff", transform=transform, **profile) as file:
        file.write(pixels)
    return path


def test_map_writes_project_page_and_item_with_their_companions(tmp_path: Path) -> None:
    write_raster(class_map(90, 80), tmp_path / "scene.tif", geobox=grid(90, 80))
    folder = tmp_path / "out"
    folder.mkdir()
    outputs = [folder / f"m.{suffix}" for suffix in ("qgz", "html", "json")]
    asked = [argument for path in outputs for argument in ("-o", path)]
    done = call("map", tmp_path / "scene.tif", "-m", "otsu:b1", "-q", "--workers", "0", *asked)
    assert done.exit_code == 0, done.output
    assert names_in(folder) == {
        "m.qgz", "m.html", "m.json", "m.gpkg", "m.tif", "m.tif.aux.xml", "m.qml",
        "m_confidence.tif", "m_confidence.qml", "m_model.json",
    }  # fmt: skip
    item = pystac.Item.from_file(str(folder / "m.json"))
    assert set(item.assets) == names_in(folder) - {"m.json", "m_model.json"}
    assert json.loads((folder / "m.json").read_text())["properties"]["geoseg:scene"] == "scene.tif"
    links = {link.get_absolute_href() for link in item.links if link.rel == "derived_from"}
    assert links == {str(folder / "m_model.json"), str(tmp_path / "scene.tif")}
    assert str(tmp_path) not in (folder / "m.json").read_text()
    model = pystac.Item.from_file(str(folder / "m_model.json"))
    validator = JsonSchemaSTACValidator()
    for one in (item, model):
        validator.validate_core(one.to_dict(), pystac.STACObjectType.ITEM, "1.1.0")
    assert model.properties["mlm:tasks"] == ["semantic-segmentation"]
    classes = model.properties["mlm:output"][0]["classification:classes"]
    assert [c["name"] for c in classes] == ["low", "high"]
    assert check_extensions(json.loads((folder / "m.json").read_text())) == 4
    again = call("map", tmp_path / "scene.tif", "-m", "otsu:b1", "-q", "-o", folder / "m.qgz")
    assert again.exit_code == 2 and "--overwrite" in again.output
