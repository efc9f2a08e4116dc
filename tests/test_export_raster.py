"""Rasters: the same pixels back, a valid COG, named and coloured, whole or absent."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from shutil import which
from xml.etree import ElementTree as ET

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from rio_cogeo.cogeo import cog_validate
from test_export_vector import LEGEND, names_in

from geoseg.errors import OutputError
from geoseg.export.raster import RasterOptions, write_raster
from geoseg.grid import Window


def grid(rows: int, cols: int, crs: str | None = "EPSG:32721") -> GeoBox:
    return GeoBox((rows, cols), Affine(10, 0, 4e5, 0, -10, 7e6), crs)


def class_map(rows: int, cols: int) -> np.ndarray:
    ids = np.array([c.id for c in LEGEND] + [255], "uint8")
    noise = np.random.default_rng(3).integers(0, 4, (-(-rows // 16), -(-cols // 16)))
    return ids[np.kron(noise, np.ones((16, 16), int))[:rows, :cols]]


@given(st.integers(1, 700), st.integers(1, 700))
@settings(max_examples=8, deadline=None)
def test_pixels_and_grid_come_back(
    tmp_path_factory: pytest.TempPathFactory, r: int, c: int
) -> None:
    path = tmp_path_factory.mktemp("raster") / "map.tif"
    pixels = class_map(r, c)
    counts = write_raster(pixels, path, geobox=grid(r, c), legend=LEGEND)
    with rasterio.open(path) as file:
        np.testing.assert_array_equal(file.read(1), pixels)
        assert file.transform == grid(r, c).affine and file.crs == "EPSG:32721"
        assert file.nodata == 255
    assert counts == dict(zip(*np.unique(pixels, return_counts=True), strict=True))


def test_it_is_a_valid_cog_with_names_colours_and_overviews_by_mode(tmp_path: Path) -> None:
    path = tmp_path / "map.tif"
    pixels = class_map(1500, 1300)
    seen = []

    def read(window: Window) -> np.ndarray:
        seen.append(window)
        return pixels[window.slices]

    write_raster(read, path, geobox=grid(1500, 1300), legend=LEGEND, provenance={"model": "m"})
    assert names_in(tmp_path) == {"map.tif", "map.tif.aux.xml", "map.qml"}
    valid, errors, warnings = cog_validate(str(path), strict=True)
    assert (valid, errors, warnings) == (True, [], [])
    with rasterio.open(path) as file:
        assert file.colormap(1)[7] == (*LEGEND.by_id(7).rgb, 255)
        assert file.overviews(1) == [2, 4]
        assert file.tags()["model"] == "m"
        overview = file.read(1, out_shape=(750, 650))
    assert (overview == pixels[::2, ::2]).all()  # 16 px blocks: the mode is exact
    names = [c.text or "" for c in ET.parse(f"{path}.aux.xml").iter("Category")]
    assert [names[c.id] for c in LEGEND] == [c.name for c in LEGEND]
    entries = ET.parse(tmp_path / "map.qml").iter("paletteEntry")
    assert [e.get("label") for e in entries] == [c.name for c in LEGEND]


def test_gdal_reads_names_and_attribute_table(tmp_path: Path) -> None:
    path = tmp_path / "map.tif"
    pixels = class_map(64, 64)
    write_raster(pixels, path, geobox=grid(64, 64), legend=LEGEND)
    if not which("gdalinfo"):  # rasterio has no interface for them
        pytest.skip("gdalinfo (gdal-bin) is not installed")
    out = subprocess.run(["gdalinfo", path], capture_output=True, text=True, check=True).stdout
    assert "GDALRasterAttributeTable" in out and LEGEND.by_id(7).name in out


def test_scores_are_read_as_zero_to_one(tmp_path: Path) -> None:
    path = tmp_path / "score.tif"
    score = np.arange(256, dtype="uint8").reshape(16, 16)
    write_raster(score, path, geobox=grid(16, 16), options=RasterOptions(kind="score"))
    with rasterio.open(path) as file:
        np.testing.assert_array_equal(file.read(1), score)
        assert file.scales[0] * 254 == pytest.approx(1)
    assert "singlebandgray" in (tmp_path / "score.qml").read_text()


def test_instances_keep_32_bits(tmp_path: Path) -> None:
    path = tmp_path / "instance.tif"
    ids = np.array([[0, 1], [2, 2**32 - 1]], "uint32")
    write_raster(ids, path, geobox=grid(2, 2, None), options=RasterOptions(kind="instance"))
    with rasterio.open(path) as file:
        np.testing.assert_array_equal(file.read(1), ids)
        assert file.crs is None


def test_two_runs_give_the_same_bytes(tmp_path: Path) -> None:
    for run in ("1", "2"):
        (tmp_path / run).mkdir()
        path = tmp_path / run / "map.tif"
        write_raster(class_map(600, 600), path, geobox=grid(600, 600), legend=LEGEND)
    for name in names_in(tmp_path / "1"):
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes()


def test_an_existing_file_stays_and_a_failing_source_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "map.tif"

    def failing(window: Window) -> np.ndarray:
        raise ValueError("block lost")

    with pytest.raises(ValueError, match="block lost"):
        write_raster(failing, path, geobox=grid(9, 9))
    assert names_in(tmp_path) == set()
    write_raster(class_map(9, 9), path, geobox=grid(9, 9))
    with pytest.raises(OutputError, match="--overwrite"):
        write_raster(class_map(9, 9), path, geobox=grid(9, 9))
    with pytest.raises(OutputError, match="does not fit"):
        write_raster(class_map(8, 9), path, geobox=grid(9, 9), overwrite=True)


FULL_DISK = """
import resource, signal, sys
import numpy as np
sys.path.insert(0, sys.argv[3])
from test_export_raster import grid, write_raster, OutputError
pixels = np.random.default_rng(0).integers(0, 9, (1500, 1500), "uint8")
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
try:
    write_raster(pixels, sys.argv[1], geobox=grid(1500, 1500))
except OutputError as error:
    print("refused", error)
"""


@pytest.mark.parametrize("limit", [200_000, 1_060_000])
def test_a_full_disk_is_an_error_and_leaves_nothing(tmp_path: Path, limit: int) -> None:
    run = subprocess.run(
        [sys.executable, "-c", FULL_DISK, tmp_path / "map.tif", str(limit), Path(__file__).parent],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.stdout.startswith("refused"), run.stderr
    assert names_in(tmp_path) == set()
