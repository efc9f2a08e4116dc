"""Edges (Sobel, Canny) and the regions that closed edges enclose.

Values are compared as scikit-image compares them: whole-number bands of 8 or 16 bits are
scaled to their type's range first, everything else is taken as it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from geoseg.errors import ModelError
from geoseg.grid import Block, BlockGrid, Tile
from geoseg.legend import Category, Legend
from geoseg.models.classic.fields import FieldTile, as_float, assemble, field_tiles
from geoseg.models.classic.indices import Features
from geoseg.models.classic.links import Nodes, first_pixels, numbered_by_first, ring, roots
from geoseg.models.classic.palette import two_classes
from geoseg.models.classic.spec import Spec
from geoseg.models.classic.threshold import NO_SCORE, card_of, one_feature
from geoseg.models.segmenter import Arrays, LabelTile, ModelCard, TileResult

if TYPE_CHECKING:
    from geoseg.scene.reader import Scene

__all__ = ["Canny", "Contours", "Hysteresis", "Sobel", "canny", "contours", "sobel"]

BoolArray = NDArray[np.bool_]
_EIGHT = np.ones((3, 3), bool)


@dataclass(frozen=True)
class Sobel:
    """Edge where the Sobel magnitude exceeds a threshold.

    The magnitude is scikit-image's with ``mode="mirror"`` at the scene's edge: the root
    mean square of the two derivatives (Sobel and Feldman 1968). Pixels with an invalid one
    among their eight neighbours are no edge.
    """

    card: ModelCard
    features: Features
    threshold: float
    join: None = None

    def for_scene(self, scene: Scene) -> tuple[Sobel, list[str]]:
        """With the scene's bands; raises ModelError when it lacks one."""
        features, warnings = self.features.for_scene(scene)
        card = replace(self.card, bands=features.bands)
        return replace(self, features=features, card=card), warnings

    def predict(self, pixels: NDArray[Any], valid: BoolArray) -> list[TileResult]:
        """One LabelTile per tile: 1 edge, 0 none."""
        out: list[TileResult] = []
        for tile, tile_valid in zip(pixels, valid, strict=True):
            values, usable = self.features.value(tile, tile_valid)
            labels = (sobel_magnitude(values, usable) > self.threshold).astype(np.uint8)
            labels[~usable] = 255
            out.append(LabelTile(labels, np.full(labels.shape, NO_SCORE, np.uint8)))
        return out


def sobel_magnitude(values: NDArray[Any], usable: BoolArray) -> NDArray[np.float64]:
    """Sobel magnitude, 0 where one of the eight neighbours can't be used."""
    from scipy import ndimage
    from skimage.filters import sobel as sobel_filter

    filled = np.where(usable, as_float(values), 0.0)
    magnitude: NDArray[np.float64] = sobel_filter(filled, mode="mirror")
    if not usable.all():
        magnitude[~ndimage.binary_erosion(usable, _EIGHT, border_value=1)] = 0.0
    return magnitude


@dataclass(frozen=True)
class Candidates:
    """Pixels that Canny's thinning leaves above ``low``, and those above ``high``.

    Smoothing leaves invalid pixels out; what lies beyond the scene counts as invalid.
    """

    sigma: float
    low: float
    high: float

    @property
    def halo(self) -> int:
        """Pixels that a candidate depends on: the Gaussian's radius, Sobel, thinning."""
        return int(4.0 * self.sigma + 0.5) + 3

    def __call__(self, values: NDArray[Any], usable: BoolArray) -> tuple[BoolArray, BoolArray]:
        """(weak, strong) of one tile inside the scene."""
        from skimage.feature import canny as canny_filter

        image = np.where(usable, as_float(values[0]), 0.0)
        # with both thresholds equal nothing is linked: what comes back is the thinned edge
        weak, strong = (
            canny_filter(image, self.sigma, level, level, mask=usable)
            for level in (self.low, self.high)
        )
        return weak, strong & weak


