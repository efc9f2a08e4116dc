"""Scaling and normalization of pixel values: pure functions on (band, row, col) arrays.

Everything here is decided per band and per scene, never per tile: a value normalized by the
statistics of its own tile makes the seams that blending then has to hide.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["Normalization", "normalize", "score_level"]

FloatArray = NDArray[np.float32]

SCORE_LEVELS = 254
"""Scores are kept as uint8: level / 254; 255 means that there is none."""


@dataclass(frozen=True, kw_only=True)
class Normalization:
    """How digital numbers become what a network was trained on.

    ``standard``: ``((dn * scale + offset) - mean) / std`` per band.
    ``log_sigmoid``: Dynamic World's ``sigmoid(5 (ln(0.005 dn + 1) - mean) / std - 1)``
    (Brown et al. 2022), in float64 up to the sigmoid.
    Every tuple holds one value for all bands or one per band.
    """

    kind: Literal["standard", "log_sigmoid"] = "standard"
    scale: tuple[float, ...] = (1.0,)
    offset: tuple[float, ...] = (0.0,)
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Normalization:
        """From what ``to_dict`` gives."""
        values: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in data.items()
        }
        return cls(**values)


def _per_band(values: tuple[float, ...], dtype: type[np.floating[Any]]) -> NDArray[Any]:
    return np.asarray(values, dtype)[:, None, None]


def normalize(pixels: NDArray[Any], how: Normalization) -> FloatArray:
    """Digital numbers (..., band, row, col) to the float32 that the network sees.

    Pixels that are not finite become 0 after normalization, the mean of the training data.
    """
    if how.kind == "log_sigmoid":
        dn = pixels.astype(np.float64) * _per_band(how.scale, np.float64)
        dn += _per_band(how.offset, np.float64)
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            x = np.log(np.maximum(dn, 0.0) * 0.005 + 1.0)
            x = (x - _per_band(how.mean, np.float64)) / _per_band(how.std, np.float64)
            out = (1.0 / (1.0 + np.exp(1.0 - 5.0 * x))).astype(np.float32)
    else:
        # one multiply-add per value: gain = scale / std, bias = (offset - mean) / std
        std = np.asarray(how.std, np.float64)
        gain = np.asarray(how.scale, np.float64) / std
        bias = (np.asarray(how.offset, np.float64) - np.asarray(how.mean, np.float64)) / std
        out = pixels.astype(np.float32)
        out *= _per_band(tuple(np.atleast_1d(gain)), np.float32)
        out += _per_band(tuple(np.atleast_1d(bias)), np.float32)
    if pixels.dtype.kind == "f":
        out[~np.isfinite(out)] = 0.0
    return out


def score_level(probs: NDArray[np.floating[Any]]) -> NDArray[np.uint8]:
    """Probabilities 0 to 1 as uint8 levels: ``floor(254 p + 0.5)``."""
    return np.floor(probs * np.float32(SCORE_LEVELS) + np.float32(0.5)).astype(np.uint8)
