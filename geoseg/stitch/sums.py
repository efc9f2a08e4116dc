"""Weighted probabilities of overlapping tiles added up, and what is read off the sums.

Weights and probabilities are whole numbers, so sums don't depend on the order in which they
are added. A device may hold them instead of the host (models/deep/blending.py): all that
leaves it are labels, layers and the sums that other blocks need.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numba import njit
from numpy.typing import NDArray

from geoseg.errors import InputError
from geoseg.grid import Window
from geoseg.legend import NODATA_CATEGORY
from geoseg.models.segmenter import Arrays, SemanticTile

__all__ = ["PROB_LEVELS", "HostSums", "OpenSums", "Reading", "Sums", "read_sums"]

PROB_LEVELS = 65535
"""A probability of 1."""

Score = Literal["confidence", "margin", "entropy"]
KINDS: tuple[Score, ...] = ("confidence", "margin", "entropy")


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What is wanted of blended probabilities.

    Attributes:
        category_ids: the category of each class, in the order of the probabilities.
        thresholds: least probability of each class; empty: none. Where no class reaches its
            own the pixel is nodata.
        score: what the score is.
        layers: further layers: of ``prob_ID``, ``confidence``, ``margin``, ``entropy``.

    """

    category_ids: tuple[int, ...]
    thresholds: tuple[float, ...] = ()
    score: Score = "confidence"
    layers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        known = {*KINDS, *(f"prob_{number}" for number in self.category_ids)}
        wrong = set(self.layers) - known
        if wrong:
            raise InputError(f"--blend: no layer {', '.join(sorted(wrong))}: use {sorted(known)}")

    @property
    def kinds(self) -> tuple[Score, ...]:
        """Which of the scores must be worked out."""
        return tuple(kind for kind in KINDS if kind in (self.score, *self.layers))


class Sums(Protocol):
    """(class and total weight, row, col) of what a block reads; windows are relative to it."""

    def add(self, tile: Any, place: Window, ramp: NDArray[np.uint32]) -> None:
        """A tile's probabilities, weighted by ``ramp`` down the rows and along the columns."""
        ...

    def read(self, window: Window, valid: NDArray[np.bool_], how: Reading) -> Arrays:
        """See ``read_sums``."""
        ...

    def taken(self, windows: Sequence[Window]) -> NDArray[np.uint32]:
        """Some windows, one after the other: (class + 1, pixel)."""
        ...


class OpenSums(Protocol):
    """Makes empty sums (class + 1, row, col). Picklable."""

    def __call__(self, shape: tuple[int, int, int], /) -> Sums:
        """Zeros."""
        ...


class HostSums:
    """Sums in an array."""

    def __init__(self, shape: tuple[int, int, int]) -> None:
        self.array = np.zeros(shape, np.uint32)

    def add(self, tile: Any, place: Window, ramp: NDArray[np.uint32]) -> None:
        """See Sums; ``tile`` is a SemanticTile."""
        assert isinstance(tile, SemanticTile)
        rows, cols = place.slices
        _add(self.array[:, rows, cols], tile.probs, ramp)

    def read(self, window: Window, valid: NDArray[np.bool_], how: Reading) -> Arrays:
        """See Sums."""
        rows, cols = window.slices
        return read_sums(self.array[:, rows, cols], valid, how)

    def taken(self, windows: Sequence[Window]) -> NDArray[np.uint32]:
        """See Sums."""
        count = len(self.array)
        parts = [self.array[:, w.slices[0], w.slices[1]].reshape(count, -1) for w in windows]
        return np.concatenate([np.zeros((count, 0), np.uint32), *parts], 1)


