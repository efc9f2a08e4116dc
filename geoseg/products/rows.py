"""Rows of a crop: their direction, their spacing and the plants in them, from the plants alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from geoseg.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Rows", "find_rows", "stand_table"]

FloatArray = NDArray[np.float64]

_ENOUGH = 12
"""Plants that a direction is estimated from, at least."""


@dataclass(frozen=True)
class Rows:
    """Parallel rows: ``azimuth_deg`` clockwise from grid north, 0 to 180; ``spacing_m``;
    ``phase_m`` of the row nearest to the origin, across; ``strength`` 0 (none) to 1 (exact).
    """

    azimuth_deg: float
    spacing_m: float
    phase_m: float
    strength: float

    @property
    def along(self) -> FloatArray:
        """Unit vector (x, y) along the rows."""
        angle = np.deg2rad(self.azimuth_deg)
        return np.array([np.sin(angle), np.cos(angle)])

    @property
    def across(self) -> FloatArray:
        """Unit vector (x, y) across the rows, to the right of ``along``."""
        angle = np.deg2rad(self.azimuth_deg)
        return np.array([np.cos(angle), -np.sin(angle)])

    def number(self, xy: FloatArray) -> NDArray[np.int64]:
        """Number of the row nearest to each point (n, 2)."""
        return np.rint((xy @ self.across - self.phase_m) / self.spacing_m).astype(np.int64)


def find_rows(
    xy: FloatArray,
    *,
    spacing_m: tuple[float, float] = (0.25, 1.5),
    azimuth_deg: float | None = None,
) -> Rows:
    """Rows that plants (n, 2), in metres, stand in.

    The periodogram of the plants' positions across a trial direction peaks where plants
    stand in lines of one spacing: a Radon transform and a Fourier transform in one, without
    a raster. ``azimuth_deg`` fixes the direction; ``spacing_m`` is the range that is
    searched. Raises InputError with fewer than 12 plants.
    """
    if len(xy) < _ENOUGH:
        raise InputError(
            f"{len(xy)} plants are too few to see rows in: give the direction of the rows, "
            f"or at least {_ENOUGH} plants"
        )
    centred = xy - xy.mean(0)
    reach = float(np.hypot(*centred.T).max()) * 2
    trials = np.array([azimuth_deg]) if azimuth_deg is not None else np.arange(0.0, 180.0, 0.5)
    azimuth, frequency = _coarse_peak(centred, trials, spacing_m)
    step_deg, step_f = 0.25, 0.125 / max(reach, 1.0)
    for _ in range(5):
        near = azimuth + np.arange(-2, 3) * step_deg if azimuth_deg is None else trials
        azimuth, frequency = _peak(centred, near, frequency + np.arange(-2, 3) * step_f)
        step_deg, step_f = step_deg / 2, step_f / 2
    return _rows(xy, float(azimuth), float(1 / frequency))


def _waves(xy: FloatArray, azimuth_deg: float, frequencies: FloatArray) -> NDArray[np.complex128]:
    angle = np.deg2rad(azimuth_deg)
    across = xy @ np.array([np.cos(angle), -np.sin(angle)])
    return np.exp(2j * np.pi * across[:, None] * frequencies[None, :]).mean(0)


def _coarse_peak(
    xy: FloatArray, azimuths: FloatArray, spacing_m: tuple[float, float]
) -> tuple[float, float]:
    """Where the spectrum of the plants' histogram across is highest."""
    reach = float(np.hypot(*xy.T).max())
    bins = int(np.ceil(2 * reach / (spacing_m[0] / 8))) + 1
    width = 2 * reach / bins
    size = 4 * bins  # padding: steps that lose no peak, which is about 1 / extent wide
    frequencies = np.fft.rfftfreq(size, width)
    wanted = (frequencies >= 1 / spacing_m[1]) & (frequencies <= 1 / spacing_m[0])
    best = (0.0, float(azimuths[0]), 1 / spacing_m[1])
    for azimuth in azimuths:
        angle = np.deg2rad(azimuth)
        across = xy @ np.array([np.cos(angle), -np.sin(angle)])
        counts = np.histogram(across, bins, (-reach, reach))[0]
        power = np.abs(np.fft.rfft(counts, size))[wanted]
        top = int(power.argmax())
        best = max(best, (float(power[top]), float(azimuth), float(frequencies[wanted][top])))
    return best[1:]


def _peak(xy: FloatArray, azimuths: NDArray[Any], frequencies: NDArray[Any]) -> tuple[float, float]:
    power = np.stack([np.abs(_waves(xy, azimuth, frequencies)) for azimuth in azimuths])
    best = np.unravel_index(int(power.argmax()), power.shape)
    return float(azimuths[best[0]]), float(frequencies[best[1]])


def _rows(xy: FloatArray, azimuth_deg: float, spacing_m: float) -> Rows:
    azimuth = azimuth_deg % 180.0
    # the phase is measured near the plants, where it can be told, and then moved to the origin
    across = Rows(azimuth, spacing_m, 0.0, 0.0).across
    start = float(xy.mean(0) @ across)
    wave = complex(_waves(xy - xy.mean(0), azimuth, np.array([1 / spacing_m]))[0])
    phase = (start + np.angle(wave) / (2 * np.pi) * spacing_m) % spacing_m
    return Rows(azimuth, spacing_m, float(phase), float(abs(wave)))


def stand_table(xy: FloatArray, rows: Rows) -> pd.DataFrame:
    """One row of the table per crop row: row, plants, length_m, plants_per_m, longest_gap_m.

    Rows count from 1, to the right of their direction; rows without a plant are skipped.
    ``length_m`` is from the first plant to the last plus one mean distance, so that evenly
    spaced plants give their true density; NaN where a row has a single plant.
    """
    import pandas as pd

    number, place = rows.number(xy), xy @ rows.along
    number = number - number.min() + 1
    records = []
    for row in np.unique(number):
        at = np.sort(place[number == row])
        steps = np.diff(at)
        length = float(at[-1] - at[0] + steps.mean()) if steps.size else float("nan")
        gap = float(steps.max()) if steps.size else float("nan")
        records.append((int(row), at.size, length, at.size / length, gap))
    columns = ["row", "plants", "length_m", "plants_per_m", "longest_gap_m"]
    return pd.DataFrame(records, columns=columns)
