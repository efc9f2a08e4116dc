"""What a network knows of places it was not trained on: confusion, place by place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from geoseg.assess.overlap import OverlapTable
from geoseg.assess.segmentation import Confusion
from geoseg.grid import Window
from geoseg.learn.samples import IGNORE, Labelled
from geoseg.radiometry import Normalization, normalize
from geoseg.scene.reader import reflect_indices

__all__ = ["Place", "Validation", "labelled_squares", "predict"]


@dataclass(frozen=True)
class Place:
    """A square of validation ground: its ``confusion``, and ``found`` (row, col) positions
    of classes at ``row``, ``col`` of ``ground``.

    Where things are told apart, ``found_id`` are their numbers, and ``pairs`` say which of
    the truth's they share pixels with.
    """

    ground: Labelled
    row: int
    col: int
    found: NDArray[np.uint8]
    confusion: Confusion
    found_id: NDArray[np.int32] | None = None
    pairs: OverlapTable = field(default_factory=OverlapTable.empty)

    @property
    def truth(self) -> NDArray[np.uint8]:
        """(row, col) uint8, IGNORE where nothing is judged."""
        rows, cols = self.found.shape
        return self.ground.labels[self.row : self.row + rows, self.col : self.col + cols]

    @property
    def truth_id(self) -> NDArray[np.int32] | None:
        """(row, col) int32 numbers of things, 0 = none."""
        if self.ground.instance_id is None:
            return None
        rows, cols = self.found.shape
        own = self.ground.instance_id[self.row : self.row + rows, self.col : self.col + cols]
        return own * (self.truth != IGNORE)

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
        return [
            self._place(network, ground, square)
            for ground in self.grounds
            for square in labelled_squares(ground, self.core_px)
        ]

    def _place(self, network: nn.Module, ground: Labelled, square: Window) -> Place:
        logits = predict(network, ground, square, self.halo, self.normalization)
        found = logits.argmax(0).to(torch.uint8).numpy()
        truth = ground.labels[square.slices]
        return Place(ground, square.row_off, square.col_off, found, Confusion.of(truth, found))


def labelled_squares(ground: Labelled, side: int) -> list[Window]:
    """Squares of the ground (smaller at its end) that hold labels."""
    rows, cols = ground.labels.shape
    squares = [
        Window(row, col, min(side, rows - row), min(side, cols - col))
        for row in range(0, rows, side)
        for col in range(0, cols, side)
    ]
    return [square for square in squares if (ground.labels[square.slices] != IGNORE).any()]


def predict(
    network: nn.Module, ground: Labelled, square: Window, halo: int, how: Normalization
) -> Tensor:
    """Logits (output, row, col) of a square, on the CPU; around it ``halo`` pixels of context.

    The network sees whole squares: what is beyond the ground, or beyond a square that the
    ground's end made smaller, is reflected.
    """
    shape = ground.labels.shape
    side = -(-max(square.height, square.width) // 32) * 32
    # (band, row, col), reflected beyond the ground
    rows = reflect_indices(square.row_off - halo, square.row_off + side + halo, shape[0])
    cols = reflect_indices(square.col_off - halo, square.col_off + side + halo, shape[1])
    pixels = normalize(ground.pixels[:, rows[:, None], cols], how)
    pixels *= ground.valid[rows[:, None], cols]
    device = next(network.parameters()).device
    logits: Tensor = network(torch.from_numpy(pixels[None]).to(device))[0]
    inner = logits[:, halo : halo + square.height, halo : halo + square.width]
    return inner.float().cpu()
