"""SAFE folders, STAC items, arrays and photographs as scenes. The SAFE folder is synthetic."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import rasterio
import xarray as xr
from affine import Affine

from geoseg.errors import BlockError, SceneError
from geoseg.grid import Window
from geoseg.scene.arrays import from_array
from geoseg.scene.opening import SceneOptions, open_scene, open_scenes

UTM = "EPSG:32632"
CORNER = (600_000, 5_100_000)
LEVELS = {"L2A": ("Level-2A", "BOA_ADD_OFFSET"), "L1C": ("Level-1C", "RADIO_ADD_OFFSET")}


def write(path: Path, pixels: np.ndarray, metres: float, driver: str = "GTiff") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lossless = {"QUALITY": "100", "REVERSIBLE": "YES"} if driver == "JP2OpenJPEG" else {}
    with rasterio.open(
        path, "w", driver=driver, count=len(pixels), height=pixels.shape[1],
        width=pixels.shape[2], dtype=pixels.dtype, crs=UTM,
        transform=Affine(metres, 0, CORNER[0], 0, -metres, CORNER[1]), **lossless,
    ) as dataset:  # fmt: skip
        dataset.write(pixels)


def noise(*shape: int, dtype: str = "uint16", seed: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, 3000, shape).astype(dtype)


# Sentinel-2


def make_safe(root: Path, level: str) -> tuple[Path, dict[str, np.ndarray]]:
    """A product of 240 x 240 m x 10 in ESA's layout, its pixels by band."""
    folder = root / f"S2A_MSI{level}_20230601T100601_N0509_R022_T32TQM_20230601T133957.SAFE"
    images = folder / "GRANULE" / f"{level}_T32TQM" / "IMG_DATA"
    sizes = {10: ("B02", "B03", "B04", "B08"), 60: ("B01", "B09"), 20: ("B05", "B8A", "B11")}
    if level == "L2A":
        sizes[20] += ("B02", "SCL")  # bands come again at coarser sizes
    stored = {}
    for metres, names in sizes.items():
        side = 240 * 10 // metres
        for name in names:
            pixels = noise(1, side, side, seed=len(stored))
            suffix = f"_{metres}m" if level == "L2A" else ""
            sub = f"R{metres}m/" if level == "L2A" else ""
            if name == "SCL":
                pixels = np.full((1, side, side), 4, "uint8")
                pixels[0, 0:10, 0:20], pixels[0, 20:30] = 9, 3
            elif metres == 10:
                pixels[:, :, -24:] = 0
            write(
                images / f"{sub}T32TQM_20230601T100601_{name}{suffix}.jp2", pixels, metres,
                "JP2OpenJPEG",
            )  # fmt: skip
            stored.setdefault(name, pixels)
    title, tag = LEVELS[level]
    (folder / f"MTD_MSI{level}.xml").write_text(
        f'<n1:Product xmlns:n1="urn:x"><Info><PRODUCT_URI>{folder.name}</PRODUCT_URI>'
        f"<PROCESSING_LEVEL>{title}</PROCESSING_LEVEL>"
        "<PROCESSING_BASELINE>05.09</PROCESSING_BASELINE>"
        '<BOA_QUANTIFICATION_VALUE unit="none">10000</BOA_QUANTIFICATION_VALUE>'
        f'<List><{tag} band_id="0">-1000</{tag}><{tag} band_id="8">-1000</{tag}></List>'
        "</Info></n1:Product>"
    )
    return folder, stored


@pytest.mark.parametrize("level", ["L2A", "L1C"])
def test_a_safe_folder_is_one_scene_at_ten_metres(tmp_path: Path, level: str) -> None:
    folder, stored = make_safe(tmp_path, level)
    scene = open_scene(folder)
    names = ["B01", "B02", "B03", "B04", "B05", "B08", "B8A", "B09", "B11"]
    assert [band.name for band in scene.bands] == names
    assert scene.shape == (240, 240) and scene.geobox.affine.a == 10 and scene.geobox.crs == UTM
    assert scene.tags["PROCESSING_LEVEL"] == LEVELS[level][0]
    assert scene.tags["BOA_ADD_OFFSET"] == "-1000" and scene.tags["file"] == folder.name
    by_name = {band.name: band for band in scene.bands}
    assert by_name["B01"].offset == -0.1 and by_name["B8A"].offset == -0.1
    assert by_name["B02"].offset == 0 and by_name["B02"].scale == 1e-4
    assert by_name["B08"].wavelength_um == 0.8328
    pixels, valid = scene.read(bands=scene.band_indices(["B04", "B03"]))
    assert np.array_equal(pixels, np.concatenate([stored["B04"], stored["B03"]]))
    assert valid.sum() == 240 * (240 - 24) and not valid[:, -24:].any()
    assert np.array_equal(scene.read(bands=[1])[0], stored["B02"])  # from its finest file
    coarse, valid = scene.read(bands=scene.band_indices(["B05"]))
    assert valid.all()
    # four target pixels around a source pixel's centre average to what bilinear says of it
    assert np.abs(coarse.mean() - stored["B05"].mean()) < 20
    assert open_scene(folder / f"MTD_MSI{level}.xml").bands == scene.bands
    assert (scene.quality is None) == (level == "L1C")


