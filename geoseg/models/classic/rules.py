"""From a histogram to thresholds: pure functions, equal to scikit-image's on whole arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoseg.errors import ModelError
from geoseg.models.classic.counts import BinCounts, Extent, ValueCounts

__all__ = ["Histogram", "li", "otsu", "peak", "percentile", "triangle", "valley"]


@dataclass(frozen=True, slots=True)
class Histogram:
    """``counts`` (bin,) int64 and ``centres`` (bin,), the ends not empty."""

    counts: NDArray[np.int64]
    centres: NDArray[Any]

    @classmethod
    def of_values(cls, values: ValueCounts) -> Histogram:
        """One bin for every whole number from the smallest to the largest."""
        if values.values is None:
            raise ModelError("too many different whole numbers for a histogram of each")
        low, high = int(values.extent.low), int(values.extent.high)
        counts = np.zeros(high - low + 1, np.int64)
        counts[values.values - low] = values.counts
        return cls(counts, np.arange(low, high + 1))

    @classmethod
    def of_bins(cls, bins: BinCounts, extent: Extent) -> Histogram:
        """Equal bins from the smallest to the largest value, with numpy's edges."""
        edges = np.histogram_bin_edges(
            np.array([extent.low, extent.high]), bins.counts.size, (extent.low, extent.high)
        )
        return cls(bins.counts, (edges[:-1] + edges[1:]) / 2.0)

    def coarse(self, bins: int = 256) -> Histogram:
        """At most ``bins`` bins, neighbours of equal number added."""
        step = -(-self.counts.size // bins)
        if step == 1:
            return self
        size = -(-self.counts.size // step)
        padded = np.zeros(size * step, np.int64)
        padded[: self.counts.size] = self.counts
        width = float(self.centres[1] - self.centres[0])
        centres = float(self.centres[0]) + width * (np.arange(size) * step + (step - 1) / 2)
        return Histogram(padded.reshape(size, step).sum(1), centres)


def otsu(histogram: Histogram) -> tuple[float, ...]:
    """Between-class variance at its largest (Otsu 1979, doi 10.1109/TSMC.1979.4310076)."""
    from skimage.filters import threshold_otsu

    return (_plain(threshold_otsu(hist=(histogram.counts, histogram.centres))),)


def triangle(histogram: Histogram) -> tuple[float, ...]:
    """Farthest from the line between peak and the far end (Zack et al. 1977).

    doi 10.1177/25.7.70454; ties go to the bin nearest the far end, as in scikit-image.
    """
    counts = histogram.counts
    top = int(np.argmax(counts))
    filled = np.flatnonzero(counts)
    first, last = int(filled[0]), int(filled[-1])
    mirrored = top - first < last - top
    if mirrored:
        counts = counts[::-1]
        first, top = counts.size - 1 - last, counts.size - 1 - top
    height, width = counts[top], top - first
    norm = np.sqrt(height**2 + width**2)
    steps = np.arange(width)
    distance = (height / norm) * steps - (width / norm) * counts[first:top]
    level = int(np.argmax(distance)) + first
    return (_plain(histogram.centres[counts.size - 1 - level if mirrored else level]),)


def li(values: ValueCounts) -> tuple[float, ...]:
    """Minimum cross entropy, iterated from the mean (Li and Tam 1998).

    doi 10.1016/S0167-8655(98)00057-9. The tolerance is half the smallest step between
    values, 0.5 for whole numbers.
    """
    assert values.values is not None
    lowest = values.values[0]
    levels = (values.values - lowest).astype(np.float64)
    whole = values.values.dtype.kind in "iu"
    tolerance = 0.5 if whole else float(np.diff(np.unique(levels)).min()) / 2
    counts = np.cumsum(values.counts)
    # levels ascend: the pixels at or below a threshold are a prefix
    sums = np.cumsum(levels * values.counts)
    threshold, last = sums[-1] / counts[-1], -2 * tolerance
    while abs(threshold - last) > tolerance:
        last = threshold
        split = int(np.searchsorted(levels, threshold, side="right")) - 1
        below = sums[split] / counts[split]
        above = (sums[-1] - sums[split]) / (counts[-1] - counts[split])
        if below == 0:
            break
        threshold = (below - above) / (np.log(below) - np.log(above))
    return (float(threshold + lowest),)


def percentile(values: ValueCounts, percent: float) -> tuple[float, ...]:
    """The value below which ``percent`` of the pixels lie, as ``numpy.percentile``."""
    assert values.values is not None
    ends = np.cumsum(values.counts)
    position = percent / 100 * (int(ends[-1]) - 1)
    floor = int(position)
    pair = np.searchsorted(ends, [floor, min(floor + 1, int(ends[-1]) - 1)], side="right")
    low, high = (float(values.values[i]) for i in pair)
    return (low + (high - low) * (position - floor),)


def valley(histogram: Histogram) -> tuple[float, ...]:
    """The lowest point between two modes, smoothed until two are left.

    Prewitt and Mendelsohn 1966, doi 10.1111/j.1749-6632.1965.tb11715.x. Raises ModelError
    when the histogram never has two modes.
    """
    from skimage.filters import threshold_minimum

    coarse = histogram.coarse()
    try:
        return (_plain(threshold_minimum(hist=(coarse.counts.astype(float), coarse.centres))),)
    except RuntimeError as error:
        raise ModelError(
            "the histogram has no two modes with a valley between them: use otsu or percentile"
        ) from error


def peak(histogram: Histogram, percent: float) -> tuple[float, ...]:
    """Background peak mirrored: the background-symmetry rule.

    The highest peak is the background; on its side without objects (the shorter tail) the
    distance within which ``percent`` of that side lies is measured and laid off on the
    other side. Young, Gerbrands and van Vliet 1998, Fundamentals of Image Processing, 10.1.
    """
    coarse = histogram.coarse()
    top = int(np.argmax(coarse.counts))
    filled = np.flatnonzero(coarse.counts)
    upper = int(filled[-1]) - top >= top - int(filled[0])
    side = coarse.counts[top::-1] if upper else coarse.counts[top:]
    reach = int(np.searchsorted(np.cumsum(side), percent / 100 * side.sum()))
    place = top + reach if upper else top - reach
    return (_plain(coarse.centres[int(np.clip(place, 0, coarse.counts.size - 1))]),)


def _plain(value: Any) -> float:
    number = value.item() if isinstance(value, np.generic) else value
    return number  # type: ignore[no-any-return]
