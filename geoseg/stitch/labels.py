"""Instances across tiles: fragments that overlap inside the halo are one object.

Two tiles that touch, also at a corner, both saw the pixels where their read windows
intersect. A fragment of one and a fragment of the other are the same object when they
overlap there: by at least ``threshold`` of the smaller (or of their union), and where the
two cores meet. Links are transitive. Contact alone never links: it would fuse neighbouring
parcels.

Each pair of tiles is compared alone and in whole numbers, inside a block as across blocks
(from strips in the frames), so the result does not depend on the blocks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from geoseg.grid import Block, BlockGrid, Tile, Window
from geoseg.legend import NODATA_CATEGORY
from geoseg.models.segmenter import Arrays, InstanceTile, TileResult
from geoseg.stitch.overlap import overlaps, seam

__all__ = ["OverlapJoin"]

NEXT = ((0, 1), (1, -1), (1, 0), (1, 1))
"""From a tile to those neighbours that come later in raster order."""

NO_SCORE = 255
Pairs = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class OverlapJoin:
    """A Join for segmenters that give InstanceTile.

    Attributes:
        criterion: overlap as a share of the smaller fragment or of their union (IoU), both
            counted where the two tiles' read windows intersect.
        threshold: the share from which two fragments are one object.
        seam_px: the overlap must reach within this many pixels of the line where the cores
            meet; 0: anywhere in the halo. Slivers at a window's far edge say nothing.

    An object's category is that of most of its pixels (ties: the lower id), its score the
    mean of its pixels' levels; ids count from 1 in raster order of the first pixel.

    """

    criterion: Literal["smaller", "iou"] = "smaller"
    threshold: float = 0.5
    seam_px: int = 8

    def collect(
        self, block: Block, results: Sequence[tuple[Tile, TileResult]], valid: NDArray[np.bool_]
    ) -> tuple[Arrays, Arrays]:
        """See Join. The frame: strips of fragments, and one row per object of the block."""
        tiles: dict[tuple[int, int], tuple[Tile, NDArray[np.int32]]] = {}
        kept = _empty(block.window)
        count = 0
        for tile, result in results:
            assert isinstance(result, InstanceTile)
            own = _numbered(result.instance_id, count)
            count = max(count, int(own.max(initial=0)))
            tiles[tile.index] = (tile, own)
            source = tile.core.relative_to(tile.read).slices
            target = tile.core.relative_to(block.window).slices
            kept["instance_id"][target] = own[source]
            kept["category_id"][target] = result.category_id[source]
            kept["score"][target] = result.score[source]
        kept["instance_id"][~valid] = 0
        kept["category_id"][~valid] = NODATA_CATEGORY
        kept["score"][kept["category_id"] == NODATA_CATEGORY] = NO_SCORE
        links = [
            self._links(*tiles[index], *tiles[other])
            for index in tiles
            for other in _later(index)
            if other in tiles
        ]
        part_of = _groups(links, count + 1).astype(np.int32)
        kept["instance_id"] = part_of[kept["instance_id"]]
        frame = _strips(block, tiles) | _object_rows(block, kept, int(part_of.max()))
        frame["part_of"] = part_of
        return kept, frame

    def solve(
        self, frames: Iterable[tuple[Block, Arrays]], grid: BlockGrid
    ) -> Mapping[int, Arrays]:
        """See Join. Holds the strips of two rows of blocks, and one row per object."""
        near: dict[tuple[int, int], tuple[int, Arrays]] = {}
        spans: list[tuple[int, int, int]] = []
        rows: list[Arrays] = []
        links: list[Pairs] = []
        base = 0
        for block, frame in frames:
            near = {i: held for i, held in near.items() if i[0] >= block.index[0] - 1}
            for index in ((0, -1), (-1, -1), (-1, 0), (-1, 1)):
                other = (block.index[0] + index[0], block.index[1] + index[1])
                if other in near:
                    before, strips = near[other]
                    shift = np.array([before, base])
                    links += [pairs + shift for pairs in self._across(grid, strips, frame)]
            near[block.index] = (base, frame)
            objects = len(frame["first"])
            spans.append((block.number, base, objects))
            rows.append(_based(frame, base, grid.tiles.shape[1]))
            base += objects
        return _tables(spans, rows, _groups(links, base))

    def apply(
        self, block: Block, kept: Arrays, table: Arrays, frames: Mapping[tuple[int, int], Arrays]
    ) -> Arrays:
        """See Join: global ids, and one category and score for each object."""
        local = kept["instance_id"]
        thing = local > 0
        return {
            "category_id": np.where(thing, table["category_id"][local], kept["category_id"]),
            "score": np.where(thing, table["score"][local], kept["score"]),
            "instance_id": table["instance_id"][local],
        }

    def _links(self, tile: Tile, own: NDArray[Any], other: Tile, theirs: NDArray[Any]) -> Pairs:
        """Pairs of fragments of two tiles that are one object."""
        both = tile.read & other.read
        a = own[both.relative_to(tile.read).slices]
        b = theirs[both.relative_to(other.read).slices]
        return self._same(a, b, tile, other)

    def _same(self, a: NDArray[Any], b: NDArray[Any], tile: Tile, other: Tile) -> Pairs:
        both = tile.read & other.read
        zone = seam(tile, other, self.seam_px) if self.seam_px else both
        table = overlaps(a, b, (zone & both).relative_to(both))
        linked = (table.a > 0) & (table.b > 0) & (table.zone > 0)
        linked &= table.share(self.criterion) >= self.threshold
        return np.stack([table.a[linked], table.b[linked]], 1)

    def _across(self, grid: BlockGrid, strips: Arrays, frame: Arrays) -> Iterator[Pairs]:
        """Pairs of objects, each block's counted from 0, for two blocks that touch."""
        for index in _outer(frame):
            for step in (*NEXT, *((-row, -col) for row, col in NEXT)):
                other = (index[0] + step[0], index[1] + step[1])
                if not _holds(strips, other):
                    continue
                tile, earlier = grid.tiles.tile(*index), grid.tiles.tile(*other)
                both = tile.read & earlier.read
                vertical = _lies_below(frame, strips)
                a = _cut(strips, earlier, both, "s" if vertical else "e")
                b = _cut(frame, tile, both, "n" if vertical else "w")
                pairs = self._same(a, b, earlier, tile)
                left, right = strips["part_of"][pairs[:, 0]], frame["part_of"][pairs[:, 1]]
                yield np.stack([left, right], 1).astype(np.int64) - 1


