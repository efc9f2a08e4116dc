"""geoseg terrain: how much of each category a map has."""

from __future__ import annotations

import click


@click.command(name="terrain")
@click.argument("map_path", metavar="MAP")
@click.option("--legend", metavar="NAME|FILE", help="By default the one that the map carries.")
@click.option("-o", "--output", metavar="FILE", help="Write the table as .csv or .json.")
@click.option("--overwrite", is_flag=True, help="Replace the output if it exists.")
def command(map_path: str, legend: str | None, output: str | None, overwrite: bool) -> None:
    r"""Areas of the categories of MAP, a GeoTIFF of categories or a kept map (.zarr).

    These are counts of pixels, errors of the map included: 'geoseg areas' corrects them.

    \b
    geoseg terrain terrain.tif -o areas.csv
    """
    from geoseg.commands.classmap import check_table, open_class_map, write_table
    from geoseg.products.terrain import cover_table

    check_table(output, overwrite=overwrite)
    opened = open_class_map(map_path, legend)
    strips = ((part, opened.pixel_m2(window)) for window, part in opened.strips())
    table = cover_table(strips, opened.legend)
    click.echo(table.to_string(index=False, float_format=lambda v: f"{v:,.4g}"))
    if output:
        write_table(table, output, overwrite=overwrite)
