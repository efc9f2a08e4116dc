"""Temperature scaling: one number that makes probabilities mean what they say.

Guo et al. 2017, On calibration of modern neural networks, ICML. Labels don't change.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp

from geoseg.errors import InputError

__all__ = ["calibration_error", "fit_temperature"]


def fit_temperature(logits: NDArray[np.floating[Any]], truth: NDArray[np.integer[Any]]) -> float:
    """The temperature of the least log loss, between 0.05 and 20.

    ``logits`` (pixel, class); ``truth`` (pixel,) holds indices of classes. Store it in the
    card: ``segmenter.with_parameters(temperature=t)``. Raises InputError without pixels.
    """
    if len(truth) == 0:
        raise InputError("no labelled pixels to calibrate with")
    values = logits.astype(np.float64)
    right = values[np.arange(len(truth)), truth]

    def loss(log_temperature: float) -> float:
        beta = np.exp(-log_temperature)
        return float(np.mean(logsumexp(values * beta, axis=1) - right * beta))

    found = minimize_scalar(loss, bounds=(np.log(0.05), np.log(20.0)), method="bounded")
    return float(np.exp(found.x))


def calibration_error(
    confidence: NDArray[np.floating[Any]], right: NDArray[np.bool_], bins: int = 15
) -> float:
    """Expected calibration error: how far confidence is off accuracy, in equal-width bins."""
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    count = np.bincount(place, minlength=bins)
    stated = np.bincount(place, confidence, bins)
    reached = np.bincount(place, right, bins)
    return float(np.abs(stated - reached).sum() / max(count.sum(), 1))
