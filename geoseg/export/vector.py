"""Tables of polygons (or points, or cells) to files that a GIS opens.

Tables stream: a batch is written and forgotten. What was written is read back before it
gets its name. Polygons are always MultiPolygon, in every format, also in an empty layer:
one type per layer is what every reader copes with.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from geoseg.arrow import arrow_array
from geoseg.errors import OutputError
from geoseg.export.bounds import types_of
from geoseg.export.columns import POLYGONS, described, with_legend
from geoseg.export.graded import graded_qml
from geoseg.export.target import check_output, flush, written_beside
from geoseg.heap import give_back
from geoseg.legend import Legend

__all__ = ["Table", "VectorOptions", "check_output", "write_vector"]

_MULTI_PREFIX = b"\x01" + (6).to_bytes(4, "little") + (1).to_bytes(4, "little")
"""WKB of a MultiPolygon with one part, up to the part."""
_POLYGON = 3
_BATCH_ROWS = 50_000


@dataclass(frozen=True, kw_only=True)
class VectorOptions:
    """What is rarely asked for.

    Attributes:
        layer: name of the layer; the file's name without its extension by default.
        geometry_type: of the layer; found in a GeoDataFrame, MultiPolygon for batches.
        qml: a QGIS style instead of the one that the legend gives, or of shades by the
            number that cells and parcels were made for.
        descriptions: of columns, by name, shown in a GIS.
        threads: with more than one, GeoParquet's row groups are gathered, and read back, beside
            each other; GDAL holds the interpreter while it writes.
        index_bytes: of a GeoPackage's spatial index that may be held in memory. The rest goes
            through the file, which takes twice as long for a map of 700,000 polygons.

    """

    layer: str | None = None
    geometry_type: str | None = None
    qml: str | None = None
    descriptions: Mapping[str, str] = field(default_factory=dict)
    threads: int = 1
    index_bytes: int = 64 << 20


def write_vector(
    table: Any,
    path: str | os.PathLike[str],
    *,
    legend: Legend | None = None,
    crs: Any = None,
    provenance: Mapping[str, str] | None = None,
    overwrite: bool = False,
    options: VectorOptions | None = None,
) -> int:
    """Write a table to .gpkg, .parquet, .fgb, .geojson, .shp or .pmtiles; returns its rows.

    ``table`` is a GeoDataFrame or any iterable of ``pyarrow.RecordBatch`` with a WKB column
    ``geometry``; batches are consumed one at a time. ``crs`` is anything that pyproj takes,
    by default the GeoDataFrame's; None means pixel coordinates. ``legend`` colours the
    layer in QGIS (GeoPackage), ``provenance`` goes into the file's metadata.

    The same table gives the same bytes: dates in the file are SOURCE_DATE_EPOCH's, or
    1980-01-01. Raises OutputError when the file can't be written; nothing is left then.
    What the iterable raises comes through as it is.
    """
    options = options or VectorOptions()
    if legend is None and options.qml is None and hasattr(table, "geom_type"):
        options = replace(options, qml=graded_qml(table))
    with written_beside(path, overwrite, kinds=("vector",)) as part:
        layer = options.layer or Path(path).stem
        source = Table.of(table, crs, options)
        facts = with_legend(provenance, legend)
        if part.suffix.lower() == ".parquet":
            from geoseg.export import geoparquet

            geoparquet.write(source, part, facts, options.threads)
            read_back = partial(geoparquet.count, part, options.threads)
        else:
            from geoseg.export import ogr

            qml = ogr.style(source, legend, options)
            ogr.write(source, part, layer, qml, facts, options.index_bytes)
            read_back = partial(ogr.count, part, layer, source)
        give_back()  # reading back needs memory of other sizes
        with ThreadPoolExecutor(1) as pool:  # the disk is busy with it while it is read back
            flushed = pool.submit(flush, part)
            found = read_back()
            flushed.result()
        if found != source.rows:
            raise OutputError(
                f"{path}: {found} of {source.rows} rows could be read back: "
                "check the disk's free space and write again"
            )
    return source.rows


class Table:
    """A stream of batches with one schema, read once.

    Attributes:
        schema: plain types, aliases, geometry last.
        crs: pyproj's CRS or None.
        geometry_type: of all rows.
        rows: how many went by so far.
        error: what the source raised; formats' libraries lose it on its way through C.

    """

    def __init__(
        self, batches: Iterator[pa.RecordBatch], schema: pa.Schema, crs: Any, geometry_type: str
    ) -> None:
        self._batches = batches
        self.schema = schema
        self.crs = crs
        self.geometry_type = geometry_type
        self.rows = 0
        self.error: BaseException | None = None

    @classmethod
    def of(cls, table: Any, crs: Any, options: VectorOptions) -> Table:
        """From a GeoDataFrame or an iterable of batches."""
        from pyproj import CRS

        kind = options.geometry_type
        if hasattr(table, "geom_type"):
            crs = table.crs if crs is None else crs
            kind = kind or _geometry_type(set(table.geom_type.dropna()))
            table = _batches_of(table)
        schema, batches = _peek(table)
        words = described(schema, dict(options.descriptions))
        return cls(
            batches,
            words,
            None if crs is None else CRS.from_user_input(crs),
            kind or "MultiPolygon",
        )

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        try:
            for batch in self._batches:
                self.rows += batch.num_rows
                yield self._plain(batch)
        except GeneratorExit:  # nobody wants more
            raise
        except BaseException as error:
            self.error = error
            raise

    def _plain(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        columns = []
        for column in self.schema:
            values = batch.column(column.name)
            if column.name == "geometry":
                values = values.cast(pa.binary()) if values.type != pa.binary() else values
                values = _as_multi(values) if self.geometry_type == "MultiPolygon" else values
            elif values.type != column.type:
                values = values.cast(column.type)
            columns.append(values)
        return pa.RecordBatch.from_arrays(columns, schema=self.schema)

    def reader(self) -> pa.RecordBatchReader:
        """The stream as Arrow's C stream."""
        return pa.RecordBatchReader.from_batches(self.schema, iter(self))


