"""Polygons as Arrow batches: the columns that every layer of geoseg has."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from affine import Affine
from numpy.typing import NDArray

from geoseg.arrow import arrow_array
from geoseg.errors import InputError
from geoseg.legend import NODATA_CATEGORY, Legend
from geoseg.vectorize import columns as col
from geoseg.vectorize.compiled import kernel
from geoseg.vectorize.ground import Ground, measure
from geoseg.vectorize.rings import Rings
from geoseg.vectorize.wkb import wkb_array, wkb_sizes

__all__ = ["Attributes", "Group", "pack_labels", "polygon_batch", "polygon_schema"]

SCORE_LEVELS = 254
_INSTANCE_SHIFT = 8


def pack_labels(category_id: NDArray[np.uint8], instance_id: NDArray[Any]) -> NDArray[np.int64]:
    """One label per pixel for maps with things: ``instance_id << 8 | category_id``.

    A semantic map's category_id is such a label already: its instance is 0, none.
    """
    return (instance_id.astype(np.int64) << _INSTANCE_SHIFT) | category_id


@dataclass(frozen=True, kw_only=True)
class Attributes:
    """What the columns are made of.

    Attributes:
        transform: pixel to CRS.
        crs_wkt: None where there is no CRS; area_m2 and perimeter_m are null then.
        legend: given for maps: labels are those of ``pack_labels`` and become category_id,
            category, isthing and instance_id. Without one there is a column ``value``.
        dtype: of the labels.

    """

    transform: Affine = field(default_factory=Affine.identity)
    crs_wkt: str | None = None
    legend: Legend | None = None
    dtype: np.dtype[Any] = field(default_factory=lambda: np.dtype(np.uint8))

    @cached_property
    def names(self) -> pa.DictionaryArray:
        """Category per category_id, 0 to 255."""
        by_id = {c.id: c.name for c in self.legend} if self.legend else {}
        return pa.array([by_id.get(i) for i in range(256)], pa.string())

    @cached_property
    def things(self) -> NDArray[np.bool_]:
        """Isthing per category_id, 0 to 255."""
        out = np.zeros(256, bool)
        out[[c.id for c in self.legend or () if c.isthing]] = True
        return out


def polygon_schema(attributes: Attributes) -> pa.Schema:
    """Names and types of the columns; the same for an empty table."""
    if attributes.legend is None:
        label = [pa.field("value", pa.from_numpy_dtype(attributes.dtype), nullable=False)]
    else:
        label = [
            pa.field("category_id", pa.uint8(), nullable=False),
            pa.field("category", pa.string()),
            pa.field("isthing", pa.bool_(), nullable=False),
            pa.field("instance_id", pa.int64()),
        ]
    return pa.schema(
        [
            pa.field("segment_id", pa.int64(), nullable=False),
            *label,
            pa.field("score", pa.float32()),
            pa.field("area_m2", pa.float64()),
            pa.field("perimeter_m", pa.float64()),
            pa.field("pixels", pa.int64(), nullable=False),
            pa.field("on_edge", pa.bool_(), nullable=False),
            pa.field(
                "geometry",
                pa.binary(),
                nullable=False,
                metadata={"ARROW:extension:name": "geoarrow.wkb"},
            ),
        ]
    )


@dataclass(frozen=True)
class Group:
    """Polygons that become the rows of one batch.

    Attributes:
        rings: where they are.
        order: which of them, in order.
        bounds: where each row begins in ``order``, and the end; None for one row each.

    """

    rings: Rings
    order: NDArray[np.int64]
    bounds: NDArray[np.int64] | None = None

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.order) if self.bounds is None else len(self.bounds) - 1

    @cached_property
    def starts(self) -> NDArray[np.int64]:
        """Where each row begins in ``order``, and the end."""
        return np.arange(len(self.order) + 1) if self.bounds is None else self.bounds

    def sizes(self, multi: bool) -> NDArray[np.int64]:
        """Bytes of each row's geometry, a MultiPolygon or a Polygon."""
        return wkb_sizes(self.rings, self.order, self.starts, multi or self.bounds is not None)

    def part(self, start: int, end: int) -> Group:
        """Some of the rows."""
        if self.bounds is None:
            return Group(self.rings, self.order[start:end])
        bounds = self.bounds[start : end + 1]
        return Group(self.rings, self.order[bounds[0] : bounds[-1]], bounds - bounds[0])


