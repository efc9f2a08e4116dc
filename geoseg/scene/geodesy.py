"""Sizes on the ground: GSD and areas whatever the unit of the CRS."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

__all__ = ["gsd_m", "on_the_earth", "pixel_size_m"]


def on_the_earth(geobox: GeoBox) -> bool:
    """Whether the grid's CRS leads to degrees: a local (engineering) one, or none, doesn't."""
    if geobox.crs is None:
        return False
    import pyproj

    crs = pyproj.CRS.from_user_input(geobox.crs.to_wkt())
    return bool(crs.is_geographic or crs.is_projected)


def pixel_size_m(geobox: GeoBox) -> tuple[float, float] | None:
    """Height and width in metres of the pixel at the centre; None without a CRS.

    Measured on the ellipsoid of the CRS between the pixel's edges, so degrees, feet and
    stretched projections all come out right. An engineering (local) CRS is taken at its
    unit. None where the centre has no place on the earth.
    """
    if geobox.crs is None:
        return None
    import pyproj

    crs = pyproj.CRS.from_user_input(geobox.crs.to_wkt())
    rows, cols = geobox.shape
    row, col = rows / 2, cols / 2
    corners = [(col, row - 0.5), (col, row + 0.5), (col - 0.5, row), (col + 0.5, row)]
    points = [geobox.affine * corner for corner in corners]
    if not (crs.is_geographic or crs.is_projected):
        unit = crs.axis_info[0].unit_conversion_factor if crs.axis_info else 1.0
        spans = [math.dist(points[0], points[1]), math.dist(points[2], points[3])]
        return spans[0] * unit, spans[1] * unit
    to_degrees = pyproj.Transformer.from_crs(crs, crs.geodetic_crs, always_xy=True)
    degrees = [to_degrees.transform(x, y) for x, y in points]
    if not all(math.isfinite(v) for point in degrees for v in point):
        return None
    geod = crs.get_geod()
    height = geod.line_length(*zip(degrees[0], degrees[1], strict=True))
    width = geod.line_length(*zip(degrees[2], degrees[3], strict=True))
    return float(height), float(width)


def gsd_m(geobox: GeoBox) -> float | None:
    """Ground sampling distance in metres: the geometric mean of a pixel's two sizes."""
    size = pixel_size_m(geobox)
    return None if size is None else math.sqrt(size[0] * size[1])
