"""geoseg label: the layer that is drawn in, opened by the real QGIS, then trained on."""

from __future__ import annotations

import json
import subprocess
import xml.etree.ElementTree as ET
import zipfile
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
from click.testing import CliRunner, Result
from rasterio.transform import from_origin
from test_qgis import SYSTEM_PYTHON, has_qgis, qgis_environment
from test_train_command import scene

from geoseg.cli import geoseg

DRAW = """
import json, sys
from qgis.core import *
application = QgsApplication([], False)
application.initQgis()
project = QgsProject.instance()
assert project.read(sys.argv[1])
named = {layer.name(): layer for layer in project.mapLayers().values()}
labels = named["labels"]
field = labels.fields().indexOf("category")
widget = labels.editorWidgetSetup(field)
out = {
    "layers": {name: layer.isValid() for name, layer in named.items()},
    "widget": widget.type(),
    "choices": [list(pair.values())[0] for pair in widget.config()["map"]],
    "categories": [[c.value(), c.label()] for c in labels.renderer().categories()],
    "crs": project.crs().authid(),
    "snapping": project.snappingConfig().enabled(),
    "bookmarks": [mark.name() for mark in project.bookmarkManager().bookmarks()],
}
for name, layer in (("labels", labels), ("extent", named["extent: all labelled inside"])):
    assert layer.startEditing()
    for text, wkt in json.loads(sys.argv[2])[name]:
        feature = QgsFeature(layer.fields())
        feature.setGeometry(QgsGeometry.fromWkt(wkt))
        if name == "labels":
            feature["category"] = text
        assert layer.addFeature(feature)
    assert layer.commitChanges(), layer.commitErrors()
print("ANSWER" + json.dumps(out))
project.clear()
application.exitQgis()
"""


def run(*arguments: Any) -> Result:
    return CliRunner().invoke(geoseg, [str(a) for a in arguments])


