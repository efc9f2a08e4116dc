"""geoseg rethreshold: other thresholds per class for a map that kept its probabilities."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from geoseg.engine.segmentmap import SegmentMap
    from geoseg.grid import Window

__all__ = ["command", "rethreshold"]

Labels = tuple[NDArray[np.uint8], NDArray[np.uint8]]
"""``category_id`` and ``score`` (row, col)."""


@click.command()
@click.argument("source", metavar="MAP")
@click.option(
    "-t",
    "--threshold",
    "thresholds",
    multiple=True,
    metavar="CLASS=P",
    required=True,
    help="Least probability of a class, 0 to 1; again for others.",
)
@click.option("-o", "--output", required=True, metavar="FILE", help="A .zarr or .tif to write.")
@click.option("--overwrite", is_flag=True, help="Replace the output if it exists.")
def command(source: str, thresholds: tuple[str, ...], output: str, overwrite: bool) -> None:
    r"""Label MAP (.zarr) again with least probabilities per class; nothing is predicted.

    The map must have been made with --set layers=probs. Pixels where no class reaches its
    threshold become nodata.

    \b
    geoseg map scene.tif -m terrain --set layers=probs -o map.zarr
    geoseg rethreshold map.zarr -t built=0.7 -t crops=0.5 -o stricter.zarr
    """
    rethreshold(source, thresholds, output, overwrite=overwrite)
    click.echo(output)


def rethreshold(
    source: str, thresholds: Sequence[str], output: str, *, overwrite: bool = False
) -> None:
    """See ``command``; raises InputError's children."""
    import shutil
    import tempfile

    from geoseg.engine.segmentmap import SegmentMap
    from geoseg.engine.store import open_map
    from geoseg.errors import InputError
    from geoseg.export.target import check_output
    from geoseg.models.thresholds import apply_thresholds, parse_thresholds
    from geoseg.outputs import write_raster

    path = Path(output)
    check_output(path, overwrite, kinds=("map", "raster"))
    given = SegmentMap.open(source)
    names = {c.id: f"prob_{c.id}" for c in given.legend if f"prob_{c.id}" in given.layers}
    if len(names) != len(given.legend):
        raise InputError(
            f"{source}: it kept no probabilities: make it with geoseg map --set layers=probs"
        )
    least = parse_thresholds(tuple(thresholds), given.legend)
    with tempfile.TemporaryDirectory(prefix=f".{path.name}-", dir=path.parent) as folder:
        copy = Path(folder) / "map.zarr"
        shutil.copytree(source, copy)
        result = replace(given, url=str(copy))
        group = open_map(result.url, read_only=False)
        counts: dict[int, int] = {}
        for window in _strips(given):
            layers = given.read(window, tuple(names.values()))
            labels = apply_thresholds({i: layers[n] for i, n in names.items()}, least)
            _store(group, given, window, labels)
            _add(counts, labels[0])
        stated = dict(given.provenance) | {"thresholds": list(thresholds)}
        result = replace(result, counts=counts, provenance=stated)
        result.save_header()
        if path.suffix.lower() != ".zarr":
            write_raster(result, output, overwrite=overwrite)
            return
        shutil.rmtree(path, ignore_errors=True)
        copy.rename(path)


def _strips(given: SegmentMap) -> Iterator[Window]:
    """Windows of whole shards' rows, so that each is written once."""
    from geoseg.engine.store import open_map
    from geoseg.grid import Window

    rows, cols = given.shape
    step = open_map(given.url)["category_id"].shards[0]
    first = given.region.row_off
    start = 0
    while start < rows:
        end = min((first + start) // step * step + step - first, rows)
        yield Window(start, 0, end - start, cols)
        start = end


def _store(group: Any, given: SegmentMap, window: Window, arrays: Labels) -> None:
    rows = slice(given.region.row_off + window.row_off, given.region.row_off + window.row_end)
    cols = slice(given.region.col_off + window.col_off, given.region.col_off + window.col_end)
    group["category_id"][rows, cols], group["score"][rows, cols] = arrays


def _add(counts: dict[int, int], category: NDArray[np.uint8]) -> None:
    found = np.bincount(category.ravel(), minlength=256)
    for key in np.flatnonzero(found).tolist():
        counts[key] = counts.get(key, 0) + int(found[key])