def _later(index: tuple[int, int]) -> Iterator[tuple[int, int]]:
    return ((index[0] + row, index[1] + col) for row, col in NEXT)


def _empty(window: Window) -> Arrays:
    return {
        "instance_id": np.zeros(window.shape, np.int32),
        "category_id": np.full(window.shape, NODATA_CATEGORY, np.uint8),
        "score": np.full(window.shape, NO_SCORE, np.uint8),
    }


def _numbered(instance_id: NDArray[Any], above: int) -> NDArray[np.int32]:
    """Ids of a tile made ids of its block: they count on from ``above``."""
    return np.where(instance_id > 0, instance_id + above, 0).astype(np.int32)


def _groups(links: Sequence[Pairs], count: int) -> NDArray[np.int64]:
    """The connected component of each of ``count`` nodes, numbered by their first nodes."""
    pairs = np.concatenate([*links, np.zeros((0, 2), np.int64)])
    graph = coo_array((np.ones(len(pairs), bool), (pairs[:, 0], pairs[:, 1])), (count, count))
    labels = connected_components(graph, directed=False)[1]
    return labels.astype(np.int64)


def _strips(block: Block, tiles: Mapping[tuple[int, int], tuple[Tile, NDArray[Any]]]) -> Arrays:
    """Fragments of the outermost tiles, as far as tiles of other blocks saw them too."""
    first, last = block.tiles[0], block.tiles[-1]
    size, halo = first.read.height, first.core.row_off - first.read.row_off
    rows = range(first.index[0], last.index[0] + 1)
    cols = range(first.index[1], last.index[1] + 1)
    out: Arrays = {
        "n": np.zeros((len(cols), 2 * halo, size), np.int32),
        "s": np.zeros((len(cols), 2 * halo, size), np.int32),
        "w": np.zeros((len(rows), size, 2 * halo), np.int32),
        "e": np.zeros((len(rows), size, 2 * halo), np.int32),
        "tiles": np.array([rows.start, rows.stop, cols.start, cols.stop], np.int64),
    }
    for (row, col), (_, own) in tiles.items():
        if row == rows.start:
            out["n"][col - cols.start] = own[: 2 * halo]
        if row == rows.stop - 1:
            out["s"][col - cols.start] = own[size - 2 * halo :]
        if col == cols.start:
            out["w"][row - rows.start] = own[:, : 2 * halo]
        if col == cols.stop - 1:
            out["e"][row - rows.start] = own[:, size - 2 * halo :]
    return out


def _holds(frame: Arrays, index: tuple[int, int]) -> bool:
    row, row_end, col, col_end = frame["tiles"].tolist()
    return bool(row <= index[0] < row_end and col <= index[1] < col_end)


def _lies_below(frame: Arrays, other: Arrays) -> bool:
    return bool(frame["tiles"][0] >= other["tiles"][1])


