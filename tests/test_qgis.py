"""What geoseg writes, opened by the real QGIS (offscreen, in its own Python)."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import xml.etree.ElementTree as ET
from functools import cache
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import rasterio.features
import shapely
from test_export_raster import grid
from test_export_vector import LEGEND

from geoseg.export.graded import graded_qml
from geoseg.export.project import Project, write_project
from geoseg.export.projectlayer import ProjectLayer
from geoseg.export.raster import RasterOptions, write_raster
from geoseg.export.vector import VectorOptions, write_vector
from geoseg.legend import Category, Legend

SYSTEM_PYTHON = "/usr/bin/python3"


def qgis_environment(folder: Path) -> dict[str, str]:
    runtime = folder / "runtime"
    runtime.mkdir(mode=0o700, exist_ok=True)
    keep = {
        k: v for k, v in os.environ.items() if k in {"PATH", "LANG", "LC_ALL", "OMP_NUM_THREADS"}
    }
    return {
        **keep,
        "HOME": str(folder),
        "QT_QPA_PLATFORM": "offscreen",
        "XDG_RUNTIME_DIR": str(runtime),
        "QGIS_CUSTOM_CONFIG_PATH": str(folder / "profile"),
    }


@cache
def has_qgis() -> bool:
    if not Path(SYSTEM_PYTHON).exists():
        return False
    run = [SYSTEM_PYTHON, "-c", "import qgis.core"]
    return subprocess.run(run, capture_output=True, check=False).returncode == 0


@pytest.fixture(autouse=True)
def _qgis() -> None:
    if not has_qgis():
        if os.environ.get("GEOSEG_NO_SKIP"):
            pytest.fail("python3-qgis is not installed, and nothing may be skipped here")
        pytest.skip("python3-qgis is not installed: apt-get install python3-qgis")


pytestmark = pytest.mark.qgis


def look(folder: Path, request: dict[str, Any]) -> dict[str, Any]:
    (folder / "request.json").write_text(json.dumps(request))
    script = Path(__file__).with_name("qgis_look.py")
    run = subprocess.run(
        [SYSTEM_PYTHON, script, folder], env=qgis_environment(folder),
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert (folder / "answer.json").exists(), run.stderr
    answer: dict[str, Any] = json.loads((folder / "answer.json").read_text())
    return answer


def pixels_of(path: Path) -> np.ndarray:
    with rasterio.open(path) as file:
        return file.read([1, 2, 3])


def a_map(folder: Path) -> gpd.GeoDataFrame:
    """Scene, class raster, confidence and polygons of a small made-up place."""
    rows = cols = 120
    y, x = np.mgrid[:rows, :cols]
    ids = np.where((x - 30) ** 2 + (y - 40) ** 2 < 400, 0, 7).astype("uint8")
    ids[(x // 12 % 2 == 0) & (y // 12 % 2 == 0) & (x > 60)] = 1
    ids[:10] = 255
    where = grid(rows, cols)
    write_raster(ids, folder / "map.tif", geobox=where, legend=LEGEND)
    score = (x * 2).astype("uint8")
    kind = RasterOptions(kind="score")
    write_raster(score, folder / "map_confidence.tif", geobox=where, options=kind)
    profile = {"driver": "GTiff", "width": cols, "height": rows, "count": 3, "dtype": "uint16"}
    with rasterio.open(
        folder / "scene.tif", "w", crs=where.crs.to_wkt(), transform=where.affine, **profile
    ) as file:
        file.write(np.stack([ids.astype(int) * 9 + 300, x * 5 + 200, y * 4 + 100]).astype("uint16"))
    shapes = rasterio.features.shapes(ids, ids != 255, transform=where.affine)
    found = [(shapely.geometry.shape(s), LEGEND.by_id(int(v))) for s, v in shapes]
    frame = gpd.GeoDataFrame(
        {
            "segment_id": range(len(found)),
            "category_id": np.array([c.id for _, c in found], "uint8"),
            "category": [c.name for _, c in found],
            "isthing": [c.isthing for _, c in found],
            "instance_id": [i + 1 if c.isthing else 0 for i, (_, c) in enumerate(found)],
            "area_m2": [s.area for s, _ in found],
        },
        geometry=[s for s, _ in found],
        crs=32721,
    )
    write_vector(
        frame, folder / "map.gpkg", legend=LEGEND, options=VectorOptions(layer="Ségments 1")
    )
    return frame


def test_layers_open_styled_with_every_name(tmp_path: Path) -> None:
    frame = a_map(tmp_path)
    points = frame.copy()
    points.geometry = points.geometry.representative_point()
    write_vector(points, tmp_path / "points.gpkg", legend=LEGEND)
    write_vector(frame.iloc[:0], tmp_path / "empty.gpkg", legend=LEGEND)
    names = ["map.gpkg|layername=Ségments 1", "points.gpkg", "empty.gpkg"]
    layers = [{"source": str(tmp_path / name), "provider": "ogr"} for name in names]
    rasters = ["map.tif", "map_confidence.tif"]
    layers += [{"source": str(tmp_path / name), "provider": "gdal"} for name in rasters]
    answer = look(tmp_path, {"layers": layers})
    expected = [[c.id, c.name, c.colour] for c in LEGEND]
    for layer in answer["layers"][:3]:
        assert layer["valid"] and layer["renderer"] == "categorizedSymbol" and layer["indexed"]
        assert [[int(c[0]), *c[1:3]] for c in layer["categories"]] == expected
        assert layer["labels"]
    assert answer["layers"][0]["categories"][0][3] < 255  # the scene shows through
    assert answer["layers"][0]["aliases"]["area_m2"] == "Area (m²)"
    assert answer["layers"][4]["renderer"] == "singlebandgray"
    raster = answer["layers"][3]
    assert raster["renderer"] == "paletted" and raster["categories"] == expected
    assert [m for m in answer["messages"] if m[0] != "Qt"] == []
    colours = {tuple(p) for p in pixels_of(tmp_path / "layer3.png").reshape(3, -1).T.tolist()}
    assert len(colours) >= 4


def test_files_beside_a_raster_take_their_own_part_of_its_style(tmp_path: Path) -> None:
    frame = a_map(tmp_path)
    for suffix in ("fgb", "shp", "geojson"):
        write_vector(frame, tmp_path / f"map.{suffix}", legend=LEGEND)
    names = ["map.fgb", "map.shp", "map.geojson", "map.gpkg", "map.tif"]
    layers = [{"source": str(tmp_path / name), "provider": "ogr"} for name in names[:4]]
    layers.append({"source": str(tmp_path / names[4]), "provider": "gdal"})
    answer = look(tmp_path, {"layers": layers})
    expected = [[c.id, c.name, c.colour] for c in LEGEND]
    for layer, number in zip(answer["layers"], range(5), strict=True):
        assert layer["renderer"] == ("paletted" if number == 4 else "categorizedSymbol")
        assert [[int(c[0]), *c[1:3]] for c in layer["categories"]] == expected
        drawn = pixels_of(tmp_path / f"layer{number}.png").reshape(3, -1).T
        assert len(np.unique(drawn, axis=0)) >= 4  # every class is drawn
    assert answer["messages"] == []


def test_a_project_opens_after_its_folder_was_moved(tmp_path: Path) -> None:
    made = tmp_path / "made here"
    made.mkdir()
    a_map(made)
    layers = (
        ProjectLayer(path=made / "map.gpkg", role="polygons", name="Polygons [% 1+1 %]"),
        ProjectLayer(path=made / "map.tif", role="category", name="Classes"),
        ProjectLayer(path=made / "map_confidence.tif", role="score", name="Confidence"),
        ProjectLayer(path=made / "scene.tif", role="scene", name="Scene <b>&"),
    )
    long = "a class whose name is far too long for one line of any legend that is printed"
    more = (Category(9, "never seen", "#ff0000"), Category(20, long, "#00ffff"))
    project = Project(
        layers=layers,
        legend=Legend((*LEGEND, *more), name="more"),
        title="Title [% file_path(@project_path) %] </text> \"x\" & 'y'",
        note="Scene: © somebody, CC BY 4.0. Map: geoseg.",
        hectares={0: 12.5, 1: 0.25, 7: 1234.5, 20: 3},
    )
    write_project(project, made / "map.qgz")
    first = (made / "map.qgz").read_bytes()
    write_project(project, made / "map.qgz", overwrite=True)
    assert (made / "map.qgz").read_bytes() == first
    moved = tmp_path / "moved ü"
    shutil.move(made, moved)
    answer = look(tmp_path, {"project": str(moved / "map.qgz")})
    assert answer["read"] and answer["messages"] == []
    assert answer["crs"] == "EPSG:32721"
    assert answer["groups"] == ["Map", "Confidence", "Scene"]
    kinds = [layer["renderer"] for layer in answer["tree"]]
    assert kinds == ["categorizedSymbol", "paletted", "singlebandgray", "multibandcolor"]
    assert all(layer["valid"] for layer in answer["tree"])
    assert answer["tree"][0]["categories"][0][1] == "water (12.5 ha)"
    assert answer["tree"][0]["aliases"]["area_m2"] == "Area (m²)"
    printed = answer["legend"]
    assert len(printed) == 4 and "never seen" not in str(printed)
    assert printed[3].count("\ue000") == 2 and printed[3].endswith("(3.00 ha)")
    assert len(answer["bookmarks"]) == 10 and answer["bookmarks"][0].startswith("1. ")
    assert answer["layouts"] == ["Map"] and answer["printed"] == 0
    for kind in ("Map", "Label", "Legend", "ScaleBar", "Picture"):
        assert f"QgsLayoutItem{kind}" in answer["items"]
    assert pixels_of(tmp_path / "project.png").std() > 10
    _, high, wide = pixels_of(tmp_path / "layout.png").shape
    page = pixels_of(tmp_path / "layout.png")[:, high // 5 : high * 4 // 5, wide // 5 : wide // 2]
    assert page.std() > 10  # the map itself, not a white page over it


def test_points_are_drawn_in_a_project(tmp_path: Path) -> None:
    frame = a_map(tmp_path)
    frame.geometry = frame.geometry.representative_point()
    write_vector(frame, tmp_path / "points.gpkg", legend=LEGEND)
    layer = ProjectLayer(path=tmp_path / "points.gpkg", role="polygons", name="Points")
    write_project(Project(layers=[layer], legend=LEGEND, title="Points"), tmp_path / "map.qgz")
    answer = look(tmp_path, {"project": str(tmp_path / "map.qgz")})
    assert answer["messages"] == [] and answer["tree"][0]["renderer"] == "categorizedSymbol"
    assert answer["tree"][0]["categories"][0][3] == 255
    assert len(answer["bookmarks"]) == 10
    assert pixels_of(tmp_path / "project.png").std() > 3  # markers on white


def test_cells_are_shaded_by_their_number(tmp_path: Path) -> None:
    boxes = [shapely.box(x, 0, x + 10, 10) for x in range(0, 200, 10)]
    numbers = np.r_[np.zeros(5), np.arange(15) * 2.5 + 1]
    cells = gpd.GeoDataFrame({"count": numbers, "per_ha": numbers}, geometry=boxes, crs=32721)
    frames = {"cells": cells, "none": cells.assign(per_ha=0.0),
              "one": cells.rename(columns={"per_ha": "dead_per_ha"}).assign(dead_per_ha=2.0),
              "parcels": cells.rename(columns={"per_ha": "area_ha"})}  # fmt: skip
    for name, frame in frames.items():
        write_vector(frame, tmp_path / f"{name}.gpkg")
    names = [*frames]
    layers = [{"source": f"{tmp_path / name}.gpkg", "provider": "ogr"} for name in names]
    answer = look(tmp_path, {"layers": layers})
    assert answer["messages"] == []
    assert [layer["renderer"] for layer in answer["layers"]] == ["graduatedSymbol"] * 4
    picture = pixels_of(tmp_path / "layer0.png")
    assert len(np.unique(picture.reshape(picture.shape[0], -1), axis=1).T) > 5
    assert graded_qml(cells.drop(columns="per_ha")) is None
    assert graded_qml(cells.set_geometry(cells.centroid)) is None


def test_each_dose_has_a_shade_and_a_single_one_is_dark() -> None:
    def shades(rates: list[float]) -> dict[str, str]:
        boxes = [shapely.box(x, 0, x + 1, 1) for x in range(len(rates))]
        frame = gpd.GeoDataFrame({"rate_l_ha": rates}, geometry=boxes, crs=32721)
        root = ET.fromstring((graded_qml(frame) or "").split("\n", 1)[1])
        colours = [o.get("value", "") for o in root.iter("Option") if o.get("name") == "color"]
        return dict(zip([r.get("upper", "") for r in root.iter("range")], colours, strict=True))

    one, three = shades([0, 200, 0, 200]), shades([0, 50, 100, 100, 100, 100, 100, 200])
    assert [*one] == ["0.0", "200.0"] and one["200.0"].startswith("37,52,148")
    assert [*three] == ["0.0", "50.0", "100.0", "200.0"] and len(set(three.values())) == 4
