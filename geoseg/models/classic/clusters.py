"""k-means of a whole scene: exact passes over every pixel, or mini-batches of a sample.

The sums of a pass are exact integers (whole numbers as they are, others in steps of 2**-31
of each feature's range), so that centres do not depend on blocks or their order.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from geoseg.errors import ModelError
from geoseg.models.classic.indices import Features
from geoseg.models.classic.nearest import accumulate, assign
from geoseg.models.classic.palette import numbered
from geoseg.models.classic.sample import ValueSample
from geoseg.models.classic.spec import Spec
from geoseg.models.classic.threshold import NO_SCORE, card_of
from geoseg.models.segmenter import LabelTile, ModelCard, TileResult

if TYPE_CHECKING:
    from geoseg.scene.reader import Scene

__all__ = [
    "Centres", "ClusterFit", "ClusterSums", "KMeansPass", "centres_plus_plus", "kmeans", "lloyd",
    "mini_batches",
]  # fmt: skip

FloatArray = NDArray[np.float64]
SEED = 0
STRIP = 1 << 15
"""Pixels of a block that are turned into features at a time: few enough to stay in a cache."""
BATCH = 1024
EPOCHS = 20


@dataclass(frozen=True)
class Centres:
    """The nearest of ``centres`` (class, feature), ties to the first. A Segmenter."""

    card: ModelCard
    features: Features
    centres: FloatArray
    sample: ValueSample | None = field(default=None, compare=False, repr=False)
    passes: int = 0
    inertia: float = float("nan")
    join: None = None

    def for_scene(self, scene: Scene) -> tuple[Centres, list[str]]:
        """With the scene's bands; raises ModelError when it lacks one."""
        features, warnings = self.features.for_scene(scene)
        card = replace(self.card, bands=features.bands)
        return replace(self, features=features, card=card), warnings

    def predict(self, pixels: NDArray[Any], valid: NDArray[np.bool_]) -> list[TileResult]:
        """One LabelTile per tile; no scores."""
        out: list[TileResult] = []
        for tile, tile_valid in zip(pixels, valid, strict=True):
            labels = np.full(tile_valid.shape, 255, np.uint8)
            for rows in _strips(tile_valid.shape):
                values, usable = self.features.stack(tile[:, rows], tile_valid[rows])
                nearest = assign(values.reshape(len(values), -1), self.centres)
                labels[rows] = np.where(usable, nearest.reshape(usable.shape), 255)
            out.append(LabelTile(labels, np.full(labels.shape, NO_SCORE, np.uint8)))
        return out


@dataclass(frozen=True)
class ClusterSums:
    """Sums of one pass: ``sums`` (class, feature) and ``counts`` (class,) of Python ints."""

    sums: NDArray[Any]
    counts: NDArray[np.int64]

    def __add__(self, other: ClusterSums) -> ClusterSums:
        return ClusterSums(self.sums + other.sums, self.counts + other.counts)


