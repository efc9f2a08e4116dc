"""Change between two maps of the same ground: a from-to matrix and where it happened."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from geoseg.errors import InputError
from geoseg.legend import NODATA_CATEGORY, Legend

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["ChangeMatrix", "change_codes", "change_matrix"]

_CODES = 256


@dataclass(frozen=True)
class ChangeMatrix:
    """Areas that went from one category to another.

    ``area_ha`` (from, to) in the order of the two legends; ``lost_ha`` is ground that only
    one of the two dates saw: it is in no cell.
    """

    before: Legend
    after: Legend
    area_ha: NDArray[np.float64]
    lost_ha: float

    @property
    def changed_ha(self) -> float:
        """Area whose category's name differs."""
        same = [
            (i, j)
            for i, one in enumerate(self.before)
            for j, other in enumerate(self.after)
            if one.name == other.name
        ]
        return float(self.area_ha.sum() - sum(self.area_ha[i, j] for i, j in same))

    def table(self) -> pd.DataFrame:
        """Rows from, columns to, hectares, with the sums of both."""
        import pandas as pd

        names = [c.name for c in self.before], [c.name for c in self.after]
        frame = pd.DataFrame(self.area_ha, index=names[0], columns=names[1])
        frame.loc["total"] = frame.sum()
        frame["total"] = frame.sum(axis=1)
        frame.index.name = "from \\ to, ha"
        return frame


def change_matrix(
    pairs: Iterable[tuple[NDArray[np.uint8], NDArray[np.uint8], float]],
    before: Legend,
    after: Legend,
) -> ChangeMatrix:
    """Sum up windows of two maps: (categories before, after, m² of a pixel there).

    Both maps lie on the same grid. Raises InputError on a category that a legend lacks.
    """
    area = np.zeros((_CODES, _CODES))
    for one, other, pixel_m2 in pairs:
        if one.shape != other.shape:
            raise InputError(f"the two maps differ in shape: {one.shape} and {other.shape}")
        both = one.astype(np.int64).ravel() * _CODES + other.ravel()
        area += np.bincount(both, minlength=_CODES**2).reshape(_CODES, _CODES) * pixel_m2
    rows, columns = _ids(before, area.sum(1)), _ids(after, area.sum(0))
    only_one = area[NODATA_CATEGORY, :].sum() + area[:, NODATA_CATEGORY].sum()
    only_one -= 2 * area[NODATA_CATEGORY, NODATA_CATEGORY]
    return ChangeMatrix(before, after, area[np.ix_(rows, columns)] / 1e4, float(only_one / 1e4))


def _ids(legend: Legend, used: NDArray[np.float64]) -> Sequence[int]:
    ids = [category.id for category in legend]
    unknown = set(np.flatnonzero(used[:NODATA_CATEGORY]).tolist()) - set(ids)
    if unknown:
        raise InputError(f"legend {legend.name!r} lacks categories of the map: {sorted(unknown)}")
    return ids


def change_codes(before: NDArray[np.uint8], after: NDArray[np.uint8]) -> NDArray[Any]:
    """One uint16 per pixel: 256 * from + to where they differ, 0 where they don't, 65535 where
    either has no data. A change from category 0 to category 0 is none, so 0 is free.
    """
    codes = before.astype(np.uint16) * _CODES + after
    codes = np.where(before == after, np.uint16(0), codes)
    unseen = (before == NODATA_CATEGORY) | (after == NODATA_CATEGORY)
    return np.where(unseen, np.uint16(65535), codes)
