"""Thresholds of one index: fixed, or found from the histogram of the whole scene.

Every rule sees exact statistics: each distinct value of whole numbers (those of a range
above FINE_BINS in that many equal bins); for other numbers numpy's 256 equal bins between
the scene's smallest and largest value (a first pass finds those), or every distinct value
where a rule needs them. So thresholds are those of scikit-image on the whole array,
whatever the blocks.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from geoseg.errors import ModelError
from geoseg.legend import Legend
from geoseg.models.classic import rules
from geoseg.models.classic.counts import BinCounts, Extent, ValueCounts
from geoseg.models.classic.indices import INDICES, Features
from geoseg.models.classic.multiotsu import multiotsu
from geoseg.models.classic.palette import ramp, two_classes
from geoseg.models.classic.rules import Histogram
from geoseg.models.classic.spec import Spec
from geoseg.models.segmenter import LabelTile, ModelCard, TileResult

if TYPE_CHECKING:
    from geoseg.scene.reader import Scene

__all__ = [
    "HistogramFit",
    "Rule",
    "Threshold",
    "above",
    "card_of",
    "fixed",
    "from_histogram",
    "legend_of",
    "one_feature",
]

BINS = 256
FINE_BINS = 1 << 20
NO_SCORE = 255
_COMPARISON = re.compile(r"(.+?)\s*(>=|<=|>|<)\s*([+-]?[\d.]+(?:[eE][+-]?\d+)?)")


def card_of(
    spec: Spec, features: Features, legend: Legend, *, halo: int = 0, divisor: int = 1
) -> ModelCard:
    """The card of a classic semantic method."""
    return ModelCard(
        name=spec.text,
        task="semantic",
        legend=legend,
        bands=features.bands,
        halo=halo,
        divisor=divisor,
        runtimes=("numpy-fp64",),
        activation_px=64,
        work_px=24,
        parameters={"method": spec.method, "features": list(features.names), **spec.options},
        licence="method",
    )


def above(values: NDArray[Any], thresholds: tuple[float, ...]) -> NDArray[np.uint8]:
    """How many of the ascending thresholds each value exceeds: its class."""
    out = np.zeros(values.shape, np.uint8)
    for threshold in thresholds:
        out += values > threshold
    return out


@dataclass(frozen=True)
class Threshold:
    """Class n where the value exceeds n of the ascending thresholds; 255 where undefined.

    With ``inclusive`` a value equal to a threshold exceeds it; ``flipped`` numbers two
    classes the other way round (below is 1).
    """

    card: ModelCard
    features: Features
    thresholds: tuple[float, ...]
    inclusive: bool = False
    flipped: bool = False
    histogram: Histogram | None = field(default=None, compare=False)
    join: None = None

    def for_scene(self, scene: Scene) -> tuple[Threshold, list[str]]:
        """With the scene's bands; raises ModelError when it lacks one."""
        features, warnings = self.features.for_scene(scene)
        card = replace(self.card, bands=features.bands)
        return replace(self, features=features, card=card), warnings

    def predict(self, pixels: NDArray[Any], valid: NDArray[np.bool_]) -> list[TileResult]:
        """One LabelTile per tile; no scores."""
        values, usable = self.features.value(pixels, valid)
        if self.inclusive:
            labels = np.zeros(values.shape, np.uint8)
            for threshold in self.thresholds:
                labels += values >= threshold
        else:
            labels = above(values, self.thresholds)
        if self.flipped:
            labels = 1 - labels
        labels[~usable] = 255
        score = np.full(labels.shape[1:], NO_SCORE, np.uint8)
        return [LabelTile(tile, score) for tile in labels]


@dataclass(frozen=True, slots=True)
class Rule:
    """How thresholds follow from statistics.

    ``from_histogram`` takes bins; ``from_values``, where a rule has it, takes the distinct
    values themselves, and ``from_histogram`` then serves scenes with too many of them.
    """

    from_histogram: Callable[[Histogram], tuple[float, ...]]
    from_values: Callable[[ValueCounts], tuple[float, ...]] | None = None