def _peek(table: Any) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    """The schema and all batches; an empty iterable has the schema of polygons."""
    if hasattr(table, "schema"):
        return table.schema, iter(table)
    batches = iter(table)
    first = next(batches, None)
    if first is None:
        return POLYGONS, iter(())
    return first.schema, chain([first], batches)


def _batches_of(frame: Any) -> Iterable[pa.RecordBatch]:
    """A GeoDataFrame as batches with the column ``geometry``; values of Python stay typed."""
    arrow = pa.table(frame.to_arrow(index=False, geometry_encoding="WKB"))
    names = ["geometry" if n == frame.geometry.name else n for n in arrow.column_names]
    arrow = arrow.rename_columns(names)
    for i, column in enumerate(arrow.schema):
        if pa.types.is_null(column.type):  # an object column without a value: ids, in our tables
            arrow = arrow.set_column(i, column.name, arrow.column(i).cast(pa.int64()))
    return pa.RecordBatchReader.from_batches(arrow.schema, arrow.to_batches(_BATCH_ROWS))


def _geometry_type(found: set[str]) -> str | None:
    """One type for all rows; None when there is none to look at."""
    if not found:
        return None
    if found <= {"Polygon", "MultiPolygon"}:
        return "MultiPolygon"
    return found.pop() if len(found) == 1 else "Unknown"


def _as_multi(wkb: pa.BinaryArray) -> pa.BinaryArray:
    """WKB (little endian, 2D) with polygons as MultiPolygons of one part."""
    single = types_of(wkb) == _POLYGON
    if not single.any():
        return wkb
    promoted = pc.binary_join_element_wise(_MULTI_PREFIX, wkb, b"")
    return pc.if_else(arrow_array(single), promoted, wkb)
