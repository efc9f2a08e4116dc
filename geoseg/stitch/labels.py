"""Instances across tiles: fragments that overlap inside the halo are one object.

Two tiles that touch, also at a corner, both saw the pixels where their read windows
intersect. A fragment of one and a fragment of the other are the same object when they
overlap there broadly and by at least ``threshold`` of the smaller (or of their union), near
where the two cores meet or by more. Outlines that are 2 px off overlap thinly where two objects
touch. So a thin overlap counts only between fragments that are alike (their overlap is a good
share of their union) or one mostly inside the other, if both cores keep them, or one does and
both are large, and if not each has another counterpart. Links are transitive. Contact alone
never links: it would fuse neighbouring parcels. What a tile missed takes the things of its
neighbours (``extend``).

Each pair of tiles is compared alone and in whole numbers, inside a block as across blocks
(from strips in the frames), so the result does not depend on the blocks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from geoseg.grid import Block, BlockGrid, Tile, Window
from geoseg.legend import NODATA_CATEGORY
from geoseg.models.segmenter import Arrays, InstanceTile, TileResult
from geoseg.stitch.extend import (
    chosen,
    decided,
    near_edge,
    reach_of,
    reached,
    usable,
    valid_bands,
)
from geoseg.stitch.objects import NO_SCORE, based, groups, object_rows, tables
from geoseg.stitch.overlap import Overlaps, overlaps, pieces, seam
from geoseg.stitch.strips import NEXT, cut, holds, later, lies_below, outer, strips

__all__ = ["OverlapJoin"]

Pairs = NDArray[np.int64]


@dataclass(frozen=True)
class _Seen:
    """What a tile saw: fragments (row, col); by their numbers, which its core keeps, and
    their pixels in the whole tile.
    """

    tile: Tile
    own: NDArray[Any]
    kept: NDArray[np.bool_]
    pixels: NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class OverlapJoin:
    """A Join for segmenters that give InstanceTile.

    Attributes:
        criterion: overlap as a share of the smaller fragment or of their union (IoU), both
            counted where the two tiles' read windows intersect.
        threshold: the share from which two fragments are one object.
        seam_px: the overlap must reach within this many pixels of the line where the cores
            meet; 0: anywhere in the halo. Slivers at a window's far edge say nothing.
        broad_px: an overlap that holds a square of this side counts anywhere in the halo:
            no sliver does.
        firm_px: nearer the seam it holds a square of this side; with less it is thin: outlines
            that are 2 px off each overlap by 4 px where two objects touch.
        alike: two fragments that overlap thinly are one if it is by this share of their union,
            however small and far from the seam: both tiles saw the same sliver.
        crowd_px: a fragment with fewer pixels in its tile is small. Small ones in a crowd overlap
            their neighbours, and many tiles that only look on see them: a thin overlap joins
            only what both cores keep. 10 x 10 px become up to 196 with outlines 2 px off.

    An object's category is that of most of its pixels (ties: the lower id), its score the
    mean of its pixels' levels, both by the tiles whose cores these are in; ids count from 1
    in raster order of the first pixel.

    """

    criterion: Literal["smaller", "iou"] = "smaller"
    threshold: float = 0.5
    seam_px: int = 8
    broad_px: int = 6
    firm_px: int = 5
    alike: float = 0.3
    crowd_px: int = 200

    def collect(
        self, block: Block, results: Sequence[tuple[Tile, TileResult]], valid: NDArray[np.bool_]
    ) -> tuple[Arrays, Arrays]:
        """See Join. The frame: strips of fragments, and one row per object of the block."""
        kept, tiles, pixels = _laid(block, results)
        kept["instance_id"][~valid] = 0
        kept["category_id"][~valid] = NODATA_CATEGORY
        kept["score"][kept["category_id"] == NODATA_CATEGORY] = NO_SCORE
        in_core = np.bincount(kept["instance_id"].ravel(), minlength=len(pixels)) > 0
        links, reaches = [], [chosen([])]
        for index, one in tiles.items():
            for other in (tiles[i] for i in later(index) if i in tiles):
                pairs, *ways = self._meet(*_seen(one, other, in_core, pixels))
                links.append(pairs)
                reaches += ways
        part_of = groups(links, len(pixels)).astype(np.int32)
        kept["instance_id"] = part_of[kept["instance_id"]]
        rows = np.concatenate(reaches)
        rows = rows[valid[rows[:, 0] - block.window.row_off, rows[:, 1] - block.window.col_off]]
        rows[:, 3] = part_of[rows[:, 3]]
        frame = strips(block, tiles)
        sure, waiting = decided(
            rows,
            near_edge(rows, block.window, reach_of(block.tiles[0])),
            _any_of(part_of, np.flatnonzero(in_core)),
            _any_of(part_of, np.concatenate([frame[side].ravel() for side in "nswe"])),
        )
        _extend(kept, sure, block.window)
        frame |= object_rows(block, kept, int(part_of.max())) | valid_bands(block, valid)
        frame |= {"part_of": part_of, "in_core": in_core, "pixels": pixels, "reach": waiting}
        return kept, frame

    def solve(
        self, frames: Iterable[tuple[Block, Arrays]], grid: BlockGrid
    ) -> Mapping[int, Arrays]:
        """See Join. Holds the strips of two rows of blocks, one row per object, and the pixels
        near blocks' edges that a tile missed.
        """
        near: dict[tuple[int, int], tuple[Block, int, Arrays]] = {}
        spans: list[tuple[Block, int, int]] = []
        rows: list[Arrays] = []
        links: list[Pairs] = []
        reaches: list[Pairs] = []
        base = 0
        for block, frame in frames:
            near = {i: held for i, held in near.items() if i[0] >= block.index[0] - 1}
            own = (block, base, frame)
            for step in ((0, -1), (-1, -1), (-1, 0), (-1, 1)):
                other = (block.index[0] + step[0], block.index[1] + step[1])
                if other in near:
                    for pairs, *ways in self._across(grid, near[other], own):
                        links.append(pairs)
                        reaches += ways
            near[block.index] = own
            objects = len(frame["first"])
            spans.append((block, base, objects))
            rows.append(based(frame, base, grid.tiles.shape[1]))
            reaches.append(frame["reach"] + np.array([0, 0, 0, base - 1, block.number]))
            base += objects
        return tables(spans, rows, groups(links, base), reaches)

    def apply(
        self, block: Block, kept: Arrays, table: Arrays, frames: Mapping[tuple[int, int], Arrays]
    ) -> Arrays:
        """See Join: global ids, and one category and score for each object."""
        local = kept["instance_id"]
        thing = local > 0
        out = {
            "category_id": np.where(thing, table["category_id"][local], kept["category_id"]),
            "score": np.where(thing, table["score"][local], kept["score"]),
            "instance_id": table["instance_id"][local],
        }
        for name, array in out.items():
            array.reshape(-1)[table["reached"]] = table[f"reached_{name}"]
        return out

    def _meet(self, first: _Seen, second: _Seen) -> tuple[Pairs, Pairs, Pairs]:
        """Pairs of fragments of two tiles that are one object; what the second tile's things
        take of the first tile's core, and the other way round.
        """
        tile, other = first.tile, second.tile
        both = tile.read & other.read
        zone = seam(tile, other, self.seam_px) if self.seam_px else both
        zone = (zone & both).relative_to(both)
        table = overlaps(first.own, second.own, zone)
        near = self._near(table)
        alike, linked = self._linked(table, near, first, second)
        pairs = np.stack([table.a[linked], table.b[linked]], 1)
        if (near & ~linked & first.kept[table.a] & second.kept[table.b]).any():
            pairs = np.unique(np.concatenate([pairs, self._by_pieces(first, second, zone)]), axis=0)
        return (
            pairs,
            self._missed(first, second, _alone(table.b, table.b[alike], pairs[:, 1])),
            self._missed(second, first, _alone(table.a, table.a[alike], pairs[:, 0])),
        )

    def _linked(
        self, table: Overlaps, near: NDArray[np.bool_], first: _Seen, second: _Seen
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Of each overlap: whether the two look the same, and whether that joins them.

        A thin overlap joins no small fragments that a core only looked on, nor large ones that
        both did: with a wide halo many tiles do, and one that is wrong would be enough. Nor does
        a thin one join the middle two of a chain of four: each has its own counterpart.
        """
        a, b = table.a, table.b
        whole = np.minimum(first.pixels[a], second.pixels[b])
        covered = near & (table.share(self.criterion) >= self.threshold)
        broad = covered & (table.square >= self.firm_px)
        alike = (a > 0) & (b > 0) & (table.share("iou") >= self.alike)
        inside = covered & (2 * table.pixels > whole)
        kept = first.kept[a].astype(np.int64) + second.kept[b]
        linked = broad | ((alike | inside) & (kept == 2))
        linked |= alike & (kept > 0) & (whole >= self.crowd_px)
        linked &= broad | (_times(a, linked) < 2) | (_times(b, linked) < 2)
        return broad | alike | inside, linked

    def _missed(self, by: _Seen, other: _Seen, things: NDArray[np.int64]) -> Pairs:
        return reached(by.tile, by.own, other.tile, other.own, things, other.kept)

    def _near(self, table: Overlaps) -> NDArray[np.bool_]:
        """Overlaps of two things that say something."""
        things = (table.a > 0) & (table.b > 0)
        near: NDArray[np.bool_] = things & ((table.zone > 0) | (table.square >= self.broad_px))
        return near

    def _by_pieces(self, first: _Seen, second: _Seen, zone: Window) -> Pairs:
        """Pairs of fragments that are alike in one of their connected pieces.

        A winding object comes into the intersection several times. Which of these pieces
        are one fragment, each tile tells by what it alone saw.
        """
        own, label = pieces(first.own)
        theirs, other = pieces(second.own)
        table = overlaps(own, theirs, zone)
        same = (table.a > 0) & (table.b > 0) & (table.share("iou") >= self.alike)
        pairs = np.stack([label[table.a[same]], other[table.b[same]]], 1)
        kept: Pairs = pairs[first.kept[pairs[:, 0]] & second.kept[pairs[:, 1]]]
        return kept

    def _across(
        self, grid: BlockGrid, held: tuple[Block, int, Arrays], own: tuple[Block, int, Arrays]
    ) -> Iterator[tuple[Pairs, Pairs, Pairs]]:
        """What ``_meet`` gives for the tiles of two blocks that touch; objects of the scene."""
        (before, shift, theirs), (block, base, frame) = held, own
        sides = ("s", "n") if lies_below(frame, theirs) else ("e", "w")
        for index in outer(frame):
            for step in (*NEXT, *((-row, -col) for row, col in NEXT)):
                other = (index[0] + step[0], index[1] + step[1])
                if not holds(theirs, other):
                    continue
                tile, earlier = grid.tiles.tile(*index), grid.tiles.tile(*other)
                both = tile.read & earlier.read
                pairs, into, from_ = self._meet(
                    _cut(theirs, earlier, both, sides[0]), _cut(frame, tile, both, sides[1])
                )
                left, right = theirs["part_of"], frame["part_of"]
                links = np.stack([left[pairs[:, 0]] + shift, right[pairs[:, 1]] + base], 1)
                into = usable(into, before, theirs, sides[0])
                from_ = usable(from_, block, frame, sides[1])
                into[:, 3:] = np.stack(
                    [right[into[:, 3]] + base - 1, np.full(len(into), before.number)], 1
                )
                from_[:, 3:] = np.stack(
                    [left[from_[:, 3]] + shift - 1, np.full(len(from_), block.number)], 1
                )
                yield links.astype(np.int64) - 1, into, from_