def test_scl_of_a_safe_folder_masks(tmp_path: Path) -> None:
    folder, _ = make_safe(tmp_path, "L2A")
    valid = open_scene(folder, mask="SCL").read(bands=[4])[1]
    assert not valid[:20, :40].any() and not valid[40:60].any()
    assert valid.sum() == 240 * 240 - 20 * 40 - 20 * 240


def test_an_empty_safe_folder_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "a.SAFE"
    folder.mkdir()
    with pytest.raises(SceneError, match="unpack the whole product"):
        open_scene(folder)
    folder, _ = make_safe(tmp_path, "L1C")
    (folder / "MTD_MSIL1C.xml").write_text("<a>")
    with pytest.raises(SceneError, match="metadata"):
        open_scene(folder)


# STAC


def make_item(folder: Path, version: str) -> tuple[Path, dict[str, np.ndarray]]:
    stored = {
        "red": noise(1, 40, 50), "nir": noise(1, 40, 50, seed=4), "re1": noise(1, 20, 25, seed=5),
        "re2": noise(1, 20, 25, seed=6), "visual": noise(3, 40, 50, dtype="uint8"),
    }  # fmt: skip
    scl = np.full((1, 20, 25), 5, "uint8")
    scl[0, :5] = 8
    for name, pixels in (stored | {"scl": scl}).items():
        write(folder / "bands" / f"{name}.tif", pixels, 10 if pixels.shape[1] == 40 else 20)

    def bands(*names: tuple[str, str]) -> dict[str, object]:
        if version == "1.1.0":
            said = [
                {"name": name, "eo:common_name": common, "eo:center_wavelength": 0.7,
                 "nodata": 0, "raster:scale": 1e-4, "raster:offset": -0.1}
                for name, common in names
            ]  # fmt: skip
            return {"bands": said}
        return {
            "eo:bands": [
                {"name": name, "common_name": common, "center_wavelength": 0.7}
                for name, common in names
            ],
            "raster:bands": [{"nodata": 0, "scale": 1e-4, "offset": -0.1} for _ in names],
        }

    def asset(name: str, roles: list[str], **more: object) -> dict[str, object]:
        return {"href": f"./bands/{name}.tif", "type": "image/tiff; application=geotiff",
                "roles": roles} | more  # fmt: skip

    item = {
        "type": "Feature", "stac_version": version, "id": "S2_item",
        "stac_extensions": [
            "https://stac-extensions.github.io/eo/v1.1.0/schema.json",
            "https://stac-extensions.github.io/raster/v1.1.0/schema.json",
        ] if version == "1.0.0" else [],
        "geometry": None, "links": [],
        "properties": {"datetime": "2023-06-01T10:06:01Z", "s2:processing_baseline": "05.09"},
        "assets": {
            "thumbnail": {"href": "./t.png", "type": "image/png", "roles": ["thumbnail"]},
            "visual": asset("visual", ["visual"], **bands(("B04", "red"), ("B03", "green"))),
            "red": asset("red", ["data"], **bands(("B04", "red"))),
            "nir": asset("nir", ["data"], **bands(("B08", "nir"))),
            "re1": asset("re1", ["data"], **bands(("B05", "rededge"))),
            "re2": asset("re2", ["data"], **bands(("B06", "rededge"))),
            "scl": asset("scl", ["data"]),
            "metadata": {"href": "./m.xml", "type": "application/xml", "roles": ["metadata"]},
        },
    }  # fmt: skip
    item["assets"]["visual"] |= bands(("B04", "red"), ("B08", "nir"))  # type: ignore[index]
    path = folder / "item.json"
    path.write_text(json.dumps(item))
    return path, stored