@dataclass(frozen=True)
class KMeansPass:
    """One pass of Lloyd's algorithm (1982, doi 10.1109/TIT.1982.1056489). A Fittable.

    ``sample`` gives the range of each feature; a class that loses all its pixels keeps its
    centre. It ends when the centres' squared shifts sum to no more than ``tolerance`` (in
    squared units of the features) or after ``most`` passes.
    """

    card: ModelCard
    features: Features
    centres: FloatArray
    sample: ValueSample
    tolerance: float
    most: int
    passes: int = 0

    def for_scene(self, scene: Scene) -> tuple[KMeansPass, list[str]]:
        """With the scene's bands; raises ModelError when it lacks one."""
        features, warnings = self.features.for_scene(scene)
        return replace(self, features=features), warnings

    @property
    def _steps(self) -> FloatArray:
        """Units per feature: 1 for whole numbers, else a power of two near range / 2**31."""
        span = np.maximum(self.sample.high - self.sample.low, np.finfo(float).tiny)
        whole = (self.sample.values == np.rint(self.sample.values)).all(0) & (span < 2**31)
        return np.where(whole, 1.0, np.exp2(np.ceil(np.log2(span)) - 31))

    def observe(self, pixels: NDArray[Any], valid: NDArray[np.bool_]) -> ClusterSums:
        """Sums and counts per nearest centre of one block."""
        classes, width = self.centres.shape
        sums, counts = np.zeros((classes, width), np.int64), np.zeros(classes, np.int64)
        low, steps = self.sample.low, self._steps
        if self.features.bare(pixels):
            flat = pixels.reshape(width, -1)
            accumulate(flat, valid.reshape(-1), self.centres, low, steps, sums, counts)
            return ClusterSums(sums.astype(object), counts)
        for rows in _strips(valid.shape):
            values, usable = self.features.stack(pixels[:, rows], valid[rows])
            flat = values.reshape(width, -1)
            accumulate(flat, usable.reshape(-1), self.centres, low, steps, sums, counts)
        return ClusterSums(sums.astype(object), counts)

    def fitted(self, stats: ClusterSums) -> Centres | KMeansPass:
        """The next pass, or the Segmenter when centres have come to rest."""
        means = np.array(
            [
                [float(s) / max(int(n), 1) for s in row]
                for row, n in zip(stats.sums, stats.counts, strict=True)
            ]
        )
        centres = means * self._steps + self.sample.low
        centres = np.where(stats.counts[:, None] > 0, centres, self.centres)
        shift = float(((centres - self.centres) ** 2).sum())
        if shift <= self.tolerance or self.passes + 1 >= self.most:
            return _finished(self.card, self.features, centres, self.sample, self.passes + 1)
        return replace(self, centres=centres, passes=self.passes + 1)


@dataclass(frozen=True)
class ClusterFit:
    """The first pass of k-means: a sample, and from it the start. A Fittable.

    ``mini`` stops there, with mini-batches of the sample (Sculley 2010, doi
    10.1145/1772690.1772862); otherwise passes over all pixels follow, unless the sample
    holds every distinct value: then they run on it.
    """

    card: ModelCard
    features: Features
    classes: int
    mini: bool = False
    most: int = 20
    tolerance: float = 1e-4

    def for_scene(self, scene: Scene) -> tuple[ClusterFit, list[str]]:
        """With the scene's bands; raises ModelError when it lacks one."""
        features, warnings = self.features.for_scene(scene)
        card = replace(self.card, bands=features.bands)
        return replace(self, features=features, card=card), warnings

    def observe(self, pixels: NDArray[Any], valid: NDArray[np.bool_]) -> ValueSample:
        """The sample of one block."""
        return observe_sample(self.features, pixels, valid)

    def fitted(self, stats: ValueSample) -> Centres | KMeansPass:
        """Centres, or a first pass of all pixels."""
        if len(stats) < self.classes:
            if stats.pixels == 0:
                nowhere = np.zeros((self.classes, len(self.features.formulas)))
                return Centres(self.card, self.features, nowhere, stats)
            raise ModelError(
                f"{self.card.name}: {len(stats)} different values can't make "
                f"{self.classes} clusters: ask for fewer"
            )
        start = centres_plus_plus(stats, self.classes)
        if self.mini:
            centres = mini_batches(stats, start)
            return _finished(self.card, self.features, centres, stats, 1)
        weights = stats.counts.astype(float)
        mean = np.average(stats.values, axis=0, weights=weights)
        variance = np.average((stats.values - mean) ** 2, axis=0, weights=weights).mean()
        tolerance = self.tolerance * float(variance)
        centres = lloyd(stats.values, weights, start, tolerance, 300)
        if stats.complete:
            return _finished(self.card, self.features, centres, stats, 1)
        return KMeansPass(self.card, self.features, centres, stats, tolerance, self.most)


def observe_sample(
    features: Features, pixels: NDArray[Any], valid: NDArray[np.bool_]
) -> ValueSample:
    """The sample of a block, in strips of rows."""
    total: ValueSample | None = None
    for rows in _strips(valid.shape, 1 << 20):
        values, usable = features.stack(pixels[:, rows], valid[rows])
        # feature by feature: numpy would lay out the choice pixel by pixel
        part = ValueSample.of(np.stack([value[usable] for value in values]))
        total = part if total is None else total + part
    assert total is not None
    return total