def _outer(frame: Arrays) -> Iterator[tuple[int, int]]:
    """Indices of the tiles of a block's first row and first column."""
    row, row_end, col, col_end = frame["tiles"].tolist()
    yield from ((row, c) for c in range(col, col_end))
    yield from ((r, col) for r in range(row + 1, row_end))


def _cut(frame: Arrays, tile: Tile, window: Window, side: str) -> NDArray[Any]:
    """Fragments of a tile in a window, out of its block's strips."""
    row, _, col, _ = frame["tiles"].tolist()
    strip = frame[side][tile.index[0] - row if side in "we" else tile.index[1] - col]
    height, width = strip.shape
    row_off = tile.read.row_end - height if side == "s" else tile.read.row_off
    col_off = tile.read.col_end - width if side == "e" else tile.read.col_off
    return strip[window.relative_to(Window(row_off, col_off, height, width)).slices]


def _object_rows(block: Block, kept: Arrays, count: int) -> Arrays:
    """Of each object: first pixel (row, col) in the scene, scores, pixels per category."""
    ids = kept["instance_id"]
    flat, scores, scored = _sums(ids, kept["score"], count)
    table = overlaps(ids, kept["category_id"])
    own = table.a > 0
    first = np.stack(np.divmod(flat, max(ids.shape[1], 1)), 1)
    first += np.array([block.window.row_off, block.window.col_off])
    first[flat < 0] = -1
    return {
        "first": first,
        "score_sum": scores,
        "score_pixels": scored,
        "votes": np.stack([table.a[own] - 1, table.b[own], table.pixels[own]], 1),
    }


@njit(cache=True, nogil=True)
def _sums(ids: Any, score: Any, count: int) -> Any:  # pragma: no cover - compiled
    first = np.full(count, -1, np.int64)
    total = np.zeros(count, np.int64)
    pixels = np.zeros(count, np.int64)
    rows, cols = ids.shape
    for row in range(rows):
        for col in range(cols):
            k = ids[row, col] - 1
            if k < 0:
                continue
            if first[k] < 0:
                first[k] = row * cols + col
            if score[row, col] != NO_SCORE:
                total[k] += score[row, col]
                pixels[k] += 1
    return first, total, pixels


def _based(frame: Arrays, base: int, width: int) -> Arrays:
    """A block's objects, numbered from ``base``; first pixels as places in raster order."""
    row, col = frame["first"].T
    place = np.where(row < 0, np.iinfo(np.int64).max, row * width + col)
    votes = frame["votes"] + np.array([base, 0, 0])
    names = ("score_sum", "score_pixels")
    return {"place": place, "votes": votes} | {name: frame[name] for name in names}


def _tables(
    spans: Sequence[tuple[int, int, int]], rows: Sequence[Arrays], group: NDArray[np.int64]
) -> dict[int, Arrays]:
    """Each block's table: id, category and score by its own object number; 0 stays 0."""
    if not spans:
        return {}
    merged = {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}
    count = int(group.max(initial=-1)) + 1
    place = np.full(count, np.iinfo(np.int64).max)
    np.minimum.at(place, group, merged["place"])
    ids = np.zeros(count, np.uint32)
    order = np.argsort(place, kind="stable")
    order = order[place[order] < np.iinfo(np.int64).max]
    ids[order] = np.arange(1, len(order) + 1)
    whole: Arrays = {
        "instance_id": ids,
        "category_id": _majority(merged["votes"], group, count),
        "score": _mean(merged["score_sum"], merged["score_pixels"], group, count),
    }
    tables = {}
    for number, base, objects in spans:
        own = group[base : base + objects]
        tables[number] = {
            name: np.concatenate([np.zeros(1, values.dtype), values[own]])
            for name, values in whole.items()
        }
    return tables


def _majority(votes: Pairs, group: NDArray[np.int64], count: int) -> NDArray[np.uint8]:
    keys, inverse = np.unique(group[votes[:, 0]] * 256 + votes[:, 1], return_inverse=True)
    pixels = np.zeros(len(keys), np.int64)
    np.add.at(pixels, inverse, votes[:, 2])
    # the last one written wins: most pixels, then the lower category
    order = np.lexsort((-(keys % 256), pixels))
    out = np.full(count, NODATA_CATEGORY, np.uint8)
    out[keys[order] // 256] = keys[order] % 256
    return out


def _mean(
    sums: NDArray[np.int64], pixels: NDArray[np.int64], group: NDArray[np.int64], count: int
) -> NDArray[np.uint8]:
    """Mean level, halves up; 255 where no pixel has a score."""
    total, number = np.zeros(count, np.int64), np.zeros(count, np.int64)
    np.add.at(total, group, sums)
    np.add.at(number, group, pixels)
    mean = (2 * total + number) // np.maximum(2 * number, 1)
    return np.where(number > 0, mean, NO_SCORE).astype(np.uint8)
