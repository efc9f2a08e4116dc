"""What a network is trained towards: its targets and its loss.

``Classes`` learns a class per pixel. ``Parcels`` learns extent, boundary and distance, from
which a watershed makes objects that touch but don't fuse (Waldner & Diakogiannis 2020,
doi:10.1016/j.rse.2020.111741).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from geoseg.learn.samples import IGNORE, Chip

__all__ = ["Classes", "Objective", "Parcels", "parcel_targets"]


class Objective(Protocol):
    """Targets and loss of one task; ``outputs`` is the number of channels it wants."""

    @property
    def outputs(self) -> int:
        """Channels of the network's last layer."""
        ...

    def targets(self, chip: Chip) -> NDArray[np.float32]:
        """(target, row, col) float32 of a chip."""
        ...

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Mean loss of logits (n, output, row, col) against targets (n, target, row, col)."""
        ...


@dataclass(frozen=True)
class Classes:
    """One class per pixel: cross-entropy plus soft Dice over the classes of the batch.

    ``weights`` one per class, None: all alike. ``focal`` is gamma of the focal loss (Lin et
    al. 2017); 0 is plain cross-entropy. Dice: Milletari et al. 2016, over the whole batch.
    """

    outputs: int
    weights: tuple[float, ...] | None = None
    focal: float = 0.0
    dice: float = 1.0

    def targets(self, chip: Chip) -> NDArray[np.float32]:
        """(1, row, col): the labels."""
        return chip.labels[None].astype(np.float32)

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """See Objective."""
        labels = targets[:, 0].long()
        seen = labels != IGNORE
        weights = None if self.weights is None else logits.new_tensor(self.weights)
        each = functional.cross_entropy(
            logits, labels, weight=weights, ignore_index=IGNORE, reduction="none"
        )
        if self.focal:
            plain = functional.cross_entropy(
                logits, labels, ignore_index=IGNORE, reduction="none"
            ).detach()
            each = each * (1 - torch.exp(-plain)) ** self.focal
        count = seen.sum().clamp(min=1)
        loss = each.sum() / count
        if self.dice:
            probs = logits.softmax(1) * seen[:, None]
            truth = functional.one_hot(labels.where(seen, 0), self.outputs).movedim(-1, 1)
            truth = truth * seen[:, None]
            common = (probs * truth).sum((0, 2, 3))
            total = probs.sum((0, 2, 3)) + truth.sum((0, 2, 3))
            there = truth.sum((0, 2, 3)) > 0
            dice = 1 - (2 * common + 1) / (total + 1)
            loss = loss + self.dice * (dice * there).sum() / there.sum().clamp(min=1)
        return loss


@dataclass(frozen=True)
class Parcels:
    """Extent, boundary and distance of objects, in this order of channels.

    ``reach_px``: distance from the boundary where the distance target is saturated.
    ``thickness_px``: how far the boundary target reaches to each side.
    Loss: for each target binary cross-entropy and the Tanimoto loss with complement
    (Diakogiannis et al. 2020, doi:10.1016/j.isprsjprs.2020.01.013).
    """

    reach_px: float = 10.0
    thickness_px: int = 1

    @property
    def outputs(self) -> int:
        """Three: extent, boundary, distance."""
        return 3

    def targets(self, chip: Chip) -> NDArray[np.float32]:
        """(4, row, col): extent, boundary, distance, and 1 where they are known."""
        known = chip.labels != IGNORE
        return parcel_targets(chip.instance_id, known, self.reach_px, self.thickness_px)

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """See Objective."""
        truth, known = targets[:, :3], targets[:, 3:]
        each = functional.binary_cross_entropy_with_logits(logits, truth, reduction="none")
        entropy = (each * known).sum() / (known.sum() * 3).clamp(min=1)
        probs = logits.sigmoid()
        overlap = _tanimoto(probs, truth, known) + _tanimoto(1 - probs, 1 - truth, known)
        return entropy + (1 - overlap.mean() / 2)


def _tanimoto(probs: Tensor, truth: Tensor, known: Tensor) -> Tensor:
    dims = (0, 2, 3)
    common = (probs * truth * known).sum(dims)
    squares = ((probs**2 + truth**2) * known).sum(dims)
    return (common + 1) / (squares - common + 1)


def parcel_targets(
    instance_id: NDArray[np.int32],
    known: NDArray[np.bool_],
    reach_px: float,
    thickness_px: int,
) -> NDArray[np.float32]:
    """(4, row, col) float32: extent, boundary, distance, known.

    Distance is that to the nearest pixel of another object or of none, divided by the
    object's largest distance or by ``reach_px``, whichever is less, at most 1: narrow strips
    peak at 1 as wide fields do. Nothing is a boundary because the chip or the known ground
    ends there.
    """
    ids = instance_id
    if not known.all() and known.any():
        nearest = ndimage.distance_transform_edt(
            ~known, return_distances=False, return_indices=True
        )
        ids = instance_id[tuple(nearest)]
    size = 2 * thickness_px + 1
    edge = ndimage.maximum_filter(ids, size) != ndimage.minimum_filter(ids, size)
    touch = ndimage.maximum_filter(ids, 3) != ndimage.minimum_filter(ids, 3)
    inside = ids > 0
    free = inside & ~touch
    # without any edge in the chip, the whole of it is far from one
    far = np.full(ids.shape, reach_px)
    distance = ndimage.distance_transform_edt(free) if not free.all() else far
    peaks = np.zeros(int(ids.max(initial=0)) + 1)
    np.maximum.at(peaks, ids.ravel(), distance.ravel())
    scale = np.maximum(np.minimum(peaks, reach_px), 1.0)[ids]
    depth = np.where(inside, np.minimum(distance / scale, 1.0), 0.0)
    return np.stack(
        [inside, edge & (inside | ndimage.maximum_filter(inside, size)), depth, known]
    ).astype(np.float32)
