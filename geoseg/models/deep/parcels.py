"""Parcels in one pass: extent, boundary and distance, decoded by watershed.

Sources: Waldner and Diakogiannis, "Deep learning on edge: extracting field boundaries from
satellite images with a convolutional neural network", Remote Sensing of Environment 245
(2020), for the three outputs; Diakogiannis et al., "ResUNet-a", ISPRS Journal 162 (2020), for
the Tanimoto loss with its complement; Waldner et al., "Detect, consolidate, delineate",
Remote Sensing 13 (2021), for decoding by watershed.

The network is the architecture ``parcels``: a U-Net with these three outputs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from geoseg.models.deep.flooding import LEVELS, drop_small, flood, join_weak, peaks, to_levels

__all__ = [
    "ParcelRule",
    "decode_parcels",
    "parcel_loss",
    "parcel_targets",
    "tanimoto_loss",
]


def parcel_targets(
    instance_id: NDArray[np.integer[Any]],
    known: NDArray[np.bool_] | None = None,
    *,
    boundary_px: int = 2,
    reach_px: int = 32,
) -> NDArray[np.float32]:
    """(extent, boundary, distance), stacked (3, row, col) float32, 0 to 1.

    ``instance_id`` (row, col): parcels from 1, none = 0. ``known`` (row, col): where labels
    are to be trusted; everywhere by default. Boundary: the parcel's pixels within
    ``boundary_px`` of known ground that is not the parcel's. Distance: that distance, cut at
    ``reach_px``, as a share of its largest value in the parcel, so that narrow parcels have a
    crest too and the crest of wide ones depends on their surroundings only. The array's edge
    and unknown ground are no boundary.
    """
    known = np.ones(instance_id.shape, bool) if known is None else known
    ids, dense = np.unique(np.where(known, instance_id, 0), return_inverse=True)
    dense = dense.reshape(instance_id.shape).astype(np.int32)
    if ids[0] != 0:
        dense += 1
    distance = np.zeros(dense.shape, np.float32)
    boundary = np.zeros(dense.shape, np.float32)
    for number, box in enumerate(ndimage.find_objects(dense), start=1):
        window = tuple(slice(max(s.start - 1, 0), s.stop + 1) for s in box)
        own = dense[window] == number
        other = ~own & known[window]
        if other.any():
            px = np.minimum(ndimage.distance_transform_edt(~other), reach_px)[own]
        else:
            px = np.full(int(own.sum()), float(reach_px))
        distance[window][own] = px / px.max()
        boundary[window][own] = px <= boundary_px
    return np.stack([(dense > 0).astype(np.float32), boundary, distance])


def tanimoto_loss(probs: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Per channel ``1 - (T(p, t) + T(1 - p, 1 - t)) / 2``, summed over tiles and pixels.

    ``T(p, t) = pt / (p² + t² - pt)``. All (tile, channel, row, col), weights 0 to 1; gives
    (channel,).
    """

    def similarity(p: Tensor, t: Tensor) -> Tensor:
        shared = (weight * p * t).sum((0, 2, 3))
        whole = (weight * (p * p + t * t)).sum((0, 2, 3)) - shared
        return (shared + 1e-5) / (whole + 1e-5)

    return 1.0 - 0.5 * (similarity(probs, target) + similarity(1.0 - probs, 1.0 - target))


def parcel_loss(logits: Tensor, target: Tensor, known: Tensor) -> Tensor:
    """A scalar: Tanimoto of all three, cross-entropy of extent and boundary, L1 of distance.

    ``logits`` and ``target`` (tile, 3, row, col), ``known`` (tile, row, col) bool: pixels
    that count.
    """
    logits = logits.float()
    weight = known[:, None].to(logits.dtype)
    pixels = weight.sum().clamp(min=1.0)
    probs = torch.sigmoid(logits)
    overlap = tanimoto_loss(probs, target, weight.expand_as(probs)).mean()
    entropy = functional.binary_cross_entropy_with_logits(
        logits[:, :2], target[:, :2], reduction="none"
    )
    gap = (probs[:, 2:] - target[:, 2:]).abs()
    pixelwise = (weight * torch.cat([entropy, gap], 1)).sum() / (3 * pixels)
    return overlap + pixelwise


@dataclass(frozen=True, kw_only=True)
class ParcelRule:
    """How parcels are read off the three outputs.

    Attributes:
        extent: probability from which a pixel belongs to a parcel.
        dynamics: how far the height must fall between two crests for two parcels, 0 to 1.
        weak: parcels that touch are made one where the mean boundary between them is below
            this, 0 to 1; 0: none are.
        min_px: parcels of fewer pixels are dropped.
        symmetries: 1, 2, 4 or 8 flips and turns of a tile whose outputs are averaged before.
    """

    extent: float = 0.5
    dynamics: float = 0.15
    weak: float = 0.0
    min_px: int = 16
    symmetries: int = 1


def decode_parcels(
    outputs: NDArray[np.floating[Any]],
    valid: NDArray[np.bool_],
    rule: ParcelRule = ParcelRule(),
) -> NDArray[np.int32]:
    """Instance ids (row, col) int32 from 1, 0 = none, numbered by their crests' raster order.

    ``outputs`` (3, row, col), probabilities of extent and boundary, and distance, all 0 to 1.
    The height is the mean of distance and 1 - boundary; its crests are markers, and extent is
    shared out among them by flooding; then weak borders fall. Nothing is labelled outside
    ``valid``.
    """
    extent, boundary, distance = outputs
    mask = (extent >= rule.extent) & valid
    level = to_levels((distance + (1 - boundary)) / 2)
    markers = peaks(level, mask, max(round(rule.dynamics * 255), 1))
    found = flood(level, markers, mask)
    if rule.weak > 0:
        found = join_weak(found, to_levels(boundary), rule.weak * LEVELS)
    return drop_small(found, rule.min_px)