@pytest.mark.parametrize("version", ["1.0.0", "1.1.0"])
def test_a_stac_item_is_one_scene_by_common_name(tmp_path: Path, version: str) -> None:
    path, stored = make_item(tmp_path, version)
    scene = open_scene(path)
    assert [band.name for band in scene.bands] == ["red", "nir", "B05", "B06"]
    assert {(b.scale, b.offset, b.wavelength_um) for b in scene.bands} == {(1e-4, -0.1, 0.7)}
    assert scene.name == "S2_item" and scene.shape == (40, 50)
    assert scene.tags["s2:processing_baseline"] == "05.09" and scene.tags["file"] == "item.json"
    pixels, valid = scene.read(bands=[1, 0])
    assert valid.all()
    assert np.array_equal(pixels, np.concatenate([stored["nir"], stored["red"]]))
    window = Window(7, 9, 20, 30)
    whole = scene.read()[0]
    assert np.array_equal(scene.read(window)[0], whole[:, window.slices[0], window.slices[1]])
    assert not open_scene(path, mask="scl").read()[1][:10].any()


def test_what_is_no_item_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    for text in ("", "[]", "{}", '{"type": "Feature", "stac_version": "1.0.0"}'):
        path.write_text(text)
        with pytest.raises(SceneError, match="not a STAC item"):
            open_scene(path)
    good, _ = make_item(tmp_path, "1.1.0")
    item = json.loads(good.read_text())
    good.write_text(json.dumps(item | {"assets": {}}))
    with pytest.raises(SceneError, match="without image assets"):
        open_scene(good)
    item["assets"]["red"]["href"] = "https://127.0.0.1:1/red.tif"
    good.write_text(json.dumps(item))
    with pytest.raises(SceneError, match="--allow-network"):
        open_scene(good)


# arrays


def test_a_masked_array_keeps_its_mask() -> None:
    pixels = np.ma.masked_array(noise(2, 30, 40), np.zeros((2, 30, 40), bool))
    pixels.mask[1, :10] = True
    given = np.ones((30, 40), bool)
    given[:, :5] = False
    window = Window(0, 0, 30, 40)
    seen, valid = from_array(pixels, valid=given).read(window, (0,))
    assert not np.ma.isMaskedArray(seen) and np.array_equal(seen, pixels.data[:1])
    assert not valid[:10].any() and not valid[:, :5].any() and valid[10:, 5:].all()
    prints = [
        from_array(p, valid=v).reader.fingerprint()
        for p, v in ((pixels, None), (pixels.data, given), (pixels.data, None))
    ]
    assert prints[0] != prints[1] != prints[2] != prints[0]


def test_an_array_is_a_scene() -> None:
    pixels = noise(3, 20, 30)
    pixels[:, 3, 4] = 0
    valid = np.ones((20, 30), bool)
    valid[0] = False
    scene = from_array(
        pixels, crs=UTM, transform=Affine(2, 0, 0, 0, -2, 0), bands=["red", "green", "blue"],
        nodata=0, valid=valid,
    )  # fmt: skip
    got, good = scene.read(Window(0, 0, 5, 6), [2])
    assert np.array_equal(got, pixels[2:, :5, :6])
    assert not good[0].any() and not good[3, 4] and good.sum() == 23
    assert scene.gsd_m == pytest.approx(2, rel=0.01)
    json.dumps(scene.reader.fingerprint())
    flat = open_scene(pixels[0], nodata=0)
    assert not flat.georeferenced and flat.shape == (20, 30) and len(flat.bands) == 1
    for wrong in (np.zeros((1, 0, 3)), np.zeros(3), np.zeros((2, 2), complex)):
        with pytest.raises(SceneError, match="an array of shape"):
            open_scene(wrong)
    with pytest.raises(SceneError, match="band names"):
        from_array(pixels, bands=["a"])
    with pytest.raises(SceneError, match="valid has shape"):
        from_array(pixels, valid=valid[1:])


def data_array(pixels: np.ndarray, *dims: str) -> xr.DataArray:
    rows, cols = pixels.shape[-2:]
    return xr.DataArray(
        pixels,
        dims=dims,
        coords={
            dims[-2]: 5_000_000 - 10 * (np.arange(rows) + 0.5),
            dims[-1]: 500_000 + 10 * (np.arange(cols) + 0.5),
        },
        name="cube",
        attrs={"nodata": 0, "long_name": ("red", "nir")},
    )


