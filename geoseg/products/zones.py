"""What is in each zone: areas and shares of categories per polygon of a zone file."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from geoseg.errors import InputError
from geoseg.legend import NODATA_CATEGORY, Legend

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["zone_table"]

_CODES = 256


def zone_table(
    windows: Iterable[tuple[NDArray[np.int32], NDArray[np.uint8], float]],
    names: list[str],
    legend: Legend,
) -> pd.DataFrame:
    """One row per zone: zone, area_ha (mapped), unmapped_ha, then per category ha and share.

    ``windows`` give zone numbers (row, col) int32 (1 to len(names), 0 = no zone), categories
    (row, col) uint8 and the m² of a pixel there. ``dominant`` is the category with most
    area. Zones of less than a pixel have no area. Raises InputError on unknown categories.
    """
    import pandas as pd

    area = np.zeros((len(names) + 1, _CODES))
    for zones, categories, pixel_m2 in windows:
        both = zones.astype(np.int64).ravel() * _CODES + categories.ravel()
        counts = np.bincount(both, minlength=area.size)
        area += counts.reshape(area.shape) * (pixel_m2 / 1e4)
    inside = area[1:]
    ids = [category.id for category in legend]
    unknown = set(np.flatnonzero(inside[:, :NODATA_CATEGORY].sum(0)).tolist()) - set(ids)
    if unknown:
        raise InputError(f"legend {legend.name!r} lacks categories of the map: {sorted(unknown)}")
    of_class = inside[:, ids]
    mapped = of_class.sum(1)
    table = pd.DataFrame(
        {"zone": names, "area_ha": mapped, "unmapped_ha": inside[:, NODATA_CATEGORY]}
    )
    labels = np.array([category.name for category in legend], object)
    table["dominant"] = np.where(mapped > 0, labels[of_class.argmax(1)], None)
    with np.errstate(invalid="ignore"):
        shares = of_class / mapped[:, None]
    for i, category in enumerate(legend):
        table[f"{category.name}_ha"] = of_class[:, i]
        table[f"{category.name}_share"] = shares[:, i]
    return table
