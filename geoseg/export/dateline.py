"""Polygons of any CRS in longitude and latitude, cut where the map of the world is cut.

RFC 7946 (section 3.1.9) wants what crosses the antimeridian in parts. A ring is unrolled: each
longitude is the one nearest to that before it. It ends where it began, or a turn away when it
goes around a pole; then it is closed along the pole. The unrolled polygon is cut at each turn
and its parts are laid onto one world. Only rings that need it are treated so.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

__all__ = ["to_degrees"]

Coordinates = NDArray[np.float64]

_JUMP = 1.0
"""Degrees of longitude between neighbouring vertices that only edges near a pole have."""
_STEP = 0.25
"""The same, after edges near a pole have been divided."""
_AT_POLE = 90.0 - 1e-8
_ROUNDS = 40
_DIGITS = 1e-9


def to_degrees(shapes: NDArray[Any], crs: Any) -> NDArray[Any]:
    """Geometries (n,) of ``crs`` (pyproj's) in WGS 84: longitude, latitude.

    Polygons that cross the antimeridian or lie around a pole become MultiPolygons within
    -180 to 180 degrees; no other type comes out of a polygon. Coordinates that have no place
    on the earth come out as infinite.
    """
    from pyproj import Transformer

    forth = Transformer.from_crs(crs, "OGC:CRS84", always_xy=True)

    def degrees(xy: Coordinates) -> Coordinates:
        lon, lat = forth.transform(xy[:, 0], xy[:, 1])
        if crs.is_geographic:  # 190 or 400 degrees say on which turn they are
            lon = lon + 360 * np.round((xy[:, 0] * _unit(crs) - lon) / 360)
        # what lies along the antimeridian lies on it: the last digits say this side or that
        side = np.round(lon / 180)
        lon = np.where((np.abs(lon - 180 * side) < 1e-9) & (side % 2 == 1), 180 * side, lon)
        return np.column_stack([lon, lat])

    out = shapely.transform(shapes, degrees)
    poles = np.empty((0, 2)) if crs.is_geographic else _poles(forth)
    for k in np.flatnonzero(_is_cut(out, turned=crs.is_geographic)).tolist():
        parts = [_around(part, degrees, poles, crs) for part in shapely.get_parts(shapes[k])]
        out[k] = _polygons_of(shapely.union_all(parts))
    return out


def _unit(crs: Any) -> float:
    """Degrees per unit of a geographic CRS."""
    return float(np.degrees(crs.axis_info[0].unit_conversion_factor))


def _poles(forth: Any) -> Coordinates:
    """Where the poles lie in the projected CRS; those that it shows as a point."""
    lon = np.array([-120.0, 0.0, 120.0])
    found = []
    for lat in (90.0, -90.0):
        x, y = forth.transform(lon, np.full(3, lat), direction="INVERSE")
        if np.isfinite(x).all() and np.isfinite(y).all() and np.ptp(x) + np.ptp(y) < 1e-3:
            found.append((float(x.mean()), float(y.mean())))
    return np.array(found, np.float64).reshape(-1, 2)


def _is_cut(shapes: NDArray[Any], *, turned: bool) -> NDArray[np.bool_]:
    """Polygons (n,) in degrees that leave the world's map, or jump from edge to edge of it."""
    polygonal = np.isin(shapely.get_type_id(shapes), (3, 6))
    xy, owner = shapely.get_coordinates(shapes, return_index=True)
    hard = (np.abs(xy[:, 0]) > 180) | (np.abs(xy[:, 1]) >= _AT_POLE)
    if not turned and len(xy):
        same = owner[1:] == owner[:-1]
        hard[1:] |= same & (np.abs(np.diff(xy[:, 0])) > _JUMP)
    hard &= np.isfinite(xy).all(axis=1)
    out = np.zeros(len(shapes), bool)
    out[owner[hard]] = True
    out[owner[~np.isfinite(xy).all(axis=1)]] = False
    return out & polygonal


def _around(polygon: Any, degrees: Any, poles: Coordinates, crs: Any) -> Any:
    """One polygon of the CRS on the map of the world."""
    rings = [shapely.get_coordinates(ring) for ring in shapely.get_rings(polygon)]
    placed = []
    for ring in rings:
        if crs.is_geographic:
            placed.append(_wrapped(degrees(ring)))
        else:
            placed.append(_wrapped(_unrolled(_divided(ring, degrees, poles), degrees)))
    outer, *holes = placed
    return shapely.difference(outer, shapely.union_all(holes)) if holes else outer


def _divided(ring: Coordinates, degrees: Any, poles: Coordinates) -> Coordinates:
    """A ring with the pole as a vertex where it lies on an edge, and edges near it divided."""
    for pole in poles:
        step = np.diff(ring, axis=0)
        square = np.maximum((step**2).sum(1), 1e-300)
        along = ((pole - ring[:-1]) * step).sum(1) / square
        off = np.abs((ring[:-1] + along[:, None] * step) - pole).sum(1)
        near = np.flatnonzero((off < 1e-6) & (along > 1e-9) & (along < 1 - 1e-9))
        ring = np.insert(ring, near + 1, pole, axis=0)
    for _ in range(_ROUNDS):
        lonlat = degrees(ring)
        polar = np.abs(lonlat[:, 1]) >= _AT_POLE
        turn = np.abs((np.diff(lonlat[:, 0]) + 180) % 360 - 180)
        long = (turn > _STEP) & ~polar[1:] & ~polar[:-1]
        long &= np.abs(np.diff(ring, axis=0)).sum(1) > 1e-3
        where = np.flatnonzero(long)
        if not where.size:
            break
        ring = np.insert(ring, where + 1, (ring[where] + ring[where + 1]) / 2, axis=0)
    return ring


def _unrolled(ring: Coordinates, degrees: Any) -> Coordinates:
    """A ring in degrees whose longitudes follow each other, closed along a pole if around it."""
    lonlat = degrees(ring)[:-1]
    polar = np.abs(lonlat[:, 1]) >= _AT_POLE
    if polar.any():  # its longitude is any: from the next vertex all around to the one before
        lonlat = np.roll(lonlat, -int(np.flatnonzero(polar)[0]) - 1, axis=0)
        pole = lonlat[-1, 1]
        lonlat = lonlat[np.abs(lonlat[:, 1]) < _AT_POLE]
        lon = np.unwrap(lonlat[:, 0], period=360)
    else:
        # from the vertex next to a pole, whose meridian meets the ring nowhere on its way there
        lonlat = np.roll(lonlat, -int(np.argmax(np.abs(lonlat[:, 1]))), axis=0)
        lonlat = np.vstack([lonlat, lonlat[:1]])
        lon = np.unwrap(lonlat[:, 0], period=360)
        if abs(lon[-1] - lon[0]) < 180:
            return np.column_stack([lon, lonlat[:, 1]])
        pole = np.copysign(90.0, lonlat[:, 1].mean())
    open_ring = np.column_stack([lon, lonlat[:, 1]])
    return np.vstack([open_ring, [[lon[-1], pole], [lon[0], pole]], open_ring[:1]])


def _wrapped(ring: Coordinates) -> Any:
    """What an unrolled ring encloses, cut at each turn and laid onto -180 to 180 degrees."""
    whole = shapely.make_valid(shapely.Polygon(ring))
    first = int(np.floor((ring[:, 0].min() + 180) / 360))
    last = int(np.ceil((ring[:, 0].max() + 180) / 360))
    parts = []
    for turn in range(first, max(last, first + 1)):
        west = -180 + 360 * turn
        part = shapely.intersection(whole, shapely.box(west, -90, west + 360, 90))
        parts.append(shapely.transform(part, lambda xy, by=360 * turn: xy - [by, 0]))
    return shapely.union_all(parts)


def _polygons_of(shape: Any) -> Any:
    """The polygons of a geometry alone, as one; long edges divided, so that none looks cut."""
    parts = shapely.get_parts(shape)
    parts = parts[(shapely.get_type_id(parts) == 3) & (shapely.area(parts) > 0)]
    whole = shapely.segmentize(shapely.multipolygons(parts), 90.0)
    # a bound that was cut is exact
    whole = shapely.transform(whole, lambda xy: np.clip(xy, (-180, -90), (180, 90)))
    # on the digits that are written, where slivers along a cut would cross themselves
    return shapely.set_precision(whole, _DIGITS)
