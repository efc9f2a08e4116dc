"""Metrics of category maps from confusion matrices that add up tile by tile.

Accuracy, IoU, F1 as usual; kappa: Cohen 1960; boundary IoU: Cheng et al., "Boundary IoU:
Improving Object-Centric Image Segmentation Evaluation", CVPR 2021.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter, minimum_filter

__all__ = ["Confusion", "bootstrap", "boundary_band", "boundary_iou", "boundary_px"]

NODATA = 255


@dataclass(frozen=True)
class Confusion:
    """``counts`` (256, 256) int64: pixels by category of the truth (row) and found (column).

    Row 255 are pixels without truth: they never count. Column 255 are labelled pixels that
    were not mapped: they count as wrong.

    >>> c = Confusion.of(np.array([0, 0, 1, 255]), np.array([0, 1, 1, 1]))
    >>> c.accuracy, c.iou(0), (c + c).pixels
    (0.6666666666666666, 0.5, 6)
    """

    counts: NDArray[np.int64]

    @classmethod
    def empty(cls) -> Confusion:
        """Of no pixels."""
        return cls(np.zeros((256, 256), np.int64))

    @classmethod
    def of(cls, truth: NDArray[Any], found: NDArray[Any]) -> Confusion:
        """Of two arrays of category ids (uint8) of one shape."""
        code = truth.astype(np.int64).ravel() * 256 + found.ravel()
        return cls(np.bincount(code, minlength=65536).reshape(256, 256).astype(np.int64))

    def __add__(self, other: Confusion) -> Confusion:
        return Confusion(self.counts + other.counts)

    @property
    def judged(self) -> NDArray[np.int64]:
        """Counts without the row of pixels that have no truth."""
        return self.counts[:NODATA]

    @property
    def pixels(self) -> int:
        """Pixels with truth."""
        return int(self.judged.sum())

    @property
    def categories(self) -> list[int]:
        """Categories in the truth, or found where there is truth."""
        seen = (self.judged[:, :NODATA].sum(1) + self.judged[:, NODATA]) + self.judged[
            :, :NODATA
        ].sum(0)
        return [int(k) for k in np.flatnonzero(seen)]

    def _parts(self, category: int) -> tuple[int, int, int]:
        both = int(self.counts[category, category])
        return both, int(self.judged[:, category].sum()), int(self.counts[category].sum())

    def iou(self, category: int) -> float:
        """Intersection over union; NaN where the category is in neither."""
        both, found, truth = self._parts(category)
        return _ratio(both, found + truth - both)

    def f1(self, category: int) -> float:
        """Harmonic mean of precision and recall."""
        both, found, truth = self._parts(category)
        return _ratio(2 * both, found + truth)

    def precision(self, category: int) -> float:
        """Share of what was found that is right (user's accuracy)."""
        both, found, _ = self._parts(category)
        return _ratio(both, found)

    def recall(self, category: int) -> float:
        """Share of the truth that was found (producer's accuracy)."""
        both, _, truth = self._parts(category)
        return _ratio(both, truth)

    @property
    def accuracy(self) -> float:
        """Share of the labelled pixels that are right."""
        return _ratio(int(np.trace(self.judged[:, :NODATA])), self.pixels)

    @property
    def kappa(self) -> float:
        """Cohen's kappa."""
        total = float(self.pixels)
        if not total:
            return float("nan")
        chance = float(self.judged.sum(0)[:NODATA] / total @ (self.judged.sum(1) / total))
        return (self.accuracy - chance) / (1 - chance) if chance < 1 else float("nan")

    @property
    def mean_iou(self) -> float:
        """Mean IoU over ``categories``."""
        return _mean([self.iou(k) for k in self.categories])

    @property
    def mean_f1(self) -> float:
        """Mean F1 over ``categories``."""
        return _mean([self.f1(k) for k in self.categories])

    def summary(self) -> dict[str, float]:
        """The scene-wide numbers by name."""
        return {
            "accuracy": self.accuracy,
            "kappa": self.kappa,
            "mean_iou": self.mean_iou,
            "mean_f1": self.mean_f1,
        }


def boundary_px(shape: tuple[int, int], ratio: float = 0.02) -> int:
    """The width of the boundary: a share of the image's diagonal, at least 1 (Cheng et al.)."""
    return max(round(ratio * float(np.hypot(*shape))), 1)


def boundary_band(labels: NDArray[Any], width: int) -> NDArray[np.bool_]:
    """Pixels within ``width`` px (chessboard) of a pixel with another label, (row, col).

    To get the band of a window of a scene, give it with ``width`` px more on each side, and
    a label that occurs nowhere beyond the scene's edge: the edge is a boundary.
    """
    size = 2 * width + 1
    low = minimum_filter(labels, size, mode="nearest")
    high = maximum_filter(labels, size, mode="nearest")
    band: NDArray[np.bool_] = low != high
    return band


def boundary_iou(
    truth: NDArray[Any], found: NDArray[Any], width: int, category: int
) -> tuple[int, int]:
    """(intersection, union) in pixels of the boundaries of one category; they add up.

    Both arrays of category ids are whole scenes, or windows padded as for boundary_band.
    """
    bands = []
    for labels in (truth, found):
        mask = labels == category
        bands.append(mask & boundary_band(mask, width))
    return int((bands[0] & bands[1]).sum()), int((bands[0] | bands[1]).sum())


def bootstrap(
    parts: Sequence[Any],
    statistic: Callable[[Any], Mapping[str, float]],
    *,
    draws: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, tuple[float, float]]:
    """Confidence intervals of a statistic by drawing blocks with replacement.

    ``parts`` are summable (Confusion of each block, say): pixels of one block are alike, so
    blocks and not pixels are drawn (Efron and Tibshirani 1993, percentile intervals).
    """
    rng = np.random.default_rng(seed)
    values: dict[str, list[float]] = {}
    for _ in range(draws):
        chosen = rng.integers(0, len(parts), len(parts))
        total = parts[chosen[0]]
        for k in chosen[1:]:
            total = total + parts[k]
        for name, value in statistic(total).items():
            values.setdefault(name, []).append(value)
    tail = 100 * (1 - level) / 2
    out = {}
    for name, drawn in values.items():
        low, high = np.nanpercentile(drawn, [tail, 100 - tail])
        out[name] = (float(low), float(high))
    return out


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")


def _mean(values: Sequence[float]) -> float:
    return float(np.nanmean(values)) if len(values) else float("nan")
