"""The nearest of several centres, and whole-number sums per centre: the work of k-means.

Pixels go in runs of a fixed length through small arrays that stay in the nearest cache, in
loops that become vector instructions. A run whose values lie in a narrow box can only belong
to a few centres: the others are ruled out first (Kanungo et al. 2002, doi
10.1109/TPAMI.2002.1017616). Sums are of whole numbers below 2**53, so that the order in
which a vector instruction adds them changes nothing.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

__all__ = ["accumulate", "assign"]

RUN = 256
"""Pixels that are worked on together."""
_ADD = {"reassoc", "nsz"}
_ORDER = {"reassoc", "nnan", "nsz"}
_SURE = 1.0 + 1e-9
"""A centre is ruled out only beyond rounding: ties go to the first in every case."""


@numba.njit(cache=True, nogil=True, error_model="numpy")
def assign(values: Any, centres: Any) -> Any:
    """Index uint8 of the nearest centre of values (feature, pixel); ties to the first."""
    width, pixels = values.shape
    labels = np.empty(pixels, np.uint8)
    run, squares = np.zeros((width, RUN)), np.zeros((len(centres), RUN))
    best, number, chosen = np.zeros((2, RUN)), np.zeros((2, RUN)), np.arange(len(centres))
    for start in range(0, pixels, RUN):
        size = min(RUN, pixels - start)
        for f in range(width):
            for i in range(size):
                run[f, i] = values[f, start + i]
        least = _distances(run, centres, chosen, squares, best)
        number[0] = 0.0
        now = 0
        for c in range(len(centres) - 1, -1, -1):
            _where(squares[c], best[least], float(c), number[now], number[1 - now])
            now = 1 - now
        for i in range(size):
            labels[start + i] = np.uint8(number[now, i])
    return labels


@numba.njit(cache=True, nogil=True, error_model="numpy")
def accumulate(
    values: Any, usable: Any, centres: Any, low: Any, steps: Any, sums: Any, counts: Any
) -> None:
    """Add whole-number sums of (value - low) / step per nearest centre.

    ``values`` (feature, pixel) of any type and ``usable`` (pixel,) in; pixels with a value
    that is not finite are left out. ``sums`` (class, feature) and ``counts`` (class,) int64
    are added to.
    """
    width, pixels = values.shape
    classes = len(centres)
    run, units = np.zeros((width, RUN)), np.zeros((width + 1, RUN))
    squares, best = np.zeros((classes, RUN)), np.zeros((2, RUN))
    totals, held = np.zeros(width + 1), np.zeros(classes)
    chosen, box = np.zeros(classes, np.int64), np.zeros((2, width))
    for start in range(0, pixels, RUN):
        size = _gather(values, usable, start, run)
        if size == 0:
            continue
        for f in range(width):
            _in_steps(run[f], low[f], 1.0 / steps[f], units[f])
        units[width, :size] = 1.0
        units[:, size:] = 0.0
        found = _candidates(run, centres, box, chosen)
        for f in range(width + 1):
            totals[f] = _total(units[f])
        if found > 1:
            least = _distances(run, centres, chosen[:found], squares, best)
            _members(squares[:found], best[least], units[width], held)
            for n in range(found - 1):
                _share(units[:width], squares[n], best[least], chosen[n], sums, totals)
                counts[chosen[n]] += np.int64(held[n])
                totals[width] -= held[n]
        # the last candidate has what the others left
        for f in range(width):
            sums[chosen[found - 1], f] += np.int64(totals[f])
        counts[chosen[found - 1]] += np.int64(totals[width])


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _gather(values: Any, usable: Any, start: int, run: Any) -> int:
    """Usable, finite pixels of one run, side by side; the last of them fills the rest."""
    width, pixels = values.shape
    stop = min(start + RUN, pixels)
    marked = 0
    for i in range(start, stop):
        marked += usable[i]
    if marked == RUN:
        finite = True
        for f in range(width):
            _copy(values[f, start:stop], run[f])
            finite = finite and _nothing(run[f]) == 0.0
        if finite:
            return RUN
    size = 0
    for i in range(start, stop):
        good = bool(usable[i])
        for f in range(width):
            good = good and np.isfinite(np.float64(values[f, i]))
        if good:
            for f in range(width):
                run[f, size] = values[f, i]
            size += 1
    if size > 0:
        for f in range(width):
            run[f, size:] = run[f, size - 1]
    return size


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _candidates(run: Any, centres: Any, box: Any, chosen: Any) -> int:
    """Centres that may be nearest to some value of the run, ascending; their number.

    A centre is ruled out where the centre nearest to the middle of the values' box is nearer
    to every corner: to the one that lies furthest towards the other is enough.
    """
    classes, width = centres.shape
    for f in range(width):
        box[0, f], box[1, f] = _extremes(run[f])
    middle, closest = 0, np.inf
    for c in range(classes):
        square = 0.0
        for f in range(width):
            square += (0.5 * (box[0, f] + box[1, f]) - centres[c, f]) ** 2
        if square < closest:
            middle, closest = c, square
    found = 0
    for c in range(classes):
        own, other = 0.0, 0.0
        for f in range(width):
            corner = box[1, f] if centres[c, f] > centres[middle, f] else box[0, f]
            own += (corner - centres[c, f]) ** 2
            other += (corner - centres[middle, f]) ** 2
        if c == middle or own <= other * _SURE:
            chosen[found] = c
            found += 1
    return found


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _distances(run: Any, centres: Any, chosen: Any, squares: Any, best: Any) -> int:
    """Squared distances to the chosen centres, and the row of ``best`` with the least.

    Sums run over features in order: a pixel's distance is the same in any run.
    """
    width = centres.shape[1]
    for n in range(len(chosen)):
        centre, out = centres[chosen[n]], squares[n]
        f = 1
        if width < 3:
            _square(run[0], centre[0], out)
        else:
            _squares(run[0], run[1], run[2], centre[0], centre[1], centre[2], out)
            f = 3
        while f < width:
            _add_square(run[f], centre[f], out)
            f += 1
    _copy(squares[0], best[0])
    now = 0
    for n in range(1, len(chosen)):
        _lesser(squares[n], best[now], best[1 - now])
        now = 1 - now
    return now


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _members(squares: Any, least: Any, ones: Any, held: Any) -> None:
    """How many pixels each candidate holds; of equally near ones only the first keeps it."""
    total = 0.0
    for n in range(len(squares)):
        held[n] = _total_where(ones, squares[n], least)
        total += held[n]
    if total == _total(ones):
        return
    held[:] = 0.0
    for i in range(RUN):
        first = True
        for n in range(len(squares)):
            if squares[n, i] == least[i]:
                if first:
                    held[n] += ones[i]
                else:
                    squares[n, i] = np.inf
                first = False


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _share(units: Any, squares: Any, least: Any, c: int, sums: Any, totals: Any) -> None:
    """Give centre ``c`` the units (feature, pixel) nearest to it, out of the totals."""
    width = len(units)
    for f in range(0, width - 1, 2):
        a, b = _totals_where(units[f], units[f + 1], squares, least)
        sums[c, f] += np.int64(a)
        sums[c, f + 1] += np.int64(b)
        totals[f] -= a
        totals[f + 1] -= b
    if width % 2:
        a = _total_where(units[width - 1], squares, least)
        sums[c, width - 1] += np.int64(a)
        totals[width - 1] -= a


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _copy(column: Any, out: Any) -> None:
    for i in range(RUN):
        out[i] = column[i]


@numba.njit(cache=True, nogil=True, error_model="numpy", fastmath=_ADD)
def _nothing(column: Any) -> float:
    """0 when all values are finite, else not a number."""
    total = 0.0
    for i in range(RUN):
        total += column[i] * 0.0
    return total


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _in_steps(column: Any, low: float, inverse: float, out: Any) -> None:
    for i in range(RUN):
        out[i] = np.floor((column[i] - low) * inverse + 0.5)


@numba.njit(cache=True, nogil=True, error_model="numpy", fastmath=_ORDER)
def _extremes(column: Any) -> tuple[float, float]:
    low, high = column[0], column[0]
    for i in range(RUN):
        low, high = min(low, column[i]), max(high, column[i])
    return low, high


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _square(x: Any, a: float, out: Any) -> None:
    for i in range(RUN):
        step = x[i] - a
        out[i] = step * step


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _squares(x: Any, y: Any, z: Any, a: float, b: float, c: float, out: Any) -> None:
    for i in range(RUN):
        p, q, r = x[i] - a, y[i] - b, z[i] - c
        out[i] = (p * p + q * q) + r * r


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _add_square(x: Any, a: float, out: Any) -> None:
    for i in range(RUN):
        step = x[i] - a
        out[i] += step * step


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _lesser(a: Any, b: Any, out: Any) -> None:
    for i in range(RUN):
        out[i] = a[i] if a[i] < b[i] else b[i]


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _where(a: Any, b: Any, value: float, other: Any, out: Any) -> None:
    for i in range(RUN):
        out[i] = value if a[i] == b[i] else other[i]


@numba.njit(cache=True, nogil=True, error_model="numpy", fastmath=_ADD)
def _total(column: Any) -> float:
    total = 0.0
    for i in range(RUN):
        total += column[i]
    return total


@numba.njit(cache=True, nogil=True, error_model="numpy", fastmath=_ADD)
def _total_where(column: Any, a: Any, b: Any) -> float:
    total = 0.0
    for i in range(RUN):
        total += column[i] if a[i] == b[i] else 0.0
    return total


@numba.njit(cache=True, nogil=True, error_model="numpy", fastmath=_ADD)
def _totals_where(x: Any, y: Any, a: Any, b: Any) -> tuple[float, float]:
    first, second = 0.0, 0.0
    for i in range(RUN):
        both = a[i] == b[i]
        first += x[i] if both else 0.0
        second += y[i] if both else 0.0
    return first, second
