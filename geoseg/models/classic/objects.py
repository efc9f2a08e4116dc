"""Object-based image analysis: superpixels described by their statistics, then classified.

Blaschke 2010, doi 10.1016/j.isprsjprs.2009.06.004. Objects are superpixels of a lattice, so
a tile sees every object of its core whole, and what it says of one does not depend on the
tiling. A classifier of scikit-learn (a random forest by default, Breiman 2001) is trained
on the objects under sample polygons.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from geoseg.errors import ModelError
from geoseg.grid import Tile
from geoseg.legend import Legend
from geoseg.models.classic.indices import Features
from geoseg.models.classic.sample import ValueSample
from geoseg.models.classic.spec import Spec
from geoseg.models.classic.superpixels import (
    Lattice,
    SuperpixelFit,
    lattice_of,
    standardized,
    superpixel_size,
)
from geoseg.models.classic.threshold import card_of
from geoseg.models.segmenter import LabelTile, ModelCard, TileResult
from geoseg.radiometry import score_level

if TYPE_CHECKING:
    from geoseg.scene.reader import Scene

__all__ = ["Labelled", "ObjectClasses", "ObjectFit", "Objects", "objects"]

STATISTICS = ("mean", "deviation", "least", "most")


@dataclass(frozen=True)
class Labelled:
    """Training pixels of one tile of the plan's grid.

    ``pixels`` (band, row, col) and ``valid`` (row, col) of ``tile.read``; ``classes``
    (row, col) of the same, 255 where nothing is known.
    """

    tile: Tile
    pixels: NDArray[Any]
    valid: NDArray[np.bool_]
    classes: NDArray[np.uint8]


@dataclass(frozen=True)
class Objects:
    """Superpixels and their statistics, not classified yet.

    ``names`` are the columns of the table that ``describe`` makes.
    """

    card: ModelCard
    features: Features
    lattice: Lattice
    sample: ValueSample = field(compare=False, repr=False)

    @property
    def names(self) -> tuple[str, ...]:
        """Columns of the table: statistics of each feature, then size and shape."""
        stems = [f"{name} {what}" for name in self.features.names for what in STATISTICS]
        return (*stems, "pixels", "elongation")

    def describe(
        self, pixels: NDArray[Any], valid: NDArray[np.bool_]
    ) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
        """(object of each pixel (row, col), -1 none; table (object, column)) of one tile."""
        values, usable = standardized(self.features, self.sample, pixels, valid)
        cell = self.lattice(values, usable)
        found, place = np.unique(cell[cell >= 0], return_inverse=True)
        number = np.full(cell.shape, -1, np.int32)
        number[cell >= 0] = place
        inside = values[:, cell >= 0]
        count = np.maximum(np.bincount(place, minlength=found.size), 1).astype(float)
        columns: list[NDArray[np.float64]] = []
        order = np.argsort(place, kind="stable")
        starts = np.searchsorted(place[order], np.arange(found.size))
        for value in inside:
            mean = np.bincount(place, value, found.size) / count
            square = np.bincount(place, (value - mean[place]) ** 2, found.size) / count
            columns += [mean, np.sqrt(square)]
            if found.size:
                sorted_values = value[order]
                columns.append(np.minimum.reduceat(sorted_values, starts))
                columns.append(np.maximum.reduceat(sorted_values, starts))
            else:
                columns += [mean, mean]
        columns += [count, _elongation(cell >= 0, place, found.size, count)]
        return number, np.stack(columns, axis=1)

    def train(
        self, samples: Iterable[Labelled], legend: Legend, classifier: Any = None
    ) -> ObjectClasses:
        """Fit a classifier to the objects under labelled pixels.

        An object takes the class of most of its labelled pixels (ties to the lower id) and
        counts once, in the tile whose core holds its first pixel. ``classifier`` is
        scikit-learn's; a random forest of 200 trees with a fixed seed by default. Raises
        ModelError when fewer than two classes have an object.
        """
        tables, classes = [], []
        for sample in samples:
            number, table = self.describe(sample.pixels, sample.valid)
            chosen, names = _labels_of(number, sample)
            tables.append(table[chosen])
            classes.append(names)
        known = np.concatenate(classes) if classes else np.empty(0, np.int64)
        if len(np.unique(known)) < 2:
            raise ModelError(
                f"{self.card.name}: the samples cover objects of {len(np.unique(known))} class(es):"
                " draw some of at least two inside the scene"
            )
        if classifier is None:
            from sklearn.ensemble import RandomForestClassifier

            classifier = RandomForestClassifier(200, random_state=0, n_jobs=1)
        table = np.concatenate(tables)
        classifier.fit(table, known)
        # a job begun with other samples must not be gone on with
        digest = hashlib.sha256(table.tobytes() + known.tobytes()).hexdigest()
        parameters = {**self.card.parameters, "samples": digest}
        card = replace(self.card, legend=legend, parameters=parameters)
        return ObjectClasses(card, self, classifier, len(known))


def _labels_of(
    number: NDArray[np.int32], sample: Labelled
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(objects with a label that begin in the tile's core, their classes)."""
    known = (number >= 0) & (sample.classes != 255)
    if not known.any():
        return np.empty(0, np.int64), np.empty(0, np.int64)
    votes = np.zeros((int(number.max()) + 1, 256), np.int32)
    np.add.at(votes, (number[known], sample.classes[known]), 1)
    found, first = np.unique(number, return_index=True)
    row, col = np.divmod(first, number.shape[1])
    core = sample.tile.core.relative_to(sample.tile.read)
    mine = (row >= core.row_off) & (row < core.row_end) & (col >= core.col_off)
    mine &= (col < core.col_end) & (found >= 0)
    chosen = found[mine]
    chosen = chosen[votes[chosen].sum(axis=1) > 0].astype(np.int64)
    return chosen, votes[chosen].argmax(axis=1)


