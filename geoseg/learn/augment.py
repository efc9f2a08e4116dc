"""Augmentation of chips with any number of bands: where they lie and how they are lit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

__all__ = ["Augmentation", "warp"]

FloatArray = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """What is drawn at random for each chip.

    Attributes:
        flips: mirror images, either way.
        rotation: any angle; False keeps the direction (with flips: four orientations).
        scale: smallest and largest magnification.
        gain: half-width of the contrast factor, shared by all bands.
        bias: half-width of the brightness shift, shared by all bands, in normalized units.
        band_gain, band_bias: the same for each band by itself (the colour of the light).
        noise: standard deviation of sensor noise, in normalized units.

    """

    flips: bool = True
    rotation: bool = True
    scale: tuple[float, float] = (0.75, 1.33)
    gain: float = 0.25
    bias: float = 0.2
    band_gain: float = 0.08
    band_bias: float = 0.08
    noise: float = 0.02

    def matrix(self, rng: np.random.Generator) -> NDArray[np.float64]:
        """(2, 2): offsets in the chip to offsets in the ground, both (row, col)."""
        low, high = np.log(self.scale)
        size = 1.0 / np.exp(rng.uniform(low, high))
        angle = rng.uniform(0, 2 * np.pi) if self.rotation else 0.0
        matrix = size * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        return matrix @ np.diag(rng.choice([-1.0, 1.0], 2)) if self.flips else matrix

    def recolour(self, pixels: FloatArray, rng: np.random.Generator) -> FloatArray:
        """Normalized pixels (band, row, col) under another light; zeros of no data stay."""
        bands = pixels.shape[0]
        gain = rng.uniform(1 - self.gain, 1 + self.gain)
        gains = gain * rng.uniform(1 - self.band_gain, 1 + self.band_gain, bands)
        shift = rng.uniform(-self.bias, self.bias)
        shifts = shift + rng.uniform(-self.band_bias, self.band_bias, bands)
        seen = pixels.any(0)
        out = pixels * np.asarray(gains, np.float32)[:, None, None]
        out += np.asarray(shifts, np.float32)[:, None, None]
        if self.noise:
            out += rng.standard_normal(pixels.shape, np.float32) * np.float32(self.noise)
        out *= seen
        return out


def warp(
    pixels: FloatArray,
    labels: NDArray[np.uint8],
    instance_id: NDArray[np.int32],
    matrix: NDArray[np.float64],
    centre: NDArray[np.float64],
    size: int,
) -> tuple[FloatArray, NDArray[np.uint8], NDArray[np.int32]]:
    """A ``size`` x ``size`` chip around ``centre``: pixels bilinear, labels and ids nearest.

    ``matrix`` takes offsets in the chip to offsets in the window, (row, col). The window
    must hold all that the chip looks at. Shrinking is preceded by no filter: keep scales
    near 1.
    """
    offset = centre - matrix @ np.full(2, (size - 1) / 2)
    steps = np.arange(size, dtype=np.float64)
    rows = offset[0] + matrix[0, 0] * steps[:, None] + matrix[0, 1] * steps[None, :]
    cols = offset[1] + matrix[1, 0] * steps[:, None] + matrix[1, 1] * steps[None, :]
    at = np.rint(rows).astype(np.intp), np.rint(cols).astype(np.intp)
    out = np.stack(
        [ndimage.map_coordinates(band, (rows, cols), order=1, mode="nearest") for band in pixels]
    )
    return out.astype(np.float32), labels[at], instance_id[at]
