"""Things by their centres: a heatmap of centres, and from every pixel the way to its own.

Source: Cheng et al., "Panoptic-DeepLab: a simple, strong, and fast baseline for bottom-up
panoptic segmentation", CVPR 2020. What is ours: pixels that point at no centre, as those of an
object whose centre lies outside the tile, are objects of their own by contact, to be joined
with the rest of the object across tiles; never given to whatever centre is nearest.

Networks: the architectures ``centers`` (one U-Net decoder for all outputs) and
``panoptic_deeplab``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from geoseg.legend import NODATA_CATEGORY, Legend
from geoseg.models.deep.flooding import drop_small
from geoseg.models.segmenter import InstanceTile
from geoseg.radiometry import SCORE_LEVELS, score_level

__all__ = [
    "CenterOutputs",
    "CenterRule",
    "CenterTargets",
    "Channels",
    "center_loss",
    "center_targets",
    "decode_centers",
    "find_centers",
    "nearest_center",
    "split",
]

IGNORE = -1
"""Semantic target of pixels that are not labelled."""

OFFSET_PX = 32.0
"""Offsets leave a network in units of this, so that they are of the order of 1."""

NO_SCORE = 255


@dataclass(frozen=True)
class Channels:
    """What a network's semantic channels stand for.

    ``category_id`` of each channel, 255 for one that means nothing is there; ``isthing``.
    """

    category_id: tuple[int, ...]
    isthing: tuple[bool, ...]

    @classmethod
    def of(cls, legend: Legend) -> Channels:
        """The legend's categories; one more, first, for nothing where all are things."""
        ids = tuple(c.id for c in legend)
        things = tuple(c.isthing for c in legend)
        if all(things):
            return cls((NODATA_CATEGORY, *ids), (False, *things))
        return cls(ids, things)

    def __len__(self) -> int:
        return len(self.category_id)

    def index(self, category_id: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
        """Channel of each category_id; IGNORE where no channel stands for it."""
        lut = np.full(256, IGNORE, np.int64)
        lut[list(self.category_id)] = np.arange(len(self))
        return lut[category_id]


class CenterOutputs(NamedTuple):
    """``semantic`` logits (tile, channel, row, col), ``center`` logits (tile, row, col) and
    ``offset`` (tile, 2, row, col): rows and columns to go to the centre, in pixels.
    """

    semantic: Tensor
    center: Tensor
    offset: Tensor


def split(out: Tensor) -> CenterOutputs:
    """What a network gives in one tensor (tile, channel + 3, row, col), by name.

    Semantic logits, the centre's logit, and offset in units of ``OFFSET_PX``.
    """
    return CenterOutputs(out[:, :-3], out[:, -3], out[:, -2:] * OFFSET_PX)


Array = TypeVar("Array")


class CenterTargets(NamedTuple, Generic[Array]):
    """``semantic`` (row, col) int64 channels, IGNORE where not labelled; ``center`` (row, col)
    float32 heat; ``offset`` (2, row, col) float32 pixels; ``thing`` (row, col) bool: where
    offset counts; ``weight`` (row, col) float32: of the semantic loss. Arrays of a tile, or
    tensors of a batch.
    """

    semantic: Array
    center: Array
    offset: Array
    thing: Array
    weight: Array


def center_targets(
    instance_id: NDArray[np.integer[Any]],
    channel: NDArray[np.int64],
    *,
    sigma_px: float = 8.0,
    small_px: int = 4096,
) -> CenterTargets[NDArray[Any]]:
    """Targets from labels (row, col).

    ``instance_id``: 0 = none. ``channel``: from ``Channels.index``. Each object's centre is
    its centre of mass, drawn as a Gaussian of ``sigma_px``; objects of fewer than ``small_px``
    pixels weigh three times in the semantic loss, as in the paper.
    """
    shape = instance_id.shape
    ids, dense = np.unique(np.where(channel == IGNORE, 0, instance_id), return_inverse=True)
    dense = dense.reshape(shape)
    center, offset = np.zeros(shape, np.float32), np.zeros((2, *shape), np.float32)
    weight = np.ones(shape, np.float32)
    things = ids > 0
    pixels = np.bincount(dense.ravel(), minlength=len(ids))
    rows, cols = np.indices(shape, dtype=np.float64)
    mass = [
        np.bincount(dense.ravel(), axis.ravel(), len(ids)) / np.maximum(pixels, 1)
        for axis in (rows, cols)
    ]
    for row, col in zip(mass[0][things], mass[1][things], strict=True):
        _draw(center, row, col, sigma_px)
    thing = things[dense]
    for k, axis in enumerate((rows, cols)):
        offset[k] = np.where(thing, mass[k][dense] - axis, 0.0)
    weight[thing & (pixels < small_px)[dense]] = 3.0
    return CenterTargets(channel, center, offset, thing, weight)


def _draw(heat: NDArray[np.float32], row: float, col: float, sigma: float) -> None:
    reach = int(np.ceil(3 * sigma))
    top, left = max(round(row) - reach, 0), max(round(col) - reach, 0)
    window = heat[top : round(row) + reach + 1, left : round(col) + reach + 1]
    # the nearest pixel is the peak, so that it reaches 1
    y = np.arange(top, top + window.shape[0]) - round(row)
    x = np.arange(left, left + window.shape[1]) - round(col)
    np.maximum(window, np.exp(-(y[:, None] ** 2 + x**2) / (2 * sigma**2)), out=window)


def center_loss(
    out: CenterOutputs, targets: CenterTargets[Tensor], *, hardest: float = 1.0
) -> dict[str, Tensor]:
    """``semantic`` cross-entropy, ``center`` squared error x 200, ``offset`` L1 x 0.01.

    ``targets`` holds tensors, stacked over tiles. ``hardest``: share of the pixels, those with
    the largest loss, that the cross-entropy is averaged over (the paper trains with 0.15).
    """
    known = targets.semantic != IGNORE
    entropy = functional.cross_entropy(
        out.semantic.float(),
        torch.as_tensor(targets.semantic),
        ignore_index=IGNORE,
        reduction="none",
    )
    losses = (entropy * targets.weight)[known]
    keep = max(int(hardest * losses.numel()), 1)
    semantic = losses.topk(min(keep, losses.numel())).values.sum() / keep
    heat = (torch.sigmoid(out.center.float()) - targets.center) ** 2
    gap = torch.abs(out.offset.float() - torch.as_tensor(targets.offset)).sum(1)
    return {
        "semantic": semantic,
        "center": 200.0 * (heat * known).sum() / known.sum().clamp(min=1),
        "offset": 0.01 * (gap * targets.thing).sum() / targets.thing.sum().clamp(min=1),
    }


@dataclass(frozen=True, kw_only=True)
class CenterRule:
    """How things are read off the outputs.

    Attributes:
        threshold: heat from which a peak is a centre.
        window_px: odd; a centre is the highest within this window.
        reach_px: pixels that point further than this from every centre have none.
        min_px: objects of fewer pixels are dropped.
    """

    threshold: float = 0.1
    window_px: int = 7
    reach_px: float = 32.0
    min_px: int = 4


def find_centers(heat: NDArray[np.float32], rule: CenterRule) -> NDArray[np.int64]:
    """Peaks (n, 2) of the heat (row, col), in raster order: one for a plateau of equals."""
    top = ndimage.maximum_filter(heat, rule.window_px, mode="constant", cval=-np.inf)
    plateau = (heat == top) & (heat > rule.threshold)
    labels, _ = ndimage.label(plateau, np.ones((3, 3), int))
    inside = np.flatnonzero(labels)
    first = inside[np.unique(labels.ravel()[inside], return_index=True)[1]]
    return np.stack(np.divmod(first, heat.shape[1]), 1)


def nearest_center(
    votes: NDArray[np.float32], centers: NDArray[np.int64], reach_px: float
) -> NDArray[np.int32]:
    """Number from 1 of the centre nearest to each vote (n, 2); 0: none within ``reach_px``.

    Of equally near ones the first. ``centers`` (m, 2) in raster order.
    """
    places = np.ascontiguousarray(centers, np.float64)
    return _nearest(np.ascontiguousarray(votes, np.float64), places, float(reach_px) ** 2)


@njit(cache=True, nogil=True)
def _nearest(votes: Any, centers: Any, reach: float) -> Any:  # pragma: no cover - compiled
    out = np.zeros(len(votes), np.int32)
    count = len(centers)
    starts = np.searchsorted(centers[:, 0], votes[:, 0])
    for i in range(len(votes)):
        row, col = votes[i, 0], votes[i, 1]
        best, at = reach, -1
        up, down = starts[i] - 1, starts[i]
        # rows are sorted: stop on either side when the rows alone are too far
        while up >= 0 and (row - centers[up, 0]) ** 2 <= best:
            d = (row - centers[up, 0]) ** 2 + (col - centers[up, 1]) ** 2
            if d <= best:
                best, at = d, up
            up -= 1
        while down < count and (row - centers[down, 0]) ** 2 <= best:
            d = (row - centers[down, 0]) ** 2 + (col - centers[down, 1]) ** 2
            if d < best or (d == best and at < 0):
                best, at = d, down
            down += 1
        out[i] = at + 1
    return out


def decode_centers(
    probs: NDArray[np.float32],
    heat: NDArray[np.float32],
    offset: NDArray[np.float32],
    valid: NDArray[np.bool_],
    channels: Channels,
    rule: CenterRule = CenterRule(),
) -> InstanceTile:
    """Objects, and stuff where the channels have any.

    ``probs`` (channel, row, col) and ``heat`` (row, col), 0 to 1; ``offset`` (2, row, col)
    pixels. An object's category is that of most of its pixels (ties: the first channel), its
    score the mean over its pixels of the category's probability times its centre's heat
    (without a centre: of the probability). Thing pixels in no object go to the stuff channel
    of highest probability.
    """
    chosen = probs.argmax(0)
    thing = np.asarray(channels.isthing)[chosen] & valid
    ids, centers = _group(chosen, thing, heat, offset, rule)
    channel = _majority(ids, chosen, len(channels))
    loose = thing & (ids == 0)
    stuff = np.where(np.asarray(channels.isthing)[:, None, None], -1.0, probs).argmax(0)
    final = np.where(ids > 0, channel[ids], np.where(loose, stuff, chosen))
    category = np.asarray(channels.category_id, np.uint8)[final]
    category[~valid] = NODATA_CATEGORY
    prob = np.take_along_axis(probs, final[None], 0)[0]
    level = score_level(prob)
    level[category == NODATA_CATEGORY] = NO_SCORE
    level = np.where(ids > 0, _scores(ids, prob, centers)[ids], level)
    return InstanceTile(ids, category, level.astype(np.uint8))


def _group(
    chosen: NDArray[np.int64],
    thing: NDArray[np.bool_],
    heat: NDArray[np.float32],
    offset: NDArray[np.float32],
    rule: CenterRule,
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Ids (row, col) from 1, and the heat of each one's centre, 1 where it has none."""
    centers = find_centers(np.where(thing, heat, 0), rule)
    rows, cols = np.nonzero(thing)
    votes = np.stack([rows + offset[0][thing], cols + offset[1][thing]], 1)
    ids = np.zeros(thing.shape, np.int32)
    ids[thing] = nearest_center(votes, centers, rule.reach_px)
    orphans = thing & (ids == 0)
    own, _ = ndimage.label(orphans)
    ids = np.where(orphans, own + len(centers), ids).astype(np.int32)
    certain = np.ones(int(ids.max(initial=0)) + 1, np.float32)
    certain[1 : len(centers) + 1] = heat[tuple(centers.T)][: len(certain) - 1]
    dense = drop_small(ids, rule.min_px)
    lut = np.ones(int(dense.max(initial=0)) + 1, np.float32)
    lut[dense.ravel()] = certain[ids.ravel()]
    return dense, lut


def _majority(
    ids: NDArray[np.int32], chosen: NDArray[np.int64], channels: int
) -> NDArray[np.int64]:
    count = int(ids.max(initial=0)) + 1
    votes = np.bincount((ids * channels + chosen).ravel(), minlength=count * channels)
    return votes.reshape(count, channels).argmax(1)


def _scores(
    ids: NDArray[np.int32], prob: NDArray[np.float32], centers: NDArray[np.float32]
) -> NDArray[np.uint8]:
    pixels = np.bincount(ids.ravel(), minlength=len(centers))
    mean = np.bincount(ids.ravel(), prob.ravel(), len(centers)) / np.maximum(pixels, 1)
    return np.minimum(score_level((mean * centers).astype(np.float32)), SCORE_LEVELS)
