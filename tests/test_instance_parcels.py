"""Parcels: targets, losses and decoding against slow, plain references."""

from __future__ import annotations

import heapq

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy import ndimage

from geoseg.errors import ModelError
from geoseg.legend import Category, Legend
from geoseg.models.deep.flooding import drop_small, flood, join_weak, peaks, to_levels
from geoseg.models.deep.oneshot import OneShotSegmenter, mean_outputs
from geoseg.models.deep.parcels import (
    ParcelRule,
    decode_parcels,
    parcel_loss,
    parcel_targets,
    tanimoto_loss,
)
from geoseg.models.deep.symmetry import SYMMETRIES, apply
from geoseg.models.segmenter import ModelCard

SHAPES = st.tuples(st.integers(1, 9), st.integers(1, 9))


def plain_peaks(level: NDArray[np.uint8], mask: NDArray[np.bool_], dynamics: int) -> set[int]:
    """By definition: how low must one go from a pixel to reach an older one?"""
    found = set()
    flat = [(-int(level.ravel()[i]), i) for i in np.flatnonzero(mask)]
    for value, i in flat:
        height, drop = -value, None
        for floor in sorted({-v for v, _ in flat if -v <= height}, reverse=True):
            parts, _ = ndimage.label(mask & (level >= floor))
            own = parts.ravel()[i]
            if any(parts.ravel()[j] == own for v, j in flat if (v, j) < (value, i)):
                drop = height - floor
                break
        if drop is None or drop >= dynamics:
            found.add(i)
    return found


def plain_flood(
    level: NDArray[np.uint8], markers: NDArray[np.int32], mask: NDArray[np.bool_]
) -> NDArray[np.int32]:
    labels = np.where(mask, markers, 0)
    queue: list[tuple[int, int, int, int]] = []
    for row, col in np.argwhere(labels > 0):
        heapq.heappush(queue, (-int(level[row, col]), len(queue), row, col))
    age = len(queue)
    while queue:
        _, _, row, col = heapq.heappop(queue)
        for r, c in ((row - 1, col), (row, col - 1), (row, col + 1), (row + 1, col)):
            inside = 0 <= r < level.shape[0] and 0 <= c < level.shape[1]
            if inside and mask[r, c] and labels[r, c] == 0:
                labels[r, c] = labels[row, col]
                heapq.heappush(queue, (-int(level[r, c]), age, r, c))
                age += 1
    return labels


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_peaks_are_those_of_the_definition(data: st.DataObject) -> None:
    shape = data.draw(SHAPES)
    level = data.draw(arrays(np.uint8, shape, elements=st.integers(0, 6)))
    mask = data.draw(arrays(np.bool_, shape))
    dynamics = data.draw(st.integers(1, 4))
    found = peaks(level, mask, dynamics)
    where = np.flatnonzero(found.ravel())
    assert set(where.tolist()) == plain_peaks(level, mask, dynamics)
    assert found.ravel()[where].tolist() == list(range(1, len(where) + 1))


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_flooding_is_meyers(data: st.DataObject) -> None:
    shape = data.draw(SHAPES)
    level = data.draw(arrays(np.uint8, shape, elements=st.integers(0, 255)))
    mask = data.draw(arrays(np.bool_, shape))
    markers = data.draw(arrays(np.int32, shape, elements=st.sampled_from([0, 0, 0, 0, 1, 2, 3])))
    np.testing.assert_array_equal(flood(level, markers, mask), plain_flood(level, markers, mask))


def test_flooding_agrees_with_scikit_image() -> None:
    from skimage.segmentation import watershed

    noise = np.random.default_rng(1).random((80, 90))
    level = to_levels(ndimage.gaussian_filter(noise, 3) * 2 - 0.5)
    mask = noise > 0.05
    markers = peaks(level, mask, 3)
    theirs = watershed(255 - level.astype(int), markers, mask=mask)
    assert markers.max() > 10
    assert np.mean(flood(level, markers, mask) == theirs) > 0.99


