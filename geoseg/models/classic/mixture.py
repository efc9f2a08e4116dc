"""Gaussian mixture: clusters with a shape of their own, and how sure a pixel's class is.

Expectation maximization (Dempster et al. 1977) with full covariances on the scene's sample
of distinct values and their exact numbers of pixels, from k-means' centres. The sample does
not depend on how the scene is cut, so neither does the mixture.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numba
import numpy as np
from numpy.typing import NDArray

from geoseg.errors import ModelError
from geoseg.models.classic.clusters import centres_plus_plus, lloyd, observe_sample
from geoseg.models.classic.indices import Features
from geoseg.models.classic.nearest import assign
from geoseg.models.classic.palette import numbered
from geoseg.models.classic.sample import ValueSample
from geoseg.models.classic.spec import Spec
from geoseg.models.classic.threshold import card_of
from geoseg.models.segmenter import LabelTile, ModelCard, TileResult
from geoseg.radiometry import score_level

if TYPE_CHECKING:
    from geoseg.scene.reader import Scene

__all__ = ["GaussianMixture", "Gaussians", "MixtureFit", "fit_gaussians", "gmm"]

FloatArray = NDArray[np.float64]
REGULAR = 1e-6
"""Added to variances, in units of each feature's variance."""


@dataclass(frozen=True)
class Gaussians:
    """``weights`` (class,), ``means`` (class, feature), ``covariances`` (class, f, f)."""

    weights: FloatArray
    means: FloatArray
    covariances: FloatArray

    @property
    def whitening(self) -> FloatArray:
        """Lower triangles that turn deviations into independent unit ones (class, f, f)."""
        return np.stack([np.linalg.inv(np.linalg.cholesky(c)) for c in self.covariances])

    def log_density(self, values: FloatArray) -> FloatArray:
        """Log of weight times density, (class, pixel), of values (feature, pixel)."""
        white = self.whitening
        scale = np.log(np.diagonal(white, axis1=1, axis2=2)).sum(1) + np.log(self.weights)
        half = 0.5 * values.shape[0] * np.log(2 * np.pi)
        out: FloatArray = _densities(values, self.means, white, scale - half)
        return out

    def posterior(self, values: FloatArray) -> tuple[FloatArray, FloatArray]:
        """(probability of each class (class, pixel), log likelihood (pixel,))."""
        log = self.log_density(values)
        top = log.max(axis=0)
        likelihood = top + np.log(np.exp(log - top).sum(axis=0))
        return np.exp(log - likelihood), likelihood


@numba.njit(cache=True, nogil=True)
def _densities(values: Any, means: Any, white: Any, scale: Any) -> Any:
    classes, width = means.shape
    pixels = values.shape[1]
    out = np.empty((classes, pixels))
    step = np.empty(width)
    for c in range(classes):
        for i in range(pixels):
            for f in range(width):
                step[f] = values[f, i] - means[c, f]
            total = 0.0
            for f in range(width):
                part = 0.0
                for g in range(f + 1):
                    part += white[c, f, g] * step[g]
                total += part * part
            out[c, i] = scale[c] - 0.5 * total
    return out


def fit_gaussians(
    sample: ValueSample, start: FloatArray, tolerance: float = 1e-4, most: int = 200
) -> Gaussians:
    """Expectation maximization from hard clusters around ``start`` (class, feature).

    Ends when the mean log likelihood gains less than ``tolerance``.
    """
    values = np.ascontiguousarray(sample.values.T)
    counts = sample.counts.astype(float)
    variance = np.average(
        (values - np.average(values, axis=1, weights=counts)[:, None]) ** 2, axis=1, weights=counts
    )
    floor = np.diag(np.where(variance > 0, variance, 1.0)) * REGULAR
    nearest = assign(values, start)
    share = (nearest == np.arange(len(start))[:, None]) * counts
    last = -np.inf
    for _ in range(most):
        found = _maximize(values, share, start, floor)
        probability, likelihood = found.posterior(values)
        mean = float(np.average(likelihood, weights=counts))
        if mean - last < tolerance:
            break
        last, share = mean, probability * counts
    return found


