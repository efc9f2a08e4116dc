"""A raster of any size to a stream of polygons."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pyarrow as pa

from geoseg.errors import InputError
from geoseg.vectorize.ground import Ground
from geoseg.vectorize.merge import Frontier, Polygons, Tile, trace_tile
from geoseg.vectorize.strips import LabelSource, cut_tiles, strips_of
from geoseg.vectorize.table import Attributes, Group, polygon_batch, polygon_schema

__all__ = ["VectorizeOptions", "polygonize_blocks"]

_BATCH_BYTES = 16 << 20
_BATCH_ROWS = 65_536
_SPILL_BYTES = 32 << 20


@dataclass(frozen=True, kw_only=True)
class VectorizeOptions:
    """How polygons are made.

    Attributes:
        nodata: values of pixels that get no polygon.
        connectivity: 4, or 8: regions that touch at a corner are one MultiPolygon.
        shared_vertices: add collinear vertices where a neighbour has one.
        tile_size: rows and cols of the kernel's tiles; it changes speed, not the result.
        threads: tiles that are traced at once.
        multi: geometries are MultiPolygons, as file formats want them, rather than Polygons.

    """

    nodata: tuple[int, ...] = ()
    connectivity: int = 4
    shared_vertices: bool = False
    tile_size: tuple[int, int] = (256, 1024)
    threads: int = 1
    multi: bool = True

    def __post_init__(self) -> None:
        if self.connectivity not in (4, 8):
            raise InputError(f"connectivity {self.connectivity}: use 4 or 8")
        if min(self.tile_size) < 1 or max(self.tile_size) > 4096:
            raise InputError(f"tile size {self.tile_size}: use 1 to 4096 pixels")
        if self.threads < 1:
            raise InputError(f"{self.threads} threads: use 1 or more")


def finished_polygons(
    source: LabelSource, options: VectorizeOptions, on_rows: Callable[[int], None] | None = None
) -> Iterator[Polygons]:
    """Polygons strip by strip, as the scan finishes them; order within a strip is left open.

    An answer is valid until the next is asked for. ``on_rows`` is told the rows that are done.
    """
    frontier = Frontier(_SPILL_BYTES)
    height, width = options.tile_size
    with ThreadPoolExecutor(options.threads) as pool:
        trace: Callable[..., Iterable[object]] = map if options.threads == 1 else pool.map

        def traced(tile: Tile) -> object:
            return trace_tile(tile, options.shared_vertices)

        for strip in strips_of(source, height, options.nodata):
            results = list(trace(traced, cut_tiles(strip, width)))
            done = frontier.add([arcs for _, arcs in results])
            yield Polygons.concatenate([*(polygons for polygons, _ in results), done])
            frontier.release()
            if on_rows is not None:
                on_rows(min(strip.window.row_end, source.shape[0]))


def polygonize_blocks(
    source: LabelSource,
    options: VectorizeOptions,
    attributes: Attributes,
    on_rows: Callable[[int], None] | None = None,
) -> Iterator[pa.RecordBatch]:
    """Stream the polygons of a raster as Arrow batches, at least one.

    Rows come, and ``segment_id`` counts them, in the order in which a scan from the upper left
    finishes polygons: by their lower right vertex. That order, and every byte, is the same
    for any tile size and any number of threads.

    Args:
        source: the raster.
        options: how polygons are made.
        attributes: what the columns hold.
        on_rows: told the number of rows done.

    Raises:
        InputError: a label that the legend doesn't know.
        GeosegError: a polygon of more than 2 GiB.

    """
    ground = None
    if attributes.crs_wkt is not None:
        ground = Ground.of(attributes.transform, attributes.crs_wkt, source.shape)
    first_id, any_batch = 0, False
    for polygons in finished_polygons(source, options, on_rows):
        order = polygons.in_order()
        for at in range(0, len(order), _BATCH_ROWS):
            group = Group(polygons, order[at : at + _BATCH_ROWS])
            batch = polygon_batch(
                group, attributes, ground, source.shape, first_id, options.multi
            )
            first_id += batch.num_rows
            any_batch = True
            yield batch
    if not any_batch:
        yield pa.RecordBatch.from_pylist([], schema=polygon_schema(attributes))
