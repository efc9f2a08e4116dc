"""What stands for an object in a layer: its outline, the box around it or a point inside."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Literal, get_args

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["KINDS", "Geometry", "as_geometry", "layer_type"]

Geometry = Literal["polygon", "box", "point"]

KINDS: tuple[Geometry, ...] = get_args(Geometry)
"""What can be asked for."""


def layer_type(kind: Geometry) -> str:
    """The type of a layer of these."""
    return "Point" if kind == "point" else "MultiPolygon"


def as_geometry(batches: Iterable[pa.RecordBatch], kind: Geometry) -> Iterator[pa.RecordBatch]:
    """Batches with a WKB column ``geometry`` of polygons, that column made boxes or points.

    A box is the polygon's envelope along the axes of the CRS. A point lies inside the polygon,
    also where its centre of mass doesn't, halfway through the widest span at half its height
    (GEOS' interior point). Other columns, area and perimeter among them, stay the polygon's.
    """
    import pyarrow as pa
    import shapely

    for batch in batches:
        if kind == "polygon":
            yield batch
            continue
        at = batch.schema.get_field_index("geometry")
        outlines = shapely.from_wkb(batch.column(at).to_numpy(zero_copy_only=False))
        made = shapely.envelope(outlines) if kind == "box" else shapely.point_on_surface(outlines)
        wkb = pa.array(shapely.to_wkb(made, byte_order=1), pa.binary())
        yield batch.set_column(at, batch.schema.field(at), wkb.cast(batch.schema.field(at).type))
