"""An instance and a semantic model joined by ``+``: one panoptic map, the same at any block."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from test_instance_map import NETWORKS, TINY, bundle, scene  # noqa: F401 - a fixture

from geoseg.cli import geoseg
from geoseg.engine.segmentmap import SegmentMap
from geoseg.errors import ModelError
from geoseg.legend import Category, Legend
from geoseg.models.catalogue import load_model
from geoseg.models.deep.architectures import Architecture, build
from geoseg.models.deep.bundle import write_bundle
from geoseg.models.deep.pair import pair_up
from geoseg.models.segmenter import ModelCard
from geoseg.pipeline import RunOptions, map_scene
from geoseg.radiometry import Normalization

COVER = Legend(
    (
        Category(0, "soil", "#885500"),
        Category(1, "water", "#0000ff"),
        Category(4, "field", "#00aa00"),
        Category(9, "wood", "#004400"),
    )
)


def cover(folder: Path, **changed: Any) -> Path:
    """A semantic network that learnt nothing: with bands of its own order."""
    torch.manual_seed(5)
    given = Architecture(name="unet", encoder=TINY, bands=2, classes=4, options={})
    card = ModelCard(
        name="cover",
        task="semantic",
        legend=COVER,
        bands=("blue", "red"),
        normalization=Normalization(scale=(1 / 50,), mean=(2.5,), std=(0.8,)),
        tile_size=128,
        halo=32,
        divisor=32,
    )
    path = folder / "cover.zip"
    write_bundle(path, replace(card, **changed), given, build(given).state_dict())
    return path


def pair_of(folder: Path) -> tuple[Path, Path]:
    """Both bundles; the network of things finds them on half of the scene."""
    found = NETWORKS["parcels"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(NETWORKS, "parcels", (*found[:3], found[3] | {"extent": 0.5}))
        return bundle(folder, "parcels"), cover(folder)


def mapped(scene: Path, model: str, name: str, run: RunOptions) -> SegmentMap:  # noqa: F811
    path = scene.parent / f"{name}.zarr"
    map_scene(str(scene), model, [str(path)], run)
    return SegmentMap.open(str(path))


@pytest.mark.slow
def test_things_lie_on_the_stuff_at_any_block_size(scene: Path) -> None:  # noqa: F811
    things, stuff = pair_of(scene.parent)
    runs = [RunOptions(block_tiles=n, batch=2, threads=1, workers=0) for n in (16, 1)]
    pair = f"{things}+{stuff}"
    maps = [mapped(scene, pair, f"pair{n}", run) for n, run in enumerate(runs)]
    first = maps[0].read()
    for other in maps[1:]:
        for name, array in other.read().items():
            assert array.tobytes() == first[name].tobytes(), name
    alone = mapped(scene, str(things), "things", runs[0]).read()
    ground = mapped(scene, str(stuff), "stuff", runs[0]).read()
    thing = alone["instance_id"] > 0
    assert thing.any() and not thing.all()
    np.testing.assert_array_equal(first["instance_id"], alone["instance_id"])
    # "field" is 1 for the things and 4 for the stuff: here 4; what the stuff calls a field and
    # nobody found as one is none
    stuff_only = np.where(ground["category_id"] == 4, 255, ground["category_id"])
    np.testing.assert_array_equal(first["category_id"], np.where(thing, 4, stuff_only))
    legend = {c.name: (c.id, c.isthing) for c in maps[0].legend}
    assert legend["field"] == (4, True) and legend["wood"] == (9, False)
    assert maps[0].task == "panoptic"


def test_small_stuff_is_left_out(scene: Path) -> None:  # noqa: F811
    model = "+".join(str(path) for path in pair_of(scene.parent))
    everything = load_model(model, {"min_stuff_px": 128 * 128 + 1, "min_px": 20})
    assert everything.card.parameters["things"]["min_px"] == 20
    run = RunOptions(batch=2, threads=1, workers=0)
    path = scene.parent / "none.zarr"
    map_scene(str(scene), everything, [str(path)], run)
    found = SegmentMap.open(str(path)).read()
    assert set(np.unique(found["category_id"])) == {4, 255}


def test_ids_that_are_taken_are_replaced(tmp_path: Path) -> None:
    things = load_model(bundle(tmp_path, "parcels"))
    other = Legend((Category(0, "soil", "#885500"), Category(1, "water", "#0000ff")))
    stuff = load_model(cover(tmp_path))
    stuff = replace(stuff, card=replace(stuff.card, legend=other))
    legend = pair_up([stuff, things]).card.legend  # in any order
    assert [(c.id, c.name, c.isthing) for c in legend] == [
        (0, "soil", False),
        (1, "water", False),
        (2, "field", True),
    ]


def test_what_does_not_go_together_is_one_line(scene: Path) -> None:  # noqa: F811
    things, stuff = bundle(scene.parent, "parcels"), cover(scene.parent)
    with pytest.raises(ModelError, match="otsu:b1: only networks can be fused"):
        pair_up([load_model(things), load_model("otsu:b1")])
    far = scene.parent / "far"
    (far / "away").mkdir(parents=True)
    coarse = cover(far, gsd_m=(10.0, 20.0))
    fine = load_model(things)
    fine = replace(fine, card=replace(fine.card, gsd_m=(0.5, 2.0)))
    with pytest.raises(ModelError, match=r"parcels is for 0.5 to 2 m and cover is for 10 to 20 m"):
        pair_up([fine, load_model(coarse)])
    infrared = cover(far / "away", bands=("nir", "red"))
    for model, says in (
        (f"{things}+{things}", "one instance and one semantic"),
        (f"{things}+{stuff}+{stuff}", "one instance and one semantic"),
        (f"{things}+{infrared}", "nir"),
    ):
        out = ["-o", str(scene.parent / "x.gpkg")]
        done = CliRunner().invoke(geoseg, ["map", str(scene), "--model", model, *out])
        assert done.exit_code == 2, done.output
        assert says in done.output and len(done.output.strip().splitlines()) == 1, done.output
