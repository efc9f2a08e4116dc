"""What a network knows of places it was not trained on: confusion, place by place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from geoseg.assess.segmentation import Confusion
from geoseg.learn.samples import IGNORE, Labelled
from geoseg.radiometry import Normalization, normalize
from geoseg.scene.reader import reflect_indices

__all__ = ["Place", "Validation"]


@dataclass(frozen=True)
class Place:
    """A square of validation ground: its ``confusion``, and ``found`` (row, col) positions
    of classes at ``row``, ``col`` of ``ground``.
    """

    ground: Labelled
    row: int
    col: int
    found: NDArray[np.uint8]
    confusion: Confusion

    @property
    def truth(self) -> NDArray[np.uint8]:
        """(row, col) uint8, IGNORE where nothing is judged."""
        rows, cols = self.found.shape
        return self.ground.labels[self.row : self.row + rows, self.col : self.col + cols]

    @property
    def pixels(self) -> NDArray[np.generic]:
        """(band, row, col) as the scene has them."""
        rows, cols = self.found.shape
        return self.ground.pixels[:, self.row : self.row + rows, self.col : self.col + cols]


class Validation:
    """Predicts squares that hold labels, each with a halo of context, as ``map`` does.

    ``grounds`` hold labels of validation places alone; their pixels may show more.
    """

    def __init__(
        self,
        grounds: Sequence[Labelled],
        classes: Sequence[str],
        normalization: Normalization,
        halo: int,
        core_px: int = 256,
    ) -> None:
        self.grounds, self.classes = tuple(grounds), tuple(classes)
        self.normalization, self.halo, self.core_px = normalization, halo, core_px

    def __call__(self, network: nn.Module, step: int) -> dict[str, float]:
        """IoU of each class that is there or was found, their mean, and accuracy."""
        return self.figures(self.places(network))

    def figures(self, places: Sequence[Place]) -> dict[str, float]:
        """As called; of places that were predicted before."""
        total = sum((place.confusion for place in places), Confusion.empty())
        named = {f"IoU {self.classes[k]}": total.iou(k) for k in total.categories}
        return {"mIoU": total.mean_iou, "accuracy": total.accuracy} | named

    @torch.inference_mode()
    def places(self, network: nn.Module) -> list[Place]:
        """Every square with labels."""
        core = self.core_px
        return [
            self._place(network, ground, row, col)
            for ground in self.grounds
            for row in range(0, ground.labels.shape[0], core)
            for col in range(0, ground.labels.shape[1], core)
            if (ground.labels[row : row + core, col : col + core] != IGNORE).any()
        ]

    def _place(self, network: nn.Module, ground: Labelled, row: int, col: int) -> Place:
        shape, core = ground.labels.shape, self.core_px
        # (band, row, col), reflected beyond the ground
        rows = reflect_indices(row - self.halo, row + core + self.halo, shape[0])
        cols = reflect_indices(col - self.halo, col + core + self.halo, shape[1])
        pixels = normalize(ground.pixels[:, rows[:, None], cols], self.normalization)
        pixels *= ground.valid[rows[:, None], cols]
        device = next(network.parameters()).device
        logits = network(torch.from_numpy(pixels[None]).to(device))[0]
        inner = slice(self.halo, self.halo + core)
        found = logits[:, inner, inner].argmax(0).to("cpu", torch.uint8).numpy()
        found = found[: shape[0] - row, : shape[1] - col]
        truth = ground.labels[row : row + core, col : col + core]
        return Place(ground, row, col, found, Confusion.of(truth, found))