def _maximize(
    values: FloatArray, share: FloatArray, fallback: FloatArray, floor: FloatArray
) -> Gaussians:
    total = share.sum(axis=1)
    means = np.where(
        total[:, None] > 0, share @ values.T / np.maximum(total, 1e-300)[:, None], fallback
    )
    covariances = []
    for weight, mean, amount in zip(share, means, total, strict=True):
        step = values - mean[:, None]
        covariances.append((weight * step) @ step.T / max(amount, 1e-300) + floor)
    weights = np.maximum(total / total.sum(), 1e-12)
    return Gaussians(weights / weights.sum(), means, np.stack(covariances))


@dataclass(frozen=True)
class GaussianMixture:
    """The most probable Gaussian of each pixel; its probability is the score. A Segmenter."""

    card: ModelCard
    features: Features
    gaussians: Gaussians
    sample: ValueSample | None = field(default=None, compare=False, repr=False)
    join: None = None

    def for_scene(self, scene: Scene) -> tuple[GaussianMixture, list[str]]:
        """With the scene's bands; raises ModelError when it lacks one."""
        features, warnings = self.features.for_scene(scene)
        return replace(self, features=features), warnings

    def predict(self, pixels: NDArray[Any], valid: NDArray[np.bool_]) -> list[TileResult]:
        """One LabelTile per tile, scores from the posterior."""
        out: list[TileResult] = []
        for tile, tile_valid in zip(pixels, valid, strict=True):
            values, usable = self.features.stack(tile, tile_valid)
            labels = np.full(usable.shape, 255, np.uint8)
            score = np.full(usable.shape, 255, np.uint8)
            probability, _ = self.gaussians.posterior(np.ascontiguousarray(values[:, usable]))
            labels[usable] = probability.argmax(axis=0)
            score[usable] = score_level(probability.max(axis=0))
            out.append(LabelTile(labels, score))
        return out


@dataclass(frozen=True)
class MixtureFit:
    """The pass that takes the sample, then a GaussianMixture. A Fittable."""

    card: ModelCard
    features: Features
    classes: int

    def for_scene(self, scene: Scene) -> tuple[MixtureFit, list[str]]:
        """With the scene's bands; raises ModelError when it lacks one."""
        features, warnings = self.features.for_scene(scene)
        card = replace(self.card, bands=features.bands)
        return replace(self, features=features, card=card), warnings

    def observe(self, pixels: NDArray[Any], valid: NDArray[np.bool_]) -> ValueSample:
        """The sample of one block."""
        return observe_sample(self.features, pixels, valid)

    def fitted(self, stats: ValueSample) -> GaussianMixture:
        """The Segmenter; classes in ascending order of their means."""
        width = len(self.features.formulas)
        if stats.pixels == 0:
            unit = np.broadcast_to(np.eye(width), (self.classes, width, width))
            even = np.full(self.classes, 1 / self.classes)
            nothing = Gaussians(even, np.zeros((self.classes, width)), unit)
            return GaussianMixture(self.card, self.features, nothing, stats)
        if len(stats) <= self.classes:
            raise ModelError(
                f"{self.card.name}: {len(stats)} different values can't make "
                f"{self.classes} clusters: ask for fewer"
            )
        start = centres_plus_plus(stats, self.classes)
        start = lloyd(stats.values, stats.counts.astype(float), start, 0.0, 50)
        found = fit_gaussians(stats, start)
        order = np.lexsort(found.means.T[::-1])
        ordered = Gaussians(found.weights[order], found.means[order], found.covariances[order])
        return GaussianMixture(self.card, self.features, ordered, stats)


def gmm(spec: Spec) -> MixtureFit:
    """``gmm:k=5``: of all bands, or of the features named."""
    features = Features.parse(spec.features, spec.number("scale", 1.0, 1e-12, 1e12))
    classes = spec.whole("k", 5, 2, 100)
    return MixtureFit(card_of(spec, features, numbered("cluster", classes)), features, classes)
