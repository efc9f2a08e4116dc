"""Image files as scenes: what is valid, what is refused, what survives threads and pickling."""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.enums import ColorInterp

from geoseg.cli import geoseg
from geoseg.errors import BlockError, SceneError
from geoseg.grid import Window
from geoseg.scene import geotiff
from geoseg.scene.formats import image_files
from geoseg.scene.opening import open_scene, parse_nodata
from geoseg.scene.reader import Scene

DATA = Path(__file__).parent / "data"
PARANA = DATA / "parana" / "parana_collar.tif"
NAIP = DATA / "naip_fields" / "naip_corner.tif"
AUSTRIA = DATA / "austria" / "austria_two_dates.tif"
UTM = "EPSG:32633"


def write(path: Path, pixels: np.ndarray, **profile: object) -> Path:
    """A GeoTIFF of ``pixels`` (band, row, col)."""
    defaults = {
        "driver": "GTiff",
        "count": pixels.shape[0],
        "height": pixels.shape[1],
        "width": pixels.shape[2],
        "dtype": pixels.dtype,
        "crs": UTM,
        "transform": Affine(10, 0, 500_000, 0, -10, 5_000_000),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        with rasterio.open(path, "w", **(defaults | profile)) as dataset:
            dataset.write(pixels)
    return path


def noise(*shape: int, dtype: str = "uint8", seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, 200, shape).astype(dtype)


# what is valid


def test_a_collar_of_zeros_is_left_out_whichever_bands_are_read() -> None:
    with rasterio.open(PARANA) as dataset:
        raw = dataset.read()
    scene = open_scene(PARANA, nodata=0)
    pixels, valid = scene.read()
    assert np.array_equal(pixels, raw)
    assert np.array_equal(valid, (raw != 0).any(axis=0))
    assert 0.74 < valid.mean() < 0.76
    for bands in ([0], [2, 1], [1, 1]):
        assert np.array_equal(scene.read(bands=bands)[1], valid)
    assert open_scene(PARANA).read()[1].all()  # it declares none


def test_a_zero_in_one_band_is_no_hole(tmp_path: Path) -> None:
    pixels = noise(3, 8, 9)
    pixels[0, 2, 3] = 0
    pixels[:, 4, 5] = 0
    scene = open_scene(write(tmp_path / "a.tif", pixels, nodata=0))
    for bands in (None, [0], [0, 1]):
        valid = scene.read(bands=bands)[1]
        assert valid[2, 3] and not valid[4, 5] and valid.sum() == valid.size - 1


@pytest.mark.parametrize("value", [-9999.0, -3.4028234663852886e38, 1e20])
def test_a_value_that_no_sensor_measures_counts_in_every_band_read(
    tmp_path: Path, value: float
) -> None:
    pixels = noise(2, 6, 7, dtype="float32")
    pixels[0, 1, 2] = value
    scene = open_scene(write(tmp_path / "a.tif", pixels, nodata=value))
    assert not scene.read(bands=[0])[1][1, 2]
    assert not scene.read()[1][1, 2]
    assert scene.read(bands=[1])[1].all()


@pytest.mark.parametrize("declared", [None, float("nan"), 0.0])
def test_nan_is_never_valid(tmp_path: Path, declared: float | None) -> None:
    pixels = noise(2, 6, 7, dtype="float32")
    pixels[1, 3, 3], pixels[0, 0, 0] = np.nan, np.inf
    scene = open_scene(write(tmp_path / "a.tif", pixels, nodata=declared))
    valid = scene.read()[1]
    assert (~valid).sum() == 2 and not valid[3, 3] and not valid[0, 0]


@settings(max_examples=40, deadline=None)
@given(
    nodata=st.sampled_from([0, 7, 255, -1, 3.5, None]),
    dtype=st.sampled_from(["uint8", "int16", "float32"]),
    chosen=st.lists(st.integers(0, 2), min_size=1, max_size=3, unique=True),
    seed=st.integers(0, 99),
)
def test_valid_follows_the_rule(
    tmp_path_factory: pytest.TempPathFactory,
    nodata: float | None,
    dtype: str,
    chosen: list[int],
    seed: int,
) -> None:
    rng = np.random.default_rng(seed)
    pool = np.array([0, 1, 7, 255 if dtype != "int16" else -1, 3])
    pixels = pool[rng.integers(0, 5, (3, 5, 6))].astype(dtype)
    path = write(tmp_path_factory.mktemp("rule") / "a.tif", pixels)
    valid = open_scene(path, nodata=nodata).read(bands=chosen)[1]
    expected = np.ones((5, 6), bool)
    for row, col in np.ndindex(5, 6):
        column = [float(v) for v in pixels[:, row, col]]
        if nodata is not None and nodata < 0:
            expected[row, col] = nodata not in [column[band] for band in chosen]
        elif nodata is not None:
            expected[row, col] = any(v != nodata for v in column)
    assert np.array_equal(valid, expected)


def test_mask_band_of_a_real_scene() -> None:
    with rasterio.open(NAIP) as dataset:
        mask = dataset.read_masks(1) > 0
    scene = open_scene(NAIP)
    assert [band.name for band in scene.bands] == ["red", "green", "blue"]
    for window in (scene.window, Window(3, 5, 90, 70)):
        assert np.array_equal(scene.read(window, [1])[1], mask[window.slices])
    assert 0.95 < mask.mean() < 0.96


def test_alpha_is_no_image_band_and_clears_valid(tmp_path: Path) -> None:
    pixels = noise(4, 16, 16)
    pixels[3] = 255
    pixels[3, :4] = 0
    path = tmp_path / "a.tif"
    write(path, pixels, photometric="rgb", alpha="yes")
    scene = open_scene(path)
    assert [band.name for band in scene.bands] == ["red", "green", "blue"]
    assert np.array_equal(scene.read()[1], pixels[3] > 0)
    assert np.array_equal(scene.read()[0], pixels[:3])


def test_mask_nodata_and_nan_add_up(tmp_path: Path) -> None:
    pixels = noise(2, 16, 16, dtype="float32")
    pixels[:, 0], pixels[0, 1] = 0, np.nan
    path = tmp_path / "a.tif"
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        write(path, pixels)
        with rasterio.open(path, "r+") as dataset:
            dataset.write_mask(np.arange(16 * 16).reshape(16, 16) % 16 > 3)
    valid = open_scene(path, nodata=0).read()[1]
    assert not valid[:2].any() and not valid[:, :4].any() and valid[2:, 4:].all()


# names, tags, georeference


def test_names_scale_offset_and_tags(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", noise(4, 4, 4, dtype="int16"), nodata=-1)
    with rasterio.open(path, "r+") as dataset:
        dataset.descriptions = ("B04", None, "B08", "B08")
        dataset.scales, dataset.offsets = (1e-4,) * 4, (-0.1,) * 4
        dataset.update_tags(DATETIME="2020:01:01", PROCESSING_LEVEL="Level-2A")
    scene = open_scene(path)
    assert [band.name for band in scene.bands] == ["B04", "2", "B08", "B08_2"]
    assert {(band.scale, band.offset) for band in scene.bands} == {(1e-4, -0.1)}
    assert scene.read()[0].dtype == np.int16  # digital numbers, as stored
    assert scene.tags["PROCESSING_LEVEL"] == "Level-2A" and scene.tags["file"] == "a.tif"
    assert scene.nodata == -1
    chosen = open_scene(path, bands=["red=B04", "3"])
    assert [band.name for band in chosen.bands] == ["red", "B08"]
    assert np.array_equal(chosen.read()[0], scene.read(bands=[0, 2])[0])
    for wrong in (["B99"], ["5"], [], ["1", "B04"]):
        with pytest.raises(SceneError, match="band"):
            open_scene(path, bands=wrong)


def test_colours_name_bands(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", noise(4, 4, 4))
    with rasterio.open(path, "r+") as dataset:
        dataset.colorinterp = [ColorInterp[c] for c in ("nir", "red", "green", "undefined")]
    assert [band.name for band in open_scene(path).bands] == ["nir", "red", "green", "4"]


def test_south_up_and_rotated_transforms_stay(tmp_path: Path) -> None:
    for number, affine in enumerate(
        (
            Affine(10, 0, 500_000, 0, 10, 5_000_000),
            Affine.translation(500_000, 5_000_000) * Affine.rotation(30) * Affine.scale(10, -10),
        )
    ):
        scene = open_scene(write(tmp_path / f"{number}.tif", noise(1, 4, 5), transform=affine))
        assert scene.geobox.affine.almost_equals(affine, 1e-9) and scene.georeferenced
        assert scene.gsd_m == pytest.approx(10, rel=1e-3)


@pytest.mark.parametrize(("driver", "suffix"), [("GTiff", "tif"), ("PNG", "png"), ("JPEG", "jpg")])
def test_a_plain_picture_has_pixel_coordinates_and_makes_no_noise(
    tmp_path: Path, driver: str, suffix: str, recwarn: pytest.WarningsRecorder
) -> None:
    path = write(
        tmp_path / f"a.{suffix}", noise(3, 20, 30), driver=driver, crs=None, transform=None
    )
    recwarn.clear()
    scene = open_scene(path)
    pixels, valid = scene.read()
    assert not scene.georeferenced and scene.geobox.crs is None and scene.gsd_m is None
    assert pixels.shape == (3, 20, 30) and valid.all()
    assert not [w for w in recwarn if w.category is rasterio.errors.NotGeoreferencedWarning]
    with pytest.raises(SceneError, match="georeference"):
        open_scene(path, assume_crs=UTM)


def test_assumed_crs(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", noise(1, 4, 4), crs=None)
    assert open_scene(path).geobox.crs is None and open_scene(path).georeferenced
    assert open_scene(path, assume_crs=UTM).gsd_m == pytest.approx(10, rel=1e-3)
    with pytest.raises(SceneError, match="no CRS"):
        open_scene(path, assume_crs="nonsense")
    placed = write(tmp_path / "b.tif", noise(1, 4, 4))
    assert open_scene(placed, assume_crs=UTM).geobox.crs == UTM
    with pytest.raises(SceneError, match="can't be taken"):
        open_scene(placed, assume_crs="EPSG:4326")


def test_the_content_decides_not_the_name(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", noise(3, 16, 16), driver="PNG", crs=None, transform=None)
    assert open_scene(path).tags["driver"] == "PNG"


def test_bigtiff_and_jpeg2000(tmp_path: Path) -> None:
    big = open_scene(write(tmp_path / "b.tif", noise(1, 8, 8), BIGTIFF="YES"))
    assert big.read()[0].shape == (1, 8, 8)
    options = {"driver": "JP2OpenJPEG", "QUALITY": "100", "REVERSIBLE": "YES"}
    pixels = noise(1, 64, 64, dtype="uint16")
    scene = open_scene(write(tmp_path / "a.jp2", pixels, **options))
    assert np.array_equal(scene.read()[0], pixels) and scene.geobox.crs == UTM


# windows, threads, processes


@settings(max_examples=30, deadline=None)
@given(
    row=st.integers(-40, 150), col=st.integers(-40, 150), height=st.integers(1, 120),
    width=st.integers(1, 120),
)  # fmt: skip
def test_a_window_is_a_crop_and_reflects_beyond_the_edge(
    row: int, col: int, height: int, width: int
) -> None:
    scene = open_scene(AUSTRIA)
    pixels, valid = scene.read()
    margin = 300
    pad = ((0, 0), (margin, margin), (margin, margin))
    whole = np.pad(pixels, pad, mode="reflect")
    window = Window(row, col, height, width)
    got, got_valid = scene.read(window, [3, 0])
    there = Window(row + margin, col + margin, height, width).slices
    assert np.array_equal(got, whole[[3, 0], there[0], there[1]])
    assert got_valid.all() and valid.all()


def _sum(job: tuple[Scene, Window]) -> int:
    return int(job[0].read(job[1])[0].sum(dtype=np.int64))


def test_threads_and_processes_read_the_same() -> None:
    scene = open_scene(AUSTRIA)
    windows = [Window(r, c, 30, 32) for r in range(0, 120, 30) for c in range(0, 128, 32)]
    jobs = [(scene, window) for window in windows]
    alone = [_sum(job) for job in jobs]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(_sum, jobs * 4)) == alone * 4
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as processes:
        assert list(processes.map(_sum, jobs, timeout=60)) == alone


def test_a_forked_child_opens_its_own_handle() -> None:
    scene = open_scene(AUSTRIA)
    expected = _sum((scene, scene.window))  # the parent's handle is open now
    receiver, sender = os.pipe()
    child = os.fork()
    if child == 0:
        total = _sum((scene, scene.window))
        own = scene.reader._local.handle[0] == os.getpid()  # type: ignore[attr-defined]
        os.write(sender, str(total if own else -1).encode())
        os._exit(0)
    for _ in range(300):
        if os.waitpid(child, os.WNOHANG)[0] == child:
            break
        time.sleep(0.1)
    else:
        os.kill(child, signal.SIGKILL)
        pytest.fail("the child hangs")
    assert int(os.read(receiver, 100)) == expected
    assert _sum((scene, scene.window)) == expected  # and the parent's is as good as before


def test_a_reader_survives_pickling_and_closing() -> None:
    scene = open_scene(PARANA, nodata=0)
    before = scene.read()
    again = pickle.loads(pickle.dumps(scene))
    assert again == scene
    assert all(np.array_equal(a, b) for a, b in zip(again.read(), before, strict=True))
    assert isinstance(scene.reader, geotiff.FileReader)
    scene.reader.close()
    assert np.array_equal(scene.read()[0], before[0])


def test_fingerprint_tells_a_changed_file(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", noise(1, 4, 4))
    reader = open_scene(path).reader
    assert isinstance(reader, geotiff.FileReader)
    first = reader.fingerprint(sha256=True)
    json.dumps(first)
    write(path, noise(1, 4, 4, seed=1))
    os.utime(path, ns=(1, 1))
    second = reader.fingerprint(sha256=True)
    assert first["path"] == second["path"] == str(path)
    assert first["mtime_ns"] != second["mtime_ns"] and first["sha256"] != second["sha256"]


def test_preview_is_every_nth_pixel() -> None:
    scene = open_scene(PARANA, nodata=0)
    whole, valid = scene.preview(1000)
    assert whole.shape == (3, 180, 200) and np.array_equal(valid, scene.read()[1])
    small, small_valid = scene.preview(50, bands=[2, 1])
    assert small.shape == (2, 45, 50) and small_valid.shape == (45, 50)
    assert abs(small_valid.mean() - valid.mean()) < 0.05


# what is refused


def refused(path: object, match: str, **options: object) -> None:
    with pytest.raises(SceneError, match=match) as caught:
        open_scene(path, **options)  # type: ignore[arg-type]
    line = str(caught.value)
    assert "\n" not in line and len(line) < 500


def test_what_is_no_image_is_refused_in_one_line(tmp_path: Path) -> None:
    def file(name: str, content: bytes) -> Path:
        (tmp_path / name).write_bytes(content)
        return tmp_path / name

    refused(tmp_path / "nothing.tif", "no such file")
    refused(tmp_path, "a directory")
    refused("/dev/null", "not a regular file")
    refused(file("empty.tif", b""), "0 bytes")
    refused(file("page.tif", b"<!DOCTYPE html><html>404</html>"), "web page")
    refused(file("xml.tif", b"<?xml version='1.0'?><a/>"), "XML")
    refused(file("lfs.tif", b"version https://git-lfs.github.com/spec/v1\n"), "LFS")
    refused(file("text.tif", b"hello"), "not an image")
    refused(file("head.tif", b"II*\x00\xff\xff\xff\xff"), "can't be opened")
    (tmp_path / "loop.tif").symlink_to(tmp_path / "loop.tif")
    refused(tmp_path / "loop.tif", "symbolic links")
    refused("x" * 300, "too long")
    refused("nul\0.tif", "null byte")


def test_names_with_odd_characters_open(tmp_path: Path) -> None:
    for name in ("ä b.tif", "a#b.tif", "a?b&c|d!.tif", "zip+file:x.tif"):
        assert open_scene(write(tmp_path / name, noise(1, 4, 4))).read()[1].all()
    (tmp_path / "link.tif").symlink_to(tmp_path / "ä b.tif")
    assert open_scene(tmp_path / "link.tif").read()[1].all()


def test_a_cut_file_fails_with_its_window_and_cause(tmp_path: Path) -> None:
    whole = write(tmp_path / "a.tif", noise(1, 256, 256), tiled=True, blockxsize=64, blockysize=64)
    whole.write_bytes(whole.read_bytes()[:-40_000])
    scene = open_scene(whole)
    assert scene.read(Window(0, 0, 10, 10))[1].all()
    with pytest.raises(BlockError, match=r"a\.tif.*rows 200 to 250, columns 200 to 240.*"):
        scene.read(Window(200, 200, 50, 40))


def test_a_corrupt_block_fails(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", noise(1, 256, 256), compress="deflate")
    content = bytearray(path.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 500] = b"\x55" * 500
    path.write_bytes(bytes(content))
    with pytest.raises(BlockError, match="can't read rows") as caught:
        open_scene(path).read()
    assert caught.value.__cause__ is not None


def test_a_cut_jpeg_fails(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jpg", noise(3, 200, 200), driver="JPEG", crs=None, transform=None)
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(BlockError):
        open_scene(path).read()


def test_a_file_that_vanished_fails_as_a_block(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", noise(1, 8, 8))
    scene = open_scene(path)
    path.unlink()
    with pytest.raises(BlockError, match=r"a\.tif"):
        scene.read()


def test_block_bombs_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sparse = tmp_path / "sparse.tif"
    profile = {"driver": "GTiff", "count": 3, "dtype": "uint8", "SPARSE_OK": "TRUE"}
    with rasterio.open(
        sparse, "w", height=100_000, width=100_000, tiled=True, crs=UTM,
        transform=Affine.scale(10, -10), **profile,
    ):  # fmt: skip
        pass
    scene = open_scene(sparse)
    assert scene.shape == (100_000, 100_000)
    assert scene.read(Window(90_000, 90_000, 8, 8))[0].sum() == 0
    one_block = tmp_path / "block.tif"
    with rasterio.open(
        one_block, "w", height=20_480, width=20_480, tiled=True, blockxsize=20_480,
        blockysize=20_480, crs=UTM, transform=Affine.scale(10, -10), **profile,
    ):  # fmt: skip
        pass
    assert one_block.stat().st_size < 10_000
    refused(one_block, "blocks of 20480 x 20480")
    monkeypatch.setattr(geotiff, "MAX_BLOCK_BYTES", 64 * 64 * 8 * 2 - 1)
    refused(AUSTRIA, "TILED=YES")


def test_complex_numbers_are_refused(tmp_path: Path) -> None:
    refused(write(tmp_path / "a.tif", np.ones((1, 4, 4), "complex64")), "complex")


def test_images_of_a_folder_are_found_by_content(tmp_path: Path) -> None:
    with pytest.raises(SceneError, match="no image"):
        image_files(tmp_path)
    for name in ("b.tif", "a.data"):
        write(tmp_path / name, noise(1, 4, 4))
    (tmp_path / "empty.tif").write_bytes(b"")
    (tmp_path / "page.tif").write_text("<html>")
    (tmp_path / "b.tif.ovr").write_bytes((tmp_path / "b.tif").read_bytes())
    (tmp_path / "folder.tif").mkdir()
    assert [path.name for path in image_files(tmp_path)] == ["a.data", "b.tif"]
    with pytest.raises(SceneError, match="can't be listed"):
        image_files(tmp_path / "none")


# what points elsewhere


SERVER = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        open(sys.argv[1], "a").write(self.path + "\\n")
        self.send_error(404)
    do_HEAD = do_GET
    def log_message(self, *args):
        pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_port, flush=True)
server.serve_forever()
"""


@pytest.fixture
def loopback(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A file with the requests that a server on this machine got, and its address.

    In a process of its own: GDAL may hold the interpreter's lock while it waits.
    """
    asked = tmp_path / "requests.txt"
    asked.touch()
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER, str(asked)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    yield asked, f"http://127.0.0.1:{int(process.stdout.readline())}/secret"
    process.kill()
    process.wait()
    process.stdout.close()


def vrt(source: str) -> str:
    return (
        '<VRTDataset rasterXSize="8" rasterYSize="8"><VRTRasterBand dataType="Byte" band="1">'
        f'<SimpleSource><SourceFilename relativeToVRT="0">{source}</SourceFilename>'
        '<SourceBand>1</SourceBand><SrcRect xOff="0" yOff="0" xSize="8" ySize="8"/>'
        '<DstRect xOff="0" yOff="0" xSize="8" ySize="8"/></SimpleSource>'
        "</VRTRasterBand></VRTDataset>"
    )


def test_no_file_makes_a_request(tmp_path: Path, loopback: tuple[Path, str]) -> None:
    asked, address = loopback
    disguised = tmp_path / "a.tif"
    for source in (f"/vsicurl/{address}", address):
        disguised.write_text(vrt(source))
        refused(disguised, "--allow-vrt")
        refused(disguised, "--allow-network", allow_vrt=True)
    for path in (f"/vsicurl/{address}.tif", address + ".tif", "s3://bucket/a.tif"):
        refused(path, "--allow-network")
    good = write(tmp_path / "b.tif", noise(1, 600, 600))
    for suffix in (".msk", ".ovr"):
        sidecar = Path(f"{good}{suffix}")
        sidecar.write_text(vrt(f"/vsicurl/{address}"))
        refused(good, "no TIFF")
        sidecar.unlink()
    with rasterio.open(good, "r+") as dataset:
        dataset.update_tags(ns="OVERVIEWS", OVERVIEW_FILE=f"/vsicurl/{address}.tif")
    refused(good, "overviews")
    with geotiff._opened(geotiff.find_source(good, geotiff.LOCAL_FILES)) as dataset:
        assert dataset.overviews(1) == []  # and if it were asked, no request would leave
    assert asked.read_text() == ""


def test_a_vrt_is_followed_when_allowed(tmp_path: Path) -> None:
    pixels = noise(1, 8, 8)
    target = write(tmp_path / "a.tif", pixels)
    path = tmp_path / "a.vrt"
    path.write_text(vrt(str(target)))
    refused(path, "--allow-vrt")
    scene = open_scene(path, allow_vrt=True)
    assert np.array_equal(scene.read()[0], pixels)


def test_the_network_is_read_when_allowed(loopback: tuple[Path, str]) -> None:
    asked, address = loopback
    refused(f"{address}.tif", "can't be opened", allow_network=True)
    assert "/secret.tif" in asked.read_text()


# info


def test_info_prints_and_is_json() -> None:
    result = CliRunner().invoke(geoseg, ["info", str(PARANA), "--nodata", "0"])
    assert result.exit_code == 0, result.output
    for text in ("180 rows x 200 cols", "EPSG:32621", "29.99 m", "uint16", "74.8% of the pixels"):
        assert text in result.output
    result = CliRunner().invoke(geoseg, ["info", str(NAIP), "--json"])
    facts = json.loads(result.output)
    assert facts["rows"] == facts["cols"] == 256 and facts["crs"] == "EPSG:32615"
    assert facts["valid_share"] == pytest.approx(0.9556884765625)
    assert [band["name"] for band in facts["bands"]] == ["red", "green", "blue"]
    assert facts["models"][0]["name"] == "terrain" and not facts["models"][0]["fits"]
    assert "wants 9 bands" in facts["models"][0]["reason"]
    demo = Path(str(resources.files("geoseg"))) / "data" / "demo" / "java_west_s2l2a.tif"
    result = CliRunner().invoke(geoseg, ["info", str(demo)])
    assert "terrain fits" in result.output


def test_info_of_several_files() -> None:
    arguments = [
        "info",
        str(AUSTRIA),
        str(AUSTRIA),
        "--stack",
        "--gsd",
        "20",
        "--bands",
        "nir=4,12",
    ]
    result = CliRunner().invoke(geoseg, arguments)
    assert result.exit_code == 0, result.output
    for text in ("60 rows x 64 cols", "2: nir, 12", "20 m"):
        assert text in result.output
    result = CliRunner().invoke(geoseg, ["info", str(AUSTRIA), str(AUSTRIA)])
    assert result.exit_code == 2 and "--mosaic" in result.output


def test_info_of_nan_nodata_is_json(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", noise(1, 4, 4, dtype="float32"), nodata=float("nan"))
    result = CliRunner().invoke(geoseg, ["info", str(path), "--json"])
    assert json.loads(result.output)["nodata"] == "nan"


def test_info_fails_in_one_line(tmp_path: Path) -> None:
    result = CliRunner().invoke(geoseg, ["info", str(tmp_path / "no.tif")])
    assert result.exit_code == 2 and result.output.count("\n") == 1
    result = CliRunner().invoke(geoseg, ["info", str(NAIP), "--nodata", "x"])
    assert result.exit_code == 2 and "nodata 'x'" in result.output
    assert (
        parse_nodata("none") == "none" and parse_nodata("-1") == -1 and parse_nodata(None) is None
    )


def test_html_for_notebooks_is_escaped(tmp_path: Path) -> None:
    scene = open_scene(write(tmp_path / "<script>.tif", noise(1, 4, 4)))
    html = scene._repr_html_()
    assert "&lt;script&gt;" in html and "<script>" not in html and UTM in html
