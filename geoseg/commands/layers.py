"""geoseg layers: score, probabilities, margin and entropy of a map as GeoTIFF."""

from __future__ import annotations

from pathlib import Path

import click

__all__ = ["command", "write_layers"]


@click.command()
@click.argument("source", metavar="MAP")
@click.option("-o", "--output", required=True, metavar="FOLDER", help="Where the files go.")
@click.option("--layer", "wanted", multiple=True, help="Only these; all by default.")
@click.option("--overwrite", is_flag=True, help="Replace files that exist.")
def command(source: str, output: str, wanted: tuple[str, ...], overwrite: bool) -> None:
    r"""Write the layers of MAP (.zarr), one Cloud Optimized GeoTIFF each.

    uint8 levels of 254 that a GIS reads as 0 to 1; 255 is nodata. All probabilities go to
    probs.tif, one band per class, called as the class; --layer prob_CLASS writes one alone.

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
    from geoseg.errors import InputError, OutputError
    from geoseg.export.target import check_output
    from geoseg.layers import PROBS, layers_of, write_layer
    from geoseg.outputs import provenance_of

    given = SegmentMap.open(source)
    have = layers_of(given)
    # a file per class is had by asking for it
    every = [name for name in have if PROBS not in have or not name.startswith("prob_")]
    unknown = [name for name in wanted if name not in have]
    if unknown:
        raise InputError(f"{source}: no layer {unknown[0]!r}: it has {', '.join(have)}")
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: can't be a folder: {error.strerror}") from error
    paths = {name: Path(folder) / f"{name}.tif" for name in wanted or every}
    for path in paths.values():
        check_output(path, overwrite)
    written = []
    for name, path in paths.items():
        write_layer(given, name, path, provenance_of(given), overwrite=overwrite)
        written.append(path)
    return written
