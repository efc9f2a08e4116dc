"""Blocks: traced anywhere, merged in any way, always the same polygons.

``trace_tiles`` and ``merge`` are pure: arrays in, picklable dataclasses out. A Frontier merges
strips from top to bottom and keeps in memory only what is still open; what of that is bulky
(coordinates, holes of unfinished polygons) moves to a temporary file when it grows.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoseg.grid import Window
from geoseg.vectorize import columns as col
from geoseg.vectorize.close import close_rings, compact, gather_rings, ring_vertices
from geoseg.vectorize.compiled import kernel
from geoseg.vectorize.corners import Records, link_corners
from geoseg.vectorize.cut import cut_arcs
from geoseg.vectorize.join import adopt_left, join_arcs, shift
from geoseg.vectorize.parts import collect_polygons, open_part
from geoseg.vectorize.rings import Polygons, Table
from geoseg.vectorize.roots import find_roots
from geoseg.vectorize.spill import Growing
from geoseg.vectorize.trace import walk

__all__ = [
    "BlockArcs",
    "Frontier",
    "Tile",
    "merge",
    "trace_tile",
    "trace_tiles",
]

_scratch = threading.local()


@dataclass(frozen=True)
class BlockArcs:
    """The open part of a block: what its neighbours need, and nothing else of it.

    Attributes:
        window: lattice vertices of the block: its pixels' upper left corners, and the scene's
            lower and right edge for blocks there.
        arcs: open arcs, (n, WIDTH).
        pairs: arcs that end in one vertex, (m, 2).
        pieces: lists of coordinates, (n, 3).
        holes: finished holes of unfinished regions, (m, HOLE_WIDTH).
        xy: coordinates of pieces and holes.
        rows: per row the owner of the run at the right border: an arc, ``LEFT - row``, NONE.
        left: what belongs to owners on the left, (k, LEFT_WIDTH).

    """

    window: Window
    arcs: Table
    pairs: Table
    pieces: Table
    holes: Table
    xy: NDArray[np.int32]
    rows: Table
    left: Table


@dataclass(frozen=True)
class Tile:
    """What the tile kernel sees.

    Attributes:
        window: lattice vertices: of pixels ``window`` their upper left corners.
        pixels: unsigned (h + 1, any), one row above the window and more columns.
        column: of pixels, the one left of the window.
        nodata: value of pixels that belong to no region.
        score: uint8 (h, w) of the window's pixels, 255 = none; None without scores.

    """

    window: Window
    pixels: NDArray[Any]
    nodata: int
    score: NDArray[np.uint8] | None = None
    column: int = 0


def _records(size: int) -> Records:
    """Records of this thread: fresh memory for every tile would cost more than tracing."""
    records: Records | None = getattr(_scratch, "records", None)
    if records is None or not records.hold(size):
        records = Records.empty(size)
        _scratch.records = records
    return records


_NO_SCORES = np.zeros((1, 1), np.int64)


def _summed(score: NDArray[np.uint8] | None) -> NDArray[np.int64]:
    """Summed-area table of score levels and of has-a-score, packed as count << 32 + sum."""
    if score is None:
        return _NO_SCORES
    table = np.empty((score.shape[0] + 1, score.shape[1] + 1), np.int64)
    _sum_up(score, table)
    return table


@kernel
def _sum_up(score: NDArray[np.uint8], table: NDArray[np.int64]) -> None:
    table[0] = 0
    table[1:, 0] = 0
    for i in range(score.shape[0]):
        row = np.int64(0)
        for j in range(score.shape[1]):
            if score[i, j] != 255:
                row += np.int64(score[i, j]) + (np.int64(1) << 32)
            table[i + 1, j + 1] = table[i, j + 1] + row


def trace_tile(tile: Tile, straight: bool) -> tuple[Polygons, BlockArcs]:
    """Finished polygons and open part of one tile of at most MAX_SIDE vertices a side."""
    pixels = np.ascontiguousarray(tile.pixels)
    height, width = tile.window.shape
    nodata = pixels.dtype.type(tile.nodata)
    table = _summed(tile.score)
    origin = (tile.window.row_off, tile.window.col_off, tile.column, width)
    rec = _records(4 * (height + width) + 4 * height * width)
    closed, still_open = _trace(pixels, (nodata, tile.column, width), straight, rec, table, origin)
    return Polygons(*closed), BlockArcs(tile.window, *still_open)


@kernel
def _trace(pixels: Any, mark: Any, straight: bool, rec: Any, table: Any, origin: Any) -> Any:
    """All kernels of a tile in one: threads don't meet at the interpreter between them."""
    row_owner = np.empty(pixels.shape[0] - 1, np.int64)
    n = link_corners(pixels, mark, straight, rec, row_owner)
    rings, order, xy, ends, on_arcs = walk(pixels, table, origin, rec, n)
    arcs, pairs, arc_xy = cut_arcs(pixels, table, origin, rec, ends, on_arcs)
    roots = find_roots(rec, rings, order)
    start, count, polygons = collect_polygons(rings, roots, order)
    rest = (rec, row_owner, origin[0], table)
    pieces, holes, open_xy, rows, left = open_part(rings, roots, xy, arcs, arc_xy, rest)
    return (xy, start, count, polygons), (arcs, pairs, pieces, holes, open_xy, rows, left)


