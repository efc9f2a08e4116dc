"""GeoParquet 1.1 with a bounding box per row, written as a stream.

https://geoparquet.org/releases/v1.1.0/ : WKB, the CRS as PROJJSON, a covering that lets
readers skip row groups.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from geoseg.ahead import ahead
from geoseg.arrow import arrow_array
from geoseg.errors import OutputError
from geoseg.export.bounds import bounds_of
from geoseg.export.columns import provenance_json

if TYPE_CHECKING:
    from geoseg.export.vector import Table

__all__ = ["count", "write"]

_SIDES = ("xmin", "ymin", "xmax", "ymax")
_BOX = pa.struct([(side, pa.float64()) for side in _SIDES])
_ROW_GROUP_ROWS = 65_536
_ROW_GROUP_BYTES = 32 << 20
_MOST_READERS = 2
"""Threads that read back."""
_READ_ROWS, _READ_BYTES = 4096, 1 << 20


def write(table: Table, path: Path, provenance: Mapping[str, str], threads: int = 1) -> None:
    """Write the table, row groups of up to 65,536 rows or 32 MiB.

    With several threads the next row group is gathered while the last is compressed.
    """
    schema = pa.schema([*table.schema, pa.field("bbox", _BOX)])
    low, high = np.full(2, np.inf), np.full(2, -np.inf)
    # the least and the greatest WKB of a group help nobody, and the writer keeps both to the end
    told = [name for name in table.schema.names if name != "geometry"]
    # looking for what repeats takes longer than writing numbers that don't
    few = [name for name in told if _repeats(table.schema.field(name).type)]
    told += [f"bbox.{side}" for side in _SIDES]
    how = {"write_statistics": told, "use_dictionary": few or False}
    with pq.ParquetWriter(path, schema, compression="zstd", write_page_index=True, **how) as writer:
        groups = _bounded_groups(table)
        for group, boxes in groups if threads == 1 else ahead(groups):
            if len(boxes):
                low = np.fmin(low, np.nanmin(boxes[:, :2], axis=0, initial=np.inf))
                high = np.fmax(high, np.nanmax(boxes[:, 2:], axis=0, initial=-np.inf))
            box = pa.StructArray.from_arrays(list(map(arrow_array, boxes.T)), fields=list(_BOX))
            writer.write_table(group.append_column("bbox", box).cast(schema), len(group) or None)
        bounds = [*low.tolist(), *high.tolist()] if np.isfinite(low).all() else None
        writer.add_key_value_metadata({"geo": json.dumps(_geo(table, bounds))})
        if provenance:
            writer.add_key_value_metadata({"geoseg": provenance_json(provenance)})


def _repeats(kind: pa.DataType) -> bool:
    """Whether values of a type are mostly few: names and small numbers."""
    return pa.types.is_string(kind) or pa.types.is_dictionary(kind) or pa.types.is_uint8(kind)


def _geo(table: Table, bounds: list[float] | None) -> dict[str, Any]:
    known = table.geometry_type != "Unknown"
    column: dict[str, Any] = {
        "encoding": "WKB",
        "geometry_types": [table.geometry_type] if known else [],
        "crs": None if table.crs is None else table.crs.to_json_dict(),
        "covering": {"bbox": {side: ["bbox", side] for side in _SIDES}},
    }
    if bounds:
        column["bbox"] = bounds
    return {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": column}}


def _row_groups(table: Table) -> Iterator[pa.Table]:
    """Batches gathered until a row group is full."""
    waiting: list[pa.RecordBatch] = []
    rows = size = 0
    for batch in table:
        waiting.append(batch)
        rows += batch.num_rows
        size += batch.nbytes
        if rows >= _ROW_GROUP_ROWS or size >= _ROW_GROUP_BYTES:
            yield pa.Table.from_batches(waiting, table.schema)
            waiting, rows, size = [], 0, 0
    if waiting:
        yield pa.Table.from_batches(waiting, table.schema)


def _bounded_groups(table: Table) -> Iterator[tuple[pa.Table, NDArray[np.float64]]]:
    """Row groups and the bounds of their rows."""
    for group in _row_groups(table):
        yield group, np.concatenate([bounds_of(c) for c in group.column("geometry").chunks])


def count(path: Path, threads: int = 1) -> int:
    """Rows whose geometry can be read back; raises OutputError when the file is damaged."""
    readers = min(threads, _MOST_READERS)

    def rows(start: int) -> int:
        how = {"columns": ["geometry"], "use_threads": False}
        # else all that will be read is fetched at once, and kept
        with pq.ParquetFile(path, pre_buffer=False, buffer_size=_READ_BYTES) as file:
            groups = range(start, file.num_row_groups, readers)
            return sum(
                len(some) for i in groups for some in file.iter_batches(_READ_ROWS, [i], **how)
            )

    try:
        with ThreadPoolExecutor(readers) as pool:
            return sum(pool.map(rows, range(readers)))
    except (pa.ArrowException, OSError) as error:
        raise OutputError(f"{path.name}: could not be read back: {error}") from error
