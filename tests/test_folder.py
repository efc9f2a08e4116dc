"""geoseg map FOLDER: every scene its own map, failures listed, the rest kept, gone on with."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from click.testing import CliRunner, Result
from PIL import Image

from geoseg.cli import geoseg as cli
from geoseg.folder import find_scenes

MODEL = "threshold:b1>100"


def call(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def blobs(seed: int) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, 2, (5, 6)).repeat(9, 0).repeat(9, 1)
    return (coarse[None] * 100 + 50).astype(np.uint8)


def write(path: Path, pixels: np.ndarray) -> Path:
    count, rows, cols = pixels.shape
    place = Affine(10, 0, 500000, 0, -10, 5200000)
    with rasterio.open(
        path, "w", driver="GTiff", count=count, height=rows, width=cols, dtype=pixels.dtype,
        crs="EPSG:32633", transform=place,
    ) as file:  # fmt: skip
        file.write(pixels)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three scenes, one of which is cut short, and a text file."""
    folder = tmp_path / "scenes"
    folder.mkdir()
    for number, name in enumerate(("a", "b", "c")):
        write(folder / f"{name}.tif", blobs(number))
    whole = (folder / "b.tif").read_bytes()
    (folder / "b.tif").write_bytes(whole[: len(whole) // 2])
    (folder / "readme.txt").write_text("not an image")
    (tmp_path / "maps").mkdir()
    return folder


def test_failures_are_listed_and_the_rest_is_kept(folder: Path) -> None:
    maps = folder.parent / "maps"
    out = ["-o", maps / "{scene}.tif", "-o", maps / "{scene}.gpkg"]
    done = call("map", folder, "-m", MODEL, *out)
    assert done.exit_code == 3, done.output
    lines = done.stdout.splitlines()
    assert [line.split()[:2] for line in lines[1:4]] == [
        ["a.tif", "mapped"], ["b.tif", "failed"], ["c.tif", "mapped"],
    ]  # fmt: skip
    assert "2 of 3 scenes have a map" in lines
    assert lines[-1].startswith("failed   ") and "b.tif" in lines[-1]
    assert f"high {100 * (blobs(0) > 100).mean():.1f} %" in lines[1]
    assert "Traceback" not in done.output
    for number, name in ((0, "a"), (2, "c")):
        with rasterio.open(maps / f"{name}.tif") as file:
            np.testing.assert_array_equal(file.read(1), blobs(number)[0] > 100)
        assert (maps / f"{name}.gpkg").exists()
    assert not (maps / "b.tif").exists()

    # mended, the same command goes on: what is there is not done again
    stamps = {name: (maps / f"{name}.tif").stat().st_mtime_ns for name in ("a", "c")}
    write(folder / "b.tif", blobs(1))
    done = call("map", folder, "-m", MODEL, *out, "--json", "--report", maps / "report.json")
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert [row["state"] for row in report["scenes"]] == ["kept", "mapped", "kept"]
    assert (report["mapped"], report["kept"], report["failed"]) == (1, 2, 0)
    assert report["scenes"][0]["shares"]["high"] == pytest.approx((blobs(0) > 100).mean(), abs=1e-6)
    assert json.loads((maps / "report.json").read_text()) == report
    assert {n: (maps / f"{n}.tif").stat().st_mtime_ns for n in stamps} == stamps
    assert not [p for p in maps.iterdir() if "geoseg" in p.name]  # nothing else is left


def test_a_scene_that_changed_or_lost_its_map_is_not_kept(folder: Path) -> None:
    maps = folder.parent / "maps"
    command = ["map", folder, "-m", MODEL, "-o", maps / "{scene}.tif", "--json"]
    assert call(*command).exit_code == 3
    (maps / "a.tif").unlink()
    write(folder / "c.tif", np.concatenate([blobs(2)] * 2))
    states = {Path(r["scene"]).stem: r for r in json.loads(call(*command).stdout)["scenes"]}
    assert states["a"]["state"] == "mapped"
    # its source is another one, and a map of the old one is in the way
    assert "--overwrite" in states["c"]["error"]


def test_an_unfinished_run_with_other_options_is_not_gone_on_with(folder: Path) -> None:
    maps = folder.parent / "maps"
    command = ["map", folder, "-o", maps / "{scene}.tif"]
    assert call(*command, "-m", MODEL).exit_code == 3
    done = call(*command, "-m", "threshold:b1>20")
    assert done.exit_code == 6
    assert "started with something else: model" in done.stderr
    assert call(*command, "-m", "threshold:b1>20", "--overwrite").exit_code == 3
    with rasterio.open(maps / "a.tif") as file:
        assert (file.read(1) == 1).all()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["-o", "{maps}/one.tif"], "write {scene} where the scene's name goes"),
        (["-o", "{maps}/{{scene}}.xyz"], "geoseg does not write .xyz"),
        (["-o", "{maps}/no/{{scene}}.tif"], "no"),
        (["-o", "{maps}/{{scene}}.tif", "--part", "1/2"], "--part is for one scene"),
    ],
)
def test_bad_requests_are_refused_before_any_work(folder: Path, arguments, says: str) -> None:
    maps = folder.parent / "maps"
    done = call("map", folder, "-m", MODEL, *[text.format(maps=maps) for text in arguments])
    assert done.exit_code == 2, done.output
    assert done.stderr.count("\n") == 1 and says in done.stderr
    assert not any(maps.iterdir())