def test_small_labels_go_and_the_rest_keep_their_order() -> None:
    labels = np.array([[1, 1, 2, 3, 3, 3]], np.int32)
    assert drop_small(labels, 2).tolist() == [[1, 1, 0, 2, 2, 2]]
    assert drop_small(np.zeros((0, 4), np.int32), 2).shape == (0, 4)


def test_targets_of_touching_parcels() -> None:
    ids = np.zeros((12, 20), np.int64)
    ids[2:10, 2:10] = 7
    ids[2:10, 10:18] = 3
    extent, boundary, distance = parcel_targets(ids, boundary_px=1)
    assert extent.sum() == 128
    inner = np.zeros_like(ids, bool)
    inner[3:9, 3:9] = inner[3:9, 11:17] = True
    np.testing.assert_array_equal(boundary > 0, (ids > 0) & ~inner)
    np.testing.assert_array_equal(distance[2:10, 2:10], distance[2:10, 10:18])
    assert distance[2, 2] == 0.25
    assert distance[5, 5] == 1.0


def test_the_arrays_edge_and_unknown_ground_are_no_boundary() -> None:
    ids = np.ones((6, 6), int)
    assert parcel_targets(ids)[1:].mean((1, 2)).tolist() == [0.0, 1.0]
    ids[:, 3:] = 2
    known = ids == 1
    extent, boundary, _ = parcel_targets(ids, known)
    assert extent.sum() == 18
    assert boundary.sum() == 0
    assert parcel_targets(np.zeros((3, 3), int)).sum() == 0


def test_distance_is_the_brute_force_one() -> None:
    rng = np.random.default_rng(3)
    seeds = rng.random((12, 2)) * 30
    grid = np.stack(np.meshgrid(np.arange(30), np.arange(30), indexing="ij"), -1)
    near = np.linalg.norm(grid[:, :, None] - seeds, axis=-1).argmin(-1)
    distance = parcel_targets(near, reach_px=4)[2]
    for label in range(1, 12):
        own, other = np.argwhere(near == label), np.argwhere(near != label)
        if not len(own):
            continue
        px = np.linalg.norm(own[:, None] - other, axis=-1).min(1).clip(max=4)
        np.testing.assert_allclose(distance[tuple(own.T)], px / px.max(), rtol=1e-6)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(6, 40), min_size=1, max_size=6), st.integers(6, 40))
def test_decoding_the_targets_gives_the_parcels_back(widths: list[int], height: int) -> None:
    ids = np.repeat(np.arange(1, len(widths) + 1), widths)[None].repeat(height, 0)
    ids = np.pad(ids, 3)
    targets = parcel_targets(ids)
    found = decode_parcels(targets, np.ones(ids.shape, bool))
    assert found.max() == len(widths)
    # only where two boundaries meet may pixels go to the neighbour
    inside = (targets[1] == 0) & (ids > 0)
    pairs = np.unique(np.stack([ids[inside], found[inside]], 1), axis=0)
    assert len(pairs) == len(widths)
    assert ((found > 0) == (ids > 0)).all()


def test_nothing_is_labelled_where_pixels_are_not_valid() -> None:
    outputs = np.ones((3, 20, 20), np.float32)
    valid = np.ones((20, 20), bool)
    valid[:, 8:11] = False
    found = decode_parcels(outputs, valid)
    np.testing.assert_array_equal(found > 0, valid)
    assert found.max() == 2
    assert decode_parcels(outputs, np.zeros((20, 20), bool)).max() == 0
    assert decode_parcels(outputs, valid, ParcelRule(min_px=200)).max() == 0


def plain_join(
    labels: NDArray[np.int32], level: NDArray[np.uint8], least: float
) -> NDArray[np.int32]:
    """All borders looked at again after each that fell."""
    labels = labels.copy()
    while True:
        borders: dict[tuple[int, int], list[int]] = {}
        for row, col in np.ndindex(labels.shape):
            for r, c in ((row + 1, col), (row, col + 1)):
                if r < labels.shape[0] and c < labels.shape[1]:
                    a, b = sorted((int(labels[row, col]), int(labels[r, c])))
                    if 0 < a < b:
                        high = max(int(level[row, col]), int(level[r, c]))
                        borders.setdefault((a, b), []).append(high)
        means = [(sum(v) / len(v), *pair) for pair, v in borders.items()]
        if not means or min(means)[0] >= least:
            return labels
        _, a, b = min(means)
        labels[labels == b] = a


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_weak_borders_fall_in_the_order_of_their_strength(data: st.DataObject) -> None:
    shape = data.draw(SHAPES)
    labels = data.draw(arrays(np.int32, shape, elements=st.integers(0, 7)))
    level = data.draw(arrays(np.uint8, shape, elements=st.integers(0, 9)))
    least = data.draw(st.floats(0, 9.5))
    found = join_weak(labels, level, least)
    np.testing.assert_array_equal(found, plain_join(labels, level, least))