def read_sums(sums: NDArray[np.uint32], valid: NDArray[np.bool_], how: Reading) -> Arrays:
    """``category_id``, ``score`` and the layers (row, col) uint8 of sums (class + 1, row, col).

    Scores and layers are levels of 254. Ties go to the first class; a valid pixel always has
    some weight.
    """
    known = valid & (sums[-1] > 0)
    least = np.array(how.thresholds or [0.0] * (len(sums) - 1), np.float64)
    best, first, second = _decide(sums, least)
    ids = np.array([*how.category_ids, NODATA_CATEGORY], np.uint8)
    scores: Arrays = {}
    for kind in how.kinds:
        if kind == "entropy":
            scores[kind] = _entropy(sums)
        else:
            scores[kind] = _levels(first if kind == "confidence" else first - second, sums[-1])
    out: Arrays = {"category_id": np.where(known, ids[best], NODATA_CATEGORY).astype(np.uint8)}
    shown = out["category_id"] != NODATA_CATEGORY
    out["score"] = np.where(shown, scores[how.score], 255).astype(np.uint8)
    for name in how.layers:
        if name not in scores:
            index = how.category_ids.index(int(name.removeprefix("prob_")))
            scores[name] = _levels(sums[index].astype(np.int64), sums[-1])
        out[name] = np.where(known, scores[name], 255).astype(np.uint8)
    return out


@njit(cache=True, nogil=True)
def _add(sums: Any, probs: Any, ramp: Any) -> None:  # pragma: no cover - compiled
    classes, rows, cols = probs.shape
    for k in range(classes + 1):
        for row in range(rows):
            for col in range(cols):
                weight = np.uint32(ramp[row] * ramp[col])
                if k == classes:
                    sums[k, row, col] += weight
                    continue
                prob = min(max(probs[k, row, col], np.float32(0)), np.float32(1))
                level = np.uint32(np.float64(prob) * PROB_LEVELS + 0.5)
                sums[k, row, col] += np.uint32(weight * level)


@njit(cache=True, nogil=True)
def _decide(sums: Any, least: Any) -> Any:  # pragma: no cover - compiled
    """Best class that reaches its threshold (class count: none); largest and second sum."""
    classes = sums.shape[0] - 1
    best = np.zeros(sums.shape[1:], np.uint8)
    first = np.zeros(sums.shape[1:], np.int64)
    second = np.zeros(sums.shape[1:], np.int64)
    for row in range(sums.shape[1]):
        for col in range(sums.shape[2]):
            whole = np.float64(sums[classes, row, col]) * PROB_LEVELS
            choice, value = classes, np.int64(-1)
            for k in range(classes):
                here = np.int64(sums[k, row, col])
                if here > value and here >= least[k] * whole:
                    choice, value = k, here
                if here > first[row, col]:
                    second[row, col] = first[row, col]
                    first[row, col] = here
                elif here > second[row, col]:
                    second[row, col] = here
            best[row, col] = choice
    return best, first, second


@njit(cache=True, nogil=True)
def _levels(values: Any, weights: Any) -> Any:  # pragma: no cover - compiled
    """Sums as shares of what they could be, in levels of 254."""
    out = np.zeros(values.shape, np.uint8)
    for row in range(values.shape[0]):
        for col in range(values.shape[1]):
            whole = np.int64(weights[row, col]) * PROB_LEVELS
            if whole > 0:
                out[row, col] = min((2 * 254 * values[row, col] + whole) // (2 * whole), 254)
    return out


@njit(cache=True, nogil=True)
def _entropy(sums: Any) -> Any:  # pragma: no cover - compiled
    """Of the distribution, as a share of the largest it can be, in levels of 254."""
    classes = sums.shape[0] - 1
    out = np.zeros(sums.shape[1:], np.uint8)
    for row in range(sums.shape[1]):
        for col in range(sums.shape[2]):
            total = 0.0
            for k in range(classes):
                total += np.float64(sums[k, row, col])
            if total == 0.0 or classes < 2:
                continue
            entropy = 0.0
            for k in range(classes):
                share = np.float64(sums[k, row, col]) / total
                if share > 0:
                    entropy -= share * np.log(share)
            out[row, col] = np.uint8(min(max(entropy / np.log(classes), 0.0), 1.0) * 254 + 0.5)
    return out
