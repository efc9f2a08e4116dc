"""geoseg map and its sisters as a person runs them: real files in, real files out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from importlib import resources
from pathlib import Path

import geopandas as gpd
import numpy as np
import pyogrio
import pytest
import rasterio
import rasterio.features
from affine import Affine
from click.testing import CliRunner, Result
from pyproj import Geod

from geoseg.cli import geoseg as cli

DEMO = Path(str(resources.files("geoseg") / "data" / "demo" / "java_west_s2l2a.tif"))
DATA = Path(__file__).parent / "data"

COLUMNS = [
    *("segment_id", "category_id", "category", "isthing", "instance_id", "score"),
    *("area_m2", "perimeter_m", "pixels", "on_edge", "geometry"),
]


def call(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def write_tif(path: Path, pixels: np.ndarray, **changes: object) -> Path:
    profile = {
        "driver": "GTiff",
        "count": len(pixels),
        "height": pixels.shape[1],
        "width": pixels.shape[2],
        "dtype": pixels.dtype.name,
        "crs": "EPSG:32633",
        "transform": Affine(10, 0, 500000, 0, -10, 5200000),
    }
    with rasterio.open(path, "w", **(profile | changes)) as file:
        file.write(pixels)
    return path


@pytest.fixture(scope="module")
def blobs() -> np.ndarray:
    """One band with two flat levels, so that a fixed threshold has one right answer."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 2, (9, 11)).repeat(13, 0).repeat(13, 1)
    return (coarse[None] * 100 + 50).astype(np.uint8)


@pytest.fixture(scope="module")
def scene(blobs, tmp_path_factory) -> Path:
    return write_tif(tmp_path_factory.mktemp("scene") / "blobs.tif", blobs)


MODEL = "threshold:b1>100"


def test_every_format_holds_the_same_map(scene: Path, blobs, tmp_path: Path) -> None:
    names = ["m.gpkg", "m.parquet", "m.fgb", "m.geojson", "m.tif", "m.png", "m.zarr"]
    outputs = [argument for name in names for argument in ("-o", tmp_path / name)]
    done = call("map", scene, "-m", MODEL, *outputs, "--json")
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert report["pixels"] == blobs[0].size
    assert sorted(p.name for p in tmp_path.iterdir() if not p.name.startswith("m.tif.")) == sorted(
        [*names, "m.qml"]
    )
    with rasterio.open(tmp_path / "m.tif") as file:
        raster = file.read(1)
    assert (raster == (blobs[0] > 100)).all()
    frames = {
        "gpkg": gpd.read_file(tmp_path / "m.gpkg"),
        "fgb": gpd.read_file(tmp_path / "m.fgb"),
        "parquet": gpd.read_parquet(tmp_path / "m.parquet"),
    }
    for frame in frames.values():
        assert list(frame.columns) == [*COLUMNS[:-1], "geometry"] or set(COLUMNS) <= set(frame)
        assert frame.crs.to_epsg() == 32633
        assert frame.pixels.sum() == blobs[0].size
        assert frame.geometry.is_valid.all()
        assert frame.area.sum() == pytest.approx(blobs[0].size * 100)
    on_earth = gpd.read_file(tmp_path / "m.geojson")
    assert on_earth.crs.to_epsg() == 4326
    geod = Geod(ellps="WGS84")
    for polygon, area in zip(on_earth.geometry, on_earth.area_m2, strict=True):
        assert abs(geod.geometry_area_perimeter(polygon)[0]) == pytest.approx(area, rel=1e-3)
    kept = call("status", tmp_path / "m.gpkg")
    assert kept.exit_code == 2
    assert "no unfinished job" in kept.stderr