@dataclass(frozen=True)
class Hysteresis:
    """Join: weak edges stay where they touch, 8-connected, a strong one anywhere."""

    candidates: Candidates
    shape: tuple[int, int]

    def collect(
        self, block: Block, results: Sequence[tuple[Tile, Any]], valid: BoolArray
    ) -> tuple[Arrays, Arrays]:
        """Local components of weak pixels and which of them hold a strong one."""
        labels, _, usable, first, strong = local_edges(
            self.candidates, self.shape, block, results, valid
        )
        kept = {"label": labels, "usable": usable}
        return kept, ring("label", labels) | {"first": first, "strong": strong}

    def solve(
        self, frames: Iterable[tuple[Block, Arrays]], grid: BlockGrid
    ) -> Mapping[int, Arrays]:
        """Which components are edges."""
        nodes = Nodes.of(frames, grid)
        component = roots(nodes.count, nodes.pairs(diagonal=True))
        return nodes.scatter(strong_somewhere(nodes.gather("strong"), component), "edge")

    def apply(
        self, block: Block, kept: Arrays, table: Arrays, frames: Mapping[tuple[int, int], Arrays]
    ) -> Arrays:
        """1 edge, 0 none, 255 where no value is."""
        category = table["edge"][kept["label"]].astype(np.uint8)
        category[~kept["usable"]] = 255
        return {"category_id": category, "score": np.full(category.shape, NO_SCORE, np.uint8)}


def strong_somewhere(strong: BoolArray, component: NDArray[np.int64]) -> BoolArray:
    """True for every node whose component holds a strong one."""
    any_strong = np.zeros(int(component.max(initial=-1)) + 1, bool)
    any_strong[component[strong.astype(bool)]] = True
    return any_strong[component]


def local_edges(
    candidates: Candidates,
    shape: tuple[int, int],
    block: Block,
    results: Sequence[tuple[Tile, FieldTile]],
    valid: BoolArray,
) -> tuple[NDArray[np.int32], int, BoolArray, NDArray[np.int64], BoolArray]:
    """(labels of weak pixels, their number, usable, first pixels, strong) of a block."""
    from scipy import ndimage

    def kernel(values: NDArray[Any], usable: BoolArray) -> tuple[BoolArray, ...]:
        return *candidates(values, usable), usable

    false = np.bool_(False)
    weak, strong, usable = assemble(block, results, shape, kernel, (false, false, false))
    labels, count = ndimage.label(weak, _EIGHT)
    holds = np.zeros(count + 1, bool)
    holds[labels[strong]] = True
    first = first_pixels(labels, block, shape[1], count)
    return labels.astype(np.int32), count, usable & valid, first, holds[1:]


@dataclass(frozen=True)
class Canny:
    """Canny's edges (1986, doi 10.1109/TPAMI.1986.4767851). A Segmenter with a join."""

    card: ModelCard
    features: Features
    join: Hysteresis

    def for_scene(self, scene: Scene) -> tuple[Canny, list[str]]:
        """With the scene's bands and extent; raises ModelError when it lacks a band."""
        features, warnings = self.features.for_scene(scene)
        card = replace(self.card, bands=features.bands)
        join = replace(self.join, shape=scene.shape)
        return replace(self, features=features, card=card, join=join), warnings

    def predict(self, pixels: NDArray[Any], valid: BoolArray) -> list[Any]:
        """The values; edges are found when the tile's place is known."""
        return field_tiles(self.features, pixels, valid, single=True)


