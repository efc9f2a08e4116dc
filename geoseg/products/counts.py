"""How many objects lie in each zone: polygons of a file or the cells of a grid."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from geoseg.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["MOST_CELLS", "count_table", "grid_cells"]

MOST_CELLS = 4_000_000
"""Cells that a grid may have."""


def grid_cells(bounds: tuple[float, float, float, float], side: float) -> NDArray[Any]:
    """Square cells that cover bounds (xmin, ymin, xmax, ymax), rows from the north.

    They lie at whole multiples of ``side`` (CRS units), so that grids of neighbouring maps
    fit. Raises InputError on a side that isn't positive or gives more than MOST_CELLS.
    """
    import shapely

    if not side > 0:
        raise InputError(f"cells of {side}: use a side above 0, in the units of the CRS")
    lower, upper = np.array(bounds[:2]), np.array(bounds[2:])
    low, high = np.floor(lower / side), np.ceil(upper / side)
    low -= low * side > lower  # the quotient may have been rounded to the whole number beside
    high += high * side < upper
    cols, rows = np.maximum(high - low, 1).astype(np.int64).tolist()
    if cols * rows > MOST_CELLS:
        raise InputError(f"cells of {side} would be {cols * rows:,}: use larger ones")
    # neighbours share their edges to the last bit: what lies there is in one of them
    x = (low[0] + np.arange(cols + 1)) * side
    y = (low[1] + np.arange(rows + 1)[::-1]) * side
    left, bottom = (a.ravel() for a in np.meshgrid(x[:-1], y[1:]))
    right, top = (a.ravel() for a in np.meshgrid(x[1:], y[:-1]))
    cells: NDArray[Any] = shapely.box(left, bottom, right, top)
    return cells


def count_table(
    points: NDArray[Any], category: NDArray[Any], zones: NDArray[Any], zone_ha: NDArray[np.float64]
) -> pd.DataFrame:
    """One row per zone: count, per_ha, and a count per category, named ``count_NAME``.

    ``points``, one per object, and ``zones`` are geometries of one CRS; ``category`` the
    objects' names. An object belongs to the zone its point lies in; on a shared border, or
    where zones overlap, to the first, so that none counts twice.
    """
    import pandas as pd
    import shapely

    tree = shapely.STRtree(zones)
    objects, owners = tree.query(points, predicate="intersects")
    first = np.full(len(points), len(zones), np.int64)
    np.minimum.at(first, objects, owners)
    inside = first < len(zones)
    table = pd.DataFrame({"count": np.bincount(first[inside], minlength=len(zones))})
    table["per_ha"] = table["count"] / zone_ha
    for name in sorted(set(category.tolist())):
        chosen = inside & (category == name)
        table[f"count_{name}"] = np.bincount(first[chosen], minlength=len(zones))
    return table
