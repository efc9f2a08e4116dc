"""The plugin inside the real QGIS: toolbox algorithms through ``processing.run``."""

from __future__ import annotations

import configparser
import json
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from click.testing import CliRunner
from test_export_raster import grid
from test_qgis import SYSTEM_PYTHON, _qgis, qgis_environment  # noqa: F401

from geoseg.cli import geoseg


def installed(folder: Path) -> Path:
    done = CliRunner().invoke(geoseg, ["qgis", "install", "--profile", str(folder / "profile")])
    assert done.exit_code == 0, done.output
    return folder / "profile" / "python" / "plugins"


def process(folder: Path, runs: list[dict[str, Any]]) -> dict[str, Any]:
    plugins = installed(folder)
    (folder / "runs.json").write_text(json.dumps(runs))
    script = Path(__file__).with_name("qgis_process.py")
    environment = qgis_environment(folder)
    run = subprocess.run(
        [SYSTEM_PYTHON, script, folder, plugins], env=environment,
        capture_output=True, text=True, check=False, timeout=280,
    )  # fmt: skip
    assert (folder / "answer.json").exists(), run.stderr
    answer: dict[str, Any] = json.loads((folder / "answer.json").read_text())
    return answer


def a_scene(path: Path, side: int) -> None:
    y, x = np.mgrid[:side, :side]
    band = np.where((x // 40 + y // 40) % 2 == 0, 40, 200).astype("uint8")
    where = grid(side, side)
    profile = {"driver": "GTiff", "width": side, "height": side, "count": 1, "dtype": "uint8"}
    with rasterio.open(
        path, "w", crs=where.crs.to_wkt(), transform=where.affine, tiled=True, **profile
    ) as file:
        file.write(band, 1)


@pytest.mark.slow  # five runs of the command line
@pytest.mark.qgis
@pytest.mark.usefixtures("_qgis")
def test_algorithms_run_report_and_can_be_cancelled(tmp_path: Path) -> None:
    scene, large = tmp_path / "scene ü.tif", tmp_path / "large.tif"
    a_scene(scene, 200)
    a_scene(large, 6000)
    out = {name: str(tmp_path / name) for name in ("a.gpkg", "a.tif", "b.gpkg", "c.gpkg", "d.html")}
    runs = [
        {"algorithm": "geoseg:classic",
         "parameters": {"SCENE": str(scene), "METHOD": 0, "POLYGONS": out["a.gpkg"],
                        "CLASSES": out["a.tif"]}},
        {"algorithm": "geoseg:polygonize",
         "parameters": {"RASTER": str(scene), "POLYGONS": out["b.gpkg"]}},
        {"algorithm": "geoseg:page",
         "parameters": {"POLYGONS": out["a.gpkg"], "SCENE": str(scene), "PAGE": out["d.html"]}},
        {"algorithm": "geoseg:map",
         "parameters": {"SCENE": str(scene), "MODEL": "no such model",
                        "POLYGONS": str(tmp_path / "e.gpkg")}},
        {"algorithm": "geoseg:classic", "cancel_after_s": 4,
         "parameters": {"SCENE": str(large), "METHOD": 4, "POLYGONS": out["c.gpkg"]}},
    ]  # fmt: skip
    answer = process(tmp_path, runs)
    assert {a["id"] for a in answer["algorithms"]} >= {
        "geoseg:map", "geoseg:classic", "geoseg:polygonize", "geoseg:evaluate", "geoseg:page",
    }  # fmt: skip
    assert all(a["can_run"] and a["help"] for a in answer["algorithms"])
    first, second, page, wrong, stopped = answer["runs"]
    assert first["error"] == "" and first["renderer"] == "categorizedSymbol", first
    assert first["rows"] > 1
    assert Path(out["a.tif"]).exists()
    assert second["error"] == "" and second["rows"] == 25
    assert page["error"] == "" and Path(out["d.html"]).stat().st_size > 10_000
    assert "no such model" in wrong["error"] and not (tmp_path / "e.gpkg").exists()
    assert stopped["seconds"] < 25, stopped
    assert not list(tmp_path.glob("c.gpkg*"))
    assert answer["unloaded"]


def test_the_zip_is_what_the_plugin_repository_takes(tmp_path: Path) -> None:
    path = tmp_path / "plugin.zip"
    done = CliRunner().invoke(geoseg, ["qgis", "zip", "-o", str(path)])
    assert done.exit_code == 0, done.output
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        text = archive.read("geoseg_processing/metadata.txt").decode()
    assert {name.partition("/")[0] for name in names} == {"geoseg_processing"}
    files = {name.partition("/")[2] for name in names}
    assert {"__init__.py", "metadata.txt", "icon.svg", "LICENSE", "algorithms.json"} <= files
    assert not any(name.endswith((".pyc", "command.json")) for name in files)
    metadata = configparser.ConfigParser()
    metadata.read_string(text)
    wanted = {"name", "qgisMinimumVersion", "description", "about", "version", "author", "email",
              "repository", "tracker", "homepage", "icon", "hasProcessingProvider"}  # fmt: skip
    assert {name.lower() for name in wanted} <= set(metadata["general"])
    assert metadata["general"]["icon"] in files
    assert CliRunner().invoke(geoseg, ["qgis", "zip", "-o", str(path)]).exit_code == 2