def test_an_area_of_interest_is_a_crop_of_the_whole(scene: Path, blobs, tmp_path: Path) -> None:
    box = "500200,5199050,500900,5199700"
    done = call("map", scene, "-m", MODEL, "--aoi", box, "-o", tmp_path / "a.tif")
    assert done.exit_code == 0, done.output
    with rasterio.open(tmp_path / "a.tif") as file:
        rows, cols = file.shape
        row, col = file.transform.f, file.transform.c
        got = file.read(1)
    row_off, col_off = round((5200000 - row) / 10), round((col - 500000) / 10)
    expected = (blobs[0] > 100)[row_off : row_off + rows, col_off : col_off + cols]
    assert (rows, cols) == (65, 70)
    assert (got == expected).all()
    outside = call("map", scene, "-m", MODEL, "--aoi", "0,0,1,1", "-o", tmp_path / "b.tif")
    assert outside.exit_code == 2
    assert "no pixel of the scene" in outside.stderr


@pytest.mark.parametrize("how", ["value", "nan", "alpha", "mask"])
def test_what_is_not_valid_is_never_covered(blobs, tmp_path: Path, how: str) -> None:
    hole = np.zeros(blobs.shape[1:], bool)
    hole[20:60, 30:90] = True
    path = tmp_path / "holes.tif"
    options: list[object] = []
    if how == "value":
        write_tif(path, np.where(hole, 0, blobs).astype(np.uint8))
        options = ["--nodata", "0"]
    elif how == "nan":
        write_tif(path, np.where(hole, np.nan, blobs).astype(np.float32))
    elif how == "alpha":
        alpha = np.where(hole, 0, 255).astype(np.uint8)[None]
        write_tif(
            path, np.concatenate([blobs, blobs, blobs, alpha]), photometric="rgb", alpha="yes"
        )
    else:
        write_tif(path, blobs)
        with rasterio.open(path, "r+") as file:
            file.write_mask(~hole)
    done = call(
        "map", path, "-m", MODEL, "-o", tmp_path / "m.tif", "-o", tmp_path / "m.gpkg", *options
    )
    assert done.exit_code == 0, done.output
    with rasterio.open(tmp_path / "m.tif") as file:
        assert (file.read(1) == np.where(hole, 255, blobs[0] > 100)).all()
    polygons = gpd.read_file(tmp_path / "m.gpkg")
    assert polygons.pixels.sum() == (~hole).sum()
    assert polygons.area.sum() == pytest.approx(100 * (~hole).sum())


def refuse(folder: Path, *arguments: object) -> str:
    """Exit 2 with one line in under 2 s, and nothing new in the folder; the line."""
    before = sorted(folder.rglob("*"))
    start = time.perf_counter()
    done = call(*arguments)
    spent = time.perf_counter() - start
    assert done.exit_code == 2, done.output
    assert done.stderr.count("\n") == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert spent < 2
    assert sorted(folder.rglob("*")) == before
    return done.stderr


def test_bad_scenes_are_refused_in_a_line(tmp_path: Path) -> None:
    out = tmp_path / "out.gpkg"
    (tmp_path / "empty.tif").touch()
    (tmp_path / "page.tif").write_text("<!DOCTYPE html><html><body>404</body></html>")
    (tmp_path / "folder.tif").mkdir()
    for name in ("missing.tif", "empty.tif", "page.tif", "folder.tif"):
        line = refuse(tmp_path, "map", tmp_path / name, "-m", MODEL, "-o", out)
        assert name in line


def test_bad_requests_are_refused_in_a_line(scene: Path, blobs, tmp_path: Path) -> None:
    out = tmp_path / "out.gpkg"
    assert "no model 'nonsense'" in refuse(tmp_path, "map", scene, "-m", "nonsense", "-o", out)
    line = refuse(tmp_path, "map", scene, "-m", "terrain", "-o", out)
    assert "B02" in line
    assert "--bands" in line
    (tmp_path / "there.tif").write_bytes(b"precious")
    line = refuse(tmp_path, "map", scene, "-m", MODEL, "-o", tmp_path / "there.tif")
    assert "--overwrite" in line
    assert (tmp_path / "there.tif").read_bytes() == b"precious"
    refuse(tmp_path, "map", scene, "-m", MODEL, "-o", tmp_path / "no" / "folder.gpkg")
    assert ".xyz" in refuse(tmp_path, "map", scene, "-m", MODEL, "-o", tmp_path / "out.xyz")
    line = refuse(tmp_path, "map", scene, "-m", MODEL, "-o", out, "--tile-size", "7", "--halo", "4")
    assert "leaves no core" in line
    line = refuse(tmp_path, "map", scene, "-m", MODEL, "-o", out, "--memory", "100MB")
    assert "raise --memory" in line


