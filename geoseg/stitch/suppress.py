"""Non-maximum suppression whose time grows with the number of boxes, not with its square."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = ["nms"]


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
    if iou >= 1:  # no overlap is more than whole
        return order
    kind = np.zeros(len(box), np.int64)
    if category_id is not None:
        kind = np.asarray(category_id, np.int64)
    side = np.maximum(box[:, 2] - box[:, 0], box[:, 3] - box[:, 1])
    # an IoU above the limit bounds how much sides differ: boxes compete only with those of
    # near levels, each of sides up to twice those of the level below
    level = np.floor(np.log2(np.maximum(side, 1e-9))).astype(np.int64)
    lowest = int(level.min(initial=0)) if len(level) else 0
    level -= lowest
    far = int(min(np.ceil(-np.log2(max(iou, 1e-300))), 4096)) if len(level) else 0
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
    boxes asks: cells that share a place in it cost comparisons, never a result. ``marks`` holds
    the cells with a kept box in them or in a smaller cell inside: a large box looks for small
    ones only where there are some.
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
    above = 0
    widest = 0.0
    for k in range(count):
        widest = max(widest, middle[k, 0])
        above += min(far, levels - 1 - level[k]) + 1
    room = 1
    while room < 2 * above:
        room *= 2
    marks = np.zeros(room, np.uint64)
    stack = np.empty((4 * (levels + 1) + 64, 3), np.int64)
    for k in order:
        x, y = middle[k, 0], middle[k, 1]
        wide, high = box[k, 2] - box[k, 0], box[k, 3] - box[k, 1]
        if wide <= 0 or high <= 0:  # overlaps nothing
            kept[k] = True
            continue
        free = True
        for at in range(level[k], min(level[k] + far + 1, levels)):
            # cells as large as the box or larger: a few each
            if not free or not (filled[at] or (at == level[k] and filled[: at + 1].any())):
                continue
            cell = 2.0 ** (at + lowest + 1)
            reach_x, reach_y = _reach(wide, cell, iou), _reach(high, cell, iou)
            for row in range(_floor(y - reach_y, cell), _floor(y + reach_y, cell) + 1):
                for col in range(_floor(x - reach_x, cell), _floor(x + reach_x, cell) + 1):
                    depth = 1
                    stack[0, 0], stack[0, 1], stack[0, 2] = at, row, col
                    while depth and free:
                        depth -= 1
                        here, r, c = stack[depth, 0], stack[depth, 1], stack[depth, 2]
                        if not _marked(marks, _key(kind[k], here, r, c)):
                            continue
                        edge = 2.0 ** (here + lowest + 1)
                        other = heads[_slot(kind[k], here, r, c, widest / edge, size)]
                        while other >= 0 and free:
                            if kind[other] == kind[k]:
                                free = _iou(box[k], box[other]) <= iou
                            other = after[other]
                        if at > level[k] or here == 0 or here <= level[k] - far:
                            continue
                        edge /= 2
                        near_x, near_y = _reach(wide, edge, iou), _reach(high, edge, iou)
                        for down in range(2 * r, 2 * r + 2):
                            for right in range(2 * c, 2 * c + 2):
                                if _floor(y - near_y, edge) <= down <= _floor(
                                    y + near_y, edge
                                ) and _floor(x - near_x, edge) <= right <= _floor(x + near_x, edge):
                                    stack[depth, 0] = here - 1
                                    stack[depth, 1], stack[depth, 2] = down, right
                                    depth += 1
        if free:
            kept[k] = True
            filled[level[k]] = True
            cell = 2.0 ** (level[k] + lowest + 1)
            row, col = _floor(y, cell), _floor(x, cell)
            home = _slot(kind[k], level[k], row, col, widest / cell, size)
            after[k] = heads[home]
            heads[home] = k
            for at in range(level[k], min(level[k] + far + 1, levels)):
                _mark(marks, _key(kind[k], at, row, col))
                row, col = row // 2, col // 2
    return kept


@njit(cache=True, nogil=True)
def _floor(value: float, cell: float) -> int:  # pragma: no cover - compiled
    return int(np.floor(value / cell))


@njit(cache=True, nogil=True)
def _key(kind: int, level: int, row: int, col: int) -> Any:  # pragma: no cover - compiled
    """A cell as one number, never 0; that two share one is as good as impossible."""
    key = np.uint64(kind) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(level)
    for part in (row, col):
        key = (key ^ np.uint64(part)) * np.uint64(0xBF58476D1CE4E5B9)
        key ^= key >> np.uint64(29)
    return key | np.uint64(1)


@njit(cache=True, nogil=True)
def _marked(marks: Any, key: Any) -> Any:  # pragma: no cover - compiled
    at = (key >> np.uint64(7)) & np.uint64(len(marks) - 1)
    while marks[at] != 0:
        if marks[at] == key:
            return True
        at = (at + np.uint64(1)) & np.uint64(len(marks) - 1)
    return False


@njit(cache=True, nogil=True)
def _mark(marks: Any, key: Any) -> None:  # pragma: no cover - compiled
    at = (key >> np.uint64(7)) & np.uint64(len(marks) - 1)
    while marks[at] != 0 and marks[at] != key:
        at = (at + np.uint64(1)) & np.uint64(len(marks) - 1)
    marks[at] = key


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
