"""geoseg change: what became what between two maps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
import numpy as np

from geoseg.errors import InputError

if TYPE_CHECKING:
    from geoseg.commands.classmap import ClassMap


@click.command(name="change")
@click.argument("before", metavar="BEFORE")
@click.argument("after", metavar="AFTER")
@click.option("--legend", metavar="NAME|FILE", help="By default those that the maps carry.")
@click.option("-o", "--output", metavar="FILE", help="Write the matrix as .csv or .json.")
@click.option("--map", "raster", metavar="FILE", help="256 * from + to as a GeoTIFF, 0: same.")
@click.option("--overwrite", is_flag=True, help="Replace outputs that exist.")
def command(
    before: str,
    after: str,
    legend: str | None,
    output: str | None,
    raster: str | None,
    overwrite: bool,
) -> None:
    r"""The from-to matrix in hectares of two maps of categories on one grid.

    \b
    geoseg change 2018.tif 2024.tif -o change.csv --map change.tif
    """
    from geoseg.commands.classmap import check_table, open_class_map, write_table
    from geoseg.export.target import check_output
    from geoseg.products.change import change_matrix

    check_table(output, overwrite=overwrite)
    if raster:
        check_output(raster, overwrite, kinds=("raster",))
    one, other = open_class_map(before, legend), open_class_map(after, legend)
    if one.geobox != other.geobox:
        raise InputError(
            f"{before} and {after} lie on different grids ({one.shape} and {other.shape} pixels): "
            "warp one to the other, nearest neighbour"
        )
    pairs = ((part, other.read(window), one.pixel_m2(window)) for window, part in one.strips())
    matrix = change_matrix(pairs, one.legend, other.legend)
    click.echo(matrix.table().to_string(float_format=lambda v: f"{v:,.4g}"))
    click.echo(f"changed {matrix.changed_ha:,.4g} ha; seen once only {matrix.lost_ha:,.4g} ha")
    if output:
        write_table(matrix.table(), output, overwrite=overwrite)
    if raster:
        _write_codes(one, other, raster, overwrite)


def _write_codes(one: ClassMap, other: ClassMap, path: str, overwrite: bool) -> None:
    import rasterio
    from rasterio.windows import Window as RasterWindow

    from geoseg.errors import OutputError
    from geoseg.export.target import written_beside
    from geoseg.products.change import change_codes

    profile = {
        "driver": "GTiff",
        "dtype": "uint16",
        "count": 1,
        "height": one.shape[0],
        "width": one.shape[1],
        "crs": None if one.geobox.crs is None else one.geobox.crs.to_wkt(),
        "transform": one.geobox.affine,
        "nodata": 65535,
        "compress": "deflate",
        "tiled": True,
    }
    with written_beside(path, overwrite, kinds=("raster",)) as part:
        total = 0
        with rasterio.open(part, "w", **profile) as file:
            for window, categories in one.strips():
                codes = change_codes(categories, other.read(window))
                place = RasterWindow(0, window.row_off, window.width, window.height)
                file.write(codes, 1, window=place)
                total += int(codes.sum(dtype=np.int64))
        with rasterio.open(part) as file:
            parts = (file.read(1, window=where) for _, where in file.block_windows(1))
            found = sum(int(part.sum(dtype=np.int64)) for part in parts)
        if found != total:
            raise OutputError(f"{path}: reads back other than written: check the disk's free space")