def test_parcels_with_a_weak_boundary_between_them_are_one() -> None:
    outputs = np.ones((3, 20, 30), np.float32)
    outputs[1] = 0
    outputs[1:, :, 9:11] = np.array([0.3, 0.4])[:, None, None]
    outputs[1:, :, 19:21] = np.array([0.8, 0.1])[:, None, None]
    valid = np.ones((20, 30), bool)
    assert decode_parcels(outputs, valid).max() == 3
    assert decode_parcels(outputs, valid, ParcelRule(weak=0.25)).max() == 3
    found = decode_parcels(outputs, valid, ParcelRule(weak=0.5))
    assert found.max() == 2 and (found[:, :18] == 1).all() and (found[:, 22:] == 2).all()
    assert decode_parcels(outputs, valid, ParcelRule(weak=0.9)).max() == 1


def test_tanimoto_by_hand() -> None:
    probs = torch.tensor([0.9, 0.2]).reshape(1, 1, 1, 2)
    target = torch.tensor([1.0, 0.0]).reshape(1, 1, 1, 2)
    loss = tanimoto_loss(probs, target, torch.ones(1, 1, 1, 2))
    one = 0.9 / (0.81 + 0.04 + 1.0 - 0.9)
    two = 0.8 / (0.01 + 0.64 + 1.0 - 0.8)
    assert loss.item() == pytest.approx(1 - (one + two) / 2, abs=1e-4)
    assert tanimoto_loss(target, target, torch.ones(1, 1, 1, 2)).item() == pytest.approx(0)


def test_the_loss_does_not_see_unknown_pixels() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 8, 8, generator=generator, requires_grad=True)
    target = torch.rand(2, 3, 8, 8, generator=generator)
    known = torch.rand(2, 8, 8, generator=generator) > 0.5
    loss = parcel_loss(logits, target, known)
    other = torch.where(known[:, None], target, 1 - target)
    assert parcel_loss(logits, other, known).item() == pytest.approx(loss.item())
    loss.backward()
    assert logits.grad is not None
    assert (logits.grad[~known[:, None].expand_as(logits)] == 0).all()
    perfect = torch.where(target > 0.5, 30.0, -30.0)
    assert parcel_loss(perfect, (target > 0.5).float(), known).item() < 1e-5


def test_eight_symmetries_leave_no_direction() -> None:
    torch.manual_seed(1)
    network = torch.nn.Conv2d(2, 3, 3, padding=1)
    x = torch.randn(2, 2, 12, 12)
    with torch.no_grad():
        assert torch.equal(mean_outputs(network, x, 1), network(x).sigmoid())
        mean = mean_outputs(network, x, 8)
        for name in SYMMETRIES:
            turned = mean_outputs(network, apply(x, name), 8)
            torch.testing.assert_close(turned, apply(mean, name))
            if name:
                assert not torch.allclose(mean_outputs(network, apply(x, name), 1),
                                          apply(mean_outputs(network, x, 1), name))  # fmt: skip


def test_symmetries_are_those_of_a_square() -> None:
    legend = Legend((Category(0, "field", "#e69f00", isthing=True),))
    card = ModelCard(name="parcels", task="instance", legend=legend)
    made = OneShotSegmenter.from_module(torch.nn.Conv2d(1, 3, 1), card, "parcels")
    made.with_parameters(symmetries=4)
    with pytest.raises(ModelError, match="symmetries 3: use 1, 2, 4 or 8"):
        made.with_parameters(symmetries=3)