def polygon_batch(
    group: Group,
    attributes: Attributes,
    ground: Ground | None,
    shape: tuple[int, int],
    first_id: int,
    sizes: NDArray[np.int64],
    multi: bool = True,
) -> pa.RecordBatch:
    """Rows for polygons, numbered from ``first_id`` on.

    Args:
        group: the polygons and their order.
        attributes: what the columns are made of.
        ground: of the grid; None leaves area and perimeter null.
        shape: rows and cols of the raster.
        first_id: segment_id of the first row.
        sizes: bytes of the geometries, as of ``group.sizes(multi)``.
        multi: geometries are MultiPolygons rather than Polygons.

    """
    order, starts, n = group.order, group.starts, group.rows
    area, perimeter = (None, None) if ground is None else measure(group.rings, order, ground)
    if area is not None and perimeter is not None and group.bounds is not None and n > 0:
        area, perimeter = (np.add.reduceat(v, starts[:-1]) for v in (area, perimeter))
    labels, pixels = np.empty((2, n), np.int64)
    level, edge, unscored = np.empty(n, np.float32), np.empty(n, bool), np.empty(n, bool)
    out = (labels, pixels, level, unscored, edge)
    _fill_columns(group.rings.table, order, starts, shape, out)
    together = multi or group.bounds is not None
    geometry = wkb_array(
        group.rings, order, attributes.transform, starts if together else None, sizes
    )
    values = [
        arrow_array(np.arange(first_id, first_id + n, dtype=np.int64)),
        *_label_columns(labels, attributes),
        arrow_array(level, unscored),
        pa.nulls(n, pa.float64()) if area is None else arrow_array(area),
        pa.nulls(n, pa.float64()) if perimeter is None else arrow_array(perimeter),
        arrow_array(pixels),
        arrow_array(edge),
        geometry,
    ]
    return pa.RecordBatch.from_arrays(values, schema=polygon_schema(attributes))


@kernel
def _fill_columns(table: Any, order: Any, starts: Any, shape: Any, out: Any) -> None:
    """Per row: label of its first polygon, sums of pixels, mean score, whether it has none,
    whether it touches the raster's edge.
    """
    labels, pixels, level, unscored, edge = out
    rows, cols = shape
    for g in range(starts.size - 1):
        labels[g] = table[order[starts[g]], col.LABEL]
        count, scores, scored, at_edge = 0, 0, 0, False
        for i in range(starts[g], starts[g + 1]):
            q = order[i]
            count += table[q, col.PIXELS]
            scores += table[q, col.SCORES]
            scored += table[q, col.SCORED]
            at_edge |= table[q, col.XMIN] == 0 or table[q, col.XMAX] == cols
            at_edge |= table[q, col.MINKEY] >> 32 == 0 or table[q, col.MAXKEY] >> 32 == rows
        pixels[g], unscored[g], edge[g] = count, scored == 0, at_edge
        level[g] = scores / max(scored, 1) / SCORE_LEVELS


def _label_columns(labels: NDArray[np.int64], attributes: Attributes) -> list[pa.Array]:
    """``value``, or category_id, category, isthing and instance_id."""
    if attributes.legend is None:
        width = attributes.dtype.itemsize
        bits = labels.view(np.uint64).astype(f"u{width}")
        return [arrow_array(bits.view(attributes.dtype))]
    category = (labels & 255).astype(np.uint8)
    instance = labels >> _INSTANCE_SHIFT
    known = {NODATA_CATEGORY, *(c.id for c in attributes.legend)}
    strange = set(np.unique(category).tolist()) - known
    if strange:
        raise InputError(
            f"the map holds category {min(strange)}, which its legend does not: "
            f"it has {sorted(known - {NODATA_CATEGORY})}"
        )
    return [
        arrow_array(category),
        attributes.names.take(arrow_array(category)),
        arrow_array(attributes.things[category]),
        arrow_array(instance, instance == 0),
    ]
