"""Marker-controlled watershed, on gradient or distance, the same for any tiling."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from geoseg.errors import ModelError
from geoseg.grid import Block, BlockGrid, Tile
from geoseg.legend import Category, Legend
from geoseg.models.classic import rules
from geoseg.models.classic.fields import assemble, field_tiles
from geoseg.models.classic.forest import frame_of, local_forest, solve_forest, weight_keys
from geoseg.models.classic.indices import Features
from geoseg.models.classic.relief import Relief
from geoseg.models.classic.spec import Spec
from geoseg.models.classic.threshold import (
    NO_SCORE,
    HistogramFit,
    Rule,
    Threshold,
    card_of,
    legend_of,
    one_feature,
)
from geoseg.models.segmenter import Arrays, ModelCard, Stats

if TYPE_CHECKING:
    from geoseg.scene.reader import Scene

__all__ = ["Flood", "FloodFit", "Watershed", "flood_keys", "things", "watershed"]


def flood_keys(a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.uint64]:
    """Weight: the higher of two pixels of a relief; ties to the lower other (descent)."""
    return weight_keys(np.maximum(a[0], b[0]), np.minimum(a[0], b[0]))


@dataclass(frozen=True)
class Flood:
    """Join: basins of a relief from its markers, as a minimum spanning forest."""

    relief: Relief
    shape: tuple[int, int]

    def collect(
        self, block: Block, results: Sequence[tuple[Tile, Any]], valid: NDArray[np.bool_]
    ) -> tuple[Arrays, Arrays]:
        """The block's forest."""

        def kernel(values: NDArray[Any], usable: NDArray[np.bool_]) -> tuple[NDArray[Any], ...]:
            return *self.relief(values, usable), usable

        false = np.bool_(False)
        fills = (np.float32(0), false, false, false)
        relief, flooded, markers, usable = assemble(block, results, self.shape, kernel, fills)
        place = (block.window.row_off, block.window.col_off, self.shape[1])
        forest = local_forest(relief[None], flooded & valid, markers & valid, flood_keys, place)
        frame = frame_of(forest, relief[None], block, self.shape[1])
        return {"piece": forest.piece, "usable": usable & valid}, frame

    def solve(
        self, frames: Iterable[tuple[Block, Arrays]], grid: BlockGrid
    ) -> Mapping[int, Arrays]:
        """Basin of each terminal."""
        return solve_forest(frames, grid, flood_keys)

    def apply(
        self, block: Block, kept: Arrays, table: Arrays, frames: Mapping[tuple[int, int], Arrays]
    ) -> Arrays:
        """1 with its id in a basin, 0 elsewhere, 255 where no value is."""
        return things(table["instance"][kept["piece"]], kept["usable"])


def things(instance: NDArray[Any], usable: NDArray[np.bool_]) -> Arrays:
    """Final arrays: category 1 where there is an instance, 0 where not, 255 unusable."""
    category = (instance > 0).astype(np.uint8)
    category[~usable] = 255
    score = np.full(category.shape, NO_SCORE, np.uint8)
    return {
        "category_id": category,
        "score": score,
        "instance_id": np.where(usable, instance, 0).astype(np.uint32),
    }


@dataclass(frozen=True)
class Watershed:
    """Objects around markers. A Segmenter whose join does the work."""

    card: ModelCard
    features: Features
    join: Flood

    def for_scene(self, scene: Scene) -> tuple[Watershed, list[str]]:
        """With the scene's bands and extent; raises ModelError when it lacks a band."""
        features, warnings = self.features.for_scene(scene)
        card = replace(self.card, bands=features.bands)
        join = replace(self.join, shape=scene.shape)
        return replace(self, features=features, card=card, join=join), warnings

    def predict(self, pixels: NDArray[Any], valid: NDArray[np.bool_]) -> list[Any]:
        """The values; basins are found when the tile's place is known."""
        return field_tiles(self.features, pixels, valid, single=True)


@dataclass(frozen=True)
class FloodFit:
    """A Fittable: finds the threshold that parts objects from ground, then a Watershed."""

    card: ModelCard
    histogram: HistogramFit
    watershed: Watershed

    def for_scene(self, scene: Scene) -> tuple[FloodFit, list[str]]:
        """Both parts with the scene's bands; raises ModelError when it lacks one."""
        histogram, warnings = self.histogram.for_scene(scene)
        watershed, _ = self.watershed.for_scene(scene)
        fit = replace(self, card=watershed.card, histogram=histogram, watershed=watershed)
        return fit, warnings

    def observe(self, pixels: NDArray[Any], valid: NDArray[np.bool_]) -> Stats:
        """The histogram's statistics."""
        return self.histogram.observe(pixels, valid)

    def fitted(self, stats: Stats) -> Watershed | FloodFit:
        """The Watershed, or the next pass of the histogram."""
        found = self.histogram.fitted(stats)
        if not isinstance(found, Threshold):
            return replace(self, histogram=found)
        join = self.watershed.join
        relief = replace(join.relief, threshold=found.thresholds[0])
        return replace(self.watershed, join=replace(join, relief=relief))


def watershed(spec: Spec) -> Watershed | FloodFit:
    """``watershed:b1:sigma=2,spacing=7`` or ``watershed:exg:on=distance,spacing=15``."""
    features = one_feature(spec)
    kind = spec.choice("on", "gradient", "distance")
    sigma = spec.number("sigma", 1.5, 0, 50)
    relief = Relief(
        kind,  # type: ignore[arg-type]
        sigma=sigma,
        spacing=spec.whole("spacing", 7, 1, 500),
        depth=spec.number("depth", 0.0, 0, 1e12),
        threshold=spec.number("threshold", float("nan"), -1e12, 1e12),
        reach=spec.whole("reach", 64, 2, 1024),
    )
    two = legend_of(spec.features[0])
    low, high = two.by_id(0), two.by_id(1)
    if kind == "gradient":
        high = Category(1, "basin", high.colour)
    legend = Legend((low, replace(high, isthing=True)), "classic")
    card = replace(card_of(spec, features, legend, halo=relief.halo), task="panoptic", work_px=64)
    model = Watershed(card, features, Flood(relief, (1, 1)))
    if kind == "gradient" or relief.threshold == relief.threshold:
        if kind == "gradient" and "threshold" in spec.options:
            raise ModelError(f"{spec.text}: threshold is for on=distance")
        return model
    return FloodFit(card, HistogramFit(card, features, Rule(rules.otsu)), model)
