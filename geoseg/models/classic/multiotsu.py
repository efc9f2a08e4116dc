"""Otsu's criterion for several classes, on histograms of any width."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from geoseg.errors import ModelError
from geoseg.models.classic.rules import Histogram

__all__ = ["multiotsu"]

_TABLE_BINS = 2048
"""Most bins for which scikit-image may tabulate the variance of every interval."""
_SEARCH_BINS = 1 << 15
"""Most bins for which every pair of thresholds is tried."""


def multiotsu(histogram: Histogram, classes: int) -> tuple[float, ...]:
    """Thresholds that maximize the variance between classes (Liao et al. 2001).

    Up to 2048 bins scikit-image searches. Its table for wide histograms of whole numbers
    takes gigabytes: three classes of up to 32768 bins are then searched here, in the same
    arithmetic (float32) and with the same result; more classes by dynamic programming in
    float64, which finds the optimum where rounding in float32 may settle for a neighbour of it.
    Raises ModelError when there are fewer different values than classes.
    """
    from skimage.filters import threshold_multiotsu

    distinct = int(np.count_nonzero(histogram.counts))
    if distinct < classes:
        raise ModelError(f"{distinct} different values can't make {classes} classes")
    # scikit-image normalizes when it makes the histogram itself, not when it is given one
    share = histogram.counts / np.sum(histogram.counts)
    if histogram.counts.size <= _TABLE_BINS or distinct == classes:
        found = threshold_multiotsu(classes=classes, hist=(share, histogram.centres))
        return tuple(t.item() for t in found)
    if classes == 3 and share.size <= _SEARCH_BINS:
        places = _two_thresholds(share.astype(np.float32))
    else:
        places = _partition(histogram, classes)
    return tuple(histogram.centres[i].item() for i in places)


@numba.njit(cache=True, nogil=True)
def _two_thresholds(share: Any) -> Any:
    """Last bins of the first two classes; all sums in float32, the first best is kept."""
    size = share.size
    weight, moment = np.empty(size, np.float32), np.empty(size, np.float32)
    weight[0] = moment[0] = share[0]
    for i in range(1, size):
        weight[i] = np.float32(weight[i - 1] + share[i])
        moment[i] = np.float32(moment[i - 1] + np.float32(np.float32(i + 1) * share[i]))
    last = np.zeros(size, np.float32)
    for j in range(size - 1):
        rest = np.float32(weight[size - 1] - weight[j])
        if rest > 0:
            part = np.float32(moment[size - 1] - moment[j])
            last[j] = np.float32(np.float32(part * part) / rest)
    best, first, second = np.float32(0), 0, 0
    for i in range(size - 2):
        low = np.float32(0)
        if weight[i] > 0:
            low = np.float32(np.float32(moment[i] * moment[i]) / weight[i])
        for j in range(i + 1, size - 1):
            middle = np.float32(0)
            inside = np.float32(weight[j] - weight[i])
            if inside > 0:
                part = np.float32(moment[j] - moment[i])
                middle = np.float32(np.float32(part * part) / inside)
            total = np.float32(np.float32(low + middle) + last[j])
            if total > best:
                best, first, second = total, i, j
    return first, second


def _partition(histogram: Histogram, classes: int) -> list[int]:
    """Last bin of every class but the last, by divide and conquer over the optimal splits."""
    share = histogram.counts / histogram.counts.sum()
    weight = np.concatenate([[0.0], np.cumsum(share)])
    moment = np.concatenate([[0.0], np.cumsum(share * np.arange(1, share.size + 1))])
    size = share.size
    best = np.divide(moment[1:] ** 2, weight[1:], out=np.zeros(size), where=weight[1:] > 0)
    choices = []
    for _ in range(1, classes):
        best, choice = _next_class(weight, moment, best)
        choices.append(choice)
    ends, end = [], size
    for choice in reversed(choices):
        end = int(choice[end - 1])
        ends.append(end - 1)
    return ends[::-1]


@numba.njit(cache=True, nogil=True)
def _next_class(weight: Any, moment: Any, before: Any) -> Any:
    """One class more: for each end the best value and where the last class starts.

    Moment squared over weight is what Otsu's variance adds up.
    """
    size = before.size
    best, choice = np.full(size, -np.inf), np.zeros(size, np.int64)
    # the best start moves right with the end: the split of a middle end bounds the others';
    # depth first, no more than two open ranges for each halving
    stack = np.empty((192, 4), np.int64)
    stack[0] = 1, size - 1, 1, size - 1
    top = 1
    while top > 0:
        top -= 1
        low, high, left, right = stack[top]
        if low > high:
            continue
        middle = (low + high) // 2
        most, at = -np.inf, left
        for start in range(left, min(middle, right) + 1):
            w, m = weight[middle + 1] - weight[start], moment[middle + 1] - moment[start]
            value = before[start - 1] + (m * m / w if w > 0 else 0.0)
            if value > most:
                most, at = value, start
        best[middle], choice[middle] = most, at
        stack[top] = low, middle - 1, left, at
        stack[top + 1] = middle + 1, high, at, right
        top += 2
    return best, choice
