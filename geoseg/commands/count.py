"""geoseg count: how many objects lie in each polygon of a file, or cell of a grid."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from geoseg.errors import InputError
from geoseg.shapes import moved

if TYPE_CHECKING:
    import geopandas as gpd

__all__ = ["command"]


@click.command(name="count")
@click.argument("objects", metavar="POLYGONS")
@click.option("--zones", metavar="FILE", help="Count per polygon of this file.")
@click.option("--cell", type=float, metavar="SIDE", help="Count per square cell, in CRS units.")
@click.option("--category", metavar="NAME", help="Only objects of this category.")
@click.option(
    "--prefix", default="", metavar="TEXT", help="Before the names of the columns that are added."
)
@click.option("-o", "--output", required=True, metavar="FILE", help="A .gpkg .parquet .fgb ...")
@click.option("--overwrite", is_flag=True, help="Replace the output if it exists.")
def command(objects: str, zones: str | None, cell: float | None, **options: Any) -> None:
    r"""How many things of a map lie in each zone, in all, per hectare and per category.

    POLYGONS are those of 'geoseg map': only things count where the column 'isthing' tells.
    An object belongs to the zone that a point inside it lies in, so none counts twice. Columns
    of the zones stay as they are: with --prefix the counts of several maps go side by side.

    \b
    geoseg count plants.gpkg --cell 5 -o density.gpkg
    geoseg count crowns.gpkg --zones stands.gpkg -o crowns_per_stand.gpkg
    geoseg count dead.gpkg --zones crowns_per_stand.gpkg --prefix dead_ -o stands.gpkg
    """
    import geopandas as gpd
    import shapely

    from geoseg.commands.fields import read_polygons
    from geoseg.export.facts import derived_facts
    from geoseg.export.vector import check_output, write_vector
    from geoseg.products.counts import count_table, grid_cells

    if (zones is None) == (cell is None):
        raise InputError("count: say either --zones FILE or --cell SIDE")
    check_output(options["output"], options["overwrite"], kinds=("vector",))
    things = read_polygons(objects, options["category"])
    if "isthing" in things.columns:
        things = things[things["isthing"].astype(bool)]
    if zones is not None:
        frame = moved(read_polygons(zones, None), things.crs, zones).reset_index(drop=True)
    elif cell is not None and len(things):
        cells = grid_cells(tuple(things.total_bounds.tolist()), cell)
        frame = gpd.GeoDataFrame(geometry=cells, crs=things.crs)
    else:
        raise InputError(f"{objects}: no thing to lay cells around")
    points = shapely.point_on_surface(things.geometry.to_numpy())
    table = count_table(
        points, _names(things), frame.geometry.to_numpy(), _hectares(frame, zones or objects)
    )
    names = {name: f"{options['prefix']}{name}" for name in table.columns}
    _check_free(zones or objects, frame, names.values())
    found = int(table["count"].sum())
    click.echo(f"{found:,} of {len(things):,} objects in {(table['count'] > 0).sum():,} zones")
    for name, column in names.items():
        frame[column] = table[name].to_numpy()
    told = {"zones": zones and Path(zones).name, "cell": cell} | {
        name: options[name] for name in ("category", "prefix")
    }
    write_vector(
        frame,
        options["output"],
        provenance=derived_facts(objects, "count", told),
        overwrite=options["overwrite"],
    )


def _check_free(path: str, frame: gpd.GeoDataFrame, names: Iterable[str]) -> None:
    """Raises InputError where a column of the zones would be replaced; some formats tell no
    capitals from small letters.
    """
    there = {str(column).lower(): str(column) for column in frame.columns}
    taken = [there[name.lower()] for name in names if name.lower() in there]
    if taken:
        raise InputError(
            f"{path}: has a column {taken[0]!r} already, which would be lost: give --prefix new_, "
            "say, for the columns that are added"
        )


def _names(things: gpd.GeoDataFrame) -> Any:
    if "category" not in things.columns:
        return np.full(len(things), "object", object)
    return things["category"].astype(str).to_numpy(object)


def _hectares(frame: gpd.GeoDataFrame, name: str) -> Any:
    """Geodesic areas."""
    from pyproj import Geod

    geod = Geod(ellps="WGS84")
    lonlat = moved(frame, "EPSG:4326", name).geometry
    return np.array([abs(geod.geometry_area_perimeter(g)[0]) for g in lonlat]) / 1e4
