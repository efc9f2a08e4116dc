"""Labels from stored probabilities: thresholds changed without predicting again. Pure."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from geoseg.errors import InputError
from geoseg.legend import NODATA_CATEGORY, Legend

__all__ = ["apply_thresholds", "parse_thresholds"]

NO_LEVEL = 255


def parse_thresholds(texts: tuple[str, ...], legend: Legend) -> dict[int, float]:
    """``crops=0.6`` and the like to least probability by category id; raises InputError."""
    out: dict[int, float] = {}
    for text in texts:
        name, _, value = text.partition("=")
        try:
            out[legend.by_name(name.strip()).id] = float(value)
        except ValueError:
            raise InputError(f"threshold {text!r}: write it as class=0.6") from None
    return out


def apply_thresholds(
    levels: Mapping[int, NDArray[np.uint8]], least: Mapping[int, float]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """``category_id`` and ``score`` (row, col) uint8 from probabilities in levels of 254.

    ``levels`` holds a layer per category id, 255 = none. The most probable of the classes
    that reach their threshold wins, ties to the first; where none does the pixel is 255.
    """
    ids = sorted(levels)
    best = np.full(levels[ids[0]].shape, -1, np.int16)
    category = np.full(best.shape, NODATA_CATEGORY, np.uint8)
    for number in ids:
        layer = levels[number].astype(np.int16)
        held = (layer != NO_LEVEL) & (layer >= 254 * least.get(number, 0.0)) & (layer > best)
        best[held] = layer[held]
        category[held] = number
    return category, np.where(best < 0, NO_LEVEL, best).astype(np.uint8)
