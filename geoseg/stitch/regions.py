"""Connected regions across blocks: each block labels its own, borders say which are one.

A frame holds the four outermost lines of pixels of a block, as numbers of its regions, and
one row of whole-number attributes per region. Attributes add up whatever the blocks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from geoseg.grid import Block, BlockGrid, Tile
from geoseg.legend import NODATA_CATEGORY
from geoseg.models.segmenter import Arrays, LabelTile, TileResult
from geoseg.stitch.components import facing, label_regions

__all__ = [
    "ConnectedJoin",
    "Meeting",
    "beside",
    "border_lines",
    "connected_groups",
    "meetings",
]

Pairs = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class ConnectedJoin:
    """A Join for segmenters that give LabelTile: regions of the scene kept or dropped whole.

    Attributes:
        together: categories that connect to each other, set by set; a category in none of
            them stays as it is.
        connectivity: 4 or 8.
        need: a region is kept only if it holds a pixel of this category (hysteresis: weak
            and strong edges connect, strong is needed); None: kept.
        closed: a region that touches the scene's edge or nodata is dropped.
        becomes: what a kept region's pixels become; None: they stay as they are.
        otherwise: what a dropped region's pixels become.
        numbered: kept regions get instance ids, dense, in raster order of the first pixel.

    """

    together: tuple[tuple[int, ...], ...]
    connectivity: Literal[4, 8] = 4
    need: int | None = None
    closed: bool = False
    becomes: int | None = None
    otherwise: int = NODATA_CATEGORY
    numbered: bool = False

    def collect(
        self, block: Block, results: Sequence[tuple[Tile, TileResult]], valid: NDArray[np.bool_]
    ) -> tuple[Arrays, Arrays]:
        """See Join."""
        kept: Arrays = {
            "category_id": np.full(block.window.shape, NODATA_CATEGORY, np.uint8),
            "score": np.full(block.window.shape, 255, np.uint8),
        }
        for tile, result in results:
            assert isinstance(result, LabelTile)
            source = tile.core.relative_to(tile.read).slices
            target = tile.core.relative_to(block.window).slices
            kept["category_id"][target] = result.category_id[source]
            kept["score"][target] = result.score[source]
        kept["category_id"][~valid] = NODATA_CATEGORY
        kept["score"][kept["category_id"] == NODATA_CATEGORY] = 255
        group = self._group()[kept["category_id"]]
        region, _, first = label_regions(group, group > 0, self.connectivity)
        need = np.zeros(len(first) + 1, np.int64)
        if self.need is not None:
            need = np.bincount(region[kept["category_id"] == self.need], minlength=len(need))
        row, col = np.divmod(first, max(block.window.width, 1))
        frame = border_lines(region) | border_lines(group, "group_")
        frame |= border_lines(~valid, "void_")
        frame["first"] = np.stack([row + block.window.row_off, col + block.window.col_off], 1)
        frame["need"] = need[1:]
        frame["bare"] = beside(region, ~valid)[1:]
        kept["region"] = region
        return kept, frame

    def solve(
        self, frames: Iterable[tuple[Block, Arrays]], grid: BlockGrid
    ) -> Mapping[int, Arrays]:
        """See Join. Holds the lines of two rows of blocks, and one row per region."""
        links: list[Pairs] = []
        bare: list[NDArray[np.int64]] = []
        rows: list[Arrays] = []
        spans: list[tuple[int, int, int]] = []
        for met in meetings(frames, self.connectivity, ("", "group_", "void_")):
            group_a, group_b = met.values["group_"].T
            same = (group_a == group_b) & (group_a > 0)
            links.append(met.pairs[same])
            at_void = met.straight & met.values["void_"].any(1)
            bare += [met.bare, met.pairs[at_void].max(1, initial=0)]
            if met.block is not None:
                rows.append({n: met.frame[n] for n in ("first", "need", "bare")})
                spans.append((met.block.number, met.base, len(met.frame["first"])))
        return self._tables(spans, rows, links, bare, grid.tiles.shape[1])

    def _tables(
        self,
        spans: Sequence[tuple[int, int, int]],
        rows: Sequence[Arrays],
        links: Sequence[Pairs],
        bare: Sequence[NDArray[np.int64]],
        width: int,
    ) -> dict[int, Arrays]:
        if not spans:
            return {}
        merged = {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}
        group = connected_groups(links, len(merged["need"]))
        count = int(group.max(initial=-1)) + 1
        place, need = np.full(count, np.iinfo(np.int64).max), np.zeros(count, np.int64)
        np.minimum.at(place, group, merged["first"] @ np.array([width, 1]))
        np.add.at(need, group, merged["need"])
        keep = np.ones(count, bool) if self.need is None else need > 0
        if self.closed:
            touching = np.concatenate([*bare, np.flatnonzero(merged["bare"]) + 1])
            keep[group[touching[touching > 0] - 1]] = False
        ids = np.zeros(count, np.uint32)
        order = np.argsort(place, kind="stable")
        order = order[keep[order]]
        ids[order] = np.arange(1, len(order) + 1)
        return {
            number: {"keep": keep[group[base : base + n]], "id": ids[group[base : base + n]]}
            for number, base, n in spans
        }

    def apply(
        self, block: Block, kept: Arrays, table: Arrays, frames: Mapping[tuple[int, int], Arrays]
    ) -> Arrays:
        """See Join."""
        region = kept["region"]
        within = region > 0
        keep = np.concatenate([[False], table["keep"]])[region]
        category = kept["category_id"].copy()
        if self.becomes is not None:
            category[keep] = self.becomes
        category[within & ~keep] = self.otherwise
        score = np.where(category == NODATA_CATEGORY, 255, kept["score"]).astype(np.uint8)
        out: Arrays = {"category_id": category, "score": score}
        if self.numbered:
            ids = np.concatenate([np.zeros(1, np.uint32), table["id"]])
            out["instance_id"] = ids[region]
        return out

    def _group(self) -> NDArray[np.int16]:
        group = np.zeros(256, np.int16)
        for number, categories in enumerate(self.together, 1):
            group[list(categories)] = number
        return group


def border_lines(numbers: NDArray[Any], prefix: str = "") -> Arrays:
    """The four outermost lines of an array: ``n``, ``s``, ``w``, ``e``."""
    return {
        f"{prefix}n": numbers[0].copy(),
        f"{prefix}s": numbers[-1].copy(),
        f"{prefix}w": numbers[:, 0].copy(),
        f"{prefix}e": numbers[:, -1].copy(),
    }


@dataclass(frozen=True)
class Meeting:
    """What a block brings when it comes after its western and northern neighbours.

    ``pairs`` (n, 2): regions on both sides of its borders, numbered over all blocks from 1,
    0 for none; ``straight`` says which face each other edge to edge. ``values``: the same
    places of other lines, by prefix. ``bare``: regions known to lie at the edge of all there
    is. ``block`` is None for the last, which only brings ``bare``.
    """

    block: Block | None
    frame: Arrays
    base: int
    pairs: Pairs
    straight: NDArray[np.bool_]
    values: Mapping[str, Pairs]
    bare: NDArray[np.int64]


@dataclass
class _Held:
    base: int
    frame: Arrays
    faced: set[str] = field(default_factory=set)

    def bare(self) -> NDArray[np.int64]:
        lines = [self.frame[side].astype(np.int64) for side in "nswe" if side not in self.faced]
        numbers = np.concatenate([np.zeros(0, np.int64), *lines])
        return np.unique(numbers[numbers > 0]) + self.base


SIDES = {(0, -1): ("e", "w"), (-1, 0): ("s", "n"), (-1, -1): ("s", "n"), (-1, 1): ("s", "n")}


def meetings(
    frames: Iterable[tuple[Block, Arrays]], connectivity: int, prefixes: Sequence[str]
) -> Iterator[Meeting]:
    """Goes through frames in raster order, holding two rows of blocks."""
    near: dict[tuple[int, int], _Held] = {}
    base = 0
    for block, frame in frames:
        gone = [held for index, held in near.items() if index[0] < block.index[0] - 1]
        near = {i: held for i, held in near.items() if i[0] >= block.index[0] - 1}
        own = _Held(base, frame)
        found: dict[str, list[Pairs]] = {prefix: [] for prefix in prefixes}
        straight: list[NDArray[np.bool_]] = []
        for step, (theirs, mine) in SIDES.items():
            other = near.get((block.index[0] + step[0], block.index[1] + step[1]))
            if other is None or (connectivity == 4 and 0 not in step):
                continue
            a, b = _places(step, len(frame[mine]), len(other.frame[theirs]), connectivity)
            if 0 in step:
                other.faced.add(theirs)
                own.faced.add(mine)
            straight.append(np.full(len(a), 0 in step) & (a == b))
            for prefix in prefixes:
                x = other.frame[prefix + theirs][a].astype(np.int64)
                y = frame[prefix + mine][b].astype(np.int64)
                if prefix == "":
                    x, y = _based(x, other.base), _based(y, base)
                found[prefix].append(np.stack([x, y], 1))
        near[block.index] = own
        none = np.zeros((0, 2), np.int64)
        values = {prefix: np.concatenate([none, *parts]) for prefix, parts in found.items()}
        flags = np.concatenate([np.zeros(0, bool), *straight])
        yield Meeting(block, frame, base, values[""], flags, values, _bare(gone))
        base += len(frame["first"])
    none = np.zeros((0, 2), np.int64)
    last = dict.fromkeys(prefixes, none)
    yield Meeting(None, {}, base, none, np.zeros(0, bool), last, _bare(near.values()))


def _places(
    step: tuple[int, int], mine: int, theirs: int, connectivity: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Places in the other's line and in one's own that touch."""
    if step == (-1, -1):
        return np.array([theirs - 1]), np.array([0])
    if step == (-1, 1):
        return np.array([0]), np.array([mine - 1])
    return facing(np.empty(mine), np.empty(theirs), connectivity)