class _Merger:
    """Tables of several parts behind each other, and the joining of what is open in them."""

    def __init__(self, spill_bytes: int | None = None) -> None:
        self.pieces = Growing(3, np.int64, spill_bytes)
        self.holes = Growing(col.HOLE_WIDTH, np.int64, spill_bytes)
        self.xy = Growing(2, np.int32, spill_bytes)
        self.arcs = np.empty((0, col.WIDTH), np.int64)
        self.pairs = np.empty((0, 2), np.int64)

    def add(self, parts: Sequence[BlockArcs]) -> list[BlockArcs]:
        """Take parts in; returns them renumbered."""
        added, n_arcs = [], len(self.arcs)
        for part in parts:
            new = replace(
                part,
                arcs=part.arcs.copy(),
                pairs=part.pairs.copy(),
                pieces=part.pieces.copy(),
                holes=part.holes.copy(),
                rows=part.rows.copy(),
                left=part.left.copy(),
            )
            bases = (n_arcs, len(self.pieces), len(self.holes), len(self.xy))
            shift(new.arcs, new.pairs, new.pieces, new.holes, (new.rows, new.left, bases))
            self.pieces.extend(new.pieces)
            self.holes.extend(new.holes)
            self.xy.extend(part.xy)
            added.append(new)
            n_arcs += len(new.arcs)
        self.arcs = np.concatenate([self.arcs, *(part.arcs for part in added)])
        self.pairs = np.concatenate([self.pairs, *(part.pairs for part in added)])
        return added

    def resolve_row(self, parts: Sequence[BlockArcs]) -> tuple[Table, Table]:
        """Owners of the right border and what is left over, of parts from left to right."""
        rows, left = parts[0].rows, [parts[0].left]
        first = len(self.arcs) - sum(len(part.arcs) for part in parts) + len(parts[0].arcs)
        for part in parts[1:]:
            last = first + len(part.arcs)
            rest = (rows, part.window.row_off, part.rows, self.holes.data)
            left.append(adopt_left(self.arcs, first, last, part.left, rest))
            rows, first = part.rows, last
        return rows, np.concatenate(left)

    def join(self, rows: Table) -> tuple[Polygons, Table]:
        """Join what fits; finished polygons, and what belongs to owners on the left."""
        pieces, holes = self.pieces.data, self.holes.data
        self.arcs, self.pairs, rings, roots = join_arcs(self.arcs, self.pairs, pieces, holes, rows)
        at = len(self.xy)
        self.xy.resize(at + ring_vertices(rings, pieces))
        gather_rings(rings, pieces, self.xy.data, at)
        n_holes = len(self.holes)
        self.holes.resize(n_holes + len(rings))
        start, count, polygons, left = close_rings(
            rings, roots, self.arcs, self.holes.data, n_holes
        )
        return Polygons(self.xy.data, start, count, polygons), left

    def compact(self, left: Table) -> tuple[Table, Table, NDArray[np.int32]]:
        """Pieces, holes and coordinates that are still alive; arcs and left are renumbered."""
        result: tuple[Table, Table, NDArray[np.int32]] = compact(
            self.arcs, left, self.pieces.data, self.holes.data, self.xy.data
        )
        return result


