"""Seeded region growing: from seeds outward over the smallest steps first.

Adams and Bischof (1994, doi 10.1109/34.295913) compare a pixel with the growing region's
mean, which depends on the order of visits. Here the step between neighbouring pixels
decides, so that the regions are the minimum spanning forest of steps rooted in the seeds
(the limit of infinitely local means): unique, and the same for any tiling. A step above the
tolerance is never taken.
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
from geoseg.legend import Category, Legend
from geoseg.models.classic.fields import as_float, assemble, field_tiles
from geoseg.models.classic.forest import (
    NO_EDGE,
    frame_of,
    local_forest,
    solve_forest,
    weight_keys,
)
from geoseg.models.classic.indices import Features
from geoseg.models.classic.relief import gradient, lowest_in_window, smoothed
from geoseg.models.classic.spec import Spec
from geoseg.models.classic.threshold import card_of
from geoseg.models.classic.watershed import things
from geoseg.models.segmenter import Arrays, ModelCard

if TYPE_CHECKING:
    from geoseg.scene.reader import Scene

__all__ = ["GrownRegions", "Growth", "grow", "step_keys"]


def step_keys(a: NDArray[Any], b: NDArray[Any], tolerance: float) -> NDArray[np.uint64]:
    """Weight: the Euclidean step between the features of two pixels."""
    step = np.sqrt(((a - b) ** 2).sum(axis=0))
    return np.where(step > tolerance, NO_EDGE, weight_keys(step, np.zeros_like(step)))


@dataclass(frozen=True)
class Growth:
    """Join: regions grown from seeds.

    ``seeds`` (seed, 2) are rows and columns of the scene; None: the flattest pixel within
    ``spacing`` of itself (lowest sum of the features' gradients, ties to the first).
    ``width`` is the number of features.
    """

    sigma: float
    tolerance: float
    spacing: int
    shape: tuple[int, int]
    seeds: tuple[tuple[int, int], ...] | None = None
    width: int = 1

    @property
    def halo(self) -> int:
        """Pixels that smoothing and automatic seeds depend on."""
        return int(4.0 * self.sigma + 0.5) + 1 + (self.spacing if self.seeds is None else 0)

    def start(
        self, values: NDArray[Any], usable: NDArray[np.bool_]
    ) -> tuple[list[NDArray[np.float64]], NDArray[np.bool_]]:
        """(smoothed features, automatic seeds) of values (feature, row, col); none if given."""
        smooth = [smoothed(as_float(v), usable, self.sigma) for v in values]
        if self.seeds is not None:
            return smooth, np.zeros(usable.shape, bool)
        flat = sum(gradient(s, usable) for s in smooth)
        surface = np.where(usable, flat, np.float32(np.inf)).astype(np.float32)
        return smooth, lowest_in_window(surface, self.spacing, np.float32(0))

    def collect(
        self, block: Block, results: Sequence[tuple[Tile, Any]], valid: NDArray[np.bool_]
    ) -> tuple[Arrays, Arrays]:
        """The block's forest."""

        def kernel(values: NDArray[Any], usable: NDArray[np.bool_]) -> list[NDArray[Any]]:
            smooth, seeds = self.start(values, usable)
            return [usable, seeds, *(s.astype(np.float32) for s in smooth)]

        fills = (np.bool_(False), np.bool_(False), *[np.float32(0)] * self.width)
        usable, seeds, *layers = assemble(block, results, self.shape, kernel, fills)
        usable &= valid
        for row, col in self.seeds or ():
            inside = block.window
            if inside.row_off <= row < inside.row_end and inside.col_off <= col < inside.col_end:
                seeds[row - inside.row_off, col - inside.col_off] = True
        values = np.stack(layers)
        place = (block.window.row_off, block.window.col_off, self.shape[1])
        forest = local_forest(values, usable, seeds & usable, self._keys, place)
        return {"piece": forest.piece, "usable": usable}, frame_of(
            forest, values, block, self.shape[1]
        )

    def solve(
        self, frames: Iterable[tuple[Block, Arrays]], grid: BlockGrid
    ) -> Mapping[int, Arrays]:
        """Region of each terminal."""
        return solve_forest(frames, grid, self._keys)

    def apply(
        self, block: Block, kept: Arrays, table: Arrays, frames: Mapping[tuple[int, int], Arrays]
    ) -> Arrays:
        """1 with its id in a region, 0 elsewhere, 255 where no value is."""
        return things(table["instance"][kept["piece"]], kept["usable"])

    @property
    def _keys(self) -> partial[NDArray[np.uint64]]:
        return partial(step_keys, tolerance=self.tolerance)


@dataclass(frozen=True)
class GrownRegions:
    """Regions grown from seeds. A Segmenter whose join does the work."""

    card: ModelCard
    features: Features
    join: Growth

    def for_scene(self, scene: Scene) -> tuple[GrownRegions, list[str]]:
        """With the scene's bands and extent; raises ModelError when it lacks a band."""
        features, warnings = self.features.for_scene(scene)
        card = replace(self.card, bands=features.bands)
        join = replace(self.join, shape=scene.shape, width=len(features.formulas))
        return replace(self, features=features, card=card, join=join), warnings

    def with_seeds(self, seeds: Sequence[tuple[int, int]]) -> GrownRegions:
        """The same with seeds at rows and columns of the scene; raises ModelError if none."""
        if not seeds:
            raise ModelError(f"{self.card.name}: no seed lies inside the scene")
        join = replace(self.join, seeds=tuple((int(r), int(c)) for r, c in seeds))
        parameters = {**self.card.parameters, "seeds": [list(seed) for seed in join.seeds or ()]}
        return replace(
            self, join=join, card=replace(self.card, halo=join.halo, parameters=parameters)
        )

    def predict(self, pixels: NDArray[Any], valid: NDArray[np.bool_]) -> list[Any]:
        """The values; regions are grown when the tile's place is known."""
        single = len(self.features.formulas) == 1
        return field_tiles(self.features, pixels, valid, single=single)


def region_card(spec: Spec, features: Features, halo: int, divisor: int = 1) -> ModelCard:
    """Card of a method that gives regions as things, over what is in none."""
    legend = Legend(
        (Category(0, "none", "#d9d4c5"), Category(1, "region", "#9ec1a3", isthing=True)), "classic"
    )
    card = card_of(spec, features, legend, halo=halo, divisor=divisor)
    return replace(card, task="panoptic", work_px=64)


def grow(spec: Spec) -> GrownRegions:
    """``grow:ndvi:tolerance=0.02,sigma=1,spacing=7``; seeds of a file are given later."""
    features = Features.parse(spec.features, spec.number("scale", 1.0, 1e-12, 1e12))
    join = Growth(
        sigma=spec.number("sigma", 1.0, 0, 50),
        tolerance=spec.number("tolerance", float("inf"), 0, float("inf")),
        spacing=spec.whole("spacing", 7, 1, 500),
        shape=(1, 1),
    )
    return GrownRegions(region_card(spec, features, join.halo), features, join)