def drawn(folder: Path, project: Path, shapes: dict[str, list[list[str]]]) -> dict[str, Any]:
    if not has_qgis():
        pytest.skip("python3-qgis is not installed: apt-get install python3-qgis")
    done = subprocess.run(
        [SYSTEM_PYTHON, "-c", DRAW, str(project), json.dumps(shapes)],
        env=qgis_environment(folder), capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    line = next((x for x in done.stdout.splitlines() if x.startswith("ANSWER")), None)
    assert line is not None, done.stderr
    answer: dict[str, Any] = json.loads(line.removeprefix("ANSWER"))
    return answer


@pytest.mark.qgis
def test_what_is_drawn_in_qgis_is_trained_on(tmp_path: Path) -> None:
    from geoseg.learn.ground import LabelOptions, read_labels
    from geoseg.scene.opening import open_scene

    scene(tmp_path / "scene.tif")
    labels = tmp_path / "labels.gpkg"
    made = run("label", tmp_path / "scene.tif", "--classes", "soil,crop & <weed>", "-o", labels)
    assert made.exit_code == 0, made.output
    assert pyogrio.list_layers(labels)[:, 0].tolist() == ["labels", "extent"]
    north = 5.4e6
    answer = drawn(
        tmp_path,
        tmp_path / "labels.qgz",
        {
            "labels": [
                ["soil", shapely.box(500010, north - 30, 500030, north - 10).wkt],
                ["crop & <weed>", shapely.box(500050, north - 30, 500060, north - 10).wkt],
            ],
            "extent": [["", shapely.box(500000, north - 40, 500080, north).wkt]],
        },
    )
    assert all(answer["layers"].values()) and len(answer["layers"]) == 3
    assert answer["widget"] == "ValueMap"
    assert answer["choices"] == ["soil", "crop & <weed>"]
    assert answer["categories"] == [["soil", "soil"], ["crop & <weed>", "crop & <weed>"]]
    assert answer["crs"] == "EPSG:32633" and answer["snapping"]
    found = read_labels(open_scene(tmp_path / "scene.tif"), labels, LabelOptions(), 0)
    counts = {name: int((found.position == k).sum()) for k, name in enumerate(found.names)}
    assert counts == {"soil": 400, "crop & <weed>": 200, "background": 80 * 40 - 600}


def the_map(folder: Path) -> Path:
    """Polygons as 'geoseg map' gives them."""
    boxes = [shapely.box(500000 + 50 * k, 5.4e6 - 40, 500040 + 50 * k, 5.4e6) for k in range(4)]
    frame = gpd.GeoDataFrame(
        {"category": ["soil", "weed", "soil", "weed"], "score": [0.9, 0.5, 0.7, 0.99]},
        geometry=boxes,
        crs="EPSG:32633",
    )
    frame.to_file(folder / "map.gpkg")
    return folder / "map.gpkg"


def bookmarks(project: Path) -> list[str]:
    with zipfile.ZipFile(project) as archive:
        root = ET.fromstring(archive.read(archive.namelist()[0]).split(b"\n", 1)[1])
    return [mark.get("name", "") for mark in root.iter("Bookmark")]


def test_a_map_is_corrected_hardest_first(tmp_path: Path) -> None:
    scene(tmp_path / "scene.tif")
    arguments = ("label", tmp_path / "scene.tif", "--classes", "soil,weed", "--from",
                 the_map(tmp_path), "-o", tmp_path / "labels.gpkg")  # fmt: skip
    assert run(*arguments).exit_code == 0
    filled = gpd.read_file(tmp_path / "labels.gpkg", layer="labels")
    assert filled["rank"].tolist() == [1, 2, 3, 4]
    assert filled["hardness"].tolist() == [0.5, 0.3, 0.1, 0.01]
    assert bookmarks(tmp_path / "labels.qgz") == ["1. weed", "2. soil", "3. soil", "4. weed"]
    entropy = np.zeros((256, 256), np.float32)
    entropy[:40, 150:190] = 0.8
    with rasterio.open(tmp_path / "scene.tif") as file:
        profile = file.profile | {"count": 1, "dtype": "float32"}
    with rasterio.open(tmp_path / "entropy.tif", "w", **profile) as file:
        file.write(entropy, 1)
    again = run(*arguments, "--entropy", tmp_path / "entropy.tif", "--overwrite")
    assert again.exit_code == 0, again.output
    filled = gpd.read_file(tmp_path / "labels.gpkg", layer="labels")
    assert filled["hardness"].tolist() == [0.8, 0, 0, 0]
    assert filled.geometry[0].bounds[0] == 500150


def test_entropy_as_geoseg_writes_it_is_a_share_and_of_this_map(tmp_path: Path) -> None:
    scene(tmp_path / "scene.tif")
    with rasterio.open(tmp_path / "scene.tif") as file:
        profile = file.profile | {"count": 1, "dtype": "uint8", "nodata": 255}
    for name, shift in (("here", 0.0), ("afar", 9000.0)):
        profile["transform"] = from_origin(500000 + shift, 5.4e6, 1, 1)
        with rasterio.open(tmp_path / f"{name}.tif", "w", **profile) as file:
            file.write(np.full((256, 256), 127, np.uint8), 1)
            file.scales = (1 / 254,)
    arguments = ("label", tmp_path / "scene.tif", "--classes", "soil,weed", "--from",
                 the_map(tmp_path), "-o", tmp_path / "x.gpkg", "--entropy")  # fmt: skip
    assert run(*arguments, tmp_path / "here.tif").exit_code == 0
    filled = gpd.read_file(tmp_path / "x.gpkg", layer="labels")
    assert filled["hardness"].tolist() == [0.5] * 4
    refused = run(*arguments, tmp_path / "afar.tif", "--overwrite")
    assert refused.exit_code == 2 and "shows none of the map's polygons" in refused.output


def test_a_map_of_another_place_is_refused(tmp_path: Path) -> None:
    scene(tmp_path / "scene.tif", west=800000.0)
    result = run("label", tmp_path / "scene.tif", "--classes", "soil,weed", "--from",
                 the_map(tmp_path), "-o", tmp_path / "x.gpkg")  # fmt: skip
    assert result.exit_code == 2 and "none of its polygons lies on scene.tif" in result.output


def test_the_scene_is_shown_in_its_colours(tmp_path: Path) -> None:
    scene(tmp_path / "scene.tif", bands=4)
    with rasterio.open(tmp_path / "scene.tif", "r+") as file:
        file.descriptions = ("B02", "B03", "B04", "B08")
    made = run("label", tmp_path / "scene.tif", "--classes", "a,b", "-o", tmp_path / "x.gpkg")
    assert made.exit_code == 0, made.output
    with zipfile.ZipFile(tmp_path / "x.qgz") as archive:
        root = ET.fromstring(archive.read(archive.namelist()[0]).split(b"\n", 1)[1])
    (renderer,) = root.iter("rasterrenderer")
    shown = [renderer.get(f"{name}Band") for name in ("red", "green", "blue")]
    assert shown == ["3", "2", "1"]


def test_wrong_input_says_what_is_wrong(tmp_path: Path) -> None:
    scene(tmp_path / "scene.tif")
    image = tmp_path / "scene.tif"
    for arguments, words in (
        ((), "give the classes"),
        (("--classes", "a,a"), "give different names"),
        (("--classes", "a", "--from", the_map(tmp_path)), "'soil', 'weed', which is not among"),
        (("--classes", "a", "-o", tmp_path / "x.shp"), "written as .gpkg"),
        (("--classes", "a", "--from", image), "no polygons can be read"),
    ):
        result = run("label", image, "-o", tmp_path / "x.gpkg", *arguments)
        assert result.exit_code == 2 and words in result.output, result.output
    assert not list(tmp_path.glob("x.*"))
