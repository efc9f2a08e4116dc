"""A raster of any size to a stream of polygons.

::

    source --strips--> tiles --threads--> arcs --Frontier--> rings --> Arrow batches
    blocks, traced anywhere -----------> arcs --Frontier--> rings --> Arrow batches
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from affine import Affine
from numpy.typing import NDArray

from geoseg.ahead import ahead
from geoseg.errors import InputError
from geoseg.switching import quick_switches
from geoseg.vectorize.connect import CornerGroups
from geoseg.vectorize.coverage import Coverage
from geoseg.vectorize.dice import diced
from geoseg.vectorize.ground import Ground
from geoseg.vectorize.merge import BlockArcs, Frontier, Tile, merge, trace_tile, trace_tiles
from geoseg.vectorize.rechunk import Chunks, rechunked
from geoseg.vectorize.regularize import square_batch
from geoseg.vectorize.rings import Polygons, Rings
from geoseg.vectorize.smooth import PARTS, smoothed
from geoseg.vectorize.strips import (
    BlockLabels,
    LabelSource,
    LeftOut,
    cut_tiles,
    nodata_label,
    strips_of,
)
from geoseg.vectorize.table import Attributes, Group, polygon_batch, polygon_schema

__all__ = [
    "VectorizeOptions",
    "merge_blocks",
    "polygonize_blocks",
    "polygonize_traced",
    "trace_block",
]

_SPILL_BYTES = 32 << 20
_TILE = (512, 512)
_STRIP_PIXELS = 3 << 20
"""Tiles of wide rasters are lower: a row of them takes as much memory as one of 6144 px does."""
_LOWEST = 64
_TILE_CORNERS = 160_000
"""Fewer mean more seams to merge, more fall out of the cache: corners are visited in the order of
the rings, 12 bytes each."""
_NARROWEST, _WIDEST = 128, 1024
_BATCHES_WAITING = 1
"""Of a few MiB, besides one that is made and one that is written."""

Traced = tuple[Polygons, BlockArcs]


@dataclass(frozen=True, kw_only=True)
class VectorizeOptions:
    """How polygons are made.

    Attributes:
        nodata: values of pixels that get no polygon.
        connectivity: 4, or 8: regions that touch at a corner are one MultiPolygon.
        shared_vertices: add collinear vertices where a neighbour has one.
        simplify_m: tolerance of outlines in metres, or in units of the transform where there
            is no CRS; neighbours stay matched. Nothing is yielded before the raster was read.
        square_m: lay sides along and across each other, moving outlines by this at most: for
            objects that stand alone, as neighbours are not matched.
        smooth: round the corners of pixels; neighbours stay matched and no centre of a pixel
            changes sides, see ``vectorize.smooth``. Before simplifying.
        max_vertices: polygons with more are cut along lines of the pixel grid.
        tile_size: rows and cols of the kernel's tiles; None: as the raster's width and the
            number of corners in it suggest. It changes speed, not the result.
        threads: tiles that are traced at once.
        multi: geometries are MultiPolygons, as file formats want them, rather than Polygons.

    """

    nodata: tuple[int, ...] = ()
    connectivity: int = 4
    shared_vertices: bool = False
    simplify_m: float = 0.0
    square_m: float = 0.0
    smooth: bool = False
    max_vertices: int | None = None
    tile_size: tuple[int, int] | None = None
    threads: int = 1
    multi: bool = True

    def __post_init__(self) -> None:
        if self.connectivity not in (4, 8):
            raise InputError(f"connectivity {self.connectivity}: use 4 or 8")
        if self.tile_size and (min(self.tile_size) < 1 or max(self.tile_size) > 4096):
            raise InputError(f"tile size {self.tile_size}: use 1 to 4096 pixels")
        bent = self.simplify_m > 0 or self.smooth
        if self.max_vertices is not None and (
            self.max_vertices < 64 or self.connectivity == 8 or bent
        ):
            raise InputError(
                f"{self.max_vertices} vertices at most: use 64 or more, with connectivity 4 and "
                "without simplifying or smoothing"
            )
        if self.smooth and self.square_m > 0:
            raise InputError("smoothing rounds the corners that squaring straightens: use one")
        for tolerance in (self.simplify_m, self.square_m):
            if not 0 <= tolerance < math.inf:
                raise InputError(f"tolerance {tolerance} m: use 0 or more")
        if self.threads < 1:
            raise InputError(f"{self.threads} threads: use 1 or more")

    @property
    def straight(self) -> bool:
        """Whether straight sides get the vertices of their neighbours."""
        return self.shared_vertices or self.simplify_m > 0 or self.smooth

    @property
    def left_out(self) -> LeftOut:
        """Simplified outlines must not cross through nodata, so it is traced too then."""
        return LeftOut(self.nodata, trace=self.simplify_m > 0)


def trace_block(block: BlockLabels, options: VectorizeOptions) -> Traced:
    """Trace one block of a raster, anywhere: pure and picklable.

    Returns:
        Polygons that lie within the block, and its open part for ``merge`` with a neighbour's
        or for ``polygonize_traced``.

    """
    height, width = options.tile_size or _TILE
    strips = block.strips(height, options.left_out)
    return trace_tiles((cut_tiles(strip, width) for strip in strips), options.straight)


def merge_blocks(one: Traced, other: Traced) -> Traced:
    """Two neighbours, traced or merged already, as one; raises ValueError for no neighbours."""
    done, arcs = merge(one[1], other[1])
    return Polygons.concatenate([one[0], other[0], done]), arcs


def polygonize_traced(
    rows: Iterable[Sequence[Traced]],
    shape: tuple[int, int],
    options: VectorizeOptions,
    attributes: Attributes,
) -> Iterator[pa.RecordBatch]:
    """Stream the polygons of traced blocks, given row by row and from left to right.

    The batches equal those of ``polygonize_blocks`` to the byte, however blocks were cut.
    """
    with ThreadPoolExecutor(options.threads) as pool:
        rings = _merged(rows)
        yield from rechunked(_batches(rings, shape, options, attributes, pool))


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
        attributes: what the columns hold; dtype is the source's.
        on_rows: told the number of rows done.

    Raises:
        InputError: a label that the legend doesn't know.
        GeosegError: a polygon of more than 2 GiB.

    """
    attributes = replace(attributes, dtype=source.dtype)
    together = quick_switches() if options.threads > 1 else nullcontext()
    with together, ThreadPoolExecutor(options.threads) as pool:
        traced: Iterable[Sequence[Traced]] = _traced(source, options, pool, on_rows)
        if options.threads > 1:  # the next strip while this one is merged
            traced = ahead(traced)
        rings = _merged(traced)
        batches = rechunked(_batches(rings, source.shape, options, attributes, pool))
        yield from batches if options.threads == 1 else ahead(batches, _BATCHES_WAITING)


