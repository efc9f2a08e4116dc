"""Blended probabilities: layers, scores and thresholds of them, on the host and on a device."""

from __future__ import annotations

from dataclasses import replace
from importlib import resources

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import geoseg
from geoseg.errors import InputError
from geoseg.grid import BlockGrid, TileGrid, Window
from geoseg.models.catalogue import load_model
from geoseg.models.deep.blending import DeviceSums, OpenDeviceSums, to_levels
from geoseg.models.deep.overlap import predict_batches
from geoseg.models.segmenter import HeldTile, SemanticTile
from geoseg.scene.arrays import from_array
from geoseg.stitch.blend import FeatherJoin
from geoseg.stitch.frame import join_in_memory
from geoseg.stitch.sums import HostSums, Reading, read_sums

DEMO = resources.files("geoseg") / "data" / "demo" / "java_west_s2l2a.tif"
IDS = (4, 0, 9)
ALL = ("prob_9", "confidence", "entropy", "margin", "prob_4", "prob_0")
RUN = {"threads": 1, "workers": -1, "tile_size": 80, "block_tiles": 1, "blend": True}


def probs_of(seed: list[int], shape: tuple[int, int], classes: int = 3) -> np.ndarray:
    raw = np.random.default_rng(seed).random((classes, *shape), np.float32) ** 4
    return raw / raw.sum(0, dtype=np.float32)


def by_hand(sums: np.ndarray, valid: np.ndarray, how: Reading) -> dict[str, np.ndarray]:
    """What is read off sums, in float64 and with numpy alone."""
    weight = sums[-1].astype(float)
    share = sums[:-1] / (np.maximum(weight, 1) * 65535)
    known = valid & (weight > 0)
    held = share
    if how.thresholds:
        least = np.array(how.thresholds)[:, None, None]
        held = np.where(sums[:-1] >= least * (weight * 65535), share, -1)
    label = np.where(held.max(0) < 0, 255, np.array(how.category_ids)[held.argmax(0)])
    ordered = np.sort(share, axis=0)
    total = np.maximum(share.sum(0), 1e-12)
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(share > 0, share / total * np.log(share / total), 0)
    scores = {
        "confidence": ordered[-1],
        "margin": ordered[-1] - ordered[-2],
        "entropy": -terms.sum(0) / np.log(len(share)),
    }
    scores |= {f"prob_{i}": share[k] for k, i in enumerate(how.category_ids)}
    out = {name: np.where(known, scores[name] * 254, 255) for name in how.layers}
    out["category_id"] = np.where(known, label, 255)
    out["score"] = np.where(out["category_id"] != 255, scores[how.score] * 254, 255)
    return out


def random_sums(seed: int, classes: int = 3) -> np.ndarray:
    rng = np.random.default_rng(seed)
    weight = rng.integers(1, 65536, (11, 13))
    weight[2:4, 5] = 0
    levels = np.floor(probs_of([seed], (11, 13), classes) * 65535).astype(np.int64)
    return np.concatenate([levels * weight, weight[None]]).astype(np.uint32)


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 99),
    thresholds=st.sampled_from([(), (0.5, 0.0, 0.4), (0.9, 0.9, 0.9), (0.0, 0.0, 0.0)]),
    score=st.sampled_from(["confidence", "margin", "entropy"]),
)
def test_host_and_device_read_what_is_worked_out_by_hand(seed, thresholds, score) -> None:
    how = Reading(category_ids=IDS, thresholds=thresholds, score=score, layers=ALL)
    sums = random_sums(seed)
    valid = np.random.default_rng(seed).random((11, 13)) < 0.9
    wanted = by_hand(sums, valid, how)
    device = DeviceSums((4, 11, 13), "cpu")
    device.total += torch.from_numpy(sums.astype(np.int64))
    there = device.read(Window(0, 0, 11, 13), valid, how)
    here = read_sums(sums, valid, how)
    assert set(here) == set(there) == {"category_id", "score", *ALL}
    for name, array in here.items():
        assert array.dtype == there[name].dtype == np.uint8
        if name == "category_id":
            np.testing.assert_array_equal(array, wanted[name])
        else:
            assert np.abs(array - wanted[name]).max() <= 0.5 + 1e-6, name
        near = 1 if name == "entropy" or (name == "score" and score == "entropy") else 0
        assert np.abs(array.astype(int) - there[name]).max() <= near, name


def test_a_device_adds_up_what_the_host_does(monkeypatch) -> None:
    monkeypatch.setattr("geoseg.models.deep.blending.STRIP_ROWS", 7)
    tiles = TileGrid((61, 47), 20, 4)
    valid = np.ones((61, 47), bool)
    valid[10:30, 5:21] = False
    how = Reading(category_ids=IDS, layers=("margin", "prob_0"))

    def joined(sums, make) -> dict[str, np.ndarray]:
        def results(block):
            live = [tile for tile in block.tiles if valid[tile.core.slices].any()]
            return [(tile, make(probs_of([5, *tile.index], tile.read.shape))) for tile in live]

        return join_in_memory(BlockGrid(tiles, 2), FeatherJoin(how, sums), results, valid)

    wanted = joined(HostSums, SemanticTile)
    held = joined(OpenDeviceSums("cpu"), lambda p: HeldTile(to_levels(torch.from_numpy(p))))
    plain = joined(OpenDeviceSums("cpu"), SemanticTile)
    for name, array in wanted.items():
        np.testing.assert_array_equal(array, held[name], err_msg=name)
        np.testing.assert_array_equal(array, plain[name], err_msg=name)
    assert (wanted["prob_0"][~valid] == 255).all()


