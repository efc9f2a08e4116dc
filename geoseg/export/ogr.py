"""Vector formats that GDAL writes, through Arrow: GeoPackage, FlatGeobuf, GeoJSON, shapefile.

The recipe for a GeoPackage that QGIS opens styled: the row of ``layer_styles`` has an empty
(not NULL) schema, the exact name of the layer and of its geometry column; version 1.3 keeps
QGIS 3.22 quiet.
"""

from __future__ import annotations

import contextlib
import json
import os
import warnings
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyogrio
from pyogrio.errors import CRSError, DataLayerError, DataSourceError, FeatureError, GeometryError

from geoseg.errors import OutputError
from geoseg.export import qgis
from geoseg.export.columns import aliases_in, provenance_json, shapefile_name
from geoseg.export.degrees import check_place

if TYPE_CHECKING:
    from geoseg.export.vector import Table, VectorOptions
    from geoseg.legend import Legend

__all__ = ["count", "style", "write"]

_DRIVERS = {
    ".gpkg": "GPKG",
    ".fgb": "FlatGeobuf",
    ".geojson": "GeoJSON",
    ".shp": "ESRI Shapefile",
    ".pmtiles": "PMTiles",
}
_FAILURES = (
    RuntimeError,  # what pyogrio makes of an error of the stream
    CRSError,
    DataLayerError,
    DataSourceError,
    FeatureError,
    GeometryError,
    pa.ArrowException,
)
_READ_ROWS = 4096
_MAX_ZOOM = "14"
"""Of vector tiles: 9.5 m per pixel at the equator; viewers draw them larger from there on."""
_LONGEST_EDGE_M = 1000.0
"""A straight edge of this length in UTM leaves the straight line in degrees by 2 cm."""


def style(table: Table, legend: Legend | None, options: VectorOptions) -> str:
    """The QGIS style of the layer; empty when nothing says how to colour it."""
    if options.qml is not None:
        return options.qml
    if legend is None or "category_id" not in table.schema.names:
        return ""
    points = table.geometry_type in {"Point", "MultiPoint"}
    aliases = aliases_in(table.schema.names)
    return qgis.vector_qml(legend, kind="points" if points else "polygons", aliases=aliases)


def write(
    table: Table,
    path: Path,
    layer: str,
    qml: str,
    provenance: Mapping[str, str],
    index_bytes: int,
) -> None:
    """Write the table as the one layer of a new file."""
    suffix = path.suffix.lower()
    check_place(path.name, table.crs)
    reader, crs = _prepared(table, suffix)
    with _reproducible(index_bytes), warnings.catch_warnings():
        # pixels have none, and GeoJSON must not state its own
        warnings.filterwarnings("ignore", "'crs' was not provided")
        try:
            pyogrio.write_arrow(
                reader,
                path,
                layer=layer,
                driver=_DRIVERS[suffix],
                geometry_name="geometry",
                geometry_type=table.geometry_type,
                crs=None if crs is None else crs.to_wkt(),
                **_options(suffix, layer, provenance),
            )
            if suffix == ".gpkg" and qml:
                _write_style(path, layer, qml)
            if suffix == ".pmtiles" and "legend" in provenance:
                text = web_style(layer, path.name, json.loads(provenance["legend"]))
                path.with_suffix(".style.json").write_text(text, encoding="utf-8")
        except _FAILURES as error:
            if table.error is not None:
                raise table.error from None
            if suffix == ".pmtiles" and not table.rows:
                text = f"{path.name}: there is no row, and tiles can't be empty: write .gpkg"
                raise OutputError(text) from error
            raise OutputError(f"{path.name}: could not be written: {error}") from error


def _prepared(table: Table, suffix: str) -> tuple[pa.RecordBatchReader, Any]:
    """The stream as the format wants it, and its CRS."""
    if suffix == ".geojson":
        return _for_geojson(table)
    if suffix == ".pmtiles":
        return _for_web_mercator(table)
    return (_for_shapefile(table.reader()) if suffix == ".shp" else table.reader()), table.crs