@pytest.mark.parametrize(
    "option",
    [
        *("--batch=0", "--tile-size=-8", "--threads=0", "--halo=-2", "--workers=-2", "--memory=0"),
        *("--min-area=-5", "--min-area=nan", "--fill-holes=-1", "--simplify=-1", "--simplify=nan"),
        *("--gsd=0", "--gsd=nan"),
    ],
)
def test_numbers_that_no_job_can_be_run_with(scene: Path, tmp_path: Path, option: str) -> None:
    line = refuse(tmp_path, "map", scene, "-m", MODEL, "-o", tmp_path / "a.gpkg", option)
    assert option.partition("=")[0] in line


@pytest.mark.parametrize(
    "option",
    [
        *("--halo=7", "--tile-size=40", "--aoi=0,0,1,1"),
        *("--device=gpu", "--device=cuda:x", "--backend=tensorflow", "--precision=fp8"),
        *("--set=symetries=8", "--set=symmetries"),
    ],
)
def test_what_a_network_cannot_have_is_said_before_it_is_loaded(
    tmp_path: Path, option: str
) -> None:
    code = "import sys, atexit; atexit.register(lambda: print('torch' in sys.modules)); "
    code += "from geoseg.cli import main; main()"
    words = ["map", str(DEMO), "-m", "terrain", "-o", str(tmp_path / "a.gpkg"), option]
    done = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert option.partition("=")[2].partition("=")[0] in done.stderr
    assert done.stdout == "False\n"
    assert not list(tmp_path.iterdir())


def test_nothing_that_is_there_is_replaced_unasked(scene: Path, tmp_path: Path) -> None:
    given = ("map", scene, "-m", MODEL)
    for name, also in (("m.qgz", "m_confidence.tif"), ("m.json", "m_model.json")):
        (tmp_path / also).write_bytes(b"precious")
        assert also in refuse(tmp_path, *given, "-o", tmp_path / name)
    report = tmp_path / "scene.tif"
    report.write_bytes(b"precious")
    assert ".json" in refuse(tmp_path, *given, "-o", tmp_path / "a.tif", "--report", report)
    given = (*given, "--report")
    refuse(tmp_path, *given, tmp_path / "m_model.json", "-o", tmp_path / "a.tif")
    refuse(tmp_path, *given, tmp_path / "no" / "folder.json", "-o", tmp_path / "a.tif")
    line = refuse(tmp_path, *given, tmp_path / "a.json", "-o", tmp_path / "a.json")
    assert "is an output already" in line
    assert "can't be a folder" in refuse(tmp_path, "demo", "-o", report)
    assert report.read_bytes() == b"precious"


def test_verbose_shows_where_an_error_came_from(tmp_path: Path) -> None:
    given = ("map", tmp_path / "missing.tif", "-m", MODEL, "-o", tmp_path / "a.tif")
    short, long = call(*given), call(*given, "-v")
    assert long.exit_code == short.exit_code == 2
    assert "Traceback" in long.stderr and "Traceback" not in short.stderr
    assert long.stderr.splitlines()[-1] == short.stderr.strip()


def test_a_box_in_degrees_says_so(scene: Path, tmp_path: Path) -> None:
    line = refuse(
        tmp_path, "map", scene, "-m", MODEL, "-o", tmp_path / "a.tif", "--aoi", "14,46,16,47"
    )
    assert "14,46,16,47" in line and "EPSG:4326" in line


def test_an_output_may_have_any_name(scene: Path, blobs, tmp_path: Path) -> None:
    names = ("plain.tif", "part.gpkg", "map.geojson")
    outputs = [argument for name in names for argument in ("-o", tmp_path / name)]
    done = call("map", scene, "-m", MODEL, *outputs)
    assert done.exit_code == 0, done.output
    with rasterio.open(tmp_path / "plain.tif") as file:
        assert file.shape == blobs[0].shape


