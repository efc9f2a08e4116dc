"""What a network is trained towards: its targets and its loss.

``Classes`` learns a class per pixel. ``Parcels`` learns extent, boundary and distance, from
which a watershed makes objects that touch but don't fuse (Waldner & Diakogiannis 2020,
doi:10.1016/j.rse.2020.111741). ``Centers`` learns classes, centres and the way to them (Cheng
et al. 2020, arXiv:1911.10194).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from geoseg.learn.samples import IGNORE, Chip
from geoseg.models.deep.centers import IGNORE as NO_CHANNEL
from geoseg.models.deep.centers import CenterTargets, center_loss, center_targets, split
from geoseg.models.deep.parcels import parcel_loss, parcel_targets

__all__ = ["Centers", "Classes", "Objective", "Parcels"]


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

    Targets and loss are those of ``geoseg.models.deep.parcels``; ``boundary_px`` and
    ``reach_px`` are its.
    """

    boundary_px: int = 2
    reach_px: int = 16

    @property
    def outputs(self) -> int:
        """Three: extent, boundary, distance."""
        return 3

    def targets(self, chip: Chip) -> NDArray[np.float32]:
        """(4, row, col): extent, boundary, distance, and 1 where they are known."""
        known = chip.labels != IGNORE
        outputs = parcel_targets(
            chip.instance_id, known, boundary_px=self.boundary_px, reach_px=self.reach_px
        )
        return np.concatenate([outputs, known[None].astype(np.float32)])

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """See Objective."""
        return parcel_loss(logits, targets[:, :3], targets[:, 3] > 0)


@dataclass(frozen=True)
class Centers:
    """Channels of classes, a centre's heat, and the way to the centre.

    ``channels``: the semantic channel of each label. Targets and loss are those of
    ``geoseg.models.deep.centers``.
    """

    channels: tuple[int, ...]

    @property
    def outputs(self) -> int:
        """The semantic channels and three."""
        return max(self.channels) + 4

    def targets(self, chip: Chip) -> NDArray[np.float32]:
        """(6, row, col): channel, heat, two offsets, where they count, weight."""
        table = np.full(256, NO_CHANNEL, np.int64)
        table[: len(self.channels)] = self.channels
        made = center_targets(chip.instance_id, table[chip.labels])
        layers = (made.semantic[None], made.center[None], made.offset, made.thing[None])
        return np.concatenate([*layers, made.weight[None]]).astype(np.float32)

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """See Objective."""
        semantic, heat, offset = targets[:, 0].long(), targets[:, 1], targets[:, 2:4]
        truth = CenterTargets(semantic, heat, offset, targets[:, 4], targets[:, 5])
        return torch.stack(list(center_loss(split(logits), truth).values())).sum()
