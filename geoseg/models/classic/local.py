"""Sauvola's local threshold: from the mean and deviation of a window around each pixel.

Sauvola and Pietikäinen 2000, doi 10.1016/S0031-3203(99)00055-2: ``m (1 + k (s / r - 1))``.
Each window's sums are added up in the same order wherever the tile begins, so that the
result is the same to the bit at any tiling; invalid pixels are left out of them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numba
import numpy as np
from numpy.typing import NDArray

from geoseg.errors import ModelError
from geoseg.models.classic.indices import Features
from geoseg.models.classic.spec import Spec
from geoseg.models.classic.threshold import NO_SCORE, card_of, legend_of, one_feature
from geoseg.models.segmenter import LabelTile, ModelCard, TileResult

if TYPE_CHECKING:
    from geoseg.scene.reader import Scene

__all__ = ["Sauvola", "sauvola", "sauvola_threshold"]


@dataclass(frozen=True)
class Sauvola:
    """1 where the value exceeds its window's threshold. A Segmenter.

    ``window`` (odd, pixels) is at most 2 * halo + 1. ``spread`` is r, half the range of
    the values; None: half the dtype's range for a band of whole numbers, else 1.
    """

    card: ModelCard
    features: Features
    window: int
    k: float
    spread: float | None
    join: None = None

    def for_scene(self, scene: Scene) -> tuple[Sauvola, list[str]]:
        """With the scene's bands; raises ModelError when it lacks one."""
        features, warnings = self.features.for_scene(scene)
        spread = self.spread
        if spread is None:
            dtype = np.dtype(scene.dtype)
            lone = features.formulas[0].text == features.formulas[0].names[0]
            whole = lone and dtype.kind in "iu"
            info = np.iinfo(dtype) if whole else None
            spread = (float(info.max) - float(info.min)) / 2 if info else 1.0
        card = replace(self.card, bands=features.bands)
        return replace(self, features=features, card=card, spread=spread), warnings

    def predict(self, pixels: NDArray[Any], valid: NDArray[np.bool_]) -> list[TileResult]:
        """One LabelTile per tile; no scores."""
        assert self.spread is not None
        out: list[TileResult] = []
        for tile, tile_valid in zip(pixels, valid, strict=True):
            values, usable = self.features.value(tile, tile_valid)
            levels = sauvola_threshold(
                np.where(usable, values, 0).astype(np.float64), usable, self.window, self.k,
                self.spread,
            )  # fmt: skip
            labels = (values > levels).astype(np.uint8)
            labels[~usable] = 255
            out.append(LabelTile(labels, np.full(labels.shape, NO_SCORE, np.uint8)))
        return out


def sauvola_threshold(
    values: NDArray[np.float64], usable: NDArray[np.bool_], window: int, k: float, spread: float
) -> NDArray[np.float64]:
    """Threshold of each pixel (row, col); ``values`` are 0 where not usable.

    Windows are cut at the array's edge: within ``window // 2`` of it the caller provides
    what lies beyond, or discards the result.
    """
    count = _box(usable.astype(np.float64), window)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = _box(values, window) / count
        square = _box(values * values, window) / count
    deviation = np.sqrt(np.clip(square - mean * mean, 0, None))
    threshold: NDArray[np.float64] = mean * (1 + k * ((deviation / spread) - 1))
    return threshold


@numba.njit(cache=True, nogil=True)
def _box(values: Any, window: int) -> Any:
    """Sum of the window around each pixel, columns first, always from its upper left."""
    rows, cols = values.shape
    half = window // 2
    down, out = np.zeros((rows, cols)), np.zeros((rows, cols))
    for row in range(rows):
        for r in range(max(row - half, 0), min(row + half + 1, rows)):
            for col in range(cols):
                down[row, col] += values[r, col]
    for row in range(rows):
        for step in range(-half, half + 1):
            for col in range(max(-step, 0), min(cols - step, cols)):
                out[row, col] += down[row, col + step]
    return out


def sauvola(spec: Spec) -> Sauvola:
    """``sauvola:ndvi:window=51,k=0.2,r=0.5``."""
    features = one_feature(spec)
    window = spec.whole("window", 51, 3, 1001)
    if window % 2 == 0:
        raise ModelError(f"{spec.text}: window={window}: give an odd number of pixels")
    k = spec.number("k", 0.2, -10, 10)
    spread = spec.number("r", 0.0, 0, 1e12) or None
    card = card_of(spec, features, legend_of(spec.features[0]), halo=window // 2)
    return Sauvola(card, features, window, k, spread)