def test_a_local_crs_has_areas_and_a_page_but_no_place_on_the_earth(blobs, tmp_path: Path) -> None:
    local = 'LOCAL_CS["site",UNIT["metre",1]]'
    path = write_tif(tmp_path / "site.tif", blobs, crs=local)
    for name in ("a.geojson", "a.pmtiles", "a.json"):
        line = refuse(tmp_path, "map", path, "-m", MODEL, "-o", tmp_path / name)
        assert "local CRS" in line and ".gpkg" in line
    wanted = [argument for name in ("b.gpkg", "b.html") for argument in ("-o", tmp_path / name)]
    done = call("map", path, "-m", MODEL, *wanted)
    assert done.exit_code == 0, done.output
    assert pyogrio.read_dataframe(tmp_path / "b.gpkg", layer="b").area_m2.sum() == blobs.size * 100
    assert '"metres": 10.0' in (tmp_path / "b.html").read_text()


def test_a_page_of_a_map_in_pixels_counts_pixels(blobs, tmp_path: Path) -> None:
    path = write_tif(tmp_path / "nowhere.tif", blobs, crs=None)
    done = call("map", path, "-m", MODEL, "-o", tmp_path / "a.html")
    assert done.exit_code == 0, done.output
    text = (tmp_path / "a.html").read_text()
    facts = json.loads(text.partition('id="facts">')[2].partition("</script>")[0])
    (only,) = facts["maps"]
    assert sum(entry["area"] for entry in only["legend"]) == blobs[0].size
    assert facts["metres"] == 0


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission(scene: Path, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    assert "can't be written" in refuse(
        tmp_path, "map", scene, "-m", MODEL, "-o", tmp_path / "a.tif"
    )


def test_no_crs_means_rasters_or_a_word_from_the_person(blobs, tmp_path: Path) -> None:
    path = write_tif(tmp_path / "nowhere.tif", blobs, crs=None)
    line = refuse(tmp_path, "map", path, "-m", MODEL, "-o", tmp_path / "a.gpkg")
    assert "--assume-crs" in line
    assert "--pixel-coords" in line
    assert call("map", path, "-m", MODEL, "-o", tmp_path / "a.tif").exit_code == 0
    assumed = call(
        "map", path, "-m", MODEL, "-o", tmp_path / "b.gpkg", "--assume-crs", "EPSG:32633"
    )
    assert assumed.exit_code == 0, assumed.output
    assert gpd.read_file(tmp_path / "b.gpkg").crs.to_epsg() == 32633
    pixels = call("map", path, "-m", MODEL, "-o", tmp_path / "c.gpkg", "--pixel-coords")
    assert pixels.exit_code == 0, pixels.output
    in_pixels = gpd.read_file(tmp_path / "c.gpkg")
    assert in_pixels.crs is None
    assert in_pixels.area.sum() == blobs[0].size
    said = "pixels, x to the right and y down"
    assert f"c.gpkg: polygons are in {said}" in pixels.stderr
    assert pyogrio.read_info(tmp_path / "c.gpkg")["layer_metadata"]["coordinates"].startswith(said)


def test_plan_prints_json_and_reads_no_pixel(scene: Path) -> None:
    done = call("plan", scene, "-m", MODEL, "--json", "--tile-size", "64")
    assert done.exit_code == 0, done.output
    planned = json.loads(done.stdout)
    assert planned["tile_size"] == 64
    assert planned["projected_bytes"] > 0


def test_nothing_to_join_is_a_line(scene: Path, tmp_path: Path) -> None:
    given = ("map", scene, "-m", MODEL, "-o", tmp_path / "a.tif")
    line = refuse(tmp_path, *given, "--join")
    assert "a.tif.geoseg-job" in line and "--part" in line
    assert "a run of its own" in refuse(tmp_path, *given, "--join", "--part", "1/2")


@pytest.mark.parametrize("how", ["--stack", "--mosaic"])
def test_one_file_to_be_joined_is_said_to_be_the_scene(
    scene: Path, tmp_path: Path, how: str
) -> None:
    done = call("map", scene, "-m", MODEL, "-o", tmp_path / "a.tif", how, "-q")
    assert done.exit_code == 0
    assert done.stderr == f"geoseg: {how}: {scene} is one file: taken as the scene\n"
    told = call("info", scene, how, "--json")
    assert told.exit_code == 0 and json.loads(told.stdout) and told.stderr == done.stderr


def test_interrupted_and_started_again(tmp_path: Path) -> None:
    """SIGTERM ends it within 5 s with exit 130 and the command; the same command goes on."""
    rng = np.random.default_rng(1)
    path = write_tif(tmp_path / "big.tif", rng.integers(0, 255, (1, 2200, 2200), dtype=np.uint8))
    (tmp_path / "out.tif").write_bytes(b"an older map")
    command = [
        *(sys.executable, "-m", "geoseg.cli", "map", str(path), "-m", "sauvola:b1:window=101"),
        *("-o", str(tmp_path / "out.tif"), "--tile-size", "512"),
    ]
    running = subprocess.Popen([*command, "--overwrite"], stderr=subprocess.PIPE, text=True)
    ledger = tmp_path / "out.tif.geoseg-job" / "ledger" / "pass-0"
    deadline = time.time() + 60
    while time.time() < deadline and not (ledger.is_dir() and any(ledger.iterdir())):
        time.sleep(0.02)
    running.terminate()
    start = time.time()
    _, stderr = running.communicate(timeout=30)
    assert time.time() - start < 5
    assert running.returncode == 130, stderr
    assert "what is done is kept. Go on with: geoseg map" in stderr
    assert "--overwrite" not in stderr  # it would drop what is done
    assert (tmp_path / "out.tif").read_bytes() == b"an older map"
    (tmp_path / "other.tif").write_bytes(b"precious")
    refused = call(*command[3:], "-o", tmp_path / "other.tif")
    assert refused.exit_code == 2 and "other.tif: exists already" in refused.stderr
    (tmp_path / "other.tif").unlink()
    done = len(list(ledger.glob("*.json")))
    again = subprocess.run([*command, "--json"], capture_output=True, text=True, check=True)
    report = json.loads(again.stdout)
    assert report["blocks_in_this_run"] == report["blocks"] - done
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(
        ["big.tif", "out.tif", "out.qml", "out.tif.aux.xml"]
    )
    finished = call(*command[3:])
    assert finished.exit_code == 2
    assert "--overwrite" in finished.stderr


def test_small_segments_are_merged_before_raster_and_polygons(scene: Path, tmp_path: Path) -> None:
    """Law 15: both outputs come from the sieved map, whatever the tiles."""
    maps = []
    for tile in ("32", "64"):
        out = tmp_path / f"m{tile}"
        files = ["-o", f"{out}.tif", "-o", f"{out}.gpkg"]
        done = call("map", scene, "-m", MODEL, "--min-area", 100 * 170, "--tile-size", tile, *files)
        assert done.exit_code == 0, done.output
        with rasterio.open(f"{out}.tif") as file:
            maps.append(file.read(1))
        polygons = gpd.read_file(f"{out}.gpkg")
        assert polygons.pixels.min() >= 170
        assert polygons.pixels.sum() == maps[-1].size
    assert (maps[0] == maps[1]).all()


def test_blending_needs_probabilities_and_hides_seams(tmp_path: Path) -> None:
    line = refuse(
        tmp_path, "map", DEMO, "-m", "threshold:b1>5", "--blend", "-o", tmp_path / "a.tif"
    )
    assert "--blend" in line
    boxed = ["--aoi", "591000,9101000,592200,9102200", "--tile-size", "112", "--threads", "1"]
    blocks = []
    for side in ("a", "b"):
        out = tmp_path / f"{side}.tif"
        done = call("map", DEMO, "-m", "terrain", "--blend", "--workers", "-1", *boxed, "-o", out)
        assert done.exit_code == 0, done.output
        blocks.append(out.read_bytes())
    assert blocks[0] == blocks[1]


@pytest.mark.parametrize(
    ("name", "options"),
    [("parana/parana_collar.tif", ["--nodata", "0"]), ("naip_fields/naip_corner.tif", [])],
)
def test_real_collars_and_masks_stay_empty(name: str, options: list[str], tmp_path: Path) -> None:
    """A Landsat collar of zeros and an aerial scene with a mask band."""
    with rasterio.open(DATA / name) as file:
        pixels = file.read()
        valid = (pixels != 0).any(0) if options else file.dataset_mask() > 0
        geobox = file.transform
    assert 0 < valid.sum() < valid.size
    out = tmp_path / "m"
    files = ["-o", f"{out}.tif", "-o", f"{out}.gpkg"]
    done = call("map", DATA / name, "-m", "otsu:b1", "--tile-size", "64", *files, *options)
    assert done.exit_code == 0, done.output
    with rasterio.open(f"{out}.tif") as file:
        assert ((file.read(1) != 255) == valid).all()
    polygons = gpd.read_file(f"{out}.gpkg")
    assert polygons.pixels.sum() == valid.sum()
    burnt = rasterio.features.rasterize(
        polygons.geometry, out_shape=valid.shape, transform=geobox, fill=0, default_value=1
    )
    assert (burnt.astype(bool) == valid).all()


def test_shares_of_a_job_array_join_to_the_same_files(scene: Path, tmp_path: Path) -> None:
    whole, out = tmp_path / "whole.tif", tmp_path / "shared.tif"
    assert call("map", scene, "-m", MODEL, "--tile-size", "32", "-o", whole).exit_code == 0
    store = tmp_path / "store"
    share = ["map", scene, "-m", MODEL, "--tile-size", "32", "--memory", "2GB"]
    share += ["-o", out, "--store", store]
    for part in ("2/3", "1/3", "3/3"):
        done = call(*share, "--part", part)
        assert done.exit_code == 0, done.output
        assert not out.exists()
    done = call(*share, "--join", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["blocks_in_this_run"] == 0
    assert out.read_bytes() == whole.read_bytes()
    assert not store.exists()
    assert "give I/N" in refuse(tmp_path, *share, "--part", "4/3", "--overwrite")


def test_masks_mosaics_and_another_gsd(scene: Path, blobs, tmp_path: Path) -> None:
    """The options of scenes reach the map: what is left out, joined and resampled."""
    halves = [blobs[:, :, :70], blobs[:, :, 70:]]
    places = [Affine(10, 0, 500000, 0, -10, 5200000), Affine(10, 0, 500700, 0, -10, 5200000)]
    files = [
        write_tif(tmp_path / f"half{i}.tif", pixels, transform=place)
        for i, (pixels, place) in enumerate(zip(halves, places, strict=True))
    ]
    done = call("map", *files, "--mosaic", "-m", MODEL, "-o", tmp_path / "both.tif")
    assert done.exit_code == 0, done.output
    with rasterio.open(tmp_path / "both.tif") as file:
        assert (file.read(1) == (blobs[0] > 100)).all()
    assert "--mosaic" in refuse(tmp_path, "map", *files, "-m", MODEL, "-o", tmp_path / "x.tif")

    left_out = np.zeros(blobs.shape, np.uint8)
    left_out[0, 30:50, 40:80] = 1
    mask = write_tif(tmp_path / "mask.tif", left_out)
    done = call("map", scene, "--mask", mask, "-m", MODEL, "-o", tmp_path / "masked.tif")
    assert done.exit_code == 0, done.output
    with rasterio.open(tmp_path / "masked.tif") as file:
        assert ((file.read(1) == 255) == (left_out[0] == 1)).all()

    done = call("map", scene, "--gsd", "20", "-m", MODEL, "-o", tmp_path / "coarse.tif")
    assert done.exit_code == 0, done.output
    with rasterio.open(tmp_path / "coarse.tif") as file:
        assert file.res == (20, 20)
    assert "give model, scene or metres" in refuse(
        tmp_path, "map", scene, "--gsd", "ten", "-m", MODEL, "-o", tmp_path / "x.tif"
    )
