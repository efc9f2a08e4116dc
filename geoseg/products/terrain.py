"""Land cover: how much of each category there is."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from geoseg.errors import InputError
from geoseg.legend import NODATA_CATEGORY, Legend

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["cover_table"]


def cover_table(windows: Iterable[tuple[NDArray[np.uint8], float]], legend: Legend) -> pd.DataFrame:
    """One row per category: category, pixels, area_ha, share of the mapped area.

    ``windows`` give categories (row, col) uint8 and the m² of a pixel there. These are
    counts of a map with errors: where an area is reported, draw a sample and correct them
    (``geoseg.assess.areas``). Raises InputError on a category that the legend lacks.
    """
    import pandas as pd

    pixels, area = np.zeros(256, np.int64), np.zeros(256)
    for categories, pixel_m2 in windows:
        counts = np.bincount(categories.ravel(), minlength=256)
        pixels += counts
        area += counts * (pixel_m2 / 1e4)
    ids = [category.id for category in legend]
    unknown = set(np.flatnonzero(pixels[:NODATA_CATEGORY]).tolist()) - set(ids)
    if unknown:
        raise InputError(f"legend {legend.name!r} lacks categories of the map: {sorted(unknown)}")
    total = area[ids].sum()
    return pd.DataFrame(
        {
            "category_id": ids,
            "category": [category.name for category in legend],
            "pixels": pixels[ids],
            "area_ha": area[ids],
            "share": area[ids] / total if total else np.nan,
        }
    )