@dataclass(frozen=True)
class Contours:
    """Join: the 4-connected regions between Canny's edges, each an instance.

    A weak edge that reaches a block's border may turn out to be none: it is a node of its
    own, linked to the regions around it when it is dropped.
    """

    candidates: Candidates
    shape: tuple[int, int]

    def collect(
        self, block: Block, results: Sequence[tuple[Tile, Any]], valid: BoolArray
    ) -> tuple[Arrays, Arrays]:
        """Nodes: open edge components first, then regions; pairs of them that touch."""
        from scipy import ndimage

        weak, count, usable, _, strong = local_edges(
            self.candidates, self.shape, block, results, valid
        )
        open_edge = np.zeros(count + 1, bool)
        for side in (weak[0], weak[-1], weak[:, 0], weak[:, -1]):
            open_edge[side] = True
        open_edge[0] = False
        # pieces are 4-connected, as the regions that dropped ones become part of
        edges, opened = ndimage.label(open_edge[weak])
        line = np.zeros(opened + 1, np.int64)
        line[edges] = weak
        is_edge = np.concatenate([[False], strong]) & ~open_edge
        regions, found = ndimage.label(usable & ~is_edge[weak] & (edges == 0))
        labels = np.where(regions > 0, regions + opened, edges).astype(np.int32)
        labels[~usable] = 0
        frame = ring("label", labels) | {
            "first": first_pixels(labels, block, self.shape[1], opened + found),
            "strong": np.concatenate([strong[line[1:] - 1], np.zeros(found, bool)]),
            "edge": np.arange(opened + found) < opened,
            "inner": _touching(labels, opened),
            "lines": _same_line(line),
        }
        return {"label": labels, "usable": usable}, frame

    def solve(
        self, frames: Iterable[tuple[Block, Arrays]], grid: BlockGrid
    ) -> Mapping[int, Arrays]:
        """Instance id of each node; 0 for edges."""
        nodes = Nodes.of(frames, grid)
        edge = nodes.gather("edge").astype(bool)
        crossing = nodes.pairs(diagonal=True)
        crossing = crossing[edge[crossing].all(axis=1)]
        lines = roots(nodes.count, np.concatenate([crossing, nodes.inner("lines")]))
        drawn = edge & strong_somewhere(nodes.gather("strong"), lines)
        # edges were linked by corners too; regions, and edges that are dropped, by sides only
        pairs = np.concatenate([nodes.pairs(), nodes.inner("inner")])
        pairs = pairs[~drawn[pairs].any(axis=1)]
        component = roots(nodes.count, pairs)
        component[drawn] = -1
        ids = np.zeros(nodes.count, np.uint32)
        first = nodes.gather("first")
        ids[~drawn] = numbered_by_first(component[~drawn], first[~drawn])
        return nodes.scatter(ids, "instance")

    def apply(
        self, block: Block, kept: Arrays, table: Arrays, frames: Mapping[tuple[int, int], Arrays]
    ) -> Arrays:
        """1 region with its id, 0 edge, 255 where no value is."""
        instance = table["instance"][kept["label"]].astype(np.uint32)
        category = (instance > 0).astype(np.uint8)
        category[~kept["usable"]] = 255
        score = np.full(category.shape, NO_SCORE, np.uint8)
        return {"category_id": category, "score": score, "instance_id": instance}


def _touching(labels: NDArray[np.int32], opened: int) -> NDArray[np.int64]:
    """Pairs of nodes side by side of which one is an open edge, (pair, 2) of labels."""
    pairs = [np.empty((0, 2), np.int64)]
    for a, b in ((labels[:, :-1], labels[:, 1:]), (labels[:-1], labels[1:])):
        meet = (a != b) & (a > 0) & (b > 0) & ((a <= opened) | (b <= opened))
        pairs.append(np.stack([a[meet], b[meet]], 1).astype(np.int64))
    return np.unique(np.concatenate(pairs), axis=0)


def _same_line(line: NDArray[np.int64]) -> NDArray[np.int64]:
    """Pairs of pieces (label from 1) that belong to one 8-connected edge of the block."""
    order = np.argsort(line[1:], kind="stable") + 1
    same = line[order[:-1]] == line[order[1:]]
    return np.stack([order[:-1][same], order[1:][same]], 1)


def sobel(spec: Spec) -> Sobel:
    """``sobel:b1:threshold=0.05``."""
    features = one_feature(spec)
    threshold = spec.number("threshold", 0.05, 0, 1e12)
    card = card_of(spec, features, two_classes("flat", "edge"), halo=1)
    return Sobel(card, features, threshold)


def _candidates(spec: Spec) -> Candidates:
    sigma = spec.number("sigma", 1.0, 0.1, 50)
    low, high = spec.number("low", 0.1, 1e-12, 1e12), spec.number("high", 0.2, 1e-12, 1e12)
    if high < low:
        raise ModelError(f"{spec.text}: low={low:g} exceeds high={high:g}: swap them")
    return Candidates(sigma, low, high)


def canny(spec: Spec) -> Canny:
    """``canny:b1:sigma=1,low=0.1,high=0.2``."""
    features, candidates = one_feature(spec), _candidates(spec)
    card = card_of(spec, features, two_classes("flat", "edge"), halo=candidates.halo)
    return Canny(card, features, Hysteresis(candidates, (1, 1)))


def contours(spec: Spec) -> Canny:
    """``contours:b1:sigma=1,low=0.1,high=0.2``: regions that edges close."""
    features, candidates = one_feature(spec), _candidates(spec)
    legend = Legend(
        (Category(0, "edge", "#3b3b3b"), Category(1, "region", "#9ec1a3", isthing=True)), "classic"
    )
    card = replace(
        card_of(spec, features, legend, halo=candidates.halo), task="panoptic", work_px=32
    )
    return Canny(card, features, Contours(candidates, (1, 1)))  # type: ignore[arg-type]