def test_levels_are_rounded_as_on_the_host() -> None:
    probs = np.random.default_rng(1).random((2, 64, 64), np.float32)
    probs[0, 0, :4] = [0.0, 1.0, 0.5 / 65535, 1.5 / 65535]
    host = HostSums((3, 64, 64))
    host.add(SemanticTile(probs), Window(0, 0, 64, 64), np.ones(64, np.uint32))
    np.testing.assert_array_equal(to_levels(torch.from_numpy(probs)).numpy(), host.array[:2])


def test_a_layer_that_no_class_has_is_refused() -> None:
    with pytest.raises(InputError, match="no layer prob_7: use"):
        Reading(category_ids=IDS, layers=("prob_7",))


@pytest.fixture(scope="module")
def crop() -> geoseg.Scene:
    whole = geoseg.open_scene(str(DEMO))
    pixels, _ = whole.read(geoseg.Window(200, 40, 70, 90))
    names = [band.name for band in whole.bands]
    box = whole.geobox[200:270, 40:130]
    return from_array(pixels, crs="EPSG:32749", transform=box.affine, bands=names)


def layers_of(found: geoseg.SegmentMap) -> dict[str, np.ndarray]:
    return found.read(names=("category_id", "score", *found.layers))


def test_a_blended_map_has_layers_whatever_the_blocks(crop) -> None:
    model = load_model("terrain", {"layers": ["probs", "confidence", "entropy", "margin"]})
    small = layers_of(geoseg.segment(crop, model, **RUN))
    large = layers_of(geoseg.segment(crop, model, **(RUN | {"block_tiles": 3})))
    for name, array in small.items():
        np.testing.assert_array_equal(array, large[name], err_msg=name)
    np.testing.assert_array_equal(small["score"], small["confidence"])
    levels = np.stack([small[f"prob_{i}"] for i in range(9)]).astype(int)
    assert np.abs(levels.sum(0) - 254).max() <= 5  # each is rounded
    np.testing.assert_array_equal(levels.max(0), small["score"])
    ordered = np.sort(levels, axis=0)
    assert np.abs(ordered[-1] - ordered[-2] - small["margin"]).max() <= 1
    plain = geoseg.segment(crop, "terrain", **(RUN | {"blend": False})).category_id
    assert 0.99 < (plain == small["category_id"]).mean() < 1  # blended, but not another map


def test_thresholds_and_score_of_a_blended_map(crop) -> None:
    parameters = {"layers": ["probs"], "thresholds": {"crops": 0.6}, "score": "margin"}
    found = layers_of(geoseg.segment(crop, load_model("terrain", parameters), **RUN))
    levels = np.stack([found[f"prob_{i}"] for i in range(9)]).astype(int)
    crops = load_model("terrain").card.legend.by_name("crops").id
    assert not ((found["category_id"] == crops) & (levels[crops] < 0.6 * 254 - 1)).any()
    lost = (levels.argmax(0) == crops) & (levels[crops] < 0.6 * 254 - 1)
    assert lost.any() and (found["category_id"][lost] != crops).all()
    shown = found["category_id"] != 255
    ordered = np.sort(levels, axis=0)
    assert np.abs(ordered[-1] - ordered[-2] - found["score"])[shown].max() <= 1


def test_small_segments_go_and_layers_stay(crop) -> None:
    model = load_model("terrain", {"layers": ["margin"]})
    plain = layers_of(geoseg.segment(crop, model, **RUN))
    sieved = layers_of(geoseg.segment(crop, model, min_area_m2=20000.0, **RUN))
    np.testing.assert_array_equal(sieved["margin"], plain["margin"])
    assert (sieved["category_id"] != plain["category_id"]).any()


def test_probabilities_that_stay_are_those_that_are_given(crop) -> None:
    """The stream of a device, here the processor, gives the levels of what ``predict`` gives."""
    model, _ = load_model("terrain").for_scene(crop)
    pixels = crop.read(Window(0, 0, 48, 48))[0][None, :9].repeat(2, 0)
    pixels[1] //= 2
    valid = np.ones((2, 48, 48), bool)
    held = list(predict_batches(replace(model, with_probs=True, held=True), [(pixels, valid)]))
    wanted = replace(model, with_probs=True).predict(pixels, valid)
    for one, other in zip(held[0], wanted, strict=True):
        np.testing.assert_array_equal(one.levels, to_levels(torch.from_numpy(other.probs)))