def _traced(
    source: LabelSource,
    options: VectorizeOptions,
    pool: ThreadPoolExecutor,
    on_rows: Callable[[int], None] | None,
) -> Iterator[Sequence[Traced]]:
    """Strips of tiles, traced in threads."""

    def traced(tile: Tile) -> Traced:
        return trace_tile(tile, options.straight)

    height, width = options.tile_size or _TILE
    if options.tile_size is None:
        height = min(height, max(_LOWEST, _STRIP_PIXELS // max(source.shape[1], 1)))
    for strip in strips_of(source, height, options.left_out):
        tiles = cut_tiles(strip, width)
        done = list(map(traced, tiles) if options.threads == 1 else pool.map(traced, tiles))
        if options.tile_size is None:
            corners = sum(len(polygons.xy) + len(arcs.xy) for polygons, arcs in done)
            fitting = _TILE_CORNERS * strip.window.width // max(corners, 1)
            width = min(max(fitting, _NARROWEST), _WIDEST)
        end = strip.window.row_end
        del strip, tiles  # else these rows stay while the next are read
        yield done
        del done
        if on_rows is not None:
            on_rows(min(end, source.shape[0]))


def _merged(rows: Iterable[Sequence[Traced]]) -> Iterator[Rings]:
    """Polygons as the scan finishes them; an answer is valid until the next is asked for."""
    frontier = Frontier(_SPILL_BYTES)
    for row in rows:
        done = frontier.add([arcs for _, arcs in row])
        rings = Rings.of(*(polygons for polygons, _ in row), done)
        yield replace(rings, release=frontier.release)
        frontier.release()


def _groups(rings: Iterable[Rings], options: VectorizeOptions) -> Iterator[Group]:
    """What becomes rows, in order."""
    corners = CornerGroups()
    for some in rings:
        if options.connectivity == 8:
            yield corners.add(some)
        elif options.max_vertices is not None:
            yield diced(Group(some, some.in_order()), options.max_vertices)
        else:
            yield Group(some, some.in_order())


def _batches(
    rings: Iterable[Rings],
    shape: tuple[int, int],
    options: VectorizeOptions,
    attributes: Attributes,
    pool: ThreadPoolExecutor,
) -> Iterator[pa.RecordBatch]:
    ground = None
    if attributes.crs_wkt is not None:
        ground = Ground.of(attributes.transform, attributes.crs_wkt, shape)
    pixel = _pixel_size(ground, attributes)
    parts = PARTS if options.smooth else 1
    if options.smooth:
        rings = (smoothed(some, shape) for some in rings)
        attributes = replace(attributes, transform=attributes.transform @ Affine.scale(1 / parts))
        ground = None if ground is None else ground.divided(parts)
    if options.simplify_m > 0:
        fine = (parts * shape[0], parts * shape[1])
        away = parts * options.simplify_m
        tolerance = (away / pixel[0], away / pixel[1])
        rings = _simplified(rings, fine, tolerance, nodata_label(attributes.dtype))
    first_id = 0

    def batch(part: tuple[Group, int, NDArray[np.int64]]) -> pa.RecordBatch:
        group, first_id, sizes = part
        rows = polygon_batch(group, attributes, ground, shape, first_id, sizes, options.multi)
        if options.square_m > 0:
            rows = square_batch(rows, attributes.transform, pixel, options.square_m)
        return rows

    chunks = Chunks()
    schema = polygon_schema(attributes)
    yield pa.RecordBatch.from_arrays([pa.nulls(0, column.type) for column in schema], schema=schema)
    for group in _groups(rings, options):
        sizes = group.sizes(options.multi)
        pieces = []
        for start, end, _ in chunks.cut(sizes):
            if end > start:
                pieces.append((group.part(start, end), first_id + start, sizes[start:end]))
        first_id += group.rows
        # one alone doesn't wait behind tiles
        alone = options.threads == 1 or len(pieces) == 1
        yield from map(batch, pieces) if alone else pool.map(batch, pieces)


def _pixel_size(ground: Ground | None, attributes: Attributes) -> tuple[float, float]:
    """Size of a pixel along x and y, in metres at the scene's centre where there is a CRS."""
    t = attributes.transform
    return (math.hypot(t.a, t.d), math.hypot(t.b, t.e)) if ground is None else ground.pixel_m


def _simplified(
    rings: Iterable[Rings], shape: tuple[int, int], tolerance: tuple[float, float], nodata: int
) -> Iterator[Rings]:
    coverage = Coverage(shape, _SPILL_BYTES)
    coverage.extend(rings)
    coverage.simplify(tolerance)
    hidden = np.array([nodata]).astype(np.uint64).view(np.int64)[0]
    for polygons in coverage.polygons():
        yield Rings.of(polygons).without(hidden)