@pytest.mark.parametrize("crs", ["attribute", "spatial_ref", "rioxarray", "none"])
def test_a_data_array_is_a_scene(crs: str) -> None:
    pixels = noise(2, 20, 30)
    pixels[:, 2, 3] = 0
    array = data_array(pixels, "band", "y", "x")
    if crs == "attribute":
        array.attrs["crs"] = UTM
    elif crs == "spatial_ref":
        wkt = rasterio.crs.CRS.from_string(UTM).to_wkt()
        array = array.assign_coords(spatial_ref=xr.DataArray(0, attrs={"crs_wkt": wkt}))
    elif crs == "rioxarray":
        pytest.importorskip("rioxarray")
        array = array.rio.write_crs(UTM)
    scene = open_scene(array)
    assert scene.geobox.crs == (None if crs == "none" else UTM) and scene.georeferenced
    assert scene.geobox.affine.almost_equals(Affine(10, 0, 500_000, 0, -10, 5_000_000))
    assert [band.name for band in scene.bands] == ["red", "nir"] and scene.nodata == 0
    got, valid = scene.read(Window(1, 2, 10, 11), [1, 0])
    assert np.array_equal(got, pixels[[1, 0], 1:11, 2:13]) and not valid[1, 1]
    assert valid.sum() == valid.size - 1
    assert np.array_equal(open_scene(array.transpose("y", "x", "band")).read()[0], pixels)


def test_a_lazy_data_array_is_read_by_window() -> None:
    from dask import array as da

    seen: list[int] = []

    def load(block: np.ndarray) -> np.ndarray:
        seen.append(block.size)
        if block.size == 13:
            raise OSError("the disk is gone")
        return block

    lazy = da.from_array(noise(40, 40), chunks=10).map_blocks(
        load, dtype="uint16", meta=np.empty(0)
    )
    scene = open_scene(data_array(noise(40, 40), "lat", "lon").copy(data=lazy))
    seen.clear()
    scene.read(Window(0, 0, 5, 5))
    assert seen == [100]
    broken = da.from_array(noise(13, 1), chunks=13).map_blocks(
        load, dtype="uint16", meta=np.empty(0)
    )
    array = data_array(noise(13, 2), "y", "x").copy(data=da.concatenate([broken, broken], axis=1))
    with pytest.raises(BlockError, match="the disk is gone"):
        open_scene(array).read()


def test_what_is_no_grid_is_refused() -> None:
    good = data_array(noise(2, 5, 6), "band", "y", "x")
    with pytest.raises(SceneError, match="rename one to 'x'"):
        open_scene(good.rename(x="u"))
    with pytest.raises(SceneError, match="select one"):
        open_scene(good.expand_dims("time"))
    with pytest.raises(SceneError, match="not evenly spaced"):
        open_scene(good.assign_coords(x=[1, 2, 3, 4, 5, 7]))
    with pytest.raises(SceneError, match="one coordinate"):
        open_scene(good.isel(x=slice(0, 1)))
    assert not open_scene(good.drop_vars(["x", "y"])).georeferenced


# several sources at once


def test_several_files_become_one_scene_in_one_call(tmp_path: Path) -> None:
    left, right = noise(2, 30, 30), noise(2, 30, 30, seed=8)
    write(tmp_path / "a.tif", left, 10)
    write(tmp_path / "b.tif", right, 10)
    flags = np.zeros((1, 30, 30), "uint8")
    flags[0, :6] = 1
    write(tmp_path / "m.tif", flags, 10)
    files = [tmp_path / "a.tif", tmp_path / "b.tif"]
    options = SceneOptions(
        join="stack", gsd_m=20, bands=["nir=4", "1"], mask=str(tmp_path / "m.tif")
    )
    scene = open_scenes(files, options)
    assert [band.name for band in scene.bands] == ["nir", "1"] and scene.shape == (15, 15)
    pixels, valid = scene.read()
    assert not valid[:3].any() and valid[3:].all()
    means = right[1].reshape(15, 2, 15, 2).mean(axis=(1, 3))
    assert np.array_equal(pixels[0][3:], np.rint(means)[3:])
    top = open_scenes(files, SceneOptions(join="mosaic"))
    assert np.array_equal(top.read()[0], left)
    with pytest.raises(SceneError, match=r"--stack.*--mosaic"):
        open_scenes(files, SceneOptions())
