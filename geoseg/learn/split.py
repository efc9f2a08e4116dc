"""Training and validation by place: squares of ground with a buffer, never single pixels.

Neighbouring pixels look alike, so a split by pixel or by window measures memory, not skill
(Roberts et al. 2017, doi:10.1111/ecog.02881). Here the ground is cut into squares that
belong to one fold each. What is validated is a fold's squares; what is trained on is all
other ground that is farther than the buffer from them. Both are masks: samples take their
pixels and labels through a mask, so that a training window can't hold a validation pixel.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from geoseg.errors import InputError

__all__ = ["PlaceSplit", "split_places", "split_rows"]

BoolArray = NDArray[np.bool_]


@dataclass(frozen=True)
class PlaceSplit:
    """``train`` and ``validation`` (row, col): where each may look. They never meet.

    ``buffer_px``: every training pixel is farther than this from every validation pixel,
    along rows, columns or diagonally (Chebyshev distance).
    """

    train: BoolArray
    validation: BoolArray
    buffer_px: int

    @classmethod
    def around(cls, validation: BoolArray, buffer_px: int) -> PlaceSplit:
        """The split that validates on ``validation`` and trains behind a buffer."""
        if buffer_px < 0:
            raise InputError(f"the buffer between places is {buffer_px} pixels: use 0 or more")
        near = _grown(validation, buffer_px)
        return cls(~near, validation, buffer_px)


def _grown(mask: BoolArray, pixels: int) -> BoolArray:
    size = 2 * pixels + 1
    grown: BoolArray = ndimage.maximum_filter(mask.view(np.uint8), size, mode="constant").view(
        np.bool_
    )
    return grown


def split_rows(shape: tuple[int, int], first_row: int, buffer_px: int) -> PlaceSplit:
    """Validate on the rows from ``first_row`` down, train above them behind a buffer.

    >>> split = split_rows((10, 4), 7, 2)
    >>> int(split.train[:, 0].sum()), int(split.validation[:, 0].sum())
    (5, 3)
    """
    validation = np.zeros(shape, np.bool_)
    validation[first_row:] = True
    return PlaceSplit.around(validation, buffer_px)


def split_places(
    shape: tuple[int, int], *, square_px: int, buffer_px: int, folds: int, seed: int = 0
) -> list[PlaceSplit]:
    """Spatial k-fold: every square validates in exactly one of the ``folds`` splits.

    Squares are dealt to folds in a random order fixed by ``seed``, equal in number up to
    one. Raises InputError when there are fewer squares than folds, or when the buffer
    leaves nothing to train on.
    """
    if folds < 2:
        raise InputError(f"{folds} folds: cross-validation needs 2 or more")
    rows, cols = -(-shape[0] // square_px), -(-shape[1] // square_px)
    if rows * cols < folds:
        raise InputError(
            f"{shape[0]} x {shape[1]} pixels hold {rows * cols} squares of {square_px}: "
            f"use at most {rows * cols} folds or smaller squares"
        )
    order = np.random.default_rng(seed).permutation(rows * cols)
    fold_of = np.empty(rows * cols, np.int64)
    fold_of[order] = np.arange(rows * cols) % folds
    of_square = fold_of.reshape(rows, cols)
    of_pixel = of_square.repeat(square_px, 0).repeat(square_px, 1)[: shape[0], : shape[1]]
    splits = [PlaceSplit.around(of_pixel == fold, buffer_px) for fold in range(folds)]
    for split in splits:
        if not split.train.any():
            raise InputError(
                f"a buffer of {buffer_px} pixels around squares of {square_px} leaves no ground "
                "to train on: use larger squares or a smaller buffer"
            )
    return splits
