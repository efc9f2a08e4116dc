"""Small segments go: to their neighbour with the longest border, to nodata, or filled.

A segment is a 4-connected region of one category and one instance. Those of fewer pixels
than asked are taken in the order of (pixels, first pixel), smallest first. Each goes to the
neighbour with which it shares the most pixel edges, ties to the neighbour that starts first
in raster order, and counts for it from then on: a small neighbour that grows large enough
stays. A segment without neighbours stays. Absorbed pixels take category and instance of the
segment that absorbed them and have no score (255): nobody predicted them so.

Clusters of small segments don't depend on each other, so a block settles those that it sees
whole; the rest is settled from the frames. The result is that of the whole scene.

Maps come as ``category_id``, ``score`` and maybe ``instance_id``; any other raster as ``label``,
integers of any type, ``valid`` (bool), and maybe ``score``. Which of both it is makes no
difference to the rule.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from geoseg.grid import Block, BlockGrid, TileGrid
from geoseg.legend import NODATA_CATEGORY
from geoseg.models.segmenter import Arrays
from geoseg.stitch.absorb import Graph, absorb
from geoseg.stitch.components import label_regions, region_borders, summed_pairs
from geoseg.stitch.frame import join_in_memory
from geoseg.stitch.regions import border_lines, connected_groups, meetings

__all__ = ["SieveJoin", "sieve"]

INSTANCES = np.int64(1 << 32)
NO_LABEL = np.int64(NODATA_CATEGORY) * INSTANCES

To = Literal["neighbour", "nodata", "enclosing"]


def sieve(arrays: Arrays, min_area_px: int, to: To = "neighbour") -> Arrays:
    """A whole map (row, col) in memory: ``category_id``, ``score`` and maybe ``instance_id``.

    >>> category = np.array([[1, 1, 1], [1, 2, 1], [1, 1, 1]], np.uint8)
    >>> sieve({"category_id": category, "score": category}, 2)["category_id"]
    array([[1, 1, 1],
           [1, 1, 1],
           [1, 1, 1]], dtype=uint8)
    """
    shape = arrays["category_id"].shape
    grid = BlockGrid(TileGrid((shape[0], shape[1]), max(shape)), 1)
    valid = arrays["category_id"] != NODATA_CATEGORY
    return join_in_memory(grid, SieveJoin(min_area_px, to), lambda block: arrays, valid)


@dataclass(frozen=True)
class SieveJoin:
    """A step after a segmenter's own join: arrays in, the same arrays out.

    Attributes:
        min_area_px: segments of fewer pixels go.
        to: the ``neighbour`` with the longest border; ``nodata``; or, to fill holes, the one
            segment that encloses them (``enclosing``): a segment with another neighbour too,
            or that touches nodata or the scene's edge, is no hole and stays.

    """

    min_area_px: int
    to: To = "neighbour"

    def collect(
        self, block: Block, results: Any, valid: NDArray[np.bool_]
    ) -> tuple[Arrays, Arrays]:
        """See Join; ``results`` are the arrays that the step before gave. The frame: segments
        that are not settled, their neighbours, and all that touch the block's border.
        """
        arrays: Arrays = results
        label = _label(arrays)
        region, pixels, first = label_regions(label, valid)
        small = np.concatenate([[False], pixels < self.min_area_px])
        a, b, edges = region_borders(region, small)
        lines = border_lines(region)
        on_border = np.zeros(len(small), bool)
        for line in lines.values():
            on_border[line] = True
        on_border[0] = False
        bare = np.zeros(len(small), bool)
        bare[b[a == 0]] = True
        real = a > 0
        a, b, edges = a[real], b[real], edges[real]
        graph = Graph(
            area=pixels,
            place=first,
            label=label.ravel()[first],
            firm=~on_border[1:],
            bare=bare[1:],
            a=a - 1,
            b=b - 1,
            edges=edges,
        )
        target, unsure = absorb(graph, self.min_area_px, self.to)
        open_ = np.concatenate([[False], self._unsettled(graph, unsure)])
        shipped = on_border | open_
        touched = open_[a] | open_[b]
        shipped[a[touched]] = True
        shipped[b[touched]] = True
        number = np.cumsum(shipped) * shipped
        moved = np.concatenate([[False], (target != np.arange(len(target))) & ~open_[1:]])
        at = np.flatnonzero(moved[region])
        kept = self._moved(arrays, at, _targets(graph, target)[region.ravel()[at]])
        kept["open"] = np.where(open_, number, 0).astype(np.int32)[region]
        who = np.flatnonzero(shipped[1:])
        row, col = np.divmod(first[who], max(block.window.width, 1))
        frame: Arrays = {side: number[line].astype(np.int32) for side, line in lines.items()}
        frame |= border_lines(label, "label_") | border_lines(~valid, "void_")
        frame["first"] = np.stack([row + block.window.row_off, col + block.window.col_off], 1)
        frame["area"], frame["label"], frame["bare"] = (
            pixels[who],
            graph.label[who],
            graph.bare[who],
        )
        pairs = [number[a[touched]], number[b[touched]], edges[touched]]
        frame["borders"] = np.stack(pairs, 1).astype(np.int64)
        return kept, frame

    def solve(
        self, frames: Iterable[tuple[Block, Arrays]], grid: BlockGrid
    ) -> Mapping[int, Arrays]:
        """See Join. Holds what was shipped of all blocks, and the lines of two rows."""
        links, borders, bare, rows, spans = [], [], [], [], []
        for met in meetings(frames, ("", "label_", "void_")):
            void = met.values["void_"].astype(bool)
            bare += [met.bare, met.pairs[void.any(1)].max(1, initial=0)]
            here, (x, y) = met.pairs[~void.any(1)], met.values["label_"][~void.any(1)].T
            links.append(_counted(here[x == y])[:, :2])
            borders.append(_counted(here[x != y]))
            if met.block is not None:
                rows.append({k: met.frame[k] for k in ("first", "area", "label", "bare")})
                borders.append(met.frame["borders"] + np.array([met.base, met.base, 0]))
                spans.append((met.block.number, met.base, len(met.frame["first"])))
        if not spans:
            return {}
        merged = {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}
        group = connected_groups(links, len(merged["area"]))
        touching = np.concatenate(bare)
        merged["bare"][touching[touching > 0] - 1] = True
        graph = _grouped(merged, group, np.concatenate(borders), grid.tiles.shape[1])
        target, _ = absorb(graph, self.min_area_px, self.to)
        labels = _targets(graph, target)[1:]
        moved = target != np.arange(len(target))
        return {
            number: {
                "moved": np.concatenate([[False], moved[group[base : base + n]]]),
                "label": np.concatenate([[NO_LABEL], labels[group[base : base + n]]]),
            }
            for number, base, n in spans
        }

    def apply(
        self, block: Block, kept: Arrays, table: Arrays, frames: Mapping[tuple[int, int], Arrays]
    ) -> Arrays:
        """See Join."""
        arrays = {name: array for name, array in kept.items() if name != "open"}
        at = np.flatnonzero(kept["open"])
        number = kept["open"].ravel()[at]
        moved = table["moved"][number]
        return self._moved(arrays, at[moved], table["label"][number[moved]])

    def _moved(self, arrays: Arrays, at: NDArray[np.int64], label: NDArray[np.int64]) -> Arrays:
        """Arrays with other labels at some places (flat indices); no score there."""
        category, instance = np.divmod(label, INSTANCES)
        values = {"score": np.uint8(255), "category_id": category, "instance_id": instance}
        if self.to == "nodata":
            values["valid"] = np.False_
        else:
            values["label"] = label
        out = dict(arrays)
        for name in values.keys() & arrays.keys():
            out[name] = arrays[name].copy()
            out[name].ravel()[at] = np.asarray(values[name]).astype(out[name].dtype)
        return out

    def _unsettled(self, graph: Graph, unsure: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Small segments whose cluster the block does not see whole, or can't be sure of."""
        small = graph.area < self.min_area_px
        doubtful = small & (unsure | ~graph.firm)
        if self.to == "nodata":
            return doubtful
        both = small[graph.a] & small[graph.b]
        links = np.stack([graph.a[both], graph.b[both]], 1) + 1
        cluster = connected_groups([links], len(small))
        tainted = np.zeros(int(cluster.max(initial=0)) + 1, bool)
        tainted[cluster[doubtful]] = True
        return small & tainted[cluster]


