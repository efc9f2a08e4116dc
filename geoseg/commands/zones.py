"""geoseg zones: what a map has in each polygon of a zone file."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from geoseg.errors import InputError
from geoseg.shapes import moved, read_shapes

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from geoseg.commands.classmap import ClassMap


@click.command(name="zones")
@click.argument("map_path", metavar="MAP")
@click.argument("zone_path", metavar="ZONES")
@click.option("--name", "column", metavar="COLUMN", help="Column with the zones' names.")
@click.option("--legend", metavar="NAME|FILE", help="By default the one that the map carries.")
@click.option("-o", "--output", metavar="FILE", help="Write the table as .csv or .json.")
@click.option("--overwrite", is_flag=True, help="Replace the output if it exists.")
def command(
    map_path: str,
    zone_path: str,
    column: str | None,
    legend: str | None,
    output: str | None,
    overwrite: bool,
) -> None:
    r"""Areas and shares of the categories of MAP in each polygon of ZONES, in any CRS.

    A pixel belongs to the zone its centre lies in; where zones overlap, to the later one.

    \b
    geoseg zones terrain.tif municipalities.gpkg --name NAME -o zones.csv
    """
    from geoseg.commands.classmap import check_table, open_class_map, write_table
    from geoseg.products.zones import zone_table

    check_table(output, overwrite=overwrite)
    opened = open_class_map(map_path, legend)
    shapes, names = read_zones(opened, zone_path, column)
    table = zone_table(_strips(opened, shapes), names, opened.legend)
    click.echo(table.to_string(index=False, float_format=lambda v: f"{v:,.4g}"))
    if output:
        write_table(table, output, overwrite=overwrite)


def read_zones(opened: ClassMap, path: str, column: str | None) -> tuple[NDArray[Any], list[str]]:
    """Polygons in the map's CRS and their names; raises InputError."""
    frame = read_shapes(path)
    if frame.crs is None or opened.geobox.crs is None:
        raise InputError(f"{path} and {opened.name}: both need a CRS to be laid over each other")
    if column is not None and column not in frame.columns:
        raise InputError(f"{path}: no column {column!r}: there are {', '.join(frame.columns)}")
    frame = moved(frame, opened.geobox.crs.to_wkt(), path)
    numbers = [str(number) for number in range(1, len(frame) + 1)]
    names = numbers if column is None else frame[column].astype(str).tolist()
    return frame.geometry.to_numpy(), names


def _strips(
    opened: ClassMap, shapes: NDArray[Any]
) -> Iterator[tuple[NDArray[np.int32], NDArray[np.uint8], float]]:
    import shapely
    from rasterio.features import rasterize

    for window, categories in opened.strips():
        part = opened.geobox[window.slices]
        box = shapely.from_wkb(part.extent.geom.wkb)
        near = np.flatnonzero(shapely.intersects(shapes, box))
        zones = np.zeros(window.shape, np.int32)
        if near.size:
            pairs = [(shapes[k], int(k) + 1) for k in near]
            rasterize(pairs, out=zones, transform=part.affine)
        yield zones, categories, opened.pixel_m2(window)
