"""From many overlapping masks, or from things and stuff apart, to one label per pixel.

Fusion: Kirillov et al., "Panoptic Segmentation" (CVPR 2019) and "Panoptic Feature Pyramid
Networks" (CVPR 2019): masks are laid down from the highest score, each keeps what is still
free if that is enough of it; stuff fills the rest where it covers enough pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geoseg.grid import Window
from geoseg.legend import NODATA_CATEGORY, Legend
from geoseg.models.segmenter import InstanceTile, LabelTile
from geoseg.stitch.suppress import nms

__all__ = ["Fusion", "Masks", "flatten_masks", "fuse", "nms"]


@dataclass(frozen=True)
class Masks:
    """Objects that may overlap, in one tile.

    ``scores`` (n,) 0 to 1, ``category_id`` (n,), ``boxes`` (n, 4): first row, first column,
    end row, end column in whole pixels; ``masks``: n boolean arrays of their boxes' shapes.
    """

    scores: NDArray[np.float32]
    category_id: NDArray[np.uint8]
    boxes: NDArray[np.int64]
    masks: Sequence[NDArray[np.bool_]]

    def __len__(self) -> int:
        return len(self.scores)


@dataclass(frozen=True, kw_only=True)
class Fusion:
    """Limits of the fusion.

    Attributes:
        min_score: objects below are left out.
        min_free: an object is left out unless more than this share of it is still free.
        min_stuff_px: stuff regions (all pixels of one category in the tile) below are left
            out: they take the next best thing only if ``fill`` gives one.
        fill: category of pixels that nothing claims; 255: none.

    """

    min_score: float = 0.5
    min_free: float = 0.5
    min_stuff_px: int = 0
    fill: int = NODATA_CATEGORY


def flatten_masks(
    masks: Masks, shape: tuple[int, int], limits: Fusion | None = None
) -> InstanceTile:
    """Overlapping masks as one label per pixel: the highest score first, ties by order.

    Ids count from 1 in that order. Boxes may reach beyond ``shape``.
    """
    limits = limits or Fusion()
    instance = np.zeros(shape, np.int32)
    category = np.full(shape, limits.fill, np.uint8)
    score = np.full(shape, 255, np.uint8)
    number = 0
    for k in np.argsort(-masks.scores, kind="stable"):
        if masks.scores[k] < limits.min_score:
            break
        row, col, row_end, col_end = (int(n) for n in masks.boxes[k])
        box = Window(row, col, row_end - row, col_end - col)
        inside = box & Window(0, 0, *shape)
        own = masks.masks[k][inside.relative_to(box).slices] if inside.pixels else np.zeros((0, 0))
        rows, cols = inside.slices if inside.pixels else (slice(0), slice(0))
        free = own.astype(bool) & (instance[rows, cols] == 0)
        if not free.any() or free.sum() <= limits.min_free * own.sum():
            continue
        number += 1
        instance[rows, cols][free] = number
        category[rows, cols][free] = masks.category_id[k]
        score[rows, cols][free] = int(np.floor(float(masks.scores[k]) * 254 + 0.5))
    return InstanceTile(instance, category, score)


def fuse(
    things: InstanceTile, semantic: LabelTile, legend: Legend, limits: Fusion | None = None
) -> InstanceTile:
    """One panoptic tile of any instance and any semantic prediction of the same pixels.

    Things come from ``things``; stuff from ``semantic`` where no thing is. Pixels that
    ``semantic`` calls a thing without an object are no stuff: they get ``limits.fill``.
    """
    limits = limits or Fusion()
    stuff = [c.id for c in legend if not c.isthing]
    rest = things.instance_id == 0
    counts = np.bincount(semantic.category_id[rest].ravel(), minlength=256)
    enough = np.zeros(256, bool)
    enough[stuff] = counts[stuff] >= max(limits.min_stuff_px, 1)
    laid = rest & enough[semantic.category_id]
    category = np.where(rest, np.uint8(limits.fill), things.category_id)
    score = np.where(rest, np.uint8(255), things.score)
    return InstanceTile(
        things.instance_id,
        np.where(laid, semantic.category_id, category).astype(np.uint8),
        np.where(laid, semantic.score, score).astype(np.uint8),
    )
