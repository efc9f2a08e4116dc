"""geoseg areas: class areas with standard errors from a labelled sample."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
import numpy as np

from geoseg.errors import InputError
from geoseg.shapes import refuse_remote

if TYPE_CHECKING:
    import pandas as pd

    from geoseg.assess.areas import AreaEstimate

TINY = 1e-3
"""Share of the area below which a class without two samples is left out."""


@click.command(name="areas")
@click.argument("map_path", metavar="MAP")
@click.argument("points", metavar="POINTS")
@click.option("--reference", default="reference", show_default=True, help="Column of the labels.")
@click.option(
    "--confidence",
    type=click.FloatRange(0.5, 0.9999),
    default=0.95,
    show_default=True,
    help="Level of the intervals.",
)
@click.option("--legend", metavar="NAME|FILE", help="By default the one that the map carries.")
@click.option("-o", "--output", metavar="FILE", help="Write the table as .csv or .json.")
@click.option("--overwrite", is_flag=True, help="Replace the output if it exists.")
def command(map_path: str, points: str, **options: Any) -> None:
    r"""Areas of the categories of MAP, corrected by reference points, with intervals.

    POINTS come from 'geoseg sample', labelled. Estimators: Olofsson et al. 2014,
    doi:10.1016/j.rse.2014.02.015.

    \b
    geoseg areas terrain.tif points.gpkg -o areas.csv
    """
    from geoseg.assess.areas import error_matrix, estimate_areas
    from geoseg.commands.classmap import check_table, open_class_map, write_table
    from geoseg.commands.sample import mapped_areas

    check_table(options["output"], overwrite=options["overwrite"])
    opened = open_class_map(map_path, options["legend"])
    names = [category.name for category in opened.legend]
    mapped, reference, empty = read_points(points, options["reference"])
    counts, area = error_matrix(mapped, reference, names), mapped_areas(opened) / 1e4
    tiny = (counts.sum(1) < 2) & (area > 0) & (area < TINY * area.sum())
    for name, size in zip(np.array(names)[tiny], area[tiny], strict=True):
        click.echo(f"{name}: {size:.3g} ha are too little to sample and were left out", err=True)
    found = estimate_areas(np.where(tiny[:, None], 0, counts), np.where(tiny, 0, area), names)
    table = to_table(found, options["confidence"])
    click.echo(table.to_string(index=False, float_format=lambda v: f"{v:,.4g}"))
    half = float(found.interval(found.overall_se, options["confidence"]))
    click.echo(f"overall accuracy {found.overall:.3f} ± {half:.3f}, {len(mapped)} points")
    if empty:
        click.echo(f"{empty} points are not labelled yet and were left out", err=True)
    if options["output"]:
        write_table(table, options["output"], overwrite=options["overwrite"])


def read_points(path: str, column: str) -> tuple[list[str], list[str], int]:
    """(stratum, reference) of the labelled points, and how many are not labelled."""
    import pyogrio
    from pyogrio.errors import DataSourceError

    refuse_remote(path)
    try:
        # a GeoPackage keeps its style in a table without geometry
        layers = [name for name, kind in pyogrio.list_layers(path) if kind is not None]
        layer = layers[0] if layers else None
        frame = pyogrio.read_dataframe(path, layer=layer, read_geometry=False)
    except DataSourceError as error:
        raise InputError(f"{path}: can't be read: {error}") from error
    for name in ("stratum", column):
        if name not in frame.columns:
            raise InputError(f"{path}: no column {name!r}: there are {', '.join(frame.columns)}")
    labelled = frame[column].fillna("").astype(str).str.strip()
    there = (labelled != "").to_numpy()
    if not there.any():
        raise InputError(f"{path}: no point is labelled: fill the column {column!r}")
    mapped = frame["stratum"].astype(str)[there].tolist()
    return mapped, labelled[there].tolist(), int((~there).sum())


def to_table(found: AreaEstimate, confidence: float) -> pd.DataFrame:
    """One row per class: mapped and estimated hectares, their error, accuracies with theirs."""
    import pandas as pd

    return pd.DataFrame(
        {
            "class": found.classes,
            "points": found.samples.sum(1),
            "mapped_ha": found.mapped_area,
            "area_ha": found.area,
            "area_se_ha": found.area_se,
            "area_ci_ha": found.interval(found.area_se, confidence),
            "users": found.users,
            "users_ci": found.interval(found.users_se, confidence),
            "producers": found.producers,
            "producers_ci": found.interval(found.producers_se, confidence),
        }
    )
