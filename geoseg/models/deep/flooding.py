"""Peaks of a height and the ground that belongs to each: the decoding of one-shot networks.

Everything is in whole levels, 4-connected, and ties go to raster order, so the same array
gives the same labels on any machine.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = ["LEVELS", "drop_small", "flood", "join_weak", "peaks", "to_levels"]

LEVELS = 255
"""Heights 0 to 1 are cut into levels 0 to 255."""


def to_levels(height: NDArray[np.floating[Any]]) -> NDArray[np.uint8]:
    """Heights 0 to 1 (row, col) as uint8 levels; what is not a number is level 0."""
    scaled = np.floor(np.nan_to_num(height) * np.float32(LEVELS) + np.float32(0.5))
    return np.clip(scaled, 0, LEVELS).astype(np.uint8)


def peaks(level: NDArray[np.uint8], mask: NDArray[np.bool_], dynamics: int) -> NDArray[np.int32]:
    """Markers (row, col) int32: one pixel per peak, numbered in raster order, else 0.

    A peak counts when one must go down at least ``dynamics`` levels, or can't go at all, to
    come from it to a higher one inside ``mask`` (its dynamics, Grimaud 1992; equal to the
    persistence of Edelsbrunner et al. 2002). Of equal peaks the first in raster order counts.
    """
    rows, cols = level.shape
    found = _peaks(level.ravel(), mask.ravel(), rows, cols, int(dynamics))
    markers = np.zeros(level.shape, np.int32)
    markers.ravel()[found] = np.arange(1, len(found) + 1)
    return markers


def flood(
    level: NDArray[np.uint8], markers: NDArray[np.integer[Any]], mask: NDArray[np.bool_]
) -> NDArray[np.int32]:
    """Ground (row, col) int32 of each marker: what is reached first going down from the top.

    Meyer's flooding (Beucher and Meyer 1993) inside ``mask``: the highest pixel next to
    labelled ground is taken next, of equals the one that was reached first. Ground that no
    marker reaches is 0.
    """
    rows, cols = level.shape
    labels = np.where(mask, markers, 0).astype(np.int32)
    _flood(level.ravel(), labels.ravel(), mask.ravel(), rows, cols)
    return labels


def drop_small(labels: NDArray[np.int32], min_px: int) -> NDArray[np.int32]:
    """Labels of fewer than ``min_px`` pixels set to 0, the others dense from 1, same order."""
    sizes = np.bincount(labels.ravel(), minlength=1)
    keep = sizes >= max(min_px, 1)
    keep[0] = False
    return np.where(keep, np.cumsum(keep), 0).astype(np.int32)[labels]


def join_weak(
    labels: NDArray[np.int32], level: NDArray[np.uint8], least: float
) -> NDArray[np.int32]:
    """Labels (row, col) with neighbours made one where the border between them is weak.

    A border is where two labels above 0 touch, 4-connected; its strength is the mean over these
    contacts of the higher ``level`` of the two pixels. The weakest border falls first, of equals
    that of the lowest labels, the borders of what was joined are taken together, and so on
    until none is below ``least`` levels (region merging over an adjacency graph, Haris et al.
    1998, doi:10.1109/83.730380). What is joined has its lowest label.
    """
    sums = _borders(labels, level)
    waiting = [(total / count, *pair) for pair, (total, count) in sums.items()]
    waiting = [entry for entry in waiting if entry[0] < least]
    heapify(waiting)
    beside: dict[int, set[int]] = {}
    for a, b in sums:
        beside.setdefault(a, set()).add(b)
        beside.setdefault(b, set()).add(a)
    root = np.arange(int(labels.max(initial=0)) + 1, dtype=np.int32)
    while waiting:
        strength, a, b = heappop(waiting)
        total, count = sums.get((a, b), (0, 0))
        if not count or total / count != strength:
            continue  # one of the two was joined before, or their border has grown
        del sums[a, b]
        root[b] = a
        beside[a].discard(b)
        for other in beside.pop(b) - {a}:
            more = sums.pop((min(b, other), max(b, other)))
            pair = min(a, other), max(a, other)
            own = sums.get(pair, (0, 0))
            sums[pair] = own[0] + more[0], own[1] + more[1]
            beside[other] = beside[other] - {b} | {a}
            beside[a].add(other)
            mean = sums[pair][0] / sums[pair][1]
            if mean < least:
                heappush(waiting, (mean, *pair))
    for label in range(len(root)):
        root[label] = root[root[label]]  # what it was joined to has a lower label: done before
    return root[labels]


def _borders(
    labels: NDArray[np.int32], level: NDArray[np.uint8]
) -> dict[tuple[int, int], tuple[int, int]]:
    """Sum of levels and number of contacts of each pair of neighbouring labels, lower first."""
    pairs, levels = [], []
    for one, two in ((np.s_[:-1], np.s_[1:]), (np.s_[:, :-1], np.s_[:, 1:])):
        a, b = labels[one], labels[two]
        touch = (a != b) & (a > 0) & (b > 0)
        pairs.append(np.sort(np.stack([a[touch], b[touch]], 1), axis=1))
        levels.append(np.maximum(level[one], level[two])[touch])
    each, at, counts = np.unique(
        np.concatenate(pairs), axis=0, return_inverse=True, return_counts=True
    )
    totals = np.bincount(at.ravel(), np.concatenate(levels), minlength=len(each)).astype(np.int64)
    return {
        (int(a), int(b)): (int(total), int(count))
        for (a, b), total, count in zip(each, totals, counts, strict=True)
    }


@njit(cache=True, nogil=True)
def _descending(level: Any, mask: Any) -> Any:  # pragma: no cover - compiled
    """Indices of the masked pixels, highest first, equals in raster order."""
    starts = np.zeros(257, np.int64)
    for i in range(level.size):
        if mask[i]:
            starts[256 - level[i]] += 1
    for k in range(1, 257):
        starts[k] += starts[k - 1]
    order = np.empty(starts[256], np.int32)
    for i in range(level.size):
        if mask[i]:
            k = 255 - level[i]
            order[starts[k]] = i
            starts[k] += 1
    return order


@njit(cache=True, nogil=True)
def _root(parent: Any, i: int) -> int:  # pragma: no cover - compiled
    while parent[i] != i:
        parent[i] = parent[parent[i]]
        i = parent[i]
    return i


@njit(cache=True, nogil=True)
def _is_older(level: Any, a: int, b: int) -> bool:  # pragma: no cover - compiled
    return level[a] > level[b] or (level[a] == level[b] and a < b)


@njit(cache=True, nogil=True)
def _peaks(level: Any, mask: Any, rows: int, cols: int, dynamics: int) -> Any:  # pragma: no cover
    parent = np.full(level.size, -1, np.int32)  # -1: not reached yet
    killed = np.zeros(level.size, np.bool_)
    born = np.zeros(level.size, np.bool_)
    for i in _descending(level, mask):
        row, col = i // cols, i % cols
        own = -1
        for side in range(4):
            if side == 0 and row > 0:
                other = i - cols
            elif side == 1 and col > 0:
                other = i - 1
            elif side == 2 and col < cols - 1:
                other = i + 1
            elif side == 3 and row < rows - 1:
                other = i + cols
            else:
                continue
            if parent[other] < 0:
                continue
            root = _root(parent, other)
            if own < 0:
                own = root
            elif root != own:
                # two hills meet here: the lower one ends, and counts when it stood high enough
                lower = own if _is_older(level, root, own) else root
                own = root if lower == own else own
                parent[lower] = own
                killed[lower] = np.int64(level[lower]) - np.int64(level[i]) < dynamics
        if own < 0:
            own = i
            born[i] = True
        parent[i] = own
    return np.flatnonzero(born & ~killed)


@njit(cache=True, nogil=True)
def _flood(level: Any, labels: Any, mask: Any, rows: int, cols: int) -> None:  # pragma: no cover
    first = np.full(256, -1, np.int32)  # one queue per level, linked through ``after``
    last = np.full(256, -1, np.int32)
    after = np.full(level.size, -1, np.int32)
    top = -1
    for i in range(level.size):
        if labels[i] > 0:
            top = max(top, _push(first, last, after, np.int64(level[i]), i))
    while top >= 0:
        i = first[top]
        if i < 0:
            top -= 1
            continue
        first[top] = after[i]
        row, col = i // cols, i % cols
        for side in range(4):
            if side == 0 and row > 0:
                other = i - cols
            elif side == 1 and col > 0:
                other = i - 1
            elif side == 2 and col < cols - 1:
                other = i + 1
            elif side == 3 and row < rows - 1:
                other = i + cols
            else:
                continue
            if mask[other] and labels[other] == 0:
                labels[other] = labels[i]
                top = max(top, _push(first, last, after, np.int64(level[other]), other))


@njit(cache=True, nogil=True)
def _push(first: Any, last: Any, after: Any, k: int, i: int) -> int:  # pragma: no cover - compiled
    if first[k] < 0:
        first[k] = i
    else:
        after[last[k]] = i
    last[k] = i
    return k