def _elongation(
    mask: NDArray[np.bool_], place: NDArray[np.intp], size: int, count: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Ratio of the long to the short axis of each object's pixels, from second moments."""
    row, col = np.nonzero(mask)
    centre_row = np.bincount(place, row, size) / count
    centre_col = np.bincount(place, col, size) / count
    dy, dx = row - centre_row[place], col - centre_col[place]
    # a pixel's own extent keeps lines finite
    yy = np.bincount(place, dy * dy, size) / count + 1 / 12
    xx = np.bincount(place, dx * dx, size) / count + 1 / 12
    xy = np.bincount(place, dx * dy, size) / count
    middle, half = (yy + xx) / 2, np.sqrt(((yy - xx) / 2) ** 2 + xy * xy)
    ratio: NDArray[np.float64] = np.sqrt((middle + half) / np.maximum(middle - half, 1 / 24))
    return ratio


@dataclass(frozen=True)
class ObjectClasses:
    """Classified objects; the classifier's probability is the score. A Segmenter."""

    card: ModelCard
    objects: Objects
    classifier: Any
    trained_on: int
    join: None = None

    @property
    def importances(self) -> list[tuple[str, float]]:
        """Columns and how much they matter, most first; empty if the classifier can't say."""
        weights: Sequence[float] = getattr(self.classifier, "feature_importances_", ())
        pairs = zip(self.objects.names, map(float, weights), strict=False)
        return sorted(pairs, key=lambda pair: -pair[1])

    def for_scene(self, scene: Scene) -> tuple[ObjectClasses, list[str]]:
        """With the scene's bands; raises ModelError when it lacks one."""
        features, warnings = self.objects.features.for_scene(scene)
        return replace(self, objects=replace(self.objects, features=features)), warnings

    def predict(self, pixels: NDArray[Any], valid: NDArray[np.bool_]) -> list[TileResult]:
        """One LabelTile per tile."""
        out: list[TileResult] = []
        for tile, tile_valid in zip(pixels, valid, strict=True):
            number, table = self.objects.describe(tile, tile_valid)
            labels = np.full(number.shape, 255, np.uint8)
            score = np.full(number.shape, 255, np.uint8)
            if len(table):
                probability = self.classifier.predict_proba(table)
                names = np.asarray(self.classifier.classes_)[probability.argmax(axis=1)]
                found = number >= 0
                labels[found] = names[number[found]]
                score[found] = score_level(probability.max(axis=1))[number[found]]
            out.append(LabelTile(labels, score))
        return out


@dataclass(frozen=True)
class ObjectFit:
    """The pass that finds each feature's spread, then Objects to be trained."""

    card: ModelCard
    superpixels: SuperpixelFit

    def for_scene(self, scene: Scene) -> tuple[ObjectFit, list[str]]:
        """Raises ModelError before any pass: objects are classified only once samples are given."""
        raise self._untrained()

    def adapted(self, scene: Scene) -> tuple[ObjectFit, list[str]]:
        """With the scene's bands, to be trained; raises ModelError when it lacks one."""
        superpixels, warnings = self.superpixels.for_scene(scene)
        card = replace(self.card, bands=superpixels.features.bands)
        return replace(self, card=card, superpixels=superpixels), warnings

    def observe(self, pixels: NDArray[Any], valid: NDArray[np.bool_]) -> ValueSample:
        """The sample of one block."""
        return self.superpixels.observe(pixels, valid)

    def described(self, stats: ValueSample) -> Objects:
        """Objects with their statistics, to be trained."""
        inner = self.superpixels
        return Objects(self.card, inner.features, inner.lattice, stats)

    def fitted(self, stats: ValueSample) -> Any:
        """Raises ModelError, as ``for_scene`` does."""
        raise self._untrained()

    def _untrained(self) -> ModelError:
        return ModelError(
            f"{self.card.name} classifies objects and needs samples: add --samples polygons.gpkg "
            "with a class per polygon"
        )


def objects(spec: Spec) -> ObjectFit:
    """``objects:size=10``: of all bands, or of the features named."""
    features = Features.parse(spec.features, spec.number("scale", 1.0, 1e-12, 1e12))
    lattice = lattice_of(spec)
    nothing = Legend((), "classic")
    card = card_of(spec, features, nothing, halo=lattice.halo, divisor=lattice.size)
    card = replace(card, tile_size=superpixel_size(lattice))
    return ObjectFit(card, SuperpixelFit(card, features, lattice))
