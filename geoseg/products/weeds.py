"""Weeds: pressure per cell of a grid along the rows, and what to spray where."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely
from numpy.typing import NDArray

from geoseg.errors import InputError

if TYPE_CHECKING:
    import geopandas as gpd

__all__ = ["Prescription", "SprayRule", "grid_along", "prescribe"]

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class SprayRule:
    """How weeds become a prescription.

    Attributes:
        cell_m: length along the rows and width across them (a section, a nozzle).
        buffer_m: added around each weed: drift of the position, of the boom, of the map.
        smallest_spot_m2: buffered weeds that touch and are smaller together are left alone.
        doses: (weed cover share from which it applies, rate in l/ha), rising; the cover is
            that of the buffered weeds in the cell. The last is the full rate.

    """

    cell_m: tuple[float, float] = (0.5, 0.5)
    buffer_m: float = 0.1
    smallest_spot_m2: float = 0.0
    doses: tuple[tuple[float, float], ...] = ((0.0, 200.0),)

    def __post_init__(self) -> None:
        if min(self.cell_m) <= 0 or self.buffer_m < 0 or self.smallest_spot_m2 < 0:
            raise InputError("cells must be larger than 0 m, buffer and smallest spot 0 or more")
        starts = [start for start, _ in self.doses]
        if not self.doses or starts != sorted(set(starts)):
            raise InputError(f"doses {self.doses}: give at least one, by rising cover")
        if min(rate for _, rate in self.doses) < 0 or self.full_rate <= 0:
            raise InputError(f"doses {self.doses}: rates are l/ha, the last above 0")

    @property
    def full_rate(self) -> float:
        """Rate of a field that is sprayed as a whole, l/ha."""
        return self.doses[-1][1]


@dataclass(frozen=True)
class Prescription:
    """``cells``: cell, row, column, weeds (centres in it), weed_m2, pressure (share of the
    cell that weeds cover), spot_share (with buffer), area_m2 (inside the field), rate_l_ha,
    geometry; in the CRS of the weeds. ``azimuth_deg`` is the direction of its columns.
    """

    cells: gpd.GeoDataFrame
    rule: SprayRule
    azimuth_deg: float

    @property
    def sprayed_share(self) -> float:
        """Share of the field's area where the rate is above 0."""
        area = self.cells["area_m2"].to_numpy()
        return float(area[self.cells["rate_l_ha"].to_numpy() > 0].sum() / area.sum())

    @property
    def litres(self) -> float:
        """What is sprayed in all."""
        return float((self.cells["rate_l_ha"] * self.cells["area_m2"]).sum() / 1e4)

    @property
    def saving(self) -> float:
        """Share saved against the full rate on the whole field."""
        full = self.rule.full_rate * float(self.cells["area_m2"].sum()) / 1e4
        return 1 - self.litres / full


def grid_along(
    area: Any, azimuth_deg: float, cell_m: tuple[float, float]
) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Cells (n,) that cover a polygon, their sides along and across a direction.

    Gives the cells' polygons and (n, 2) their (row, column), rows counting along. Only
    cells that meet the polygon's inside are given.
    """
    angle = np.deg2rad(azimuth_deg)
    along, across = (
        np.array([np.sin(angle), np.cos(angle)]),
        np.array([np.cos(angle), -np.sin(angle)]),
    )
    corners = shapely.get_coordinates(area)
    u, v = corners @ along, corners @ across
    counts = [
        max(int(np.ceil((w.max() - w.min()) / size - 1e-9)), 1) for w, size in zip((u, v), cell_m)
    ]
    rows, columns = (k.ravel() for k in np.indices(counts))
    u0, v0 = u.min() + rows * cell_m[0], v.min() + columns * cell_m[1]
    sides = [(0, 0), (1, 0), (1, 1), (0, 1), (0, 0)]
    rings = np.stack(
        [
            (u0 + du * cell_m[0])[:, None] * along + (v0 + dv * cell_m[1])[:, None] * across
            for du, dv in sides
        ],
        axis=1,
    )  # (cell, corner, xy)
    cells = shapely.polygons(rings)
    shapely.prepare(area)
    inside = shapely.intersects(area, cells) & ~shapely.touches(area, cells)
    return cells[inside], np.stack([rows, columns], 1)[inside]


def prescribe(
    weeds: gpd.GeoDataFrame, area: Any, azimuth_deg: float, rule: SprayRule
) -> Prescription:
    """The prescription of a field.

    ``weeds`` polygons in a projected CRS in metres, ``area`` the field's polygon in it.
    Raises InputError where the CRS is not in metres or the field is empty.
    """
    import geopandas as gpd

    if weeds.crs is None or weeds.crs.axis_info[0].unit_name not in ("metre", "meter"):
        raise InputError(f"weeds are in {weeds.crs}: a prescription needs a CRS in metres")
    if area is None or shapely.is_empty(area) or shapely.area(area) == 0:
        raise InputError("the field has no area: give its outline, or a map that covers it")
    cells, place = grid_along(area, azimuth_deg, rule.cell_m)
    shapes = np.asarray(shapely.make_valid(weeds.geometry.to_numpy()), object)
    spots = _spots(shapes, rule)
    size = shapely.area(shapely.intersection(cells, area))
    weed_m2 = _covered(cells, shapely.union_all(shapes))
    spot_share = np.minimum(_covered(cells, spots) / shapely.area(cells), 1.0)
    tree = shapely.STRtree(cells)
    # a centre on the border of two cells counts once
    centres = tree.query(shapely.point_on_surface(shapes), predicate="intersects")
    _, first = np.unique(centres[0], return_index=True)
    counts = np.bincount(centres[1][first], minlength=len(cells))
    table = gpd.GeoDataFrame(
        {
            "cell": np.arange(1, len(cells) + 1),
            "row": place[:, 0],
            "column": place[:, 1],
            "weeds": counts,
            "weed_m2": weed_m2,
            "pressure": weed_m2 / shapely.area(cells),
            "spot_share": spot_share,
            "area_m2": size,
            "rate_l_ha": _rate(spot_share, rule),
        },
        geometry=cells,
        crs=weeds.crs,
    )
    return Prescription(table, rule, azimuth_deg)


def _spots(shapes: NDArray[Any], rule: SprayRule) -> Any:
    """Buffered weeds, touching ones as one, without the smallest."""
    parts = shapely.get_parts(shapely.union_all(shapely.buffer(shapes, rule.buffer_m)))
    return shapely.multipolygons(parts[shapely.area(parts) >= rule.smallest_spot_m2])


def _covered(cells: NDArray[Any], cover: Any) -> FloatArray:
    """m² of a (multi)polygon in each cell."""
    parts = shapely.get_parts(cover)
    cell, part = shapely.STRtree(parts).query(cells, predicate="intersects")
    common = shapely.area(shapely.intersection(cells[cell], parts[part]))
    return np.bincount(cell, common, minlength=len(cells)).astype(np.float64)


def _rate(share: FloatArray, rule: SprayRule) -> FloatArray:
    """Rate of each cell; nothing where no spot is."""
    rate = np.zeros(share.shape)
    for start, dose in rule.doses:
        rate = np.where((share > 0) & (share >= start), dose, rate)
    return rate
