"""Learning: places that never meet, chips that repeat, training that resumes exactly."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from torch import nn

from geoseg.errors import InputError, ResumeError
from geoseg.learn.augment import Augmentation, warp
from geoseg.learn.objective import Classes, Parcels
from geoseg.learn.samples import IGNORE, Chip, ChipSource, Labelled
from geoseg.learn.split import PlaceSplit, split_places, split_rows
from geoseg.learn.train import Schedule, train
from geoseg.radiometry import Normalization

SCHEDULE = Schedule(steps=40, batch=2, warmup=5, checkpoint_every=3, seed=4)
HOW = Normalization(mean=(100.0,), std=(50.0,))
STILL = Augmentation(
    flips=False, rotation=False, scale=(1, 1), gain=0, bias=0, band_gain=0, band_bias=0, noise=0
)


def ground(seed: int = 0, bands: int = 3, shape: tuple[int, int] = (90, 110)) -> Labelled:
    """Blobs that are brighter than what is around them."""
    rng = np.random.default_rng(seed)
    labels = (ndimage.gaussian_filter(rng.random(shape), 4) > 0.5).astype(np.uint8)
    pixels = 60 + 80 * labels + rng.normal(0, 10, (bands, *shape))
    return Labelled(
        name=f"ground {seed}",
        pixels=np.clip(pixels, 1, 255).astype(np.uint8),
        valid=np.ones(shape, bool),
        labels=labels,
        instance_id=ndimage.label(labels)[0].astype(np.int32),
    )


def source(seed: int = 4, **options) -> ChipSource:
    given = {"size_px": 32, "normalization": HOW, "augmentation": Augmentation(), "seed": seed}
    return ChipSource([ground()], **(given | options))


def small_network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Dropout(0.1),
        nn.Conv2d(8, 2, 1),
    )


@settings(max_examples=40, deadline=None)
@given(
    st.tuples(st.integers(24, 70), st.integers(24, 70)),
    st.integers(8, 16),
    st.integers(0, 2),
    st.integers(2, 4),
    st.integers(0, 99),
)
def test_places_never_meet(shape, square, buffer, folds, seed) -> None:
    squares = -(-shape[0] // square) * -(-shape[1] // square)
    if squares < folds:
        with pytest.raises(InputError, match="squares"):
            split_places(shape, square_px=square, buffer_px=buffer, folds=folds, seed=seed)
        return
    if 2 * buffer + square >= min(shape):
        return  # little ground is left then; the error of none is tested below
    splits = split_places(shape, square_px=square, buffer_px=buffer, folds=folds, seed=seed)
    assert (sum(s.validation.astype(int) for s in splits) == 1).all(), "each pixel validates once"
    for split in splits:
        if split.validation.any():
            away = ndimage.distance_transform_cdt(~split.validation, "chessboard")
            assert (away[split.train] > buffer).all()


def test_a_buffer_that_leaves_nothing() -> None:
    with pytest.raises(InputError, match="no ground to train on"):
        split_places((20, 20), square_px=5, buffer_px=20, folds=2)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 999), st.integers(0, 12))
def test_no_training_chip_shows_a_validation_pixel(seed: int, buffer: int) -> None:
    # pixels and labels name the part they come from: 200 and class 1 for validation
    shape = (80, 90)
    validation = np.random.default_rng(seed).random((8, 9)).repeat(10, 0).repeat(10, 1) < 0.3
    split = PlaceSplit.around(validation, buffer)
    whole = Labelled(
        name="marked",
        pixels=np.where(validation, 200, 50).astype(np.uint8)[None],
        valid=np.ones(shape, bool),
        labels=validation.astype(np.uint8),
        instance_id=(validation * 7).astype(np.int32),
    )
    part = whole.within(split.train)
    if not split.train.any():
        return
    how = Normalization(mean=(50.0,))
    still = replace(STILL, flips=True, rotation=True, scale=(0.5, 2.0))
    chips = ChipSource([part], size_px=32, normalization=how, augmentation=still, seed=seed)
    for number in range(6):
        chip = chips.chip(number)
        assert chip.pixels.max() <= 0, "a validation pixel would be above 0"
        assert 1 not in chip.labels
        assert not chip.instance_id.any()


def test_rows_split() -> None:
    split = split_rows((100, 10), 70, 9)
    assert split.train[:61].all() and not split.train[61:].any()
    assert split.validation[70:].all() and not split.validation[:70].any()


def test_chips_repeat_and_differ() -> None:
    one, other = source(), source()
    for number in (0, 5, 3):
        np.testing.assert_array_equal(one.chip(number).pixels, other.chip(number).pixels)
    assert not np.array_equal(one.chip(0).pixels, one.chip(1).pixels)
    assert not np.array_equal(one.chip(0).pixels, source(5).chip(0).pixels)


def test_rare_classes_are_drawn_as_often() -> None:
    rare = replace(ground(), labels=np.zeros((90, 110), np.uint8))
    rare.labels[40:44, 50:54] = 1
    chips = ChipSource([rare], size_px=16, normalization=HOW, augmentation=STILL, seed=0)
    seen = np.mean([1 in chips.chip(k).labels for k in range(200)])
    assert 0.4 < seen < 0.75


@pytest.mark.parametrize("bands", [1, 4, 12])
def test_any_number_of_bands(bands: int) -> None:
    chips = ChipSource(
        [ground(bands=bands)], size_px=32, normalization=HOW, augmentation=Augmentation(), seed=1
    )
    chip = chips.chip(0)
    assert chip.pixels.shape == (bands, 32, 32) and chip.pixels.dtype == np.float32


def test_unlabelled_is_ignored() -> None:
    partly = ground()
    labels = partly.labels.copy()
    labels[:, 40:] = IGNORE
    chip = ChipSource(
        [replace(partly, labels=labels)], size_px=64, normalization=HOW, augmentation=STILL, seed=0
    ).chip(2)
    unknown = torch.from_numpy(chip.labels == IGNORE)
    assert unknown.any()
    logits = torch.randn(1, 2, 64, 64, requires_grad=True)
    objective = Classes(2)
    objective.loss(logits, torch.from_numpy(objective.targets(chip))[None]).backward()
    assert (logits.grad[0][:, unknown] == 0).all()
    assert (logits.grad[0][:, ~unknown] != 0).any()


def test_flips_and_quarter_turns_are_exact() -> None:
    rng = np.random.default_rng(0)
    pixels, labels = rng.random((2, 9, 9), np.float32), rng.integers(0, 5, (9, 9)).astype(np.uint8)
    centre = np.array([4.0, 4.0])
    turn = np.array([[0.0, -1.0], [1.0, 0.0]])
    for matrix, expected in (
        (np.eye(2), lambda a: a),
        (np.diag([-1.0, 1.0]), lambda a: a[..., ::-1, :]),
        (np.diag([1.0, -1.0]), lambda a: a[..., ::-1]),
        (turn, lambda a: np.rot90(a, -1, (-2, -1))),
    ):
        found = warp(pixels, labels, labels.astype(np.int32), matrix, centre, 9)
        np.testing.assert_allclose(found[0], expected(pixels), atol=1e-6)
        np.testing.assert_array_equal(found[1], expected(labels))


def test_training_learns(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    done = train(small_network(), source(), Classes(2), SCHEDULE, tmp_path)
    losses = [entry["loss"] for entry in done.log]
    assert np.mean(losses[-5:]) < 0.75 * np.mean(losses[:5])
    assert not done.network.training


def test_parcels_have_a_finite_falling_loss(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 5, padding=2), nn.ReLU(), nn.Conv2d(8, 3, 1))
    done = train(network, source(), Parcels(), replace(SCHEDULE, lr=3e-3), tmp_path)
    losses = [entry["loss"] for entry in done.log]
    assert np.mean(losses[-5:]) < np.mean(losses[:5])


def test_killed_and_run_again_gives_the_same_weights(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    whole = train(small_network(), source(), Classes(2), SCHEDULE, tmp_path / "whole")
    command = [
        sys.executable,
        str(Path(__file__).with_name("learn_short.py")),
        str(tmp_path / "cut"),
    ]
    for stop in (8, 17, None):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        for line in process.stdout:
            if stop is not None and int(line) >= stop:
                process.kill()
                break
        process.wait()
        assert (process.returncode == 0) == (stop is None)
    weights = torch.load(tmp_path / "cut" / "weights.pt", weights_only=True)
    for name, value in whole.network.state_dict().items():
        assert torch.equal(value, weights[name]), name


def test_sharing_batches_out_changes_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The path of several GPUs, on a processor: the same steps, names and checkpoint."""
    torch.set_num_threads(1)
    short = replace(SCHEDULE, steps=4)
    alone = train(small_network(), source(), Classes(2), short, tmp_path / "alone")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    shared = train(small_network(), source(), Classes(2), short, tmp_path / "shared")
    assert [e["loss"] for e in shared.log] == [e["loss"] for e in alone.log]
    weights = shared.network.state_dict()
    assert list(weights) == list(alone.network.state_dict())
    for name, value in alone.network.state_dict().items():
        assert torch.equal(value, weights[name]), name
    kept = torch.load(tmp_path / "shared" / "checkpoint.pt", weights_only=True)
    assert list(kept["network"]) == list(weights)