def _options(suffix: str, layer: str, provenance: Mapping[str, str]) -> dict[str, Any]:
    text = provenance_json(provenance) if provenance else ""
    if suffix == ".gpkg":
        facts = dict(sorted(provenance.items())) or None
        # of the layer: with those of the dataset GDAL leaves an .aux.xml whenever it reads
        return {"dataset_options": {"VERSION": "1.3"}, "layer_metadata": facts}
    if suffix == ".geojson":
        # RFC 7946 is kept here: told of it, GDAL would cut anew what goes around a pole
        options = {"COORDINATE_PRECISION": "9"}
        return {"layer_options": options | ({"DESCRIPTION": text} if text else {})}
    if suffix == ".fgb":
        return {"layer_options": {"TITLE": layer} | ({"DESCRIPTION": text} if text else {})}
    if suffix == ".pmtiles":
        return {"dataset_options": {"MINZOOM": "0", "MAXZOOM": _MAX_ZOOM, "NAME": layer}}
    shapefile = {"ENCODING": "UTF-8", "DBF_DATE_LAST_UPDATE": f"{date():%Y-%m-%d}"}
    return {"layer_options": shapefile} if suffix == ".shp" else {}


def web_style(layer: str, name: str, legend: Mapping[str, Any]) -> str:
    """A MapLibre style of the tiles (style specification 8), one colour per category_id."""
    colours: list[Any] = ["match", ["get", "category_id"]]
    for category in legend["categories"]:
        colours += [category["id"], category["colour"]]
    drawn = {"source": "map", "source-layer": layer}
    document = {
        "version": 8,
        "sources": {"map": {"type": "vector", "url": f"pmtiles://{name}"}},
        "layers": [
            {"id": "fill", "type": "fill", **drawn,
             "paint": {"fill-color": [*colours, "#888888"], "fill-opacity": 0.5}},
            {"id": "outline", "type": "line", **drawn, "minzoom": 12,
             "paint": {"line-color": [*colours, "#888888"], "line-width": 1}},
        ],
    }  # fmt: skip
    return json.dumps(document, indent=1, ensure_ascii=False)


def _write_style(path: Path, layer: str, qml: str) -> None:
    import pandas as pd

    row = {
        "f_table_catalog": "",
        "f_table_schema": "",
        "f_table_name": layer,
        "f_geometry_column": pyogrio.read_info(path, layer=layer)["geometry_name"],
        "styleName": layer[:30],
        "styleQML": qml,
        "styleSLD": "",
        "useAsDefault": 1,
        "description": "written by geoseg",
        "owner": "",
        "ui": "",
        "update_time": pd.Timestamp(date()),
    }
    pyogrio.write_dataframe(
        pd.DataFrame([row]), path, layer="layer_styles", driver="GPKG", layer_options={"FID": "id"}
    )


def _for_wgs84(table: Table) -> pa.RecordBatchReader:
    """Long edges divided before GDAL turns their ends into degrees."""
    import numpy as np
    import shapely

    if table.crs.is_geographic:
        return table.reader()
    longest = _LONGEST_EDGE_M / table.crs.axis_info[0].unit_conversion_factor

    def batches() -> Iterator[pa.RecordBatch]:
        for batch in table:
            shapes = shapely.from_wkb(batch.column("geometry").to_numpy(zero_copy_only=False))
            box = shapely.bounds(shapes)
            wide = np.fmax(box[:, 2] - box[:, 0], box[:, 3] - box[:, 1]) > longest
            if wide.any():
                shapes[wide] = shapely.segmentize(shapes[wide], longest)
                column = pa.array(shapely.to_wkb(shapes), pa.binary())
                last = batch.num_columns - 1
                yield batch.set_column(last, table.schema[last], column)
            else:
                yield batch

    return pa.RecordBatchReader.from_batches(table.schema, batches())


