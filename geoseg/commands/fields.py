"""geoseg fields: parcels with their sizes, shapes and covers."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from geoseg.errors import InputError
from geoseg.shapes import moved, read_shapes

if TYPE_CHECKING:
    import geopandas as gpd
    import pyarrow as pa

    from geoseg.commands.classmap import ClassMap
    from geoseg.products.fields import Counts

POLYGONS = (".gpkg", ".parquet", ".geoparquet", ".fgb", ".geojson", ".json", ".shp")
"""Names of files that hold polygons end like this."""

VECOREL = "https://vecorel.org/specification/v0.1.0/schema.yaml"
REQUIRED = ("id", "collection", "geometry")
"""Columns of fiboa in which nothing may be missing."""


@click.command(name="fields")
@click.argument("source", metavar="POLYGONS|SCENE")
@click.option(
    "-m", "--model", default="fields", show_default=True, help="What finds them on a SCENE."
)
@click.option("-o", "--output", metavar="FILE", help="Parcels: .gpkg, .parquet, .fgb, .shp.")
@click.option("--category", metavar="NAME", help="Only polygons of this category.")
@click.option(
    "--smallest-ha", type=click.FloatRange(0), default=0.0, help="Leave smaller ones out."
)
@click.option("--cover", metavar="MAP", help="A map of categories: adds the dominant one.")
@click.option("--fiboa", metavar="FILE.parquet", help="Also as fiboa 0.3; needs --observed.")
@click.option("--observed", metavar="DATE", help="When the imagery was taken: 2021-07-01.")
@click.option("--overwrite", is_flag=True, help="Replace outputs that exist.")
def command(source: str, **options: Any) -> None:
    r"""A table of parcels from the polygons of a map or any others, or from a scene.

    A scene is mapped first, at the GSD of the model. Each parcel has an id, its geodesic area
    and perimeter and a shape index (1 for a circle, 1.13 for a square, more for strips).

    \b
    geoseg fields aerial.tif -o parcels.gpkg
    geoseg fields map.gpkg -o parcels.gpkg --cover terrain.tif
    geoseg fields map.gpkg --fiboa parcels.parquet --observed 2021-07-01
    """
    from geoseg.commands.classmap import open_class_map
    from geoseg.export.facts import derived_facts
    from geoseg.export.vector import write_vector
    from geoseg.products.fields import parcel_table

    _check_outputs(options)
    if source.lower().endswith(POLYGONS):
        frame = read_polygons(source, options["category"])
    else:
        frame = of_category(mapped(source, options["model"]), source, options["category"])
    covers = None
    if options["cover"]:
        opened = open_class_map(options["cover"])
        if opened.geobox.crs is None:
            raise InputError(f"{opened.name}: has no CRS, so no polygon can be found on it")
        frame = moved(frame, opened.geobox.crs.to_wkt(), source)
        covers = counts_on(opened)
    table = parcel_table(frame, covers)
    table = table[table["area_ha"] >= options["smallest_ha"]].reset_index(drop=True)
    table["parcel_id"] = np.arange(1, len(table) + 1)
    total = table["area_ha"].sum()
    middle = f", median {table['area_ha'].median():,.2f} ha" if len(table) else ""
    click.echo(f"{len(table)} parcels, {total:,.2f} ha{middle}")
    if options["output"]:
        told = ["category", "smallest_ha"]
        if not source.lower().endswith(POLYGONS):
            told.append("model")
        facts = derived_facts(source, "fields", {name: options[name] for name in told})
        write_vector(table, options["output"], provenance=facts, overwrite=options["overwrite"])
    if options["fiboa"]:
        write_fiboa(table, options["fiboa"], options["observed"], options["overwrite"])


def _check_outputs(options: dict[str, Any]) -> None:
    """Raises InputError or OutputError before any work: all are written, or none."""
    from geoseg.errors import OutputError
    from geoseg.export.target import check_output

    output, fiboa = options["output"], options["fiboa"]
    if fiboa and not options["observed"]:
        raise InputError("--fiboa needs --observed: the date the imagery was taken")
    if fiboa:
        _moment(options["observed"])
        if not fiboa.endswith(".parquet"):
            raise OutputError(f"{fiboa}: fiboa is written as .parquet")
        if output and Path(output).resolve() == Path(fiboa).resolve():
            raise OutputError(f"{output}: --output and --fiboa are one file: give them two names")
    for path in filter(None, (output, fiboa)):
        check_output(path, options["overwrite"], kinds=("vector",))


def read_polygons(path: str, category: str | None) -> gpd.GeoDataFrame:
    """Polygons of a file, of one category where it is named; raises InputError."""
    frame = read_shapes(path)
    if frame.crs is None:
        raise InputError(f"{path}: its polygons have no CRS, so no size: give them one")
    frame = frame[frame.geometry.geom_type.isin(["Polygon", "MultiPolygon"])]
    return of_category(frame, path, category)


def mapped(path: str, model: str) -> gpd.GeoDataFrame:
    """Things of a scene by a model, at its GSD; raises InputError where it has no CRS."""
    from geoseg.models.catalogue import card_of, load_model
    from geoseg.outputs import to_polygons
    from geoseg.pipeline import segment
    from geoseg.scene.opening import SceneOptions, open_scenes
    from geoseg.scene.regrid import gsd_for

    scene = open_scenes([path], SceneOptions())
    if scene.geobox.crs is None:
        raise InputError(f"{path}: has no CRS, so parcels have no size: give it one")
    card = card_of(model) or load_model(model).card
    scene = open_scenes([path], SceneOptions(gsd_m=gsd_for(scene, card.gsd_m)))
    frame: gpd.GeoDataFrame = to_polygons(segment(scene, model))
    return frame[frame["isthing"].astype(bool)]


def of_category(frame: gpd.GeoDataFrame, path: str, category: str | None) -> gpd.GeoDataFrame:
    """Polygons of one category where it is named; raises InputError."""
    if category is None:
        return frame
    if "category" not in frame.columns:
        raise InputError(f"{path}: no column 'category': there are {', '.join(frame.columns)}")
    names = sorted(map(str, frame["category"].dropna().unique()))
    if category not in names:
        raise InputError(f"{path}: no polygon of category {category!r}: there are {names}")
    return frame[frame["category"] == category]


def counts_on(opened: ClassMap) -> Counts:
    """Pixels per category name of a map inside a polygon of its CRS."""
    import shapely
    from rasterio.features import rasterize

    from geoseg.grid import Window

    names = {category.id: category.name for category in opened.legend}
    to_pixel = ~opened.geobox.affine

    def counts(shape: Any) -> dict[str, int]:
        corners = np.array([to_pixel @ tuple(xy) for xy in shapely.get_coordinates(shape)])
        low, high = np.floor(corners.min(0)).astype(int), np.ceil(corners.max(0)).astype(int)
        window = Window(low[1], low[0], high[1] - low[1], high[0] - low[0])
        window &= Window(0, 0, *opened.shape)
        if window.pixels == 0:
            return {}
        affine = opened.geobox[window.slices].affine
        inside = rasterize([(shape, 1)], out_shape=window.shape, transform=affine) > 0
        values, number = np.unique(opened.read(window)[inside], return_counts=True)
        pairs = zip(values.tolist(), number.tolist(), strict=True)
        return {names[value]: count for value, count in pairs if value in names}

    return counts


def _moment(observed: str) -> datetime:
    try:
        return datetime.fromisoformat(observed)
    except ValueError:
        raise InputError(f"--observed {observed!r}: give a date such as 2021-07-01") from None


def _typed(table: pa.Table) -> pa.Table:
    """Columns as fiboa's validator wants them: short text, none missing where one is required."""
    import pyarrow as pa

    from geoseg.products.fields import FIBOA_SCHEMA

    fields = []
    for field in table.schema:
        kind = pa.string() if pa.types.is_large_string(field.type) else field.type
        fields.append(field.with_type(kind).with_nullable(field.name not in REQUIRED))
    schemas = {"schemas": {"geoseg": [VECOREL, FIBOA_SCHEMA]}}
    kept = {k: v for k, v in (table.schema.metadata or {}).items() if k != b"pandas"}
    metadata = kept | {b"collection": json.dumps(schemas).encode()}
    return table.cast(pa.schema(fields, metadata=metadata))


def write_fiboa(table: gpd.GeoDataFrame, path: str, observed: str, overwrite: bool) -> None:
    """The parcels as fiboa GeoParquet, its schemas named in the file's metadata."""
    import geopandas as gpd
    import pyarrow.parquet as pq

    from geoseg.export.target import written_beside
    from geoseg.products.fields import check_fiboa, to_fiboa

    fiboa = to_fiboa(table, observed=_moment(observed))
    with written_beside(path, overwrite, kinds=("vector",)) as part:
        fiboa.to_parquet(part, schema_version="1.1.0", compression="zstd")
        pq.write_table(_typed(pq.read_table(part)), part, compression="zstd")
        again = gpd.read_parquet(part)
        again["category"] = [list(value) for value in again["category"]]
        check_fiboa(again)
