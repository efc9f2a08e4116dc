"""A sample of a scene's values that does not depend on how the scene is cut.

Every distinct value (a vector of features) has a hash; those with the smallest hashes are
kept, each with the exact number of its pixels. That is a uniform sample of the distinct
values (bottom-k, Cohen and Kaplan 2007, doi 10.1145/1281100.1281133); samples of parts add
up to the sample of the whole in any order. A scene with fewer distinct values is complete.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

__all__ = ["SAMPLE", "ValueSample"]

SAMPLE = 1 << 16
"""Distinct values that are kept."""


@dataclass(frozen=True, slots=True)
class ValueSample:
    """``hashes`` (value,) ascending, ``values`` (value, feature), ``counts`` (value,) pixels.

    ``low`` and ``high`` (feature,) are the extremes of all pixels, ``pixels`` their number;
    ``complete`` is True while every distinct value is held.
    """

    hashes: NDArray[np.uint64]
    values: NDArray[np.float64]
    counts: NDArray[np.int64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    pixels: int
    complete: bool
    size: int = SAMPLE

    @classmethod
    def of(cls, values: NDArray[np.float64], size: int = SAMPLE) -> ValueSample:
        """Of values (feature, pixel), all finite."""
        features, pixels = values.shape
        if pixels == 0:
            none = np.empty(0)
            low, high = np.full(features, np.inf), np.full(features, -np.inf)
            return cls(none.astype(np.uint64), np.empty((0, features)), none.astype(np.int64),
                       low, high, 0, True, size)  # fmt: skip
        hashes = _hash(np.ascontiguousarray(values))
        unique, first, counts, complete = _smallest(hashes, size)
        return cls(unique, np.ascontiguousarray(values[:, first].T), counts,
                   values.min(1), values.max(1), pixels, complete, size)  # fmt: skip

    def __add__(self, other: ValueSample) -> ValueSample:
        hashes, first, place = np.unique(
            np.concatenate([self.hashes, other.hashes]), return_index=True, return_inverse=True
        )
        counts = np.zeros(hashes.size, np.int64)
        np.add.at(counts, place, np.concatenate([self.counts, other.counts]))
        values = np.concatenate([self.values, other.values])[first]
        kept = slice(0, self.size)
        return ValueSample(
            hashes[kept], values[kept], counts[kept],
            np.minimum(self.low, other.low), np.maximum(self.high, other.high),
            self.pixels + other.pixels,
            self.complete and other.complete and hashes.size <= self.size, self.size,
        )  # fmt: skip

    def __len__(self) -> int:
        return len(self.hashes)


def _smallest(
    hashes: NDArray[np.uint64], size: int
) -> tuple[NDArray[np.uint64], NDArray[np.intp], NDArray[np.int64], bool]:
    """The ``size`` smallest distinct hashes, a pixel of each, their counts, all or not."""
    share = 1.5 * size / hashes.size
    while True:
        # most pixels lie far above the cut: only those below a guess of it are sorted
        if share < 1:
            chosen = np.flatnonzero(hashes < np.uint64(share * 2.0**64))
            part = hashes[chosen]
        else:
            chosen, part = np.arange(hashes.size), hashes
        unique, first, counts = np.unique(part, return_index=True, return_counts=True)
        if unique.size > size or share >= 1:
            break
        share *= 8
    kept = slice(0, size)
    return unique[kept], chosen[first[kept]], counts[kept], unique.size <= size and share >= 1


@numba.njit(cache=True, nogil=True)
def _hash(values: Any) -> Any:  # pragma: no cover - compiled
    """splitmix64 (Steele et al. 2014) chained over the bits of the features."""
    features, pixels = values.shape
    bits = values.view(np.uint64)
    out = np.full(pixels, np.uint64(0x9E3779B97F4A7C15), np.uint64)
    for f in range(features):
        for i in range(pixels):
            x = bits[f, i]
            if x == np.uint64(0x8000000000000000):
                x = np.uint64(0)  # -0.0 is 0.0
            z = out[i] + x * np.uint64(0x9E3779B97F4A7C15) + np.uint64(0xD1B54A32D192ED03)
            z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            out[i] = z ^ (z >> np.uint64(31))
    return out
