"""Parcels: a table of fields with their sizes, shapes and covers, and as fiboa wants it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely
from numpy.typing import NDArray
from pyproj import CRS

from geoseg.errors import InputError
from geoseg.products.measure import geodesic_measures

if TYPE_CHECKING:
    import geopandas as gpd

__all__ = ["FIBOA_SCHEMA", "METHODS", "check_fiboa", "parcel_table", "to_fiboa"]

FIBOA_SCHEMA = "https://fiboa.org/specification/v0.3.0/schema.yaml"
METHODS = ("manual", "driven", "surveyed", "auto-operation", "auto-imagery", "unknown")

Counts = Callable[[Any], Mapping[str, int]]
"""A polygon in the table's CRS to pixels per cover name."""


def parcel_table(fields: gpd.GeoDataFrame, covers: Counts | None = None) -> gpd.GeoDataFrame:
    """One row per field: parcel_id, area_ha, perimeter_m, shape_index, and its cover.

    ``shape_index`` is the perimeter over that of a circle of the same area (Patton 1975): 1
    for a circle, 1.13 for a square. ``covers`` adds ``cover``, the name with most pixels,
    and ``cover_share``. Ids are dense from 1 in raster order: from north to south, then from
    west to east, of the centroids; so they don't depend on the order of the input. Raises
    InputError where the polygons have no CRS.
    """
    import geopandas as gpd

    fields = fields[fields.geometry.notna() & ~fields.geometry.is_empty]
    shapes = np.asarray(fields.geometry.array, object)
    crs = None if fields.crs is None else CRS.from_user_input(fields.crs)
    centroids = shapely.centroid(shapes)
    order = np.lexsort((shapely.get_x(centroids), -shapely.get_y(centroids)))
    shapes = shapes[order]
    area, perimeter = geodesic_measures(shapes, crs)
    table = gpd.GeoDataFrame(
        {
            "parcel_id": np.arange(1, len(shapes) + 1, dtype=np.int64),
            "area_ha": area / 1e4,
            "perimeter_m": perimeter,
            "shape_index": perimeter / (2 * np.sqrt(np.pi * np.maximum(area, 1e-12))),
        },
        geometry=gpd.GeoSeries(shapes, crs=fields.crs),
        crs=fields.crs,
    )
    if "score" in fields.columns:
        table["score"] = fields["score"].to_numpy()[order]
    if covers is not None:
        found = [_dominant(covers(shape)) for shape in shapes]
        table["cover"] = [name for name, _ in found]
        table["cover_share"] = np.array([share for _, share in found], np.float64)
    return table


def _dominant(counts: Mapping[str, int]) -> tuple[str | None, float]:
    total = sum(counts.values())
    if total == 0:
        return None, float("nan")
    # of equals the first name, so that the table doesn't depend on the order of counting
    name = min(counts, key=lambda key: (-counts[key], key))
    return name, counts[name] / total


def to_fiboa(
    parcels: gpd.GeoDataFrame,
    *,
    observed: datetime,
    method: str = "auto-imagery",
    details: str = "",
    collection: str = "geoseg",
) -> gpd.GeoDataFrame:
    """A parcel table with the names and types of fiboa 0.3 (``FIBOA_SCHEMA``), in WGS 84.

    ``observed`` is when the imagery was taken, in UTC where it has no zone. Metrics are the
    geodesic ones of the original polygons: m² and m. Raises InputError on a method that
    fiboa doesn't know.
    """
    import geopandas as gpd

    if method not in METHODS:
        raise InputError(f"fiboa has no determination method {method!r}: {', '.join(METHODS)}")
    moment = (observed.replace(tzinfo=UTC) if observed.tzinfo is None else observed).astimezone(UTC)
    wgs84 = parcels.to_crs("EPSG:4326")
    number = len(parcels)
    table = gpd.GeoDataFrame(
        {
            "id": parcels["parcel_id"].astype(str).to_numpy(),
            "collection": [collection] * number,
            "category": [["other"]] * number,
            "metrics:area": (parcels["area_ha"] * 1e4).to_numpy(np.float32),
            "metrics:perimeter": parcels["perimeter_m"].to_numpy(np.float32),
            "determination:datetime": np.full(
                number, np.datetime64(moment.replace(tzinfo=None), "ms")
            ),
            "determination:method": [method] * number,
            "determination:details": [details] * number,
        },
        geometry=np.asarray(shapely.make_valid(wgs84.geometry.to_numpy()), object),
        crs="EPSG:4326",
    )
    table["determination:datetime"] = table["determination:datetime"].dt.tz_localize("UTC")
    check_fiboa(table)
    return table


def check_fiboa(table: gpd.GeoDataFrame) -> None:
    """Hold a table against what fiboa 0.3 requires of its columns; raises InputError.

    Checked: id and geometry are there, ids are text and unique within a collection, shapes
    are valid polygons in WGS 84, 0 < area <= 1e9 m², 0 < perimeter <= 1.25e9 m, the method
    is a known one, the time has a zone, categories are known and not repeated.
    """
    problems = list(_fiboa_problems(table))
    if problems:
        raise InputError(f"not valid fiboa {FIBOA_SCHEMA}: {'; '.join(problems)}")


def _fiboa_problems(table: gpd.GeoDataFrame) -> list[str]:
    missing = {"id", "geometry"} - set(table.columns)
    if missing:
        return [f"no column {name}" for name in sorted(missing)]
    problems = []
    if not all(isinstance(value, str) and value for value in table["id"]):
        problems.append("id is not text everywhere")
    keys = [name for name in ("collection", "id") if name in table.columns]
    if table.duplicated(keys).any():
        problems.append("an id is used twice")
    kinds = set(table.geometry.geom_type) - {"Polygon", "MultiPolygon"}
    if kinds or not table.geometry.is_valid.all():
        problems.append("a geometry is not a valid polygon")
    for name, largest in (("metrics:area", 1e9), ("metrics:perimeter", 1.25e9)):
        if name in table.columns:
            values: NDArray[Any] = table[name].to_numpy(np.float64)
            if not ((values > 0) & (values <= largest)).all():
                problems.append(f"{name} is not between 0 and {largest:g}")
    if "determination:method" in table.columns:
        unknown = set(table["determination:method"]) - set(METHODS)
        if unknown:
            problems.append(f"unknown method {', '.join(map(str, unknown))}")
    if (
        "determination:datetime" in table.columns
        and getattr(table["determination:datetime"].dtype, "tz", None) is None
    ):
        problems.append("determination:datetime has no time zone")
    return problems
