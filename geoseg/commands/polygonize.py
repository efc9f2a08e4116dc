"""geoseg polygonize: a raster of integers or a map to polygons."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from geoseg.commands.progress import progress_for
from geoseg.outlines import KINDS

if TYPE_CHECKING:
    from geoseg.polygons import Labels
    from geoseg.sieving import Sieving
    from geoseg.vectorize.stream import VectorizeOptions

__all__ = ["command"]


@click.command()
@click.argument("raster", metavar="MAP")
@click.option(
    "-o",
    "--output",
    required=True,
    metavar="FILE",
    help="A .gpkg .parquet .fgb .geojson .shp or .pmtiles.",
)
@click.option("--overwrite", is_flag=True, help="Replace an output that exists.")
@click.option("--band", type=int, default=1, metavar="N", help="Band of the raster, from 1.")
@click.option(
    "--leave-out", type=int, multiple=True, metavar="VALUE", help="A value without polygons."
)
@click.option("--min-area", type=float, default=0.0, metavar="M2", help="Merge smaller segments.")
@click.option("--fill-holes", type=float, default=0.0, metavar="M2", help="Fill smaller holes.")
@click.option("--drop-small", is_flag=True, help="Small segments become nodata instead.")
@click.option("--connectivity", type=click.Choice(["4", "8"]), default="4", help="4 or 8.")
@click.option("--shared-vertices", is_flag=True, help="Borders match vertex by vertex.")
@click.option("--simplify", type=float, default=0.0, metavar="M", help="Tolerance of outlines.")
@click.option("--smooth", is_flag=True, help="Round the corners of pixels.")
@click.option(
    "--square", type=float, default=0.0, metavar="M", help="Straighten outlines by up to this."
)
@click.option("--max-vertices", type=int, metavar="N", help="Cut polygons that have more.")
@click.option(
    "--geometry", type=click.Choice(KINDS), default="polygon", help="What stands for a segment."
)
@click.option("--threads", type=int, default=2, metavar="N", help="Threads that trace.")
@click.option("-q", "--quiet", is_flag=True, help="No progress on stderr.")
@click.option("--nodata", metavar="VALUE", help="Replaces the declared nodata; 'none': no nodata.")
@click.option("--assume-crs", metavar="CRS", help="CRS of a raster without one, e.g. EPSG:32633.")
@click.option("--pixel-coords", is_flag=True, help="Polygons in pixels where there is no CRS.")
@click.option("--allow-vrt", is_flag=True, help="Follow a VRT, which may read any other file.")
@click.option("--allow-network", is_flag=True, help="Read URLs and /vsi paths.")
def command(raster: str, output: str, **options: Any) -> None:
    r"""Turn MAP, a raster of integers or a map that geoseg kept, into polygons.

    Polygons are exactly those of the pixels, whatever the size of the raster; with --simplify
    and --smooth neighbours stay matched, without gap or overlap. Small segments and holes go
    before polygons are made, so that their neighbours close the place.

    \b
    geoseg polygonize landcover.tif -o landcover.parquet
    geoseg polygonize map.zarr -o map.gpkg --min-area 500 --smooth --simplify 10
    geoseg polygonize labels.tif -o labels.fgb --leave-out 0 --connectivity 8
    """
    from geoseg.commands.map import NOTHING_KEPT, interruptible
    from geoseg.export.degrees import check_place
    from geoseg.export.target import check_output
    from geoseg.export.vector import VectorOptions, write_vector
    from geoseg.outlines import as_geometry, layer_type
    from geoseg.polygons import polygon_batches

    check_output(output, overwrite=options["overwrite"])
    labels = _open(raster, options)
    check_place(output, labels.attributes.crs_wkt, raster)
    wanted, sieving = _wanted(options)
    rows, cols = labels.source.shape
    with interruptible(NOTHING_KEPT), progress_for(options["quiet"]) as progress:
        if sieving:
            progress.start("sieve", rows * cols * sieving.steps)
            labels = labels.sieved(sieving, progress.advance)
        progress.start("polygonize", rows * cols)
        done = 0

        def on_rows(count: int) -> None:
            nonlocal done
            progress.advance((count - done) * cols)
            done = count

        written = write_vector(
            as_geometry(polygon_batches(labels, wanted, on_rows), options["geometry"]),
            output,
            legend=labels.attributes.legend,
            crs=labels.attributes.crs_wkt,
            overwrite=options["overwrite"],
            options=VectorOptions(
                geometry_type=layer_type(options["geometry"]), threads=options["threads"]
            ),
        )
    if not options["quiet"]:
        click.echo(f"{written} polygons in {output}")


def _wanted(options: dict[str, Any]) -> tuple[VectorizeOptions, Sieving]:
    """How outlines are made, and what is too small to have one; raises InputError."""
    from geoseg.sieving import Sieving
    from geoseg.vectorize.stream import VectorizeOptions

    wanted = VectorizeOptions(
        nodata=options["leave_out"],
        connectivity=int(options["connectivity"]),
        shared_vertices=options["shared_vertices"],
        simplify_m=options["simplify"],
        square_m=options["square"],
        smooth=options["smooth"],
        max_vertices=options["max_vertices"],
        threads=options["threads"],
    )
    sieving = Sieving(
        min_area_m2=options["min_area"],
        fill_holes_m2=options["fill_holes"],
        drop_small=options["drop_small"],
    )
    return wanted, sieving


def _open(raster: str, options: dict[str, Any]) -> Labels:
    """The raster, which must lie somewhere unless pixel coordinates are wanted."""
    from dataclasses import replace

    from affine import Affine

    from geoseg.commands.options import open_scene_as
    from geoseg.errors import InputError
    from geoseg.polygons import Labels

    kept = raster.rstrip("/").endswith(".zarr")
    opened: Any = raster if kept else open_scene_as([raster], options)
    labels = Labels.open(opened, band=options["band"])
    if labels.attributes.crs_wkt is not None:
        return labels
    if not options["pixel_coords"]:
        raise InputError(
            f"{raster}: has no CRS: give it with --assume-crs EPSG:..., "
            "or use --pixel-coords for polygons in pixels"
        )
    return replace(labels, attributes=replace(labels.attributes, transform=Affine.identity()))
