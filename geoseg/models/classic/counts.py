"""Statistics of a whole scene that add up exactly, whatever the blocks and their order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["MOST_VALUES", "BinCounts", "Extent", "ValueCounts"]

MOST_VALUES = 1 << 22
"""Distinct values that ValueCounts keeps; beyond it only the extent is known."""
_DENSE = 1 << 22
"""Widest range of whole numbers that is counted by an array."""


@dataclass(frozen=True, slots=True)
class Extent:
    """Smallest and largest value and the number of values; None where there was none."""

    low: Any = None
    high: Any = None
    count: int = 0

    @classmethod
    def of(cls, values: NDArray[Any]) -> Extent:
        """Of a flat array."""
        return cls(values.min(), values.max(), values.size) if values.size else cls()

    def __add__(self, other: Extent) -> Extent:
        if not (self.count and other.count):
            return self if self.count else other
        return Extent(
            min(self.low, other.low), max(self.high, other.high), self.count + other.count
        )


@dataclass(frozen=True, slots=True)
class BinCounts:
    """``numpy.histogram`` over a fixed range: counts (bin,) int64."""

    counts: NDArray[np.int64]

    @classmethod
    def of(cls, values: NDArray[Any], bins: int, extent: Extent) -> BinCounts:
        """Of a flat array; every value lies inside the extent."""
        counts, _ = np.histogram(values, bins=bins, range=(extent.low, extent.high))
        return cls(counts.astype(np.int64))

    def __add__(self, other: BinCounts) -> BinCounts:
        return BinCounts(self.counts + other.counts)


@dataclass(frozen=True, slots=True)
class ValueCounts:
    """Every distinct value, ascending, and how often it occurs.

    Exact up to MOST_VALUES distinct values; beyond it ``values`` is None and only the
    extent is left. Which of the two it ends as does not depend on blocks or order.
    """

    extent: Extent
    values: NDArray[Any] | None
    counts: NDArray[np.int64]

    @classmethod
    def of(cls, values: NDArray[Any]) -> ValueCounts:
        """Of a flat array."""
        extent = Extent.of(values)
        if values.dtype.kind in "iu" and values.size:
            low = int(extent.low)
            if int(extent.high) - low < min(_DENSE, 8 * values.size + 65536):
                dense = np.bincount(_shifted(values, low))
                found = np.flatnonzero(dense)
                return cls(extent, found + low, dense[found])
        unique, counts = np.unique(values, return_counts=True)
        return cls(extent, unique, counts.astype(np.int64))._bounded()

    def __add__(self, other: ValueCounts) -> ValueCounts:
        extent = self.extent + other.extent
        if self.values is None or other.values is None:
            return ValueCounts(extent, None, np.empty(0, np.int64))
        if np.array_equal(self.values, other.values):
            return ValueCounts(extent, self.values, self.counts + other.counts)
        values, place = np.unique(np.concatenate([self.values, other.values]), return_inverse=True)
        counts = np.zeros(values.size, np.int64)
        np.add.at(counts, place, np.concatenate([self.counts, other.counts]))
        return ValueCounts(extent, values, counts)._bounded()

    def _bounded(self) -> ValueCounts:
        if self.values is None or self.values.size <= MOST_VALUES:
            return self
        return ValueCounts(self.extent, None, np.empty(0, np.int64))


def _shifted(values: NDArray[Any], low: int) -> NDArray[Any]:
    """Whole numbers from 0, in a type that numpy counts without a copy where it can."""
    if low == 0 and values.dtype.itemsize <= 4:
        return values
    return values.astype(np.int64) - low
