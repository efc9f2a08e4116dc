"""Flattening, fusion and suppression against their plain definitions."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st

from geoseg.legend import Category, Legend
from geoseg.models.segmenter import LabelTile
from geoseg.stitch.panoptic import Fusion, Masks, flatten_masks, fuse, nms

LEGEND = Legend(
    (
        Category(0, "soil", "#000000"),
        Category(1, "plant", "#00ff00", True),
        Category(2, "w", "#0000ff"),
    )
)


def random_boxes(rng, count, extent, largest=40.0):
    at = rng.random((count, 2)) * extent
    size = 1 + rng.random((count, 2)) ** 3 * largest
    return np.concatenate([at, at + size], 1).astype(np.float32)


@settings(max_examples=100, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(0, 300),
    st.sampled_from([0.0, 1e-4, 0.1, 0.3, 0.5, 0.7, 1.0]),
)
def test_nms_equals_torchvision(seed, count, iou):
    rng = np.random.default_rng(seed)
    boxes = random_boxes(rng, count, rng.choice([20, 200]), rng.choice([10.0, 400.0]))
    scores = rng.permutation(count).astype(np.float32)
    kinds = rng.integers(0, 3, count)
    # in float64 both, so that no IoU falls on another side of the limit
    given_boxes, given_scores = torch.from_numpy(boxes).double(), torch.from_numpy(scores).double()
    expected = torchvision.ops.nms(given_boxes, given_scores, iou)
    assert nms(boxes, scores, iou).tolist() == expected.tolist()
    each = [np.flatnonzero(kinds == kind) for kind in range(3)]
    alone = sorted(i for own in each for i in own[nms(boxes[own], scores[own], iou)])
    assert sorted(nms(boxes, scores, iou, kinds).tolist()) == alone


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 300), st.sampled_from([0.0, 1e-3, 0.02, 0.5]))
def test_nms_of_boxes_of_all_sizes(seed, count, iou):
    """Sides from a thousandth to a thousand, many boxes inside others, some empty."""
    rng = np.random.default_rng(seed)
    at = rng.random((count, 2)) * 10.0 ** rng.integers(0, 4)
    size = 10.0 ** rng.uniform(-3, 3, (count, 1)) * rng.uniform(0.2, 1, (count, 2))
    boxes = np.concatenate([at, at + size * rng.choice([-1, 1, 1, 1], (count, 1))], 1)
    scores = rng.permutation(count).astype(np.float64)
    real = (boxes[:, 2:] > boxes[:, :2]).all(1)
    kept = nms(boxes, scores, iou)
    expected = torchvision.ops.nms(
        torch.from_numpy(boxes[real]), torch.from_numpy(scores[real]), iou
    )
    assert kept[real[kept]].tolist() == np.flatnonzero(real)[expected.numpy()].tolist()
    assert np.isin(np.flatnonzero(~real), kept).all()


def test_boxes_that_are_not_finite_are_left_out():
    boxes = np.array([[0, 0, 9, 9], [np.nan, 0, 9, 9], [1, 0, 10, 9], [0, 0, np.inf, 9.0]])
    scores = np.array([0.5, 0.9, 0.8, 0.95])
    assert nms(boxes, scores).tolist() == [2]
    assert nms(boxes, scores, category_id=np.array([1, 2, 2, 1])).tolist() == [2, 0]


@pytest.mark.parametrize("iou", [0.3, 0.5, 0.7])
def test_nms_of_many_candidates_per_object(iou):
    rng = np.random.default_rng(4)
    objects = random_boxes(rng, 300, 400.0, 60.0).astype(np.float64) - 150
    boxes = np.repeat(objects, 30, 0) + rng.normal(0, 1.5, (9000, 4))
    boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2])  # some are empty
    scores = rng.permutation(9000).astype(np.float64)
    expected = torchvision.ops.nms(torch.from_numpy(boxes), torch.from_numpy(scores), iou)
    assert nms(boxes, scores, iou).tolist() == expected.tolist()


@pytest.mark.parametrize("iou", [0.0, 0.5, 0.95])
@pytest.mark.parametrize("copies", [1, 20])
def test_nms_of_a_crowd_is_near_linear(copies, iou):
    def seconds(count):
        rng = np.random.default_rng(1)
        objects = random_boxes(rng, count // copies, 3000 * np.sqrt(count / 200_000))
        boxes = np.repeat(objects, copies, 0) + rng.normal(0, 0.5, (count, 4)) * (copies > 1)
        scores = rng.random(count)
        took = []
        for _ in range(2):
            start = time.process_time()
            nms(boxes, scores, iou)
            took.append(time.process_time() - start)
        return min(took)

    seconds(1000)
    small, large = seconds(50_000), seconds(200_000)
    assert large < 5
    assert large < 10 * small  # four times as many: 16 would be the square


def masks_of(rng, count, shape):
    boxes, parts = [], []
    for _ in range(count):
        high, wide = rng.integers(1, 12, 2)
        row, col = rng.integers(-3, shape[0]), rng.integers(-3, shape[1])
        boxes.append([row, col, row + high, col + wide])
        parts.append(rng.random((high, wide)) < 0.8)
    scores = rng.integers(0, 5, count).astype(np.float32) / 4
    boxes = np.array(boxes, np.int64).reshape(-1, 4)
    return Masks(scores, rng.integers(1, 3, count).astype(np.uint8), boxes, parts)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 20))
def test_higher_scores_lie_on_top(seed, count):
    rng = np.random.default_rng(seed)
    masks = masks_of(rng, count, (20, 25))
    tile = flatten_masks(masks, (20, 25), Fusion(min_score=0.25, min_free=0.0))
    top = np.full((40, 45), -1)
    ranked = sorted(range(count), key=lambda k: (-masks.scores[k], k))
    for k in reversed([k for k in ranked if masks.scores[k] >= 0.25]):
        row, col, row_end, col_end = masks.boxes[k] + 5
        top[row:row_end, col:col_end][masks.masks[k]] = k
    top = top[5:25, 5:30]
    assert ((tile.instance_id > 0) == (top >= 0)).all()
    pairs = {(a, b) for a, b in zip(tile.instance_id.ravel().tolist(), top.ravel().tolist())}
    assert len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})
    seen = top >= 0
    assert (tile.category_id[seen] == masks.category_id[top[seen]]).all()


def test_an_object_mostly_hidden_is_left_out():
    ones = np.ones((4, 4), bool)
    boxes = np.array([[0, 0, 4, 4], [0, 1, 4, 5], [0, 3, 4, 7]])
    masks = Masks(np.array([0.9, 0.8, 0.7], np.float32), np.ones(3, np.uint8), boxes, [ones] * 3)
    tile = flatten_masks(masks, (4, 8))
    assert tile.instance_id[0].tolist() == [1, 1, 1, 1, 2, 2, 2, 0]
    assert tile.score[0].tolist() == [229] * 4 + [178] * 3 + [255]


def test_fusion_by_score_and_area():
    masks = Masks(
        np.array([0.9], np.float32),
        np.ones(1, np.uint8),
        np.array([[0, 0, 1, 2]]),
        [np.ones((1, 2), bool)],
    )
    things = flatten_masks(masks, (1, 8))
    semantic = LabelTile(
        np.array([[0, 0, 1, 0, 0, 0, 0, 2]], np.uint8), np.full((1, 8), 200, np.uint8)
    )
    tile = fuse(things, semantic, LEGEND, Fusion(min_stuff_px=2))
    assert tile.category_id.tolist() == [[1, 1, 255, 0, 0, 0, 0, 255]]
    assert tile.score.tolist() == [[229, 229, 255, 200, 200, 200, 200, 255]]
    assert tile.instance_id.tolist() == [[1, 1, 0, 0, 0, 0, 0, 0]]