def _for_geojson(table: Table) -> tuple[pa.RecordBatchReader, Any]:
    """In degrees, cut at the antimeridian: around a pole GDAL loses ground, and leaves lines."""
    import numpy as np
    import shapely

    from geoseg.export.dateline import to_degrees

    def batches() -> Iterator[pa.RecordBatch]:
        for batch in _for_wgs84(table):
            shapes = shapely.from_wkb(batch.column("geometry").to_numpy(zero_copy_only=False))
            moved = shapely.orient_polygons(to_degrees(shapes, table.crs))
            if not np.isfinite(shapely.get_coordinates(moved)).all():
                raise OutputError("the map lies partly where its CRS has no place on the earth")
            column = pa.array(shapely.to_wkb(moved, include_srid=False), pa.binary())
            last = batch.num_columns - 1
            yield batch.set_column(last, table.schema[last], column)

    return pa.RecordBatchReader.from_batches(table.schema, batches()), None


def _for_web_mercator(table: Table) -> tuple[pa.RecordBatchReader, Any]:
    """Coordinates of web maps: GDAL's tiler doesn't transform."""
    import shapely
    from pyproj import CRS, Transformer

    target = CRS.from_epsg(3857)
    transform = Transformer.from_crs(table.crs, target, always_xy=True).transform

    def batches() -> Iterator[pa.RecordBatch]:
        for batch in _for_wgs84(table):
            shapes = shapely.from_wkb(batch.column("geometry").to_numpy(zero_copy_only=False))
            shapes = shapely.transform(shapes, transform, interleaved=False)
            column = pa.array(shapely.to_wkb(shapes), pa.binary())
            last = batch.num_columns - 1
            yield batch.set_column(last, table.schema[last], column)

    return pa.RecordBatchReader.from_batches(table.schema, batches()), target


def _for_shapefile(reader: pa.RecordBatchReader) -> pa.RecordBatchReader:
    """The same stream with names of at most ten characters."""
    taken: set[str] = set()
    fields = [
        c.with_name(shapefile_name(c.name, taken)) for c in reader.schema if c.name != "geometry"
    ]
    schema = pa.schema([*fields, reader.schema.field("geometry")])
    return pa.RecordBatchReader.from_batches(
        schema, (pa.RecordBatch.from_arrays(batch.columns, schema=schema) for batch in reader)
    )


def date() -> datetime:
    """SOURCE_DATE_EPOCH, or a fixed day: the same input gives the same bytes."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH", "")
    return (
        datetime.fromtimestamp(int(epoch), UTC)
        if epoch.isdigit()
        else datetime(1980, 1, 1, tzinfo=UTC)
    )


@contextlib.contextmanager
def _reproducible(index_bytes: int) -> Iterator[None]:
    """The date that GDAL writes into files, and how much of a spatial index it keeps in memory.

    By default that is a tenth of the machine's memory: files and peaks depended on the machine.
    """
    settings = {
        "OGR_CURRENT_DATE": f"{date():%Y-%m-%dT%H:%M:%S.000Z}",
        "OGR_GPKG_MAX_RAM_USAGE_RTREE": index_bytes,
    }
    before = {name: pyogrio.get_gdal_config_option(name) for name in settings}
    pyogrio.set_gdal_config_options(settings)
    try:
        yield
    finally:
        pyogrio.set_gdal_config_options(before)


def count(path: Path, layer: str, table: Table) -> int:
    """Rows whose geometry can be read back; raises OutputError when the file is damaged."""
    if path.suffix.lower() == ".pmtiles":  # tiles hold pieces of rows: opening is all there is
        try:
            names = [name for name, _ in pyogrio.list_layers(path)]
        except _FAILURES as error:
            raise OutputError(f"{path.name}: could not be read back: {error}") from error
        return table.rows if layer in names else 0
    named = layer if path.suffix.lower() == ".gpkg" else None
    try:
        # GDAL reads several batches ahead
        reading = {"columns": [], "batch_size": _READ_ROWS, "use_pyarrow": True}
        with pyogrio.open_arrow(path, layer=named, **reading) as (_, batches):
            return sum(_readable(batch) for batch in batches)
    except _FAILURES as error:
        raise OutputError(f"{path.name}: could not be read back: {error}") from error


def _readable(batch: pa.RecordBatch) -> int:
    wkb = batch.column(batch.num_columns - 1)
    return int(len(wkb) - wkb.null_count)
