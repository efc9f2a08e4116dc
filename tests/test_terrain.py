"""The terrain model on its real scene: accuracy against experts, and laws 2 and 4."""

from __future__ import annotations

from dataclasses import replace
from importlib import resources

import numpy as np
import pytest
import rasterio
import torch
from toys import array_scene

import geoseg
from geoseg.errors import ModelError
from geoseg.grid import Window
from geoseg.models.catalogue import load_model, match_bands
from geoseg.models.sentinel2 import ORDER_12, band_key, describe_product
from geoseg.scene.reader import Band, Scene

DEMO = resources.files("geoseg") / "data" / "demo"
ONE_THREAD = {"threads": 1, "workers": -1}


@pytest.fixture(scope="module")
def java() -> Scene:
    return geoseg.open_scene(str(DEMO / "java_west_s2l2a.tif"))


@pytest.fixture(scope="module")
def crop(java: Scene) -> Scene:
    """A corner of the scene with houses and fields: enough for what needs no accuracy."""
    pixels, valid = java.read(Window(180, 60, 150, 130))
    return replace(array_scene(pixels, valid), bands=java.bands, tags=java.tags)


@pytest.fixture(scope="module")
def whole(java: Scene) -> tuple[np.ndarray, np.ndarray]:
    return at_once(java)


@pytest.fixture(scope="module")
def whole_crop(crop: Scene) -> tuple[np.ndarray, np.ndarray]:
    return at_once(crop)


def at_once(scene: Scene) -> tuple[np.ndarray, np.ndarray]:
    """Labels and margins of one forward pass over the scene, reflect-padded by the halo."""
    model, _ = load_model("terrain").for_scene(scene)
    bands, _ = match_bands(model.card, scene)
    halo = model.card.halo
    rows, cols = scene.shape
    window = scene.window.grow(halo)
    pixels, valid = scene.read(window, bands)
    model = replace(model, with_probs=True)
    probs = model.predict(pixels[None], valid[None])[0].probs
    probs = probs[:, halo : halo + rows, halo : halo + cols]
    best = np.sort(probs, axis=0)
    return probs.argmax(0).astype(np.uint8), best[-1] - best[-2]


@pytest.mark.parametrize("tile_size", [64, 128, 256])
def test_tiles_with_halo_are_one_forward_pass(crop: Scene, whole_crop, tile_size: int) -> None:
    labels, margin = whole_crop
    result = geoseg.segment(crop, "terrain", tile_size=tile_size, **ONE_THREAD)
    differ = result.category_id != labels
    assert (margin[differ] < 1e-4).all()
    assert differ.sum() == 0


def test_a_third_is_not_enough_halo(crop: Scene, whole_crop) -> None:
    """The halo is needed: a third of it changes labels, so the test above can fail."""
    result = geoseg.segment(crop, "terrain", tile_size=64, halo=8, **ONE_THREAD)
    assert (result.category_id != whole_crop[0]).any()


def test_labels_agree_with_the_experts(java: Scene, whole) -> None:
    with rasterio.open(DEMO / "java_west_label.tif") as file:
        truth = file.read(1)
    labelled = (truth >= 1) & (truth <= 9)  # 0 is not labelled, 10 is cloud
    agreement = (whole[0][labelled] + 1 == truth[labelled]).mean()
    assert labelled.sum() > 100_000
    assert agreement >= 0.84


@pytest.mark.parametrize("workers", [1, 2])
def test_any_number_of_processes_gives_the_same_bytes(
    crop, whole_crop, tmp_path, workers: int
) -> None:
    geoseg.map_scene(
        crop,
        "terrain",
        [str(tmp_path / "map.gpkg"), str(tmp_path / "map.tif")],
        geoseg.RunOptions(workers=workers, threads=1, tile_size=128),
    )
    geoseg.map_scene(
        crop,
        "terrain",
        [tmp_path / "serial.gpkg", tmp_path / "serial.tif"],
        geoseg.RunOptions(workers=-1, threads=1, tile_size=128, block_tiles=3),
    )
    assert (tmp_path / "map.tif").read_bytes() == (tmp_path / "serial.tif").read_bytes()
    polygons = geoseg.to_polygons(geoseg.segment(crop, "terrain", tile_size=128, **ONE_THREAD))
    import geopandas as gpd

    for name in ("map", "serial"):
        read = gpd.read_file(tmp_path / f"{name}.gpkg")
        assert read.geometry.to_wkb().tolist() == polygons.geometry.to_wkb().tolist()
    with rasterio.open(tmp_path / "map.tif") as file:
        assert (file.read(1) == whole_crop[0]).all()


def test_a_batch_changes_no_bit(java: Scene) -> None:
    model, _ = load_model("terrain").for_scene(java)
    bands, _ = match_bands(model.card, java)
    tiles = [java.read(tile.read, bands) for tile in geoseg.plan(java, "terrain").tiles]
    pixels = np.stack([tile[0] for tile in tiles[:3]])[:, :, :64, :64]
    valid = np.stack([tile[1] for tile in tiles[:3]])[:, :64, :64]
    model = replace(model, with_probs=True)
    together = model.predict(pixels, valid)
    order = [2, 0, 1]
    shuffled = model.predict(pixels[order], valid[order])
    for position, number in enumerate(order):
        assert (shuffled[position].probs == together[number].probs).all()