def _finished(
    card: ModelCard, features: Features, centres: FloatArray, sample: ValueSample, passes: int
) -> Centres:
    """Classes in ascending order of their centres, first feature first."""
    order = np.lexsort(centres.T[::-1])
    centres = np.ascontiguousarray(centres[order])
    return Centres(card, features, centres, sample, passes, inertia_of(sample, centres))


def inertia_of(sample: ValueSample, centres: FloatArray) -> float:
    """Mean squared distance to the nearest centre, over the sample's pixels."""
    nearest = assign(np.ascontiguousarray(sample.values.T), centres)
    squares = ((sample.values - centres[nearest]) ** 2).sum(1)
    return float((squares * sample.counts).sum() / max(sample.counts.sum(), 1))


def centres_plus_plus(sample: ValueSample, classes: int, seed: int = SEED) -> FloatArray:
    """k-means++ (Arthur and Vassilvitskii 2007) on a sample, greedy, from a fixed seed."""
    rng = np.random.default_rng(seed)
    weights = sample.counts.astype(float)
    values = sample.values
    first = int(np.searchsorted(np.cumsum(weights), rng.random() * weights.sum()))
    centres = [values[min(first, len(values) - 1)]]
    nearest = ((values - centres[0]) ** 2).sum(1)
    for _ in range(1, classes):
        chance = np.cumsum(nearest * weights)
        tries = np.searchsorted(chance, rng.random(2 + int(np.log(classes))) * chance[-1])
        tries = np.minimum(tries, len(values) - 1)
        distances = [np.minimum(nearest, ((values - values[t]) ** 2).sum(1)) for t in tries]
        best = int(np.argmin([(d * weights).sum() for d in distances]))
        nearest = distances[best]
        centres.append(values[tries[best]])
    return np.array(centres)


def lloyd(
    values: FloatArray, weights: FloatArray, start: FloatArray, tolerance: float, most: int
) -> FloatArray:
    """Lloyd's algorithm on weighted values (value, feature) in memory."""
    centres = start
    columns = np.ascontiguousarray(values.T)
    for _ in range(most):
        nearest = assign(columns, centres)
        counts = np.bincount(nearest, weights, len(centres))
        sums = np.stack([np.bincount(nearest, weights * c, len(centres)) for c in columns], 1)
        moved = np.where(counts[:, None] > 0, sums / np.maximum(counts, 1e-300)[:, None], centres)
        shift = float(((moved - centres) ** 2).sum())
        centres = moved
        if shift <= tolerance:
            break
    return centres


def mini_batches(sample: ValueSample, start: FloatArray) -> FloatArray:
    """Mini-batch k-means: batches in the order of the hashes, steps of weight / pixels seen."""
    centres, seen = start.copy(), np.zeros(len(start))
    columns = np.ascontiguousarray(sample.values.T)
    for _ in range(EPOCHS):
        for begin in range(0, len(sample), BATCH):
            part = slice(begin, begin + BATCH)
            nearest = assign(columns[:, part], centres)
            weights = sample.counts[part].astype(float)
            counts = np.bincount(nearest, weights, len(centres))
            seen += counts
            for f, column in enumerate(columns[:, part]):
                sums = np.bincount(nearest, weights * column, len(centres))
                step = (sums - counts * centres[:, f]) / np.maximum(seen, 1)
                centres[:, f] += step
    return centres


def _strips(shape: tuple[int, ...], pixels: int = STRIP) -> list[slice]:
    """Rows of an array (row, col), about ``pixels`` pixels at a time."""
    size = max(pixels // max(shape[1], 1), 1)
    return [slice(r, min(r + size, shape[0])) for r in range(0, max(shape[0], 1), size)]


def kmeans(spec: Spec) -> ClusterFit:
    """Both kmeans and minibatch: of all bands, or of the features named."""
    features = Features.parse(spec.features, spec.number("scale", 1.0, 1e-12, 1e12))
    classes = spec.whole("k", 6, 2, 200)
    mini = spec.method == "minibatch"
    most = 1 if mini else spec.whole("passes", 20, 1, 1000)
    tolerance = 1e-4 if mini else spec.number("tolerance", 1e-4, 0, 1)
    card = card_of(spec, features, numbered("cluster", classes))
    return ClusterFit(card, features, classes, mini, most, tolerance)
