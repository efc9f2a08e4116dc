"""What is flooded (gradient or distance), and where floods start, within a halo."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numba
import numpy as np
from numpy.typing import NDArray

from geoseg.models.classic.fields import as_float

__all__ = ["Relief", "gradient", "lowest_in_window", "smoothed"]

BoolArray = NDArray[np.bool_]


@dataclass(frozen=True)
class Relief:
    """A surface to be flooded and its markers.

    ``gradient``: the gradient's magnitude of the smoothed value; all usable pixels.
    ``distance``: the negative distance to the nearest pixel at or below ``threshold``,
    no more than ``reach`` pixels; only pixels above it are flooded.
    A marker is a pixel lower than all within ``spacing`` (Chebyshev), ties to the first in
    raster order, and that by ``depth`` at least than the highest of them.
    """

    kind: Literal["gradient", "distance"]
    sigma: float = 1.0
    spacing: int = 7
    depth: float = 0.0
    threshold: float = float("nan")
    reach: int = 64

    @property
    def halo(self) -> int:
        """Pixels that relief and markers depend on."""
        if self.kind == "distance":
            return self.reach + self.spacing + 1
        return int(4.0 * self.sigma + 0.5) + 1 + self.spacing

    def __call__(
        self, values: NDArray[Any], usable: BoolArray
    ) -> tuple[NDArray[np.float32], BoolArray, BoolArray]:
        """(relief >= 0, flooded pixels, markers) of one tile inside the scene."""
        from scipy import ndimage

        if self.kind == "distance":
            flooded = usable & (values[0] > self.threshold)
            padded = np.pad(flooded, 1, constant_values=True)  # the scene's edge is no border
            distance = ndimage.distance_transform_edt(padded)[1:-1, 1:-1]
            relief = (self.reach - np.minimum(distance, self.reach)).astype(np.float32)
        else:
            flooded = usable
            relief = gradient(smoothed(as_float(values[0]), usable, self.sigma), usable)
        surface = np.where(flooded, relief, np.float32(np.inf))
        markers = lowest_in_window(surface, self.spacing, np.float32(self.depth))
        return relief, flooded, markers


def smoothed(values: NDArray[Any], usable: BoolArray, sigma: float) -> NDArray[np.float64]:
    """Gaussian mean of the usable pixels within four sigma, as far as the scene reaches."""
    from scipy import ndimage

    filled = np.where(usable, values, 0.0)
    if sigma == 0:
        return filled
    total = ndimage.gaussian_filter(filled, sigma, mode="constant")
    weight = ndimage.gaussian_filter(usable.astype(np.float64), sigma, mode="constant")
    mean: NDArray[np.float64] = np.divide(total, weight, out=np.zeros_like(total), where=usable)
    return mean


def gradient(values: NDArray[np.float64], usable: BoolArray) -> NDArray[np.float32]:
    """Sobel magnitude; an unusable neighbour counts as the pixel itself."""
    rows, cols = values.shape
    padded, known = np.pad(values, 1), np.pad(usable, 1)

    def at(row: int, col: int) -> NDArray[np.float64]:
        part = slice(1 + row, 1 + row + rows), slice(1 + col, 1 + col + cols)
        return np.where(known[part], padded[part], values)

    corners = {(r, c): at(r, c) for r in (-1, 0, 1) for c in (-1, 0, 1) if (r, c) != (0, 0)}
    down = sum(w * (corners[1, c] - corners[-1, c]) for c, w in ((-1, 1), (0, 2), (1, 1)))
    right = sum(w * (corners[r, 1] - corners[r, -1]) for r, w in ((-1, 1), (0, 2), (1, 1)))
    out: NDArray[np.float32] = (np.sqrt((down * down + right * right) / 2) / 4).astype(np.float32)
    return out


@numba.njit(cache=True, nogil=True)
def lowest_in_window(surface: Any, spacing: int, depth: Any) -> Any:
    """Pixels lower than all within ``spacing`` of them, ties to the first; never infinite."""
    rows, cols = surface.shape
    out = np.zeros((rows, cols), np.bool_)
    for row in range(rows):
        for col in range(cols):
            here = surface[row, col]
            if not np.isfinite(here):
                continue
            highest = here
            lowest = True
            for r in range(max(row - spacing, 0), min(row + spacing + 1, rows)):
                for c in range(max(col - spacing, 0), min(col + spacing + 1, cols)):
                    there = surface[r, c]
                    if there < here or (there == here and (r < row or (r == row and c < col))):
                        lowest = False
                        break
                    if np.isfinite(there) and there > highest:
                        highest = there
                if not lowest:
                    break
            out[row, col] = lowest and highest - here >= depth
    return out
