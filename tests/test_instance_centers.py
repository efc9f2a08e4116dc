"""Centres and offsets: targets, losses and decoding against plain references."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from geoseg.legend import Category, Legend
from geoseg.models.deep.centers import (
    IGNORE,
    CenterOutputs,
    CenterRule,
    CenterTargets,
    Channels,
    center_loss,
    center_targets,
    decode_centers,
    find_centers,
    nearest_center,
    split,
)

THINGS = Legend((Category(3, "plant", "#00ff00", True), Category(1, "weed", "#ff0000", True)))
PANOPTIC = Legend((Category(0, "soil", "#aa8800"), Category(4, "plant", "#00ff00", True)))


def test_channels_have_one_for_nothing_where_all_are_things() -> None:
    assert Channels.of(THINGS) == Channels((255, 1, 3), (False, True, True))
    assert Channels.of(PANOPTIC) == Channels((0, 4), (False, True))
    index = Channels.of(THINGS).index(np.array([3, 255, 1, 9], np.uint8))
    assert index.tolist() == [2, 0, 1, IGNORE]


def blobs(seed: int, count: int, size: int = 96) -> tuple[np.ndarray, np.ndarray]:
    """(instance_id, channel) of discs that may touch, later ones on top."""
    rng = np.random.default_rng(seed)
    ids = np.zeros((size, size), np.int32)
    channel = np.zeros((size, size), np.int64)
    rows, cols = np.indices(ids.shape)
    for k in range(count):
        row, col = rng.integers(0, size, 2)
        disc = (rows - row) ** 2 + (cols - col) ** 2 <= rng.integers(4, 12) ** 2
        ids[disc], channel[disc] = k + 1, rng.integers(1, 3)
    for k in range(1, count + 1):
        if (ids == k).sum() < 30:
            channel[ids == k], ids[ids == k] = 0, 0
    return ids, channel


def test_targets_point_at_the_centre_of_mass() -> None:
    ids, channel = blobs(0, 6)
    channel[:5] = IGNORE
    targets = center_targets(ids, channel, small_px=200)
    assert not targets.thing[:5].any()
    seen = np.where(channel == IGNORE, 0, ids)
    for k in np.unique(seen)[1:]:
        own = np.argwhere(seen == k)
        row, col = own.mean(0)
        there = own + targets.offset[:, seen == k].T
        np.testing.assert_allclose(there, [[row, col]] * len(own), atol=1e-4)
        assert targets.center[round(row), round(col)] == 1.0
        assert (targets.weight[seen == k] == (3 if len(own) < 200 else 1)).all()
    far = targets.center[0, 0]
    expected = max(
        np.exp(-(np.round(np.argwhere(seen == k).mean(0)) ** 2).sum() / 128)
        for k in np.unique(seen)[1:]
    )
    assert far == pytest.approx(expected, abs=0.02)


def exact(ids: np.ndarray, channel: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    targets = center_targets(ids, channel)
    probs = np.stack([channel == k for k in range(3)]).astype(np.float32)
    return probs, targets.center, targets.offset


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 9))
def test_decoding_the_targets_gives_the_objects_back(seed: int, count: int) -> None:
    ids, channel = blobs(seed, count)
    centers = [np.argwhere(ids == k).mean(0) for k in np.unique(ids)[1:]]
    near = any(
        np.abs(np.round(a) - np.round(b)).max() < 8
        for i, a in enumerate(centers)
        for b in centers[:i]
    )
    hidden = any(ids[tuple(np.round(c).astype(int))] == 0 for c in centers)
    if near or hidden:  # centres that can't be told apart, or lie on no thing
        return
    valid = np.ones(ids.shape, bool)
    rule = CenterRule(threshold=0.99)
    found = decode_centers(*exact(ids, channel), valid, Channels.of(THINGS), rule)
    pairs = np.unique(np.stack([ids.ravel(), found.instance_id.ravel()], 1), axis=0)
    assert len(pairs) == len(np.unique(ids)) or count == 0
    np.testing.assert_array_equal(found.category_id, np.array([255, 1, 3])[channel])
    assert (found.score == np.where(ids > 0, 254, 255)).all()


def test_an_object_whose_centre_is_outside_is_one_of_its_own() -> None:
    ids, channel = np.zeros((2, 40, 90), np.int64)
    ids[5:15, :90], channel[5:15, :90] = 1, 1
    ids[18:24, 2:8], channel[18:24, 2:8] = 2, 1
    probs, heat, offset = (a[..., :40] for a in exact(ids, channel))
    found = decode_centers(probs, heat, offset, np.ones((40, 40), bool), Channels.of(THINGS))
    assert found.instance_id.max() == 2
    assert len(np.unique(found.instance_id[5:15])) == 1
    assert found.instance_id[20, 4] != found.instance_id[10, 4]


def test_things_without_an_object_become_stuff_and_nothing_is_made_of_nodata() -> None:
    probs = np.zeros((2, 8, 8), np.float32)
    probs[0], probs[1] = 0.4, 0.6
    valid = np.ones((8, 8), bool)
    valid[:, :2] = False
    nothing = np.zeros((8, 8), np.float32), np.zeros((2, 8, 8), np.float32)
    found = decode_centers(probs, *nothing, valid, Channels.of(PANOPTIC), CenterRule(min_px=100))
    assert found.instance_id.max() == 0
    assert (found.category_id[valid] == 0).all()
    assert (found.score[valid] == round(0.4 * 254)).all()
    assert (found.category_id[~valid] == 255).all()
    assert (found.score[~valid] == 255).all()


def test_one_centre_for_a_plateau() -> None:
    heat = np.zeros((20, 20), np.float32)
    heat[3, 4:7] = heat[15, 15] = 0.5
    heat[3, 10] = 0.4
    assert find_centers(heat, CenterRule()).tolist() == [[3, 4], [3, 10], [15, 15]]
    assert find_centers(heat, CenterRule(window_px=15)).tolist() == [[3, 4], [15, 15]]
    assert find_centers(np.zeros_like(heat), CenterRule()).shape == (0, 2)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 1000), st.integers(0, 12), st.floats(0.5, 30))
def test_the_nearest_centre_is_the_brute_force_one(seed: int, count: int, reach: float) -> None:
    rng = np.random.default_rng(seed)
    flat = np.sort(rng.choice(400, count, replace=False))
    centers = np.stack(np.divmod(flat, 20), 1)
    votes = rng.integers(-5, 25, (50, 2)).astype(np.float32)
    found = nearest_center(votes, centers, reach)
    for vote, number in zip(votes, found, strict=True):
        square = ((centers - vote.astype(float)) ** 2).sum(1)
        inside = count > 0 and square.min() <= reach**2
        assert number == (square.argmin() + 1 if inside else 0)


def test_losses_by_hand() -> None:
    generator = torch.Generator().manual_seed(1)
    ids, channel = blobs(5, 5, 32)
    channel[:, :4] = IGNORE
    plain = center_targets(ids, channel)
    targets = CenterTargets(*(torch.as_tensor(a)[None] for a in plain))
    out = CenterOutputs(
        torch.randn(1, 3, 32, 32, generator=generator),
        torch.randn(1, 32, 32, generator=generator),
        torch.randn(1, 2, 32, 32, generator=generator),
    )
    losses = center_loss(out, targets)
    known = channel != IGNORE
    entropy = functional.cross_entropy(
        out.semantic, targets.semantic.clamp(min=0), reduction="none"
    )
    weighted = entropy[0].numpy()[known] * plain.weight[known]
    assert losses["semantic"].item() == pytest.approx(weighted.mean(), rel=1e-5)
    heat = 1 / (1 + np.exp(-out.center[0].numpy()))
    square = ((heat - plain.center)[known] ** 2).mean()
    assert losses["center"].item() == pytest.approx(200 * square, rel=1e-5)
    gap = np.abs(out.offset[0].numpy() - plain.offset).sum(0)[plain.thing].mean()
    assert losses["offset"].item() == pytest.approx(0.01 * gap, rel=1e-5)
    hard = center_loss(out, targets, hardest=0.25)["semantic"].item()
    worst = np.sort(weighted)[-int(0.25 * len(weighted)) :]
    assert hard == pytest.approx(worst.mean(), rel=1e-5)


def test_losses_of_nothing_are_finite() -> None:
    channel = np.full((64, 64), IGNORE)
    plain = center_targets(np.zeros((64, 64), int), channel)
    targets = CenterTargets(*(torch.as_tensor(a)[None] for a in plain))
    losses = center_loss(split(torch.rand(1, 6, 64, 64)), targets)
    assert all(float(v) == 0 for v in losses.values())
