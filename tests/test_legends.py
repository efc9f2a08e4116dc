"""Legends of the field with their official ids, and rasters in those ids."""

from __future__ import annotations

import json
import warnings
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st

from geoseg.errors import InputError
from geoseg.grid import Window
from geoseg.labels.schemes import CORINE_CODES, read_labels, scheme, scheme_names, to_categories
from geoseg.legend import NODATA_CATEGORY, Legend

SIZES = {
    "ade20k": 150, "cityscapes": 19, "coco_panoptic": 133, "coco_stuff": 171, "coco_things": 80,
    "corine_1": 5, "corine_2": 15, "dynamic_world": 9, "landcover_ai": 5, "worldcover": 11,
}  # fmt: skip

# id, name, colour, thing: from the publishers' own pages
KNOWN = {
    "worldcover": [(10, "tree_cover", "#006400"), (95, "mangroves", "#00cf75")],
    "corine_1": [(1, "artificial_surfaces", "#e6004d"), (5, "water_bodies", "#00ccf2")],
    "corine_2": [(31, "forests", "#80ff00"), (42, "maritime_wetlands", "#ccccff")],
    "dynamic_world": [(0, "water", "#419bdf"), (8, "snow_and_ice", "#b39fe1")],
    "coco_things": [(1, "person", "#dc143c"), (90, "toothbrush", "#bfa2d0")],
    "coco_panoptic": [(92, "banner", "#ffff80"), (184, "tree-merged", "#6b8e23")],
    "coco_stuff": [(17, "cat", "#ff4dff"), (182, "wood", None)],
    "ade20k": [(1, "wall", "#787878"), (3, "sky", "#06e6e6"), (13, "person", "#96053d")],
    "cityscapes": [(7, "road", "#804080"), (26, "car", "#00008e"), (33, "bicycle", "#770b20")],
    "landcover_ai": [(1, "building", None), (4, "road", None)],
}


@pytest.mark.parametrize("name", SIZES)
def test_a_legend_has_its_official_classes(name: str) -> None:
    legend = Legend.open(name)
    assert len(legend) == SIZES[name] and legend.name == name
    assert len({category.name for category in legend}) == len(legend)
    for number, label, colour in KNOWN[name]:
        category = legend.by_id(number)
        assert category.name == label
        assert colour is None or category.colour == colour
    data = json.loads((resources.files("geoseg") / "legends" / f"{name}.json").read_text())
    assert data["source"]
    if name not in {"coco_panoptic", "ade20k"}:
        assert len({category.colour for category in legend}) == len(legend)


def test_all_legends_are_listed() -> None:
    assert set(SIZES) <= set(Legend.names())


def test_things_and_stuff() -> None:
    things = {name: sum(c.isthing for c in Legend.open(name)) for name in SIZES}
    assert things == {
        "ade20k": 115, "cityscapes": 8, "coco_panoptic": 80, "coco_stuff": 80, "coco_things": 80,
        "corine_1": 0, "corine_2": 0, "dynamic_world": 0, "landcover_ai": 0, "worldcover": 0,
    }  # fmt: skip
    assert not Legend.open("coco_panoptic").by_name("sky-other-merged").isthing


def test_corine_codes() -> None:
    assert len(CORINE_CODES) == 44 and list(CORINE_CODES) == sorted(CORINE_CODES)
    classes = {code // 10 for code in CORINE_CODES}
    assert classes == {category.id for category in Legend.open("corine_2")}
    assert {code // 100 for code in CORINE_CODES} == {c.id for c in Legend.open("corine_1")}


@pytest.mark.parametrize("name", scheme_names())
def test_every_value_becomes_a_category_of_the_legend(name: str) -> None:
    how = scheme(name)
    assert {how.legend.by_id(category).id for category in how.values.values()} == {
        category.id for category in how.legend
    }
    assert not set(how.values) & how.unlabelled
    for dtype in ("int16", "int32"):
        stored = np.array([*how.values, *how.unlabelled], dtype)
        expected = [*how.values.values(), *[NODATA_CATEGORY] * len(how.unlabelled)]
        assert to_categories(stored, how).tolist() == expected


@pytest.mark.parametrize(
    ("name", "stored", "expected"),
    [
        ("corine_2_from_grid", [1, 11, 23, 44, 48], [11, 14, 31, 52, 255]),
        ("corine_1_from_codes", [111, 244, 335, 423, 523, 999], [1, 2, 3, 4, 5, 255]),
        ("cityscapes_train_ids", [0, 13, 18, 255], [7, 26, 33, 255]),
        ("cityscapes", [7, 26, 4, 0], [7, 26, 255, 255]),
        ("coco_stuff", [0, 89, 181, 255], [1, 90, 182, 255]),
        ("dynamic_world_experts", [0, 1, 9, 10], [255, 0, 8, 255]),
        ("ade20k", [0, 1, 150], [255, 1, 150]),
        ("worldcover", [0, 10, 100], [255, 10, 100]),
    ],
)
def test_values_by_hand(name: str, stored: list[int], expected: list[int]) -> None:
    assert to_categories(np.array(stored, "uint16"), scheme(name)).tolist() == expected


@given(st.lists(st.integers(-300, 1000), min_size=1, max_size=30))
def test_a_value_of_another_scheme_is_an_error(values: list[int]) -> None:
    how = scheme("worldcover")
    labels = np.array(values, "int32")
    if set(values) <= set(how.values) | how.unlabelled:
        assert to_categories(labels, how).shape == labels.shape
    else:
        with pytest.raises(InputError, match="choose the scheme"):
            to_categories(labels, how)


def test_label_rasters_are_read(tmp_path: Path) -> None:
    stored = np.array([[10, 20, 0], [95, 7, 100]], "uint8")
    path = tmp_path / "labels.tif"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        with rasterio.open(
            path, "w", driver="GTiff", count=1, height=2, width=3, dtype="uint8", nodata=7
        ) as dataset:
            dataset.write(stored, 1)
    labels = read_labels(path, scheme("worldcover"))
    assert labels.tolist() == [[10, 20, 255], [95, 255, 100]] and labels.dtype == np.uint8
    part = read_labels(path, scheme("worldcover"), Window(1, 1, 1, 2))
    assert part.tolist() == [[255, 100]]
    with pytest.raises(InputError, match=r"labels\.tif: scheme ade20k|no class"):
        read_labels(path, scheme("corine_1"))
    with pytest.raises(InputError, match="can't be read"):
        read_labels(tmp_path / "none.tif", scheme("worldcover"))
    with pytest.raises(InputError, match="not integers"):
        to_categories(np.zeros((2, 2)), scheme("worldcover"))
    with pytest.raises(InputError, match="no label scheme"):
        scheme("worldcovers")