def _laid(
    block: Block, results: Sequence[tuple[Tile, TileResult]]
) -> tuple[Arrays, dict[tuple[int, int], tuple[Tile, NDArray[np.int32]]], NDArray[np.int64]]:
    """What the cores keep; each tile's fragments, numbered through; the pixels of each."""
    tiles = {}
    kept = _empty(block.window)
    pixels = [np.zeros(1, np.int64)]
    count = 0
    for tile, result in results:
        assert isinstance(result, InstanceTile)
        own = _numbered(result.instance_id, count)
        found = np.bincount(own.ravel(), minlength=count + 1)[count + 1 :]
        pixels.append(found)
        count += len(found)
        tiles[tile.index] = (tile, own)
        source = tile.core.relative_to(tile.read).slices
        target = tile.core.relative_to(block.window).slices
        kept["instance_id"][target] = own[source]
        kept["category_id"][target] = result.category_id[source]
        kept["score"][target] = result.score[source]
    return kept, tiles, np.concatenate(pixels)


def _seen(
    first: tuple[Tile, NDArray[Any]], second: tuple[Tile, NDArray[Any]], *numbers: Any
) -> Iterator[_Seen]:
    """Two tiles of one block, where both looked; ``numbers``: kept and pixels of fragments."""
    both = first[0].read & second[0].read
    for tile, own in (first, second):
        yield _Seen(tile, own[both.relative_to(tile.read).slices], *numbers)


