"""Areas and lengths on the ellipsoid, whatever the CRS of the polygons."""

from __future__ import annotations

from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from pyproj import CRS, Transformer

from geoseg.errors import InputError

__all__ = ["geodesic_measures", "to_crs"]

FloatArray = NDArray[np.float64]


def to_crs(geometries: NDArray[Any], source: CRS, target: CRS) -> NDArray[Any]:
    """Geometries (n,) in another CRS, x before y."""
    if source == target:
        return geometries
    move = Transformer.from_crs(source, target, always_xy=True)

    def moved(xy: FloatArray) -> FloatArray:
        return np.column_stack(move.transform(xy[:, 0], xy[:, 1]))

    out: NDArray[Any] = shapely.transform(geometries, moved)
    return out


def geodesic_measures(geometries: NDArray[Any], crs: CRS | None) -> tuple[FloatArray, FloatArray]:
    """(area in m², perimeter in m) of polygons (n,) on the ellipsoid of their CRS.

    A local (engineering) CRS has no ellipsoid and is measured in its plane. Raises
    InputError without a CRS.
    """
    if crs is None:
        raise InputError("polygons without a CRS have no area in metres: give them one")
    if not (crs.is_geographic or crs.is_projected):
        unit = crs.axis_info[0].unit_conversion_factor if crs.axis_info else 1.0
        return shapely.area(geometries) * unit**2, shapely.length(geometries) * unit
    geod = crs.get_geod()
    degrees = to_crs(geometries, crs, crs.geodetic_crs or CRS("EPSG:4326"))
    pairs = [geod.geometry_area_perimeter(shape) for shape in shapely.orient_polygons(degrees)]
    measures = np.asarray(pairs, np.float64).reshape(-1, 2)
    return np.abs(measures[:, 0]), measures[:, 1]
