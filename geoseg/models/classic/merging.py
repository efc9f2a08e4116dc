"""Graph-based merging after Felzenszwalb and Huttenlocher, exact across blocks.

2004, doi 10.1023/B:VISI.0000022288.19776.77: edges between 8-connected pixels in ascending
order of the step between them merge two regions while the step is below both regions'
inner difference plus ``scale / size``. What a region does depends on its size, and that on
pixels far away; yet a block can decide most of it alone. A region is *open* when it holds a
pixel of the block's border, or when its next merge would be with an open one. Closed
regions merge exactly as in the whole scene, and a closed region that refuses a step is
final: steps only grow. Open regions stop growing and become the nodes, with their size and
inner difference, on which the scene goes on with the steps that were put off.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numba
import numpy as np
from numpy.typing import NDArray

from geoseg.grid import Block, BlockGrid, Tile
from geoseg.models.classic.fields import as_float, assemble, field_tiles
from geoseg.models.classic.forest import find
from geoseg.models.classic.indices import Features
from geoseg.models.classic.links import Crossing, Nodes, first_pixels, numbered_by_first, ring
from geoseg.models.classic.regions import region_card
from geoseg.models.classic.relief import smoothed
from geoseg.models.classic.spec import Spec
from geoseg.models.classic.watershed import things
from geoseg.models.segmenter import Arrays, ModelCard

if TYPE_CHECKING:
    from geoseg.scene.reader import Scene

__all__ = ["Merged", "Merging", "felzenszwalb"]

_STEPS = ((0, 1), (1, -1), (1, 0), (1, 1))
"""Neighbours (row, col) with which a pixel makes an edge; their order breaks ties."""


@dataclass(frozen=True)
class Merging:
    """Join: regions by graph-based merging. ``scale`` is in units of values, times pixels."""

    sigma: float
    scale: float
    shape: tuple[int, int]
    width: int = 1

    @property
    def halo(self) -> int:
        """Pixels that smoothing depends on."""
        return int(4.0 * self.sigma + 0.5) + 1

    def collect(
        self, block: Block, results: Sequence[tuple[Tile, Any]], valid: NDArray[np.bool_]
    ) -> tuple[Arrays, Arrays]:
        """Regions as far as the block can tell; steps that it can't decide."""

        def kernel(values: NDArray[Any], usable: NDArray[np.bool_]) -> list[NDArray[Any]]:
            return [usable, *(smoothed(as_float(v), usable, self.sigma) for v in values)]

        fills = (np.bool_(False), *[np.float64(0)] * self.width)
        usable, *layers = assemble(block, results, self.shape, kernel, fills)
        usable &= valid
        values = np.stack(layers)
        steps = _block_steps(values, usable)
        order = np.argsort(steps, kind="stable")
        order = order[: int(np.searchsorted(steps[order], np.inf))]
        window = block.window
        inner = np.array(
            [
                window.row_off > 0,
                window.row_end < self.shape[0],
                window.col_off > 0,
                window.col_end < self.shape[1],
            ]
        )
        root, size, inside, put_off = _merge_block(order, steps, usable, self.scale, inner)
        found, labels = np.unique(root[usable], return_inverse=True)
        label = np.zeros(usable.shape, np.int32)
        label[usable] = labels + 1
        place = np.zeros(usable.size, np.int64)
        place[found] = np.arange(1, found.size + 1)
        row, col = np.divmod(put_off[:, 2] // 4, window.width)
        frame = ring("label", label) | ring("value", values)
        frame |= {
            "first": first_pixels(label, block, self.shape[1], found.size),
            "size": size[found],
            "inside": inside[found],
            "edges": place[put_off[:, :2]],
            "steps": steps[put_off[:, 2]],
            "ids": self._ids(row + window.row_off, col + window.col_off, put_off[:, 2] % 4),
        }
        return {"label": label, "usable": usable}, frame

    def _ids(self, row: Any, col: Any, direction: Any) -> NDArray[np.int64]:
        ids: NDArray[np.int64] = 4 * (row * self.shape[1] + col) + direction
        return ids

    def solve(
        self, frames: Iterable[tuple[Block, Arrays]], grid: BlockGrid
    ) -> Mapping[int, Arrays]:
        """Region of each node: all steps that were put off, in order."""
        nodes = Nodes.of(frames, grid)
        pairs = [nodes.inner("edges")]
        steps = [nodes.gather("steps").astype(np.float64)]
        ids = [nodes.gather("ids").astype(np.int64)]
        for crossing in nodes.crossings(diagonal=True):
            assert crossing.value_a is not None and crossing.value_b is not None
            pairs.append(np.stack([crossing.a, crossing.b], 1))
            steps.append(_step(crossing.value_a, crossing.value_b))
            ids.append(self._ids(*_canonical(crossing)))
        all_pairs, all_steps = np.concatenate(pairs), np.concatenate(steps)
        order = np.lexsort([np.concatenate(ids), all_steps])
        component = _merge_nodes(
            all_pairs[order],
            all_steps[order],
            nodes.gather("size").astype(np.int64),
            nodes.gather("inside").astype(np.float64),
            self.scale,
        )
        found = numbered_by_first(component, nodes.gather("first")).astype(np.uint32)
        return nodes.scatter(found, "instance")

    def apply(
        self, block: Block, kept: Arrays, table: Arrays, frames: Mapping[tuple[int, int], Arrays]
    ) -> Arrays:
        """1 with its id everywhere, 255 where no value is."""
        return things(table["instance"][kept["label"]], kept["usable"])


def _step(a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.float64]:
    """Euclidean step between the features of pixels (feature, ...)."""
    step: NDArray[np.float64] = np.sqrt(((a - b) ** 2).sum(axis=0))
    return step


def _block_steps(values: NDArray[Any], usable: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Steps of all edges, flat over (row, col, neighbour); infinite where there is none."""
    rows, cols = usable.shape
    out = np.full((rows, cols, len(_STEPS)), np.inf)
    for n, (down, right) in enumerate(_STEPS):
        here = slice(0, rows - down), slice(max(-right, 0), cols - max(right, 0))
        there = slice(down, rows), slice(max(right, 0), cols - max(-right, 0))
        both = usable[here] & usable[there]
        step = _step(values[(slice(None), *here)], values[(slice(None), *there)])
        out[(*here, n)] = np.where(both, step, np.inf)
    return out.reshape(-1)


def _canonical(crossing: Crossing) -> tuple[Any, Any, int]:
    """The pixel that owns an edge across a border, and which of its neighbours it meets."""
    if crossing.down:
        return crossing.row, crossing.col, 2 + crossing.shift
    if crossing.shift < 0:
        return crossing.row - 1, crossing.col + 1, 1
    return crossing.row, crossing.col, 3 * crossing.shift


@numba.njit(cache=True, nogil=True)
def _merge_block(order: Any, steps: Any, usable: Any, scale: float, inner: Any) -> Any:
    """(root of each pixel (row, col), size and inner difference of roots, put-off steps).

    ``inner`` tells for top, bottom, left and right whether the scene goes on there.
    """
    rows, cols = usable.shape
    parent = np.arange(rows * cols)
    size = np.ones(rows * cols, np.int64)
    inside = np.zeros(rows * cols)
    is_open = np.zeros((rows, cols), np.bool_)
    if inner[0]:
        is_open[0, :] = True
    if inner[1]:
        is_open[rows - 1, :] = True
    if inner[2]:
        is_open[:, 0] = True
    if inner[3]:
        is_open[:, cols - 1] = True
    opened = is_open.reshape(-1)
    put_off = np.empty((1024, 3), np.int64)
    count = 0
    offsets = np.array([1, cols - 1, cols, cols + 1])
    for e in order:
        p = e // 4
        a, b = find(parent, p), find(parent, p + offsets[e % 4])
        if a == b:
            continue
        step = steps[e]
        # a closed region that refuses is final, whatever the other one is
        if not opened[a] and step >= inside[a] + scale / size[a]:
            continue
        if not opened[b] and step >= inside[b] + scale / size[b]:
            continue
        if opened[a] or opened[b]:
            opened[a] = opened[b] = True
            if count == len(put_off):
                longer = np.empty((2 * count, 3), np.int64)
                longer[:count] = put_off
                put_off = longer
            put_off[count, 0], put_off[count, 1], put_off[count, 2] = a, b, e
            count += 1
        else:
            first, last = min(a, b), max(a, b)
            parent[last] = first
            size[first] += size[last]
            inside[first] = step
    root = np.empty((rows, cols), np.int64)
    flat = root.reshape(-1)
    for p in range(rows * cols):
        flat[p] = find(parent, p)
    return root, size, inside, put_off[:count]


@numba.njit(cache=True, nogil=True)
def _merge_nodes(pairs: Any, steps: Any, size: Any, inside: Any, scale: float) -> Any:
    """The same over nodes: the component of each."""
    parent = np.arange(size.size)
    for e in range(len(pairs)):
        a, b = find(parent, pairs[e, 0]), find(parent, pairs[e, 1])
        if a == b:
            continue
        limit = min(inside[a] + scale / size[a], inside[b] + scale / size[b])
        if steps[e] < limit:
            first, last = min(a, b), max(a, b)
            parent[last] = first
            size[first] += size[last]
            inside[first] = steps[e]
    for i in range(size.size):
        parent[i] = find(parent, i)
    return parent


@dataclass(frozen=True)
class Merged:
    """Regions by graph-based merging. A Segmenter whose join does the work."""

    card: ModelCard
    features: Features
    join: Merging

    def for_scene(self, scene: Scene) -> tuple[Merged, list[str]]:
        """With the scene's bands and extent; raises ModelError when it lacks a band."""
        features, warnings = self.features.for_scene(scene)
        card = replace(self.card, bands=features.bands)
        join = replace(self.join, shape=scene.shape, width=len(features.formulas))
        return replace(self, features=features, card=card, join=join), warnings

    def predict(self, pixels: NDArray[Any], valid: NDArray[np.bool_]) -> list[Any]:
        """The values; regions merge when the tile's place is known."""
        return field_tiles(self.features, pixels, valid, single=len(self.features.formulas) == 1)


def felzenszwalb(spec: Spec) -> Merged:
    """``felzenszwalb:scale=50,sigma=0.8``: of all bands, or of the features named."""
    features = Features.parse(spec.features, spec.number("gain", 1.0, 1e-12, 1e12))
    # scikit-image's unit of scale: 255 for values from 0 to 1
    scale = spec.number("scale", 50.0, 0, 1e12) / 255
    join = Merging(spec.number("sigma", 0.8, 0, 50), scale, (1, 1))
    return Merged(region_card(spec, features, join.halo), features, join)
