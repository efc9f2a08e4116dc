"""COCO files give the same map back, and other tools read them."""

from __future__ import annotations

import json

import numpy as np
import pytest
from faster_coco_eval import COCO
from faster_coco_eval.core import mask as mask_utils
from hypothesis import given, settings
from hypothesis import strategies as st

from geoseg.errors import InputError
from geoseg.labels.coco import LabelImage, read_coco, write_coco_instances, write_coco_panoptic
from geoseg.labels.sources import open_labels
from geoseg.legend import Category, Legend

LEGEND = Legend(
    (
        Category(0, "soil", "#885500"),
        Category(3, "maize", "#00ff00", isthing=True),
        Category(7, "weed", "#ff0000", isthing=True),
    ),
)
WKT = 'LOCAL_CS["field",UNIT["metre",1]]'


def image_of(seed, shape, name="a.tif", *, stuff=True):
    rng = np.random.default_rng(seed)
    ids = rng.integers(1, 6, shape)
    category = np.array([255, 0, 3, 3, 7, 7], np.uint8)[ids]
    if not stuff:
        category[category == 0] = 255
    instance = np.where(np.isin(category, [3, 7]), ids * 10, 0).astype(np.uint32)
    score = np.array([255, 200, 3, 254, 0, 77], np.uint8)[ids]
    score[category == 255] = 255
    return LabelImage(
        file_name=name,
        category_id=category,
        instance_id=instance,
        score=score,
        transform=(0.5, 0.0, 1e6 + 0.1, 0.0, -0.5, 2e6),
        crs=WKT,
    )


def assert_same(a, b):
    for name in ("category_id", "instance_id", "score"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), name)
        assert getattr(a, name).dtype == getattr(b, name).dtype
    assert (a.file_name, a.transform, a.crs) == (b.file_name, b.transform, b.crs)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.tuples(st.integers(1, 20), st.integers(1, 20)))
def test_round_trips(tmp_path_factory, seed, shape):
    folder = tmp_path_factory.mktemp("coco")
    for write, stuff in ((write_coco_instances, False), (write_coco_panoptic, True)):
        images = [image_of(seed + k, shape, f"{k}.tif", stuff=stuff) for k in range(2)]
        write(folder / "x.json", images, LEGEND)
        legend, back = read_coco(folder / "x.json")
        assert list(legend) == list(LEGEND)
        for a, b in zip(images, back, strict=True):
            assert_same(a, b)


def test_other_tools_read_the_masks(tmp_path):
    image = image_of(1, (30, 20))
    write_coco_instances(tmp_path / "x.json", [image], LEGEND)
    coco = COCO(str(tmp_path / "x.json"))
    assert len(coco.anns) == 4
    for annotation in coco.anns.values():
        own = image.instance_id == annotation["geoseg"]["instance_id"]
        np.testing.assert_array_equal(coco.annToMask(annotation).astype(bool), own)
        assert annotation["area"] == own.sum()
        rows, cols = np.nonzero(own)
        box = [cols.min(), rows.min(), np.ptp(cols) + 1, np.ptp(rows) + 1]
        assert annotation["bbox"] == box


def test_polygons_and_compressed_runs_are_read(tmp_path):
    rng = np.random.default_rng(3)
    mask = rng.random((40, 50)) < 0.3
    compressed = mask_utils.encode(np.asfortranarray(mask.astype(np.uint8)))
    counts = compressed["counts"]
    rows = [
        {"size": [40, 50], "counts": counts.decode() if isinstance(counts, bytes) else counts},
        [[2, 3, 12, 3, 12, 9, 2, 9]],
    ]
    annotations = [
        {"id": k, "image_id": 1, "category_id": 3, "segmentation": rows[k], "iscrowd": 0}
        for k in range(2)
    ]
    image = {"id": 1, "height": 40, "width": 50, "file_name": "a.png"}
    categories = [{"id": 3, "name": "x"}]
    for k in range(2):
        document = {"images": [image], "annotations": [annotations[k]], "categories": categories}
        (tmp_path / "x.json").write_text(json.dumps(document))
        legend, images = read_coco(tmp_path / "x.json")
        found = next(images).instance_id > 0
        expected = mask
        if k:
            expected = np.zeros((40, 50), bool)
            expected[3:9, 2:12] = True
        np.testing.assert_array_equal(found, expected)
        assert legend.by_id(3).isthing


def document(**changed):
    image = {"id": 1, "height": 6, "width": 7, "file_name": "a.png"}
    annotation = {"id": 1, "image_id": 1, "category_id": 3, "segmentation": [[0, 0, 6, 0, 6, 6]]}
    rows = {key: changed.pop(key) for key in list(changed) if key in ("height", "width")}
    return {
        "images": [image | rows],
        "annotations": [annotation | changed],
        "categories": [{"id": 3, "name": "x"}],
    }


def test_a_triangle_is_a_polygon(tmp_path):
    (tmp_path / "x.json").write_text(json.dumps(document()))
    (image,) = read_coco(tmp_path / "x.json")[1]
    rows, cols = np.mgrid[:6, :7]
    off = rows != cols  # centres on the third side are no matter
    np.testing.assert_array_equal((image.category_id == 3)[off], ((cols < 6) & (rows < cols))[off])


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"segmentation": None}, "NoneType"),
        ({"segmentation": [[0, 0, 6, 0, 6, 6, 1]]}, "reshape"),
        (
            {"segmentation": {"size": [6, 7], "counts": [3, 4]}},
            "run lengths of 7 px in an image of 42",
        ),
        ({"segmentation": {"size": [6, 7], "counts": [50, -8]}}, "run lengths"),
        ({"height": 10**7, "width": 10**7}, "10000000 x 10000000 px: an image has 268,435,456"),
        ({"segmentation": {"size": [6, 7], "counts": "o"}}, "index"),
        ({"category_id": 9}, "category_id 9 is none of"),
        ({"category_id": 300}, "300"),
        ({"score": 7.0}, "score 7.0"),
        ({"score": "high"}, "high"),
        ({"height": -6}, "negative"),
        ({"height": None}, "NoneType"),
        ({"segments_info": [], "file_name": "../x/a.png"}, "a name is wanted"),
        ({"segments_info": [{"id": 1}], "file_name": "a.png"}, "a.png"),
    ],
)
def test_what_is_odd_in_a_file_is_one_line(tmp_path, changed, says):
    (tmp_path / "x.json").write_text(json.dumps(document(**changed)))
    with pytest.raises(InputError, match=says) as error:
        list(read_coco(tmp_path / "x.json")[1])
    assert "x.json" in str(error.value) or "a.png" in str(error.value)


@pytest.mark.parametrize(
    "place", [{"transform": [1, 2]}, {"transform": "north"}, {"transform": [1] * 6, "crs_wkt": "x"}]
)
def test_an_odd_place_is_one_line(tmp_path, place):
    odd = document()
    odd["images"][0]["geoseg"] = place
    (tmp_path / "x.json").write_text(json.dumps(odd))
    with pytest.raises(InputError, match=r"x\.json: its place is odd"):
        open_labels(tmp_path / "x.json", None)


@pytest.mark.parametrize(
    "text",
    [
        '{"type": "FeatureCollection"}',
        '{"images": 5, "annotations": [], "categories": []}',
        "[" * 100_000,
    ],
)
def test_what_is_not_coco_is_refused(tmp_path, text):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(InputError, match=r"x\.json: not a COCO file"):
        read_coco(tmp_path / "x.json")
