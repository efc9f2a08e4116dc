"""Polygons to label arrays on a pixel grid, window by window."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from geoseg.errors import InputError
from geoseg.grid import Window
from geoseg.legend import NODATA_CATEGORY, Category, Legend

if TYPE_CHECKING:
    from affine import Affine
    from geopandas import GeoDataFrame
    from odc.geo.geobox import GeoBox

__all__ = ["PolygonLabels", "polygon_labels"]


@dataclass(frozen=True)
class PolygonLabels:
    """Polygons on a grid; a pixel is a polygon's when its centre lies inside.

    ``geometries`` in pixels (x to the right, y down) and, of the same length, their
    ``category_id`` and ``instance_id`` (0 for stuff). Where two overlap the later one counts.
    """

    geometries: NDArray[Any]
    category_id: NDArray[np.uint8]
    instance_id: NDArray[np.int32]
    shape: tuple[int, int]
    legend: Legend

    def read(self, window: Window) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
        """(category_id, instance_id), each (row, col); 255 and 0 where no polygon is."""
        import shapely
        from affine import Affine
        from rasterio.features import rasterize

        box = shapely.box(window.col_off, window.row_off, window.col_end, window.row_end)
        near = np.flatnonzero(shapely.intersects(self.geometries, box))
        place = np.zeros(window.shape, np.int32)
        if len(near):
            shapes = [(self.geometries[k], int(k) + 1) for k in near]
            transform = Affine.translation(window.col_off, window.row_off)
            rasterize(shapes, out=place, transform=transform)
        category = np.concatenate([np.array([NODATA_CATEGORY], np.uint8), self.category_id])
        instance = np.concatenate([np.zeros(1, np.int32), self.instance_id])
        return category[place], instance[place]


def polygon_labels(
    frame: GeoDataFrame,
    geobox: GeoBox,
    legend: Legend | None = None,
    *,
    column: str | None = None,
) -> PolygonLabels:
    """Polygons of a table on a grid.

    ``column`` holds category ids or names; by default ``category_id``, else ``category``,
    else all polygons are one thing called "object". Things are numbered from 1 in the order
    of the table. Without a legend one is made of the values found, all things unless a
    column ``isthing`` says otherwise. Raises InputError on unknown categories, and where one
    of the two has a CRS and the other has none.
    """
    if (frame.crs is None) != (geobox.crs is None):
        raise InputError("polygons and grid: one has a CRS, the other has none: give it one")
    if frame.crs is not None and geobox.crs is not None:
        frame = frame.to_crs(geobox.crs.to_wkt())
    frame = frame[frame.geometry.notna() & ~frame.geometry.is_empty]
    if column is None:
        column = next((c for c in ("category_id", "category") if c in frame.columns), None)
    elif column not in frame.columns:
        raise InputError(f"no column {column!r}: there are {', '.join(frame.columns)}")
    values = np.zeros(len(frame), np.int64) if column is None else frame[column].to_numpy()
    legend = legend or _legend(frame, column)
    ids, things = _ids(values, legend)
    number = np.where(things, np.cumsum(things), 0).astype(np.int32)
    shape = (int(geobox.shape[0]), int(geobox.shape[1]))
    return PolygonLabels(_in_pixels(frame, geobox.affine), ids, number, shape, legend)


def _in_pixels(frame: GeoDataFrame, transform: Affine) -> NDArray[Any]:
    import shapely

    a, b, c, d, e, f = tuple(~transform)[:6]

    def move(xy: NDArray[np.float64]) -> NDArray[np.float64]:
        x, y = xy[:, 0], xy[:, 1]
        return np.stack([a * x + b * y + c, d * x + e * y + f], 1)

    moved: NDArray[Any] = shapely.transform(frame.geometry.to_numpy(), move)
    return moved


def _legend(frame: GeoDataFrame, column: str | None) -> Legend:
    """A legend of what a table holds, names in the order of their ids or the alphabet."""
    from pandas.api.types import is_numeric_dtype

    if column is None:
        return Legend((Category(0, "object", COLOURS[0], isthing=True),))
    isthing = frame.get("isthing")
    kinds: dict[Any, bool] = {}
    for k, value in enumerate(frame[column].tolist()):
        kinds.setdefault(value, True if isthing is None else bool(isthing.iloc[k]))
    numeric = is_numeric_dtype(frame[column].dtype)  # numpy does not know pandas' text
    names: dict[Any, str] = {value: str(value) for value in kinds}
    if numeric and "category" in frame.columns:
        names = dict(zip(frame[column].tolist(), frame["category"].astype(str), strict=True))
    categories = [
        Category(
            int(value) if numeric else number, names[value], COLOURS[number % len(COLOURS)], thing
        )
        for number, (value, thing) in enumerate(sorted(kinds.items()))
    ]
    return Legend(tuple(categories))


COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442", "#999999")
"""Okabe and Ito's colours, told apart by colour-blind people too."""


def _ids(values: NDArray[Any], legend: Legend) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Category id of each value (an id or a name), and whether it is a thing."""
    numeric = np.issubdtype(values.dtype, np.number)
    known = {
        value: legend.by_id(int(value)) if numeric else legend.by_name(str(value))
        for value in set(values.tolist())
    }
    chosen = [known[value] for value in values.tolist()]
    ids = np.array([category.id for category in chosen], np.uint8)
    return ids, np.array([category.isthing for category in chosen], bool)
