"""Polygons as Arrow batches: the columns that every layer of geoseg has."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from affine import Affine
from numpy.typing import NDArray

from geoseg.errors import InputError
from geoseg.legend import NODATA_CATEGORY, Legend
from geoseg.vectorize import columns as col
from geoseg.vectorize.ground import Ground, measure
from geoseg.vectorize.rings import Rings
from geoseg.vectorize.wkb import wkb_array, wkb_sizes

__all__ = ["Attributes", "Group", "pack_labels", "polygon_batch", "polygon_schema"]

SCORE_LEVELS = 254
_INSTANCE_SHIFT = 8
_PART_BYTES = 64 << 20


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

    def split(self, rows: int) -> Iterator[Group]:
        """Parts of at most ``rows`` rows and, where a row is not larger, 64 MiB of WKB."""
        sizes = wkb_sizes(self.rings, self.order, self.bounds)
        # a huge row is a part of its own
        huge = sizes > _PART_BYTES // 2
        part = np.arange(self.rows) // rows + np.cumsum(sizes) // _PART_BYTES
        part += 2 * np.cumsum(huge) + ~huge
        edges = [*np.flatnonzero(np.diff(part, prepend=-1)).tolist(), self.rows]
        for start, end in itertools.pairwise(edges):
            if self.bounds is None:
                yield Group(self.rings, self.order[start:end])
            else:
                bounds = self.bounds[start : end + 1]
                order = self.order[bounds[0] : bounds[-1]]
                yield Group(self.rings, order, bounds - bounds[0])


def polygon_batch(
    group: Group,
    attributes: Attributes,
    ground: Ground | None,
    shape: tuple[int, int],
    first_id: int,
    multi: bool = True,
) -> pa.RecordBatch:
    """Rows for polygons, numbered from ``first_id`` on.

    Args:
        group: the polygons and their order.
        attributes: what the columns are made of.
        ground: of the grid; None leaves area and perimeter null.
        shape: rows and cols of the raster.
        first_id: segment_id of the first row.
        multi: geometries are MultiPolygons rather than Polygons.

    """
    order, bounds = group.order, group.bounds
    rows = group.rings.table[order]
    area, perimeter = (None, None) if ground is None else measure(group.rings, order, ground)
    edge = _on_edge(rows, shape)
    scores, scored, pixels = rows[:, col.SCORES], rows[:, col.SCORED], rows[:, col.PIXELS]
    labels = rows[:, col.LABEL]
    starts = np.arange(len(order) + 1) if bounds is None else bounds
    if bounds is not None and len(bounds) > 1:
        labels = labels[bounds[:-1]]
        scores, scored, pixels = (np.add.reduceat(v, bounds[:-1]) for v in (scores, scored, pixels))
        edge = np.logical_or.reduceat(edge, bounds[:-1])
        if area is not None and perimeter is not None:
            area = np.add.reduceat(area, bounds[:-1])
            perimeter = np.add.reduceat(perimeter, bounds[:-1])
    n = len(starts) - 1
    level = scores / np.maximum(scored, 1) / SCORE_LEVELS
    geometry = wkb_array(
        group.rings, order, attributes.transform, starts if multi or bounds is not None else None
    )
    values = [
        pa.array(np.arange(first_id, first_id + n, dtype=np.int64)),
        *_label_columns(labels, attributes),
        pa.array(level.astype(np.float32), mask=scored == 0),
        pa.nulls(n, pa.float64()) if area is None else pa.array(area),
        pa.nulls(n, pa.float64()) if perimeter is None else pa.array(perimeter),
        pa.array(pixels),
        pa.array(edge),
        geometry,
    ]
    return pa.RecordBatch.from_arrays(values, schema=polygon_schema(attributes))


def _on_edge(rows: NDArray[np.int64], shape: tuple[int, int]) -> NDArray[np.bool_]:
    edge: NDArray[np.bool_] = (
        (rows[:, col.XMIN] == 0)
        | (rows[:, col.XMAX] == shape[1])
        | (rows[:, col.MINKEY] >> 32 == 0)
        | (rows[:, col.MAXKEY] >> 32 == shape[0])
    )
    return edge


def _label_columns(labels: NDArray[np.int64], attributes: Attributes) -> list[pa.Array]:
    """``value``, or category_id, category, isthing and instance_id."""
    if attributes.legend is None:
        width = attributes.dtype.itemsize
        bits = labels.view(np.uint64).astype(f"u{width}")
        return [pa.array(bits.view(attributes.dtype))]
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
        pa.array(category),
        attributes.names.take(pa.array(category)),
        pa.array(attributes.things[category]),
        pa.array(instance, mask=instance == 0),
    ]
