"""The plugin inside the real QGIS: toolbox algorithms through ``processing.run``."""

from __future__ import annotations

import ast
import configparser
import json
import re
import shutil
import subprocess
import zipfile
from importlib.metadata import metadata
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click
import geopandas as gpd
import numpy as np
import pytest
import rasterio
import rasterio.features
import rasterio.warp
import shapely
from click.testing import CliRunner
from test_export_raster import grid
from test_qgis import SYSTEM_PYTHON, _qgis, qgis_environment  # noqa: F401

import geoseg as geoseg_package
from geoseg import __version__ as geoseg_version
from geoseg.cli import geoseg
from geoseg.models.catalogue import BUNDLED


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
        capture_output=True, text=True, check=False, timeout=500,
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
    names = ("a.gpkg", "a.tif", "b.gpkg", "c.gpkg", "d.html", "f.gpkg", "f.tif", "f.qgz", "f.json",
             "g.gpkg")  # fmt: skip
    out = {name: str(tmp_path / name) for name in names}
    with rasterio.open(scene) as file:  # its western half, given in degrees
        box, crs = file.bounds, file.crs
    half = box.left, box.bottom, (box.left + box.right) / 2, box.top
    west, south, east, north = rasterio.warp.transform_bounds(crs, 4326, *half)
    runs = [
        {"algorithm": "geoseg:classic",
         "parameters": {"SCENE": str(scene), "METHOD": 0, "POLYGONS": out["a.gpkg"],
                        "CLASSES": out["a.tif"]}},
        {"algorithm": "geoseg:classic",
         "parameters": {"SCENE": str(scene), "METHOD": 0, "SMOOTH": True, "FILL_HOLES": 500,
                        "DROP_SMALL": True, "MIN_AREA": 200, "GEOMETRY": 0, "NODATA": "none",
                        "PROJECT": out["f.qgz"],
                        "ASSUME_CRS": "EPSG:32721", "REPORT": out["f.json"],
                        "EXTENT": f"{west},{east},{south},{north} [EPSG:4326]",
                        "POLYGONS": out["f.gpkg"], "CLASSES": out["f.tif"]}},
        {"algorithm": "geoseg:polygonize",
         "parameters": {"RASTER": out["a.tif"], "SMOOTH": True, "SIMPLIFY": 15,
                        "SHARED_VERTICES": True, "GEOMETRY": 2,
                        "NODATA": "0", "THREADS": 1, "POLYGONS": out["g.gpkg"]}},
        {"algorithm": "geoseg:classic",
         "parameters": {"SCENE": str(scene), "POLYGONS": str(tmp_path / "h.gpkg"),
                        "EXTENT": "0,1,0,1", "REGION": out["a.gpkg"]}},
        {"algorithm": "geoseg:polygonize",
         "parameters": {"RASTER": str(scene), "POLYGONS": out["b.gpkg"]}},
        {"algorithm": "geoseg:page",
         "parameters": {"POLYGONS": [out["a.gpkg"], out["f.gpkg"]], "SCENE": str(scene),
                        "PAGE": out["d.html"]}},
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
    widgets = {a["id"]: a["widgets"] for a in answer["algorithms"]}
    assert widgets["geoseg:map"]["MODEL"] == "ModelWrapper"
    assert answer["models"] == [["terrain", "weeds", "fields"], "terrain", "own.zip"]
    first, smooth, points, both, second, page, wrong, stopped = answer["runs"]
    assert first["error"] == "" and first["renderer"] == "categorizedSymbol", first
    assert first["rows"] > 1
    assert Path(out["a.tif"]).exists()
    assert second["error"] == "" and second["rows"] == 25
    assert smooth["error"] == "", smooth
    found = gpd.read_file(out["f.gpkg"])
    assert 10 <= len(found) <= 18 and Path(out["f.qgz"]).exists() and Path(out["f.json"]).exists()
    steps = np.concatenate([np.diff(s.exterior.coords, axis=0) for s in found.geometry.explode()])
    assert (np.abs(steps) > 0.01).all(axis=1).any()  # corners were cut
    assert points["error"] == "" and set(gpd.read_file(out["g.gpkg"]).geom_type) == {"Point"}
    assert "REGION and EXTENT" in both["error"]
    advanced = {a["id"]: a["advanced"] for a in answer["algorithms"]}
    assert {"HALO", "LAYERS", "ON_ERROR"} <= set(advanced["geoseg:map"])
    assert "SMOOTH" not in advanced["geoseg:map"] + advanced["geoseg:polygonize"]
    assert page["error"] == "" and Path(out["d.html"]).stat().st_size > 10_000
    assert "no such model" in wrong["error"] and not (tmp_path / "e.gpkg").exists()
    assert stopped["seconds"] < 25, stopped
    assert not list(tmp_path.glob("c.gpkg*"))
    assert answer["unloaded"]


def labelled(folder: Path) -> None:
    """Truth of the checks of ``a_scene``: as a raster, polygons, a second layer and points."""
    with rasterio.open(folder / "scene.tif") as file:
        band, profile, transform = file.read(1), file.profile, file.transform
    shapes = rasterio.features.shapes(band, transform=transform)
    found = [(shapely.geometry.shape(s), "dark" if v < 100 else "bright") for s, v in shapes]
    frame = gpd.GeoDataFrame(
        {"category": [name for _, name in found]}, geometry=[s for s, _ in found], crs=32721
    )
    frame.iloc[:1].to_file(folder / "labels.gpkg", layer="other")
    frame.to_file(folder / "labels.gpkg", layer="drawn")
    # GDAL writes GeoJSON in any CRS that it names
    frame.to_file(folder / "scratch.json", driver="GeoJSON")
    rows, cols = np.mgrid[5:200:20, 5:200:20]
    xs, ys = transform @ (cols.ravel() + 0.5, rows.ravel() + 0.5)
    names = np.where(band[rows, cols].ravel() < 100, "low", "high")
    points = gpd.GeoDataFrame(
        {"stratum": names, "seen": names}, geometry=gpd.points_from_xy(xs, ys), crs=32721
    )
    points.to_file(folder / "points.gpkg")
    with rasterio.open(folder / "truth.tif", "w", **profile) as file:
        file.write((band > 100).astype("uint8"), 1)


TRAINING = {"STEPS": 2, "BATCH": 2, "SIZE": 64, "THREADS": 1, "ENCODER": "tu-mobilenetv3_small_050"}


@pytest.mark.slow  # ten runs of the command line
@pytest.mark.qgis
@pytest.mark.usefixtures("_qgis")
def test_train_evaluate_areas_batch_and_a_model(tmp_path: Path) -> None:
    a_scene(tmp_path / "scene.tif", 200)
    labelled(tmp_path)
    scene = str(tmp_path / "scene.tif")
    out = {
        name: str(tmp_path / name)
        for name in (
            "a.gpkg",
            "a.tif",
            "m.zip",
            "long.zip",
            "e.json",
            "t.csv",
            "1.gpkg",
            "2.gpkg",
        )
    }
    drawn = f"{tmp_path / 'labels.gpkg'}|layername=drawn"
    train = {"SCENES": [scene], "COLUMN": "category", **TRAINING}
    runs: list[dict[str, Any]] = [
        {"algorithm": "geoseg:classic",
         "parameters": {"SCENE": scene, "POLYGONS": out["a.gpkg"], "CLASSES": out["a.tif"]}},
        {"algorithm": "geoseg:train",
         "parameters": {**train, "LABELS": [drawn], "BUNDLE": out["m.zip"]}},
        {"algorithm": "geoseg:train", "cancel_at": "step ",
         "parameters": {**train, "LABELS": [drawn], "STEPS": 100000, "BUNDLE": out["long.zip"]}},
        {"algorithm": "geoseg:evaluate",
         "parameters": {"MAP": out["a.gpkg"], "TRUTH": out["a.tif"], "FIGURES": out["e.json"]}},
        {"algorithm": "geoseg:evaluate",
         "parameters": {"MAP": "scratch", "TRUTH": drawn, "LIKE": scene, "COLUMN": "category"}},
        {"algorithm": "geoseg:areas",
         "parameters": {"MAP": out["a.tif"], "POINTS": str(tmp_path / "points.gpkg"),
                        "REFERENCE": "seen", "TABLE": out["t.csv"]}},
        {"algorithm": "geoseg:polygonize",
         "rows": [{"RASTER": str(tmp_path / name), "POLYGONS": out[to]}
                  for name, to in (("scene.tif", "1.gpkg"), ("truth.tif", "2.gpkg"))]},
    ]  # fmt: skip
    answer = process(tmp_path, runs)
    _, trained, stopped, judged, scratch, areas, batch = answer["runs"]
    for run in (trained, judged, scratch, areas):
        assert run["error"] == "", run
    assert trained["progress"][-1] == 100 and Path(out["m.zip"]).exists()
    assert stopped["error"] == "" and not list(tmp_path.glob("long*")), stopped["log"]
    assert json.loads(Path(out["e.json"]).read_text())["semantic"]["mean_iou"] == pytest.approx(1)
    assert "mean_iou 1" in judged["results"]["PRINTED"]
    assert "mean_iou 1 " in scratch["results"]["PRINTED"]
    assert "overall accuracy 1.000" in areas["results"]["PRINTED"]
    assert batch["written"] == [True, True]
    widgets = {a["id"]: a["widgets"] for a in answer["algorithms"]}
    assert set(widgets["geoseg:train"]) >= {"SCENES", "LABELS", "TASK", "BUNDLE"}
    assert set(widgets) >= {"geoseg:train", "geoseg:evaluate", "geoseg:areas"}
    assert answer["model"]
    program = shutil.which("qgis_process.bin") or shutil.which("qgis_process")
    if program is None:
        pytest.skip("qgis_process is not installed: apt-get install qgis")
    by_program(tmp_path, program)


def by_program(folder: Path, program: str) -> None:
    """An algorithm and the model, run by QGIS' own command line in its profile."""
    environment = qgis_environment(folder)
    profile = folder / "profile" / "profiles" / "default"
    done = CliRunner().invoke(geoseg, ["qgis", "install", "--profile", str(profile)])
    assert done.exit_code == 0, done.output

    def call(*arguments: object) -> str:
        run = subprocess.run(
            [program, *map(str, arguments)], env=environment,
            capture_output=True, text=True, check=False, timeout=300,
        )  # fmt: skip
        assert run.returncode == 0, run.stdout + run.stderr
        return run.stdout

    call("plugins", "enable", "geoseg_processing")
    assert "geoseg:train\tTrain a model" in call("list")
    assert "SCENES: Scenes" in call("help", "geoseg:train")
    scene, polygons = folder / "scene.tif", folder / "program.gpkg"
    call("run", "geoseg:classic", f"--SCENE={scene}", f"--POLYGONS={polygons}")
    assert len(gpd.read_file(polygons)) == 25
    chained = folder / "chained.gpkg"
    call("run", folder / "chain.model3", f"--scene={scene}",
         f"--classic:classes={folder / 'c.tif'}", f"--polygons:polygons={chained}")  # fmt: skip
    assert len(gpd.read_file(chained)) == 25


def described() -> dict[str, list[dict[str, Any]]]:
    """Parameters of the plugin's algorithms by name."""
    folder = Path(geoseg_package.__file__).parent / "plugin" / "geoseg_processing"
    content = json.loads((folder / "algorithms.json").read_text())
    groups = content["groups"]
    return {
        one["name"]: [
            parameter
            for entry in one["parameters"]
            for parameter in (groups[entry[1:]] if isinstance(entry, str) else [entry])
        ]
        for one in content["algorithms"]
    }


OF_THE_COMMAND_LINE = {  # jobs on clusters, several files, what the toolbox has itself
    "--overwrite", "--quiet", "--verbose", "--json", "--help", "--explain", "--samples", "--seeds",
    "--sample-column", "--keep", "--store", "--part", "--join", "--scheduler", "--tls",
    "--resources", "--dashboard", "--stack", "--mosaic", "--allow-vrt", "--allow-network",
    "--evaluate-every", "--checkpoint-every", "--cross-validate",
}  # fmt: skip
VERBS = {"map": "map", "classic": "map", "polygonize": "polygonize", "train": "train",
         "evaluate": "evaluate", "areas": "areas", "page": "view"}  # fmt: skip


@pytest.mark.parametrize("algorithm", VERBS)
def test_algorithms_offer_what_the_command_line_does(algorithm: str) -> None:
    command = geoseg.get_command(click.Context(geoseg), VERBS[algorithm])
    assert isinstance(command, click.Command)
    known = {text: one for one in command.params for text in (*one.opts, *one.secondary_opts)}
    parameters = described()[algorithm]
    names = [one["name"] for one in parameters]
    assert len(set(names)) == len(names)
    offered = set()
    for one in parameters:
        flags = [one["option"]] if "option" in one else one.get("flags", [])
        for option in filter(None, flags):
            assert option in known, option
            offered |= {known[option].name}
            kind = known[option].type
            if one["type"] in {"choice", "choices"} and isinstance(kind, click.Choice):
                assert one["choices"] == list(kind.choices)
            assert (one["type"] == "flag") == getattr(known[option], "is_flag", False) or flags[1:]
    if algorithm != "classic":
        left = {p.name: p.opts[-1] for p in command.params if isinstance(p, click.Option)}
        assert {text for name, text in left.items() if name not in offered} <= OF_THE_COMMAND_LINE
    # the first look is short: what is seldom needed is behind "advanced"
    assert sum(not one.get("advanced") for one in parameters) <= 12


def test_the_models_to_choose_from_are_those_that_come_along() -> None:
    (one,) = [p for p in described()["map"] if p["name"] == "MODEL"]
    assert set(one["models"]) == set(BUNDLED) and one["default"] in BUNDLED


REQUIRED = ("name", "description", "version", "qgisMinimumVersion", "author", "email", "about",
            "tracker", "repository")  # fmt: skip
ADDRESSES = {"homepage": "https://example.org/a%20b", "repository": "https://example.org/code",
             "tracker": "https://example.org/code/issues", "email": "a@example.org",
             "author": "Somebody"}  # fmt: skip


def check_plugin(path: Path) -> dict[str, str]:
    """The plugin repository's rules (validator.py of QGIS-Plugins-Website), but for opening the
    addresses; returns the metadata.
    """
    assert path.stat().st_size <= 25_000_000
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        names = archive.namelist()
        package = names[0][: names[0].index("/")]
        assert {name.split("/")[0] for name in names} == {package}
        assert package.isidentifier() and re.fullmatch(r"[A-Za-z][A-Za-z0-9-_]+", package)
        for name in names:
            assert ".." not in name and not name.startswith("/") and ".pyc" not in name
            assert not {"__MACOSX", ".git", "__pycache__"} & set(name.split("/"))
            assert Path(name).suffix in {".py", ".json", ".svg", ".txt", ""}, "a binary"
        assert f"{package}/LICENSE" in names
        code = archive.read(f"{package}/__init__.py").decode()
        parser = configparser.ConfigParser()
        parser.optionxform = str  # type: ignore[assignment]
        parser.read_string(archive.read(f"{package}/metadata.txt").decode())
        stated = dict(parser["general"])
        assert f"{package}/{stated['icon']}" in names
    assert any(
        isinstance(one, ast.FunctionDef) and one.name == "classFactory"
        for one in ast.parse(code).body
    )
    assert set(REQUIRED) <= {name for name, value in stated.items() if value.strip()}
    for name in ("tracker", "repository", "homepage"):
        url = urlsplit(stated[name])
        assert url.scheme and url.netloc
        assert stated[name] not in {"http://bugs", "http://repo", "http://homepage"}
    assert "/" not in stated["author"] and "@" in stated["email"]
    for name in ("experimental", "deprecated", "server"):
        assert stated[name] in {"True", "False"}
    low, high = (stated[f"qgis{end}Version"].split(".") for end in ("Minimum", "Maximum"))
    assert [int(part) for part in low] < [int(part) for part in high]
    return stated


def zipped(path: Path, addresses: dict[str, str]) -> Any:
    given = [f"--set={name}={text}" for name, text in addresses.items()]
    return CliRunner().invoke(geoseg, ["qgis", "zip", "-o", str(path), *given])


def test_the_zip_is_what_the_plugin_repository_takes(tmp_path: Path) -> None:
    path = tmp_path / "plugin.zip"
    done = zipped(path, ADDRESSES)
    assert done.exit_code == 0, done.output
    stated = check_plugin(path)
    assert {name: stated[name] for name in ADDRESSES} == ADDRESSES
    assert stated["version"] == geoseg_version and stated["hasProcessingProvider"] == "yes"
    assert zipped(path, ADDRESSES).exit_code == 2  # it is there
    first = path.read_bytes()
    path.unlink()
    zipped(path, ADDRESSES)
    assert path.read_bytes() == first


@pytest.mark.parametrize(
    ("name", "text"),
    [
        *[("homepage", "geoseg.org"), ("tracker", "file:///issues"), ("email", "nobody")],
        *[("author", "a/b"), ("repository", "https://"), ("about", "x"), ("email", " ")],
        ("repository", "https://example.org/\nexperimental=False"),
    ],
)
def test_addresses_that_the_repository_refuses_are_one_line(
    tmp_path: Path, name: str, text: str
) -> None:
    done = zipped(tmp_path / "plugin.zip", {**ADDRESSES, name: text})
    assert done.exit_code == 2 and name in done.output, done.output
    assert len(done.output.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_addresses_are_those_of_the_package(tmp_path: Path) -> None:
    stated = metadata("geoseg")
    author = " ".join(stated.get_all("Author-email") or [])
    urls = dict(line.split(", ", 1) for line in stated.get_all("Project-URL"))
    path = tmp_path / "plugin.zip"
    done = zipped(path, {})
    if {"Repository", "Issues"} <= set(urls) and "@" in author:
        assert done.exit_code == 0, done.output
        found = check_plugin(path)
        assert found["repository"] == urls["Repository"]
        assert found["tracker"] == urls["Issues"]
        assert found["homepage"] == urls.get("Homepage", urls["Documentation"])
        assert found["email"] in author
    else:  # what is not stated is asked for, and not made up
        assert done.exit_code == 2 and "--set" in done.output
        assert not path.exists()