@dataclass(frozen=True)
class HistogramFit:
    """A Fittable: counts values, then becomes a Threshold.

    Whole numbers take one pass, others a pass for the extent and one for the bins.
    """

    card: ModelCard
    features: Features
    rule: Rule
    extent: Extent | None = None
    bins: int = BINS

    def for_scene(self, scene: Scene) -> tuple[HistogramFit, list[str]]:
        """With the scene's bands; raises ModelError when it lacks one."""
        features, warnings = self.features.for_scene(scene)
        card = replace(self.card, bands=features.bands)
        return replace(self, features=features, card=card), warnings

    def observe(
        self, pixels: NDArray[Any], valid: NDArray[np.bool_]
    ) -> Extent | BinCounts | ValueCounts:
        """Counts of the valid, defined values of one block."""
        values, usable = self.features.value(pixels, valid)
        values = values.reshape(-1) if usable.all() else values[usable]
        if self.extent is not None:
            return BinCounts.of(values, self.bins, self.extent)
        if self.rule.from_values is not None or values.dtype.kind in "iu":
            return ValueCounts.of(values)
        return Extent.of(values)

    def fitted(self, stats: Any) -> Threshold | HistogramFit:
        """The Threshold, or the pass that counts bins."""
        if isinstance(stats, BinCounts):
            assert self.extent is not None
            return self._with(self.rule.from_histogram, Histogram.of_bins(stats, self.extent))
        extent = stats if isinstance(stats, Extent) else stats.extent
        classes = len(self.card.legend)
        if extent.count == 0:
            return Threshold(self.card, self.features, (float("nan"),) * (classes - 1))
        if extent.low == extent.high:
            return Threshold(self.card, self.features, (float(extent.low),) * (classes - 1))
        if isinstance(stats, Extent):
            return replace(self, extent=extent)
        if stats.values is None:
            return replace(self, extent=extent, bins=FINE_BINS)
        if self.rule.from_values is not None:
            return replace_histogram(self, stats)
        if int(extent.high) - int(extent.low) >= FINE_BINS:
            return replace(self, extent=extent, bins=FINE_BINS)  # few values, far apart
        return self._with(self.rule.from_histogram, Histogram.of_values(stats))

    def _with(
        self, rule: Callable[[Histogram], tuple[float, ...]], histogram: Histogram
    ) -> Threshold:
        return Threshold(self.card, self.features, rule(histogram), histogram=histogram)


def replace_histogram(fit: HistogramFit, values: ValueCounts) -> Threshold:
    """The Threshold of a rule on distinct values, with a histogram kept for a plot."""
    assert fit.rule.from_values is not None and values.values is not None
    thresholds = fit.rule.from_values(values)
    extent = values.extent
    if values.values.dtype.kind in "iu" and int(extent.high) - int(extent.low) < FINE_BINS:
        shown = Histogram.of_values(values)
    else:
        counts, _ = np.histogram(
            values.values, BINS, (float(extent.low), float(extent.high)), weights=values.counts
        )
        shown = Histogram.of_bins(BinCounts(counts.astype(np.int64)), extent)
    return Threshold(fit.card, fit.features, thresholds, histogram=shown)


def one_feature(spec: Spec) -> Features:
    """The only feature of a method that takes one; raises ModelError for none or more."""
    if len(spec.features) != 1:
        raise ModelError(
            f"{spec.text}: {spec.method} takes one index, band or formula, got "
            f"{len(spec.features)}: write {spec.method}:ndvi or {spec.method}:b4, say"
        )
    return Features.parse(spec.features, spec.number("scale", 1.0, 1e-12, 1e12))


def legend_of(feature: str) -> Legend:
    """Two classes, named after what high values of an index mean."""
    info = INDICES.get(feature.lower())
    return two_classes(info.low, info.high, info.colour) if info else two_classes("low", "high")


def fixed(spec: Spec) -> Threshold:
    """``threshold:ndvi>0.4`` and the like; also ``>= < <=``."""
    match = _COMPARISON.fullmatch(spec.features[0]) if len(spec.features) == 1 else None
    if match is None:
        raise ModelError(f"{spec.text}: write threshold:ndvi>0.4 or threshold:b4<=120, say")
    feature, sign, value = match[1].strip(), match[2], float(match[3])
    features = Features.parse([feature], spec.number("scale", 1.0, 1e-12, 1e12))
    less = sign.startswith("<")
    legend = two_classes("other", f"{feature} {sign} {match[3]}") if less else legend_of(feature)
    # a <= t is the negation of a > t, a < t that of a >= t
    inclusive = sign in (">=", "<")
    return Threshold(
        card_of(spec, features, legend), features, (value,), inclusive=inclusive, flipped=less
    )


def from_histogram(spec: Spec) -> HistogramFit:
    """otsu, multiotsu, triangle, li, percentile, valley, peak."""
    features = one_feature(spec)
    name = spec.features[0]
    legend = legend_of(name)
    match spec.method:
        case "otsu":
            rule = Rule(rules.otsu)
        case "multiotsu":
            classes = spec.whole("classes", 3, 2, 5, bare=True)
            rule = Rule(partial(multiotsu, classes=classes))
            legend = ramp([f"{name} {i + 1} of {classes}" for i in range(classes)])
        case "triangle":
            rule = Rule(rules.triangle)
        case "li":
            rule = Rule(_li_of_bins, rules.li)
        case "percentile":
            percent = spec.number("percent", 90, 0, 100, bare=True)
            rule = Rule(
                partial(_percentile_of_bins, percent=percent),
                partial(rules.percentile, percent=percent),
            )
        case "valley":
            rule = Rule(rules.valley)
        case _:
            rule = Rule(partial(rules.peak, percent=spec.number("percent", 99, 50, 100)))
    return HistogramFit(card_of(spec, features, legend), features, rule)


def _as_values(histogram: Histogram) -> ValueCounts:
    """Bins as if all their pixels lay at the centre."""
    filled = np.flatnonzero(histogram.counts)
    centres, counts = histogram.centres[filled], histogram.counts[filled]
    return ValueCounts(Extent(centres[0], centres[-1], int(counts.sum())), centres, counts)


def _li_of_bins(histogram: Histogram) -> tuple[float, ...]:
    return rules.li(_as_values(histogram))


def _percentile_of_bins(histogram: Histogram, percent: float) -> tuple[float, ...]:
    return rules.percentile(_as_values(histogram), percent)
