"""Split and merge: squares are quartered until they are even, then alike neighbours join.

Horowitz and Pavlidis 1976, doi 10.1145/321941.321956. The squares are anchored at the
scene's origin. They merge where the means of two neighbouring squares differ by no more
than a limit: whether they do depends on no order, so the regions are the same for any
tiling.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from geoseg.errors import ModelError
from geoseg.grid import Block, BlockGrid, Tile
from geoseg.models.classic.fields import as_float, assemble, field_tiles
from geoseg.models.classic.indices import Features
from geoseg.models.classic.links import Nodes, first_pixels, numbered_by_first, ring, roots
from geoseg.models.classic.regions import region_card
from geoseg.models.classic.spec import Spec
from geoseg.models.classic.watershed import things
from geoseg.models.segmenter import Arrays, ModelCard

if TYPE_CHECKING:
    from geoseg.scene.reader import Scene

__all__ = ["Quadtree", "SplitMerge", "quadtree", "split"]


def split(
    values: NDArray[np.float64], usable: NDArray[np.bool_], largest: int, limit: float
) -> NDArray[np.int64]:
    """Square of each pixel, numbered by its first pixel (flat index in the padded block).

    ``values`` (feature, row, col) with sides that are multiples of ``largest``. A square is
    even when no feature's usable values range over more than ``limit``.
    """
    rows, cols = usable.shape
    low = np.where(usable, values, np.inf)
    high = np.where(usable, values, -np.inf)
    pixel = np.arange(rows * cols).reshape(rows, cols)
    leaf = pixel.copy()
    size = 1
    even = np.ones((rows, cols), bool)
    while size < largest:
        low, high = _quarters(low).min(axis=(-3, -1)), _quarters(high).max(axis=(-3, -1))
        size *= 2
        with np.errstate(invalid="ignore"):
            spread = high - low  # -inf where nothing is usable
        # a square is even only if its quarters are: so leaves grow while their parents are
        even = _quarters(even).all(axis=(-3, -1)) & (spread <= limit).all(axis=0)
        corner = np.repeat(np.repeat(pixel[::size, ::size], size, 0), size, 1)
        grown = np.repeat(np.repeat(even, size, 0), size, 1)
        leaf = np.where(grown, corner, leaf)
    return leaf


def _quarters(array: NDArray[Any]) -> NDArray[Any]:
    """(..., row, col) as (..., row / 2, 2, col / 2, 2)."""
    *rest, rows, cols = array.shape
    return array.reshape(*rest, rows // 2, 2, cols // 2, 2)


@dataclass(frozen=True)
class Quadtree:
    """Join: the squares of a block, merged with those they touch."""

    largest: int
    limit: float
    merge: float
    shape: tuple[int, int]
    width: int = 1

    def collect(
        self, block: Block, results: Sequence[tuple[Tile, Any]], valid: NDArray[np.bool_]
    ) -> tuple[Arrays, Arrays]:
        """Local regions, and the mean of the square behind each pixel of the border."""

        def kernel(values: NDArray[Any], usable: NDArray[np.bool_]) -> list[NDArray[Any]]:
            return [usable, *(np.where(usable, as_float(v), 0.0) for v in values)]

        fills = (np.bool_(False), *[np.float64(0)] * self.width)
        usable, *layers = assemble(block, results, self.shape, kernel, fills)
        usable &= valid
        rows, cols = usable.shape
        pad = ((0, -rows % self.largest), (0, -cols % self.largest))
        values = np.stack([np.pad(layer, pad) for layer in layers])
        leaf = split(values, np.pad(usable, pad), self.largest, self.limit)[:rows, :cols]
        leaves, place = np.unique(leaf[usable], return_inverse=True)
        means = self._means(values[:, :rows, :cols][:, usable], place, leaves.size)
        number = np.full(usable.shape, -1)
        number[usable] = place
        local = roots(leaves.size, self._alike(number, means))
        labels = np.where(usable, local[number] + 1 if leaves.size else 0, 0).astype(np.int32)
        shown = means[:, number] if leaves.size else np.zeros((self.width, rows, cols))
        count = int(local.max(initial=-1)) + 1
        frame = ring("label", labels) | ring("value", shown)
        frame["first"] = first_pixels(labels, block, self.shape[1], count)
        return {"label": labels, "usable": usable}, frame

    def _means(self, values: NDArray[Any], place: NDArray[Any], count: int) -> NDArray[Any]:
        # bincount adds in raster order, the same within a square whatever the block
        pixels = np.maximum(np.bincount(place, minlength=count), 1)
        return np.stack([np.bincount(place, v, minlength=count) / pixels for v in values])

    def _alike(self, number: NDArray[Any], means: NDArray[Any]) -> NDArray[np.int64]:
        pairs = [np.empty((0, 2), np.int64)]
        for a, b in ((number[:, :-1], number[:, 1:]), (number[:-1], number[1:])):
            meet = (a != b) & (a >= 0) & (b >= 0)
            pair = np.unique(np.stack([a[meet], b[meet]], 1), axis=0)
            pairs.append(pair[alike(means[:, pair[:, 0]], means[:, pair[:, 1]], self.merge)])
        return np.concatenate(pairs)

    def solve(
        self, frames: Iterable[tuple[Block, Arrays]], grid: BlockGrid
    ) -> Mapping[int, Arrays]:
        """Region of each local region."""
        nodes = Nodes.of(frames, grid)
        component = roots(nodes.count, nodes.pairs(alike=partial(alike, limit=self.merge)))
        ids = numbered_by_first(component, nodes.gather("first")).astype(np.uint32)
        return nodes.scatter(ids, "instance")

    def apply(
        self, block: Block, kept: Arrays, table: Arrays, frames: Mapping[tuple[int, int], Arrays]
    ) -> Arrays:
        """1 with its id everywhere, 255 where no value is."""
        return things(table["instance"][kept["label"]], kept["usable"])


def alike(a: NDArray[Any], b: NDArray[Any], limit: float) -> NDArray[np.bool_]:
    """True where no feature's means differ by more than ``limit``."""
    near: NDArray[np.bool_] = (np.abs(a - b) <= limit).all(axis=0)
    return near


@dataclass(frozen=True)
class SplitMerge:
    """Regions of even squares. A Segmenter whose join does the work."""

    card: ModelCard
    features: Features
    join: Quadtree

    def for_scene(self, scene: Scene) -> tuple[SplitMerge, list[str]]:
        """With the scene's bands and extent; raises ModelError when it lacks a band."""
        features, warnings = self.features.for_scene(scene)
        card = replace(self.card, bands=features.bands)
        join = replace(self.join, shape=scene.shape, width=len(features.formulas))
        return replace(self, features=features, card=card, join=join), warnings

    def predict(self, pixels: NDArray[Any], valid: NDArray[np.bool_]) -> list[Any]:
        """The values; squares are cut when the tile's place is known."""
        return field_tiles(self.features, pixels, valid, single=len(self.features.formulas) == 1)


def quadtree(spec: Spec) -> SplitMerge:
    """``quadtree:b1:split=0.1,merge=0.03,largest=64``."""
    features = Features.parse(spec.features, spec.number("scale", 1.0, 1e-12, 1e12))
    largest = spec.whole("largest", 64, 2, 256)
    if largest & (largest - 1):
        raise ModelError(f"{spec.text}: largest={largest}: give a power of two")
    join = Quadtree(
        largest, spec.number("split", 0.1, 0, 1e12), spec.number("merge", 0.03, 0, 1e12), (1, 1)
    )
    return SplitMerge(region_card(spec, features, 0, largest), features, join)