def _cut(frame: Arrays, tile: Tile, both: Window, side: str) -> _Seen:
    """A tile of another block, out of its strips."""
    return _Seen(tile, cut(frame, tile, both, side), frame["in_core"], frame["pixels"])


def _alone(fragments: NDArray[np.int64], *linked: NDArray[np.int64]) -> NDArray[np.int64]:
    """Fragments that no fragment of the other tile is one object with."""
    return np.setdiff1d(fragments[fragments > 0], np.concatenate(linked))


def _times(labels: NDArray[np.int64], which: NDArray[np.bool_]) -> NDArray[np.int64]:
    """In how many of some rows the label of each row occurs."""
    return np.bincount(labels[which], minlength=int(labels.max(initial=0)) + 1)[labels]


def _any_of(part_of: NDArray[np.int32], fragments: NDArray[Any]) -> NDArray[np.bool_]:
    """By the number of an object: whether one of the fragments is part of it."""
    found = np.zeros(int(part_of.max()) + 1, bool)
    found[part_of[fragments]] = True
    return found


def _extend(kept: Arrays, rows: Pairs, window: Window) -> None:
    """Pixels that a neighbour's things take; they have no say in category and score."""
    at = (rows[:, 0] - window.row_off, rows[:, 1] - window.col_off)
    kept["instance_id"][at] = rows[:, 3]
    kept["category_id"][at] = NODATA_CATEGORY
    kept["score"][at] = NO_SCORE


def _empty(window: Window) -> Arrays:
    return {
        "instance_id": np.zeros(window.shape, np.int32),
        "category_id": np.full(window.shape, NODATA_CATEGORY, np.uint8),
        "score": np.full(window.shape, NO_SCORE, np.uint8),
    }


def _numbered(instance_id: NDArray[Any], above: int) -> NDArray[np.int32]:
    """Ids of a tile made ids of its block: they count on from ``above``."""
    return np.where(instance_id > 0, instance_id + above, 0).astype(np.int32)
