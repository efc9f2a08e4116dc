"""geoseg layers: score, probabilities, margin and entropy of a map as GeoTIFF."""

from __future__ import annotations

from pathlib import Path

import click

__all__ = ["command", "write_layers"]


@click.command()
@click.argument("source", metavar="MAP")
@click.option("-o", "--output", required=True, metavar="FOLDER", help="Where the files go.")
@click.option("--layer", "wanted", multiple=True, help="Only these; all by default.")
@click.option("--overwrite", is_flag=True)
def command(source: str, output: str, wanted: tuple[str, ...], overwrite: bool) -> None:
    r"""Write the layers of MAP (.zarr), one Cloud Optimized GeoTIFF each.

    uint8 levels of 254 that a GIS reads as 0 to 1; 255 is nodata.

    \b
    geoseg map scene.tif -m terrain --set layers=probs,margin,entropy -o map.zarr
    geoseg layers map.zarr -o layers/
    """
    for path in write_layers(source, output, wanted, overwrite=overwrite):
        click.echo(path)


def write_layers(
    source: str, folder: str, wanted: tuple[str, ...] = (), *, overwrite: bool = False
) -> list[Path]:
    """See ``command``; returns the files. Raises InputError's children."""
    from geoseg.engine.segmentmap import SegmentMap
    from geoseg.errors import InputError
    from geoseg.export.raster import RasterOptions, write_raster
    from geoseg.outputs import provenance_of

    given = SegmentMap.open(source)
    files = {"score": "score", **{name: name for name in given.layers}}
    files |= {
        f"prob_{c.id}": f"prob_{c.name}" for c in given.legend if f"prob_{c.id}" in given.layers
    }
    chosen = {name: file for name, file in files.items() if not wanted or file in wanted}
    missing = set(wanted) - set(chosen.values())
    if missing:
        raise InputError(
            f"{source}: no layer {', '.join(sorted(missing))}: it has {', '.join(files.values())}"
        )
    Path(folder).mkdir(parents=True, exist_ok=True)
    written = []
    for name, file in chosen.items():
        path = Path(folder) / f"{file}.tif"
        write_raster(
            lambda window, name=name: given.read(window, (name,))[name],  # type: ignore[misc]
            path,
            geobox=given.geobox,
            provenance=provenance_of(given) | {"layer": file},
            overwrite=overwrite,
            options=RasterOptions(kind="score"),
        )
        written.append(path)
    return written