def _joined_window(parts: Sequence[BlockArcs]) -> tuple[Window, bool]:
    """The rectangle that blocks make, and whether they stand side by side."""
    first, last = parts[0].window, parts[-1].window
    whole = Window(
        first.row_off,
        first.col_off,
        last.row_end - first.row_off,
        last.col_end - first.col_off,
    )
    beside = last.row_off == first.row_off
    for a, b in itertools.pairwise(parts):
        if beside:
            fits = (b.window.row_off, b.window.height) == (a.window.row_off, a.window.height)
            fits = fits and b.window.col_off == a.window.col_end
        else:
            fits = (b.window.col_off, b.window.width) == (a.window.col_off, a.window.width)
            fits = fits and b.window.row_off == a.window.row_end
        if not fits:
            raise ValueError(f"blocks {a.window} and {b.window} are no neighbours in this order")
    return whole, beside


def merge(*parts: BlockArcs) -> tuple[Polygons, BlockArcs]:
    """Merge neighbours into one block.

    Args:
        parts: blocks side by side from left to right, or below each other from top to bottom,
            which together make a rectangle; each may itself be a merge.

    Returns:
        The polygons that the merge finished, and what is still open.

    Raises:
        ValueError: the blocks don't make a rectangle in this order.

    """
    if len(parts) == 1:
        empty = np.empty(0, np.int64)
        no_xy, no_table = np.empty((0, 2), np.int32), np.empty((0, col.POLYGON_WIDTH), np.int64)
        return Polygons(no_xy, empty, empty, no_table), parts[0]
    window, beside = _joined_window(parts)
    merger = _Merger()
    added = merger.add(parts)
    if beside:
        rows, left = merger.resolve_row(added)
    else:
        rows = np.concatenate([part.rows for part in added])
        left = np.concatenate([part.left for part in added])
    done, more_left = merger.join(rows)
    left = np.concatenate([left, more_left])
    pieces, holes, xy = merger.compact(left)
    return done, BlockArcs(window, merger.arcs, merger.pairs, pieces, holes, xy, rows, left)


def trace_tiles(
    rows: Iterable[Sequence[Tile]], straight: bool = False
) -> tuple[Polygons, BlockArcs]:
    """Trace rows of tiles that together make a rectangle.

    Args:
        rows: of tiles, from the top.
        straight: also record vertices where a neighbour's boundaries meet a straight side, so
            that borders match vertex by vertex.

    Returns:
        The polygons that lie within the rectangle, and what is open.

    """
    done, strips = [], []
    for row in rows:
        traced = [trace_tile(tile, straight) for tile in row]
        done += [polygons for polygons, _ in traced]
        polygons, strip = merge(*(arcs for _, arcs in traced))
        done.append(polygons)
        strips.append(strip)
    polygons, block = merge(*strips)
    return Polygons.concatenate([*done, polygons]), block


class Frontier:
    """Merges strips that are as wide as the scene, from top to bottom.

    ``add`` finishes every polygon whose lowest vertex lies above the strip's end, so its
    answers, each sorted, are in the order of lower right vertices whatever the strips.
    """

    def __init__(self, spill_bytes: int | None = None) -> None:
        self._merger = _Merger(spill_bytes)
        self._spill_bytes = spill_bytes
        self._compact_at = 1 << 18

    def add(self, tiles: Sequence[BlockArcs]) -> Polygons:
        """Merge the next strip's tiles, given from left to right.

        The coordinates of the answer are valid until the next call.
        """
        merger = self._merger
        self._tidy()
        added = merger.add(tiles)
        merger.resolve_row(added)
        done, _ = merger.join(np.empty(0, np.int64))
        return done

    def release(self) -> None:
        """Let go of memory behind spilled tables, after the last answer was used."""
        for table in (self._merger.xy, self._merger.holes, self._merger.pieces):
            table.release()

    def _tidy(self) -> None:
        """Drop what closed when it is the larger part of the tables."""
        merger = self._merger
        if len(merger.xy) < self._compact_at or merger.xy.spilled:
            return
        pieces, holes, xy = merger.compact(np.empty((0, col.LEFT_WIDTH), np.int64))
        self._compact_at = max(1 << 18, 2 * len(xy))
        for name, rows in (("pieces", pieces), ("holes", holes), ("xy", xy)):
            table = Growing(rows.shape[1], rows.dtype, self._spill_bytes)
            table.extend(rows)
            setattr(merger, name, table)
