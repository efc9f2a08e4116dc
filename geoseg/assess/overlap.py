"""Overlap tables of two segment maps: whole numbers that add up tile by tile.

Every instance and panoptic metric is made from one such table, so a scene may be read in
windows of any shape and order. A segment is a (category, instance) pair; stuff has instance 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["BACKGROUND", "VOID", "OverlapTable", "segment_key", "split_key"]

VOID = -1
"""Key of pixels that are not judged: nobody said what is there."""

BACKGROUND = -2
"""Key of pixels where there is nothing: what is found on them is wrong, but they are no
segment themselves."""

_INSTANCES = 1 << 40
NODATA = 255


def segment_key(
    category_id: NDArray[Any], instance_id: NDArray[Any] | int = 0, *, none: int = VOID
) -> NDArray[Any]:
    """One int64 per pixel: category * 2**40 + instance; ``none`` where the category is 255."""
    key = category_id.astype(np.int64) * _INSTANCES + np.asarray(instance_id, np.int64)
    return np.where(category_id == NODATA, none, key)


def split_key(key: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(category, instance) of keys; VOID and BACKGROUND give category 255, instance 0."""
    category, instance = np.divmod(key, _INSTANCES)
    void = key < 0
    return np.where(void, NODATA, category), np.where(void, 0, instance)


@dataclass(frozen=True, slots=True)
class OverlapTable:
    """Pairs of segments that share pixels, sorted by (truth, found); all int64.

    ``truth`` and ``found`` are keys of ``segment_key``, ``pixels`` what the pair shares.

    >>> table = OverlapTable.of(np.array([0, 0, 1]), np.array([0, 1, 1]))
    >>> table.pixels.tolist()
    [1, 1, 1]
    >>> (table + table).pixels.tolist()
    [2, 2, 2]
    """

    truth: NDArray[np.int64]
    found: NDArray[np.int64]
    pixels: NDArray[np.int64]

    @classmethod
    def empty(cls) -> OverlapTable:
        """The table of no pixels."""
        none = np.zeros(0, np.int64)
        return cls(none, none, none)

    @classmethod
    def of(
        cls, truth: NDArray[Any], found: NDArray[Any], where: NDArray[np.bool_] | None = None
    ) -> OverlapTable:
        """The table of two arrays of keys of one shape, of the pixels ``where`` is True."""
        a, b = (np.asarray(x, np.int64).ravel() for x in (truth, found))
        if where is not None:
            a, b = a[where.ravel()], b[where.ravel()]
        if not len(a):
            return cls.empty()
        new = np.flatnonzero((a[1:] != a[:-1]) | (b[1:] != b[:-1])) + 1
        starts = np.concatenate([[0], new])
        lengths = np.diff(np.concatenate([starts, [len(a)]]))
        return _summed(a[starts], b[starts], lengths)

    def __add__(self, other: OverlapTable) -> OverlapTable:
        return _summed(
            np.concatenate([self.truth, other.truth]),
            np.concatenate([self.found, other.found]),
            np.concatenate([self.pixels, other.pixels]),
        )

    def sizes(self, side: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(keys, pixels) of all segments of ``truth`` or ``found``, VOID included, sorted."""
        keys, inverse = np.unique(getattr(self, side), return_inverse=True)
        total = np.zeros(len(keys), np.int64)
        np.add.at(total, inverse, self.pixels)
        return keys, total


def _summed(a: NDArray[Any], b: NDArray[Any], pixels: NDArray[Any]) -> OverlapTable:
    if not len(a):
        return OverlapTable.empty()
    order = np.lexsort((b, a))
    a, b, pixels = a[order], b[order], pixels[order]
    new = np.ones(len(a), bool)
    new[1:] = (a[1:] != a[:-1]) | (b[1:] != b[:-1])
    starts = np.flatnonzero(new)
    return OverlapTable(a[starts], b[starts], np.add.reduceat(pixels, starts))
