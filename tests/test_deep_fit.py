"""Whether a model fits a scene: bands, GSD, values, and what its network then sees."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from affine import Affine

from geoseg.errors import ModelError
from geoseg.models.catalogue import choose_bands, load_model, match_bands
from geoseg.models.deep.terrain import L2A_OFFSET, L2A_SCALE, load_terrain
from geoseg.models.sentinel2 import band_key, describe_product
from geoseg.scene.arrays import from_array
from geoseg.scene.reader import Band, Scene

NAMES = load_model("terrain").card.bands


def made(pixels: np.ndarray, gsd: float = 10.0, bands: tuple[str, ...] = NAMES) -> Scene:
    transform = Affine(gsd, 0, 590_000, 0, -gsd, 9_100_000)
    return from_array(pixels, crs="EPSG:32749", transform=transform, bands=bands)


def test_halo_covers_what_a_label_depends_on() -> None:
    """By the gradient: 22 px on either phase of the stride of two."""
    from geoseg.models.deep.dynamic_world import DynamicWorldNet

    network = DynamicWorldNet().double().eval()
    reach = 0
    for row in (48, 49):
        x = torch.rand(1, 9, 96, 96, dtype=torch.float64, requires_grad=True)
        network(x)[0, :, row, row].sum().backward()
        touched = np.flatnonzero(x.grad.abs().sum((0, 1, 3)).numpy())
        reach = max(reach, row - touched.min(), touched.max() - row)
    assert reach == 22
    assert reach <= load_model("terrain").card.halo


def test_level_and_offset_from_tags_reach_the_network() -> None:
    card = load_model("terrain").card
    dn = 1234
    mean, std = card.normalization.mean[0], card.normalization.std[0]
    flat = np.full((9, 32, 32), dn, np.int16)
    cases = [
        ({"PROCESSING_LEVEL": "L1C", "PROCESSING_BASELINE": "03.00"}, dn),
        ({"PROCESSING_LEVEL": "L1C", "PROCESSING_BASELINE": "05.10"}, dn - 1000),
        ({"file": "S2A_MSIL2A_20190713T023551_N0213_R089.tif"}, L2A_SCALE * dn + L2A_OFFSET[0]),
        ({"file": "x_MSIL2A_N0400_.tif"}, L2A_SCALE * (dn - 1000) + L2A_OFFSET[0]),
    ]
    for tags, toa in cases:
        fitted, _ = load_terrain().for_scene(replace(made(flat), tags=tags))
        seen = fitted._inputs(flat[None], np.ones((1, 32, 32), bool))[0, 0, 0, 0]
        x = 5 * (np.log(0.005 * toa + 1) - mean) / std - 1
        assert seen == pytest.approx(1 / (1 + np.exp(-x)), abs=1e-6)


def test_an_offset_that_the_bands_state_is_taken_once() -> None:
    flat = np.full((9, 32, 32), 2000, np.uint16)
    scene = replace(made(flat), tags={"file": "x_MSIL1C_N0509_.tif"})
    stated = tuple(replace(band, scale=1e-4, offset=-0.1) for band in scene.bands)
    plain, _ = load_terrain().for_scene(scene)
    with_bands, _ = load_terrain().for_scene(replace(scene, bands=stated))
    valid = np.ones((1, 32, 32), bool)
    np.testing.assert_allclose(
        plain._inputs(flat[None], valid), with_bands._inputs(flat[None], valid), atol=1e-6
    )


def test_reflectance_has_no_offset_to_take_off() -> None:
    """A float32 copy of a product of 2023 holds reflectance, whatever its name says."""
    tags = {"file": "x_MSIL1C_N0509_.tif"}
    reflectance = np.full((9, 32, 32), 0.1, np.float32)
    numbers = np.full((9, 32, 32), 2000, np.uint16)  # (2000 - 1000) / 10,000
    valid = np.ones((1, 32, 32), bool)
    seen = [
        load_terrain().for_scene(replace(made(p), tags=tags))[0]._inputs(p[None], valid)
        for p in (reflectance, numbers)
    ]
    np.testing.assert_allclose(seen[0], seen[1], atol=1e-6)


@pytest.mark.parametrize("dtype", ["uint16", "int16", "int32", "float32", "float64"])
def test_every_dtype_gives_the_same_input(dtype: str) -> None:
    """Integers of 10,000 per unit and floats of reflectance."""
    terrain = load_terrain("l1c", 0)
    dn = np.arange(9 * 64 * 64).reshape(9, 64, 64) % 5000
    pixels = dn.astype(dtype) if "int" in dtype else (dn / 10_000).astype(dtype)
    valid = np.ones((1, 64, 64), bool)
    reference = terrain.for_scene(made(dn.astype(np.int16)))[0]._inputs(
        dn[None].astype(np.int16), valid
    )
    seen = terrain.for_scene(made(pixels))[0]._inputs(pixels[None], valid)
    np.testing.assert_allclose(seen, reference, atol=1e-6)


@pytest.mark.parametrize("name", ["B2", "b02", "B02", "blue", "S2_B2", "Band 2", "B_02"])
def test_spellings_of_a_band(name: str) -> None:
    assert band_key(name) == "B02"


def test_what_is_assumed_is_said() -> None:
    product, warnings = describe_product({"file": "x.tif"})
    assert (product.level, product.offset) == ("l2a", 0)
    assert "assumed" in warnings[0]
    assert describe_product({"file": "x_MSIL1C_N0400_.tif"})[0].offset == -1000
    assert describe_product({"file": "x.tif"}, "l1c", -1000)[1] == []
    with pytest.raises(ModelError, match="l3a"):
        describe_product({}, "l3a")


def test_bands_by_order_by_choice_and_by_wavelength() -> None:
    card = load_model("terrain").card
    scene = made(np.full((12, 64, 64), 900, np.int16), bands=tuple(str(n) for n in range(1, 13)))
    indices, (warning,) = match_bands(card, scene)
    assert indices == (1, 2, 3, 4, 5, 6, 7, 10, 11)
    assert "assumed" in warning
    numbers = ["2", "3", "4", "5", "6", "7", "8", "11", "12"]
    chosen = choose_bands(card, scene, numbers)
    assert tuple(band.name for band in chosen.bands) == card.bands
    with pytest.raises(ModelError, match="B11, B12 not found among 7"):
        match_bands(card, made(np.zeros((7, 64, 64), np.int16), bands=NAMES[:7]))
    with pytest.raises(ModelError, match="names 3 bands, terrain wants 9"):
        choose_bands(card, scene, ["1", "2", "3"])
    rgbn = made(np.zeros((4, 64, 64), np.uint8), bands=("red", "green", "blue", "4"))
    wants = replace(card, bands=("red", "green", "blue", "nir"))
    assert match_bands(wants, rgbn)[0] == (0, 1, 2, 3)
    centres = (0.49, 0.56, 0.665, 0.842)
    named = tuple(Band(f"x{i}", wavelength_um=um) for i, um in enumerate(centres))
    wants = replace(card, bands=("nir", "red"))
    assert match_bands(wants, replace(rgbn, bands=named))[0] == (3, 2)


def test_what_does_not_fit_is_an_error_that_names_both() -> None:
    terrain = load_terrain()
    good = np.full((9, 64, 64), 900, np.uint16)
    terrain.for_scene(made(good))
    for gsd in (4.9, 20.5):
        with pytest.raises(ModelError, match=r"its GSD is .* terrain is for 10 m"):
            terrain.for_scene(made(good, gsd))
    assert any("GSD" in said for said in terrain.for_scene(made(good, 15.0))[1])
    for pixels in (good // 100, (good * 50_000.0).astype(np.float32)):
        with pytest.raises(ModelError, match=r"its values reach .*, terrain is for reflectance"):
            terrain.for_scene(made(pixels))
    assert any("off range" in said for said in terrain.for_scene(made(good * 40))[1])
