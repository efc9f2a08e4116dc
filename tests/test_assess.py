"""Metrics against independent implementations, and whatever way they are added up."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from faster_coco_eval import COCO, COCOeval_faster
from faster_coco_eval.core import mask as mask_utils
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from sklearn import metrics
from torchmetrics.detection import PanopticQuality
from torchmetrics.segmentation import MeanIoU

from geoseg.assess.instances import (
    average_precision,
    match_segments,
    over_under_segmentation,
    panoptic_quality,
)
from geoseg.assess.overlap import BACKGROUND, OverlapTable, segment_key, split_key
from geoseg.assess.segmentation import (
    Confusion,
    bootstrap,
    boundary_band,
    boundary_iou,
    boundary_px,
)

THINGS = {0: False, 1: True, 2: True, 3: False}


def panoptic(rng, shape, *, void=0.0):
    """A truth of touching segments and a prediction that is off here and there."""
    coarse = rng.integers(1, 60, (shape[0] // 6 + 1, shape[1] // 6 + 1))
    ids = np.kron(coarse, np.ones((6, 6), int))[: shape[0], : shape[1]]
    shift = rng.integers(-2, 3, 2)
    found = np.roll(ids, shift, (0, 1))
    wrong = rng.random(shape) < 0.1
    found = np.where(wrong, rng.integers(1, 60, shape), found)
    out = []
    for k, array in enumerate((ids, found)):
        category = (array % 4).astype(np.uint8)
        if k == 1:
            category = np.where(array % 7 == 0, (array + 1) % 4, category).astype(np.uint8)
        instance = np.where(np.isin(category, [1, 2]), array, 0)
        out += [category, instance]
    out[0][rng.random(shape) < void] = 255
    return out


def table_of(truth_category, truth_instance, category, instance, none=-1):
    return OverlapTable.of(
        segment_key(truth_category, truth_instance, none=none),
        segment_key(category, instance, none=none),
    )


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("void", [0.0, 0.2])
def test_panoptic_quality_equals_torchmetrics(seed, void):
    rng = np.random.default_rng(seed)
    truth_category, truth_instance, category, instance = panoptic(rng, (60, 70), void=void)
    metric = PanopticQuality(
        things={1, 2},
        stuffs={0, 3},
        allow_unknown_preds_category=True,
        return_sq_and_rq=True,
        return_per_class=True,
    )
    a = torch.tensor(np.stack([category, instance], -1).astype(int))
    b = torch.tensor(np.stack([truth_category, truth_instance], -1).astype(int))
    # torchmetrics knows what is not judged as a category that it was not told of
    theirs = metric_with_void(metric, a, b)
    ours = panoptic_quality(
        match_segments(table_of(truth_category, truth_instance, category, instance)), THINGS
    )
    # torchmetrics lists things before stuff
    for row, k in zip(theirs, (1, 2, 0, 3), strict=True):
        quality = ours.per_category[k]
        np.testing.assert_allclose((quality.pq, quality.sq, quality.rq), row, atol=1e-6)
        assert quality.pq == quality.sq * quality.rq
    assert ours.mean()[0] == pytest.approx(np.mean([row[0] for row in theirs]), abs=1e-6)
    assert ours.mean(True)[0] == pytest.approx(np.mean([row[0] for row in theirs[:2]]), abs=1e-6)


def metric_with_void(metric, found, truth):
    truth = truth.clone()
    unknown = truth[..., 0] == 255
    if unknown.any():
        # it refuses unknown categories in the truth; its void colour is told to it by hand
        from torchmetrics.functional.detection._panoptic_quality_common import (
            _panoptic_quality_update,
        )

        void = metric.void_color
        truth[unknown] = torch.tensor(void)
        parts = _panoptic_quality_update(
            found.clone()[None].flatten(1, -2),
            truth[None].flatten(1, -2),
            metric.cat_id_to_continuous_id,
            void,
        )
        iou, tp, fp, fn = (part.double() for part in parts)
        sq = torch.where(tp > 0, iou / tp, 0.0)
        rq = tp / (tp + fp / 2 + fn / 2)
        return torch.stack([sq * rq, sq, rq], -1).numpy()
    metric.update(found[None], truth[None])
    result = metric.compute()
    return result.numpy().reshape(-1, 3)


def as_coco(truth_category, truth_instance, category, instance, scores):
    shape = truth_category.shape
    image = {"id": 1, "height": shape[0], "width": shape[1]}
    annotations, results = [], []
    for ids, categories, out in (
        (truth_instance, truth_category, annotations),
        (instance, category, results),
    ):
        for key in np.unique(segment_key(categories, ids)):
            (c,), (i,) = split_key(np.array([key]))
            if c not in (1, 2) or i == 0:
                continue
            mask = (ids == i) & (categories == c)
            rle = mask_utils.encode(np.asfortranarray(mask.astype(np.uint8)))
            row = {"image_id": 1, "category_id": int(c), "segmentation": rle, "id": len(out) + 1}
            row |= {"area": int(mask.sum()), "iscrowd": 0, "bbox": mask_utils.toBbox(rle).tolist()}
            if out is results:
                row["score"] = scores[int(key)]
            out.append(row)
    categories = [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}]
    truth = COCO({"images": [image], "annotations": annotations, "categories": categories})
    return truth, truth.loadRes(results)


@pytest.mark.parametrize("seed", range(4))
def test_average_precision_equals_faster_coco_eval(seed):
    rng = np.random.default_rng(seed)
    arrays = panoptic(rng, (90, 80))
    table = table_of(*arrays)
    scores = {int(k): float(s) for k, s in zip(np.unique(table.found), rng.permutation(999) / 1000)}
    ours = average_precision(table, scores, [1, 2])
    truth, found = as_coco(*arrays, scores)
    theirs = COCOeval_faster(truth, found, "segm")
    theirs.params.maxDets = [1, 10, 100_000]
    theirs.evaluate()
    theirs.accumulate()
    precision = theirs.eval["precision"][:, :, :, 0, -1]
    for place, category in enumerate((1, 2)):
        curves = precision[:, :, place]
        expected = (curves.mean(), curves[0].mean(), curves[5].mean())
        np.testing.assert_allclose(ours.per_category[category], expected, atol=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_confusion_equals_scikit_learn_and_torchmetrics(seed):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 4, (50, 40))
    found = np.where(rng.random((50, 40)) < 0.7, truth, rng.integers(0, 4, (50, 40)))
    c = Confusion.of(truth, found)
    a, b = truth.ravel(), found.ravel()
    assert c.accuracy == pytest.approx(metrics.accuracy_score(a, b))
    assert c.kappa == pytest.approx(metrics.cohen_kappa_score(a, b))
    np.testing.assert_allclose(
        [c.iou(k) for k in range(4)], metrics.jaccard_score(a, b, average=None)
    )
    np.testing.assert_allclose([c.f1(k) for k in range(4)], metrics.f1_score(a, b, average=None))
    np.testing.assert_allclose(
        [c.recall(k) for k in range(4)], metrics.recall_score(a, b, average=None)
    )
    np.testing.assert_allclose(
        [c.precision(k) for k in range(4)], metrics.precision_score(a, b, average=None)
    )
    theirs = MeanIoU(num_classes=4, input_format="index")
    theirs.update(torch.tensor(found)[None], torch.tensor(truth)[None])
    assert c.mean_iou == pytest.approx(float(theirs.compute()), abs=1e-6)


def test_what_was_not_mapped_is_wrong_and_what_has_no_truth_is_not_judged():
    c = Confusion.of(np.array([0, 0, 255, 1]), np.array([0, 255, 1, 1]))
    assert c.pixels == 3
    assert c.accuracy == pytest.approx(2 / 3)
    assert (c.iou(0), c.iou(1), c.recall(0), c.precision(0)) == (0.5, 1, 0.5, 1)
    assert np.isnan(Confusion.empty().accuracy)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(3, 40), st.integers(3, 40))
def test_tables_add_up_and_ignore_how_ids_are_numbered(seed, height, width):
    rng = np.random.default_rng(seed)
    arrays = panoptic(rng, (40, 40), void=0.05)
    whole = table_of(*arrays)
    parts = OverlapTable.empty()
    for row in range(0, 40, height):
        for col in range(0, 40, width):
            parts = parts + table_of(*(a[row : row + height, col : col + width] for a in arrays))
    for name in ("truth", "found", "pixels"):
        np.testing.assert_array_equal(getattr(whole, name), getattr(parts, name))
    other = rng.permutation(5000) + 1
    renamed = table_of(
        arrays[0], arrays[1], arrays[2], np.where(arrays[3] > 0, other[arrays[3]], 0)
    )
    ours, theirs = (match_segments(t).quality() for t in (whole, renamed))
    assert (ours.tp, ours.fp, ours.fn) == (theirs.tp, theirs.fp, theirs.fn)
    assert ours.pq == pytest.approx(theirs.pq)


def test_background_is_no_segment_but_finding_there_is_false():
    none = np.full((4, 4), 255, np.uint8)
    one = np.ones((4, 4), np.uint8)
    judged = match_segments(table_of(none, 0, one, one, none=BACKGROUND)).quality()
    assert (judged.tp, judged.fp, judged.fn) == (0, 1, 0)
    ignored = match_segments(table_of(none, 0, one, one)).quality()
    assert (ignored.tp, ignored.fp, ignored.fn) == (0, 0, 0)
    assert np.isnan(ignored.pq)


def test_boundary_iou_by_erosion():
    """Cheng et al. take from a mask what is left of it after d erosions."""
    rng = np.random.default_rng(2)
    truth = ndimage.gaussian_filter(rng.random((80, 90)), 5) > 0.5
    found = np.roll(truth, 2, 1)
    for width in (1, 3):

        def band(mask, width=width):
            inner = ndimage.binary_erosion(np.pad(mask, 1), np.ones((3, 3)), iterations=width)[
                1:-1, 1:-1
            ]
            return mask & ~inner

        a, b = band(truth), band(found)
        padded = [np.pad(np.where(m, 1, 0), width) for m in (truth, found)]
        assert boundary_iou(*padded, width, 1) == ((a & b).sum(), (a | b).sum())
        labels = np.pad(truth.astype(int), width)
        part = boundary_band(labels[:60], width)[width : 60 - width]
        assert (part == boundary_band(labels, width)[width : 60 - width]).all()
    assert boundary_px((300, 400)) == 10


def test_boundary_quality_is_below_mask_quality():
    truth = np.kron(np.arange(1, 17).reshape(4, 4), np.ones((20, 20), int))
    found = np.roll(truth, 2, (0, 1))
    category = np.ones(truth.shape, np.uint8)
    key = segment_key(category, truth), segment_key(category, found)
    table = OverlapTable.of(*key)
    bands = [boundary_band(np.pad(k, 2, constant_values=-9), 2)[2:-2, 2:-2] for k in key]
    near = OverlapTable.of(*(np.where(b, k, BACKGROUND) for b, k in zip(bands, key)))
    mask, both = match_segments(table).quality(), match_segments(table, near).quality()
    assert both.iou_sum < mask.iou_sum


def test_over_and_under_segmentation_by_hand():
    truth = np.array([[1, 1, 1, 1, 2, 2, 3]])
    found = np.array([[5, 5, 5, 6, 6, 6, 0]])
    category = np.ones((1, 7), np.uint8)
    table = OverlapTable.of(
        segment_key(category, truth),
        segment_key(np.where(found > 0, 1, 255), found, none=BACKGROUND),
    )
    out = over_under_segmentation(table, [1])
    # object 1: 5 covers 3 of 4, nothing of 5 lies elsewhere; 2: 6 covers it, 1 of 3 elsewhere
    assert out["over"] == pytest.approx((1 / 4 + 0 + 1) / 3)
    assert out["under"] == pytest.approx((0 + 1 / 3 + 1) / 3)


def test_bootstrap_covers_the_truth():
    rng = np.random.default_rng(4)
    parts = []
    for _ in range(60):
        truth = rng.integers(0, 2, 400)
        parts.append(Confusion.of(truth, np.where(rng.random(400) < 0.8, truth, 1 - truth)))
    intervals = bootstrap(parts, Confusion.summary, draws=300)
    low, high = intervals["accuracy"]
    assert low < 0.8 < high
    assert high - low < 0.03
    assert intervals == bootstrap(parts, Confusion.summary, draws=300)