def test_the_network_sees_the_documented_numbers(java: Scene) -> None:
    """L1C as it is; L2A as 0.92 dn + c; the offset of 2022 taken off first."""
    dn = np.array([0, 1000, 5000], np.int16).reshape(1, 1, 3)
    pixels = np.repeat(dn, 9, axis=0)[None]
    valid = np.ones((1, 1, 3), bool)
    base = load_model("terrain")
    mean, std = base.card.normalization.mean, base.card.normalization.std
    constants = (700, 450, 250, 180, 120, 100, 80, 15, 5)
    for level, offset in (("l1c", 0), ("l2a", 0), ("l2a", -1000)):
        model, _ = replace(base, level=level, offset=offset).for_scene(java)
        seen = model._inputs(pixels, valid)[0, :, 0]
        for band in range(9):
            for i, number in enumerate(dn.ravel().tolist()):
                toa = number + offset
                if level == "l2a":
                    toa = 0.92 * toa + constants[band]
                x = (np.log(max(toa, 0) * 0.005 + 1) - mean[band]) / std[band]
                assert seen[band, i] == pytest.approx(1 / (1 + np.exp(1 - 5 * x)), abs=1e-6)
        floats = model._inputs(pixels.astype(np.float32), valid)[0, :, 0]
        assert floats == pytest.approx(seen, abs=1e-6)


def test_level_and_offset_are_found_or_said() -> None:
    cases = {
        "S2A_MSIL2A_20210101T023101_N0214_R046.tif": ("l2a", 0, 0),
        "S2A_MSIL1C_20230101T023101_N0509_R046.tif": ("l1c", -1000, 0),
        "T49MGN_20220601_l2a.tif": ("l2a", -1000, 1),
        "scene.tif": ("l2a", 0, 1),
    }
    for name, (level, offset, warnings) in cases.items():
        product, said = describe_product({"file": name})
        assert (product.level, product.offset, len(said)) == (level, offset, warnings), name
    product, _ = describe_product({"PROCESSING_BASELINE": "05.10", "PROCESSING_LEVEL": "Level-2A"})
    assert (product.level, product.offset) == ("l2a", -1000)
    with pytest.raises(ModelError, match="use l1c, l2a or auto"):
        describe_product({}, "l3")


def test_bands_are_found_in_any_spelling_or_by_number() -> None:
    card = load_model("terrain").card
    pixels = np.zeros((12, 40, 40), np.int16)
    scene = array_scene(pixels)
    common = "coastal blue green red rededge1 rededge2 rededge3 nir nir08 nir09 swir16 swir22"
    for names in (ORDER_12, tuple(common.split()), tuple(f"S2_{n.lower()}" for n in ORDER_12)):
        indices, said = match_bands(card, scene.with_band_names(names))
        assert indices == (1, 2, 3, 4, 5, 6, 7, 10, 11)
        assert said == []
    unnamed = scene.with_band_names([str(i + 1) for i in range(12)])
    indices, said = match_bands(card, unnamed)
    assert indices == (1, 2, 3, 4, 5, 6, 7, 10, 11)
    assert "assumed" in said[0]
    by_number, _ = match_bands(card, unnamed, ["2", "3", "4", "5", "6", "7", "8", "11", "12"])
    assert by_number == indices
    with pytest.raises(ModelError, match="B05, B06.* not found among 3, red, green, blue"):
        rgb = replace(scene, bands=tuple(Band(n) for n in ("red", "green", "blue")))
        match_bands(card, rgb)
    with pytest.raises(ModelError, match="names 2 bands, terrain wants 9"):
        match_bands(card, scene, ["1", "2"])
    assert band_key("thermal") == "thermal"


def test_a_scene_of_another_gsd_is_refused(java: Scene) -> None:
    coarse = replace(java, geobox=java.geobox.zoom_out(0.2))  # 2 m pixels
    with pytest.raises(ModelError, match="its GSD is 2 m, terrain is for 10 m"):
        geoseg.plan(coarse, "terrain")


def test_reflectance_as_fractions_gives_the_same_map(crop: Scene, whole_crop) -> None:
    pixels, valid = crop.read()
    fractions = array_scene(pixels.astype(np.float32) / 10000, valid)
    fractions = replace(fractions, bands=crop.bands, tags=crop.tags)
    result = geoseg.segment(fractions, "terrain", **ONE_THREAD)
    assert (result.category_id == whole_crop[0]).mean() > 0.999
    tiny = replace(array_scene(pixels // 500, valid), bands=crop.bands, tags=crop.tags)
    with pytest.raises(ModelError, match="its values reach"):
        geoseg.plan(tiny, "terrain")


def test_predicting_leaves_no_gradient(java: Scene) -> None:
    model, _ = load_model("terrain").for_scene(java)
    pixels = np.zeros((1, 9, 32, 32), np.int16)
    model.predict(pixels, np.ones((1, 32, 32), bool))
    assert torch.is_grad_enabled()