def _based(numbers: NDArray[np.int64], base: int) -> NDArray[np.int64]:
    return np.where(numbers > 0, numbers + base, 0)


def _bare(held: Iterable[_Held]) -> NDArray[np.int64]:
    return np.concatenate([np.zeros(0, np.int64), *(one.bare() for one in held)])


def connected_groups(links: Sequence[Pairs], count: int) -> NDArray[np.int64]:
    """The group of each of ``count`` nodes; ``links`` (n, 2) number nodes from 1."""
    pairs = np.concatenate([np.zeros((0, 2), np.int64), *links]) - 1
    graph = coo_array((np.ones(len(pairs), bool), (pairs[:, 0], pairs[:, 1])), (count, count))
    groups: NDArray[np.int64] = connected_components(graph, directed=False)[1].astype(np.int64)
    return groups


def beside(region: NDArray[np.int32], void: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Whether each region (0 included) has a pixel edge in common with ``void``."""
    out = np.zeros(int(region.max(initial=0)) + 1, bool)
    for axis in (0, 1):
        low = tuple(slice(None, -1) if k == axis else slice(None) for k in (0, 1))
        high = tuple(slice(1, None) if k == axis else slice(None) for k in (0, 1))
        out[region[low][void[high]]] = True
        out[region[high][void[low]]] = True
    return out