def _label(arrays: Arrays) -> NDArray[np.int64]:
    if "label" in arrays:
        # uint64 wraps around: different labels stay different
        return arrays["label"].astype(np.int64)
    label = arrays["category_id"].astype(np.int64) * INSTANCES
    if "instance_id" in arrays:
        label += arrays["instance_id"].astype(np.int64)
    return label


def _targets(graph: Graph, target: NDArray[np.int64]) -> NDArray[np.int64]:
    """The label that each segment ends with, 0 (no segment) first."""
    ends = np.where(target < 0, NO_LABEL, graph.label[np.maximum(target, 0)])
    return np.concatenate([[NO_LABEL], ends])


def _counted(pairs: NDArray[np.int64]) -> NDArray[np.int64]:
    """Rows (a, b, how often) of pairs: a long border is one row."""
    return np.stack(summed_pairs(pairs[:, 0], pairs[:, 1], np.ones(len(pairs), np.int64)), 1)


def _grouped(
    merged: Arrays, group: NDArray[np.int64], borders: NDArray[np.int64], width: int
) -> Graph:
    """The scene's segments: blocks' parts added up, borders between them too."""
    count = int(group.max(initial=-1)) + 1
    area, bare = np.zeros(count, np.int64), np.zeros(count, bool)
    place = np.full(count, np.iinfo(np.int64).max)
    label = np.zeros(count, np.int64)
    np.add.at(area, group, merged["area"])
    np.minimum.at(place, group, merged["first"] @ np.array([width, 1]))
    bare[group[merged["bare"]]] = True
    label[group] = merged["label"]
    a, b = group[borders[:, 0] - 1], group[borders[:, 1] - 1]
    apart = a != b
    a, b, edges = summed_pairs(a[apart], b[apart], borders[apart, 2])
    firm = np.ones(count, bool)
    return Graph(area, place, label, firm, bare, a, b, edges)