def test_several_files_and_photographs(tmp_path: Path) -> None:
    for name in ("one.jpg", "two.png"):
        Image.fromarray(np.full((40, 50, 3), 180, np.uint8)).save(tmp_path / name)
    files = [tmp_path / "one.jpg", tmp_path / "two.png"]
    out = ["-o", tmp_path / "{scene}.gpkg", "--pixel-coords"]
    done = call("map", *files, "-m", "threshold:red>100", *out)
    assert done.exit_code == 0, done.output
    assert (tmp_path / "one.gpkg").exists() and (tmp_path / "two.gpkg").exists()
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "one.png")
    done = call("map", tmp_path, "-m", MODEL, *out)
    assert done.exit_code == 2 and "both are called one" in done.stderr


def test_a_folder_s_files_are_one_scene_where_that_is_asked_for(tmp_path: Path) -> None:
    whole = blobs(5)
    (tmp_path / "parts").mkdir()
    write(tmp_path / "parts" / "a.tif", whole)
    write(tmp_path / "parts" / "b.tif", whole)
    out = tmp_path / "m.tif"
    done = call("map", tmp_path / "parts", "--mosaic", "-m", MODEL, "-o", out)
    assert done.exit_code == 0, done.output
    with rasterio.open(out) as file:
        np.testing.assert_array_equal(file.read(1), whole[0] > 100)


def test_safe_folders_in_a_folder_are_scenes(tmp_path: Path) -> None:
    safe = tmp_path / "S2A_MSIL2A_20240101.SAFE"
    (safe / "GRANULE").mkdir(parents=True)
    (safe / "MTD_MSIL2A.xml").write_text("<n1/>")
    assert find_scenes([tmp_path]) == [safe]


@pytest.mark.slow
def test_killed_and_called_again(folder: Path) -> None:
    """Ended from outside in the midst, the same command ends with every map."""
    maps = folder.parent / "maps"
    write(folder / "b.tif", blobs(1).repeat(40, 1).repeat(40, 2))
    command = [
        *(sys.executable, "-m", "geoseg.cli", "map", str(folder), "-m", MODEL),
        *("-o", str(maps / "{scene}.tif"), "--json"),
    ]
    run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 60
    while not (maps / "b.tif.geoseg-job").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    run.send_signal(signal.SIGKILL)
    run.communicate()
    assert (maps / "a.tif").exists() and not (maps / "c.tif").exists()
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ)
    assert done.returncode == 0, done.stderr
    states = [row["state"] for row in json.loads(done.stdout)["scenes"]]
    assert states == ["kept", "mapped", "mapped"]
    with rasterio.open(maps / "b.tif") as file:
        np.testing.assert_array_equal(file.read(1)[::40, ::40], blobs(1)[0] > 100)