def test_another_schedule_is_refused(tmp_path: Path) -> None:
    short = replace(SCHEDULE, steps=3)
    train(small_network(), source(), Classes(2), short, tmp_path)
    with pytest.raises(ResumeError, match="another schedule"):
        train(small_network(), source(), Classes(2), replace(short, lr=0.1), tmp_path)


def test_wrong_input_says_what_is_wrong(tmp_path: Path) -> None:
    empty = replace(ground(), labels=np.full((90, 110), IGNORE, np.uint8))
    with pytest.raises(InputError, match="no labelled pixel to train on in ground 0"):
        ChipSource([empty], size_px=32, normalization=HOW, augmentation=STILL, seed=0)
    with pytest.raises(InputError, match="differ in shape"):
        replace(ground(), valid=np.ones((3, 3), bool))
    with pytest.raises(InputError, match="steps is 0"):
        Schedule(steps=0)
    with pytest.raises(InputError, match="lower learning rate"):
        exploding = replace(SCHEDULE, lr=1e30, warmup=1)
        train(small_network(), source(), Classes(2), exploding, tmp_path)


def test_focal_and_weights_by_hand() -> None:
    chip = Chip(
        np.zeros((1, 1, 2), np.float32), np.array([[0, 1]], np.uint8), np.zeros((1, 2), np.int32)
    )
    logits = torch.tensor([[[[2.0, 0.5]], [[0.0, 1.0]]]])
    p0, p1 = (
        torch.softmax(torch.tensor([2.0, 0.0]), 0)[0],
        torch.softmax(torch.tensor([0.5, 1.0]), 0)[1],
    )
    objective = Classes(2, weights=(1.0, 3.0), focal=2.0, dice=0.0)
    found = objective.loss(logits, torch.from_numpy(objective.targets(chip))[None])
    by_hand = (-((1 - p0) ** 2) * p0.log() - 3 * (1 - p1) ** 2 * p1.log()) / 2
    assert float(found) == pytest.approx(float(by_hand), rel=1e-5)
