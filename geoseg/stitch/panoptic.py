"""From many overlapping masks, or from things and stuff apart, to one label per pixel.

Fusion: Kirillov et al., "Panoptic Segmentation" (CVPR 2019) and "Panoptic Feature Pyramid
Networks" (CVPR 2019): masks are laid down from the highest score, each keeps what is still
free if that is enough of it; stuff fills the rest where it covers enough pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from geoseg.grid import Window
from geoseg.legend import NODATA_CATEGORY, Legend
from geoseg.models.segmenter import InstanceTile, LabelTile

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


def nms(
    boxes: NDArray[Any],
    scores: NDArray[Any],
    iou: float = 0.5,
    category_id: NDArray[Any] | None = None,
) -> NDArray[np.int64]:
    """Greedy non-maximum suppression: indices of the boxes kept, best first, ties by order.

    ``boxes`` (n, 4): x0, y0, x1, y1, any number type; a box is dropped when its IoU with a
    better one that is kept exceeds ``iou``. With ``category_id`` (n,) only boxes of one
    category compete. Boxes are looked up on a grid, so the time grows with the number of
    boxes, not with its square, however many lie side by side. What is not finite is no box.

    >>> nms(np.array([[0, 0, 9, 9], [1, 0, 10, 9], [50, 0, 59, 9]]), np.array([0.8, 0.9, 0.1]))
    array([1, 2])
    """
    box = np.asarray(boxes, np.float64).reshape(-1, 4)
    finite = np.flatnonzero(np.isfinite(box).all(1))
    if finite.size < len(box):
        kinds = None if category_id is None else np.asarray(category_id)[finite]
        return finite[nms(box[finite], np.asarray(scores)[finite], iou, kinds)]
    order = np.argsort(-np.asarray(scores, np.float64), kind="stable")
    kind = np.zeros(len(box), np.int64)
    if category_id is not None:
        kind = np.asarray(category_id, np.int64)
    side = np.maximum(box[:, 2] - box[:, 0], box[:, 3] - box[:, 1])
    # an IoU above the limit bounds how much sides differ: boxes compete only with those of
    # near levels, each of sides up to twice those of the level below
    level = np.floor(np.log2(np.maximum(side, 1e-9))).astype(np.int64)
    lowest = int(level.min(initial=0)) if len(level) else 0
    level -= lowest
    far = int(np.ceil(-np.log2(iou))) if iou > 0 else 4096
    middle = (box[:, :2] + box[:, 2:]) / 2
    origin = middle.min(0, initial=np.inf)
    cell = 2.0 ** (level + lowest + 1)
    place = np.floor((middle - origin) / cell[:, None]).astype(np.int64)
    # neighbours in the scene are neighbours in memory: without it every comparison of a large
    # scene would wait for memory
    near = np.lexsort((place[:, 0], place[:, 1], level, kind))
    rank = np.empty(len(order), np.int64)
    rank[near] = np.arange(len(order))
    kept = _suppress(
        box[near], middle[near] - origin, kind[near], level[near], rank[order], lowest, far, iou
    )
    return order[kept[rank[order]]]


@njit(cache=True, nogil=True)
def _suppress(
    box: Any, middle: Any, kind: Any, level: Any, order: Any, lowest: int, far: int, iou: float
) -> Any:  # pragma: no cover - compiled
    """Which boxes stay. Kept boxes lie in lists by cell, in a table as large as the number of
    boxes asks: cells that share a place in it cost comparisons, never a result.
    """
    count = len(order)
    kept = np.zeros(count, np.bool_)
    levels = level.max() + 1 if count else 0
    filled = np.zeros(levels, np.bool_)
    size = 1
    while size < 2 * count:
        size *= 2
    heads = np.full(size, -1, np.int64)
    after = np.full(count, -1, np.int64)
    widest = 0.0
    for k in range(count):
        widest = max(widest, middle[k, 0])
    for k in order:
        x, y = middle[k, 0], middle[k, 1]
        wide, high = box[k, 2] - box[k, 0], box[k, 3] - box[k, 1]
        free = True
        for at in range(max(level[k] - far, 0), min(level[k] + far + 1, levels)):
            if not filled[at] or not free:
                continue
            cell = 2.0 ** (at + lowest + 1)
            reach_x, reach_y = _reach(wide, cell, iou), _reach(high, cell, iou)
            row_end = int(np.floor((y + reach_y) / cell)) + 1
            col_end = int(np.floor((x + reach_x) / cell)) + 1
            for row in range(int(np.floor((y - reach_y) / cell)), row_end):
                for col in range(int(np.floor((x - reach_x) / cell)), col_end):
                    other = heads[_slot(kind[k], at, row, col, widest / cell, size)]
                    while other >= 0 and free:
                        if kind[other] == kind[k]:
                            free = _iou(box[k], box[other]) <= iou
                        other = after[other]
        if free:
            kept[k] = True
            filled[level[k]] = True
            cell = 2.0 ** (level[k] + lowest + 1)
            row, col = int(np.floor(y / cell)), int(np.floor(x / cell))
            home = _slot(kind[k], level[k], row, col, widest / cell, size)
            after[k] = heads[home]
            heads[home] = k
    return kept


@njit(cache=True, nogil=True)
def _reach(side: float, cell: float, iou: float) -> float:  # pragma: no cover - compiled
    """How far apart the middles of two boxes may lie in one direction, one box ``side`` long,
    the other up to ``cell``, for an IoU above ``iou``: they share more than ``iou`` of the
    longer side.
    """
    equal = min(side, cell)
    best = max((side + equal) / 2 - iou * side, (side + cell) / 2 - iou * max(side, cell))
    return max(best, 0.0) + 1e-6 * (side + cell)


@njit(cache=True, nogil=True)
def _slot(
    kind: int, level: int, row: int, col: int, cols: float, size: int
) -> int:  # pragma: no cover - compiled
    """A cell's place in the table: cells of one row lie side by side."""
    start = np.int64(kind) * np.int64(1_000_003) + np.int64(level) * np.int64(7_368_787)
    return int((start + np.int64(row) * (np.int64(cols) + 2) + np.int64(col)) & (size - 1))


@njit(cache=True, nogil=True)
def _iou(a: Any, b: Any) -> float:  # pragma: no cover - compiled
    wide = min(a[2], b[2]) - max(a[0], b[0])
    high = min(a[3], b[3]) - max(a[1], b[1])
    if wide <= 0 or high <= 0:
        return 0.0
    shared = wide * high
    whole = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])
    return float(shared / (whole - shared))
