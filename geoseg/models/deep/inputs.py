"""Pixels to what a network sees, on the device: scaled and normalized from the card alone."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from geoseg.radiometry import Normalization, normalize

__all__ = ["to_inputs"]


def to_inputs(
    pixels: NDArray[Any], valid: NDArray[np.bool_], how: Normalization, device: str
) -> Tensor:
    """(tile, band, row, col) of any dtype to float32 on the device, as ``normalize`` gives it.

    Invalid pixels and those with a value that is not finite get what a mean pixel has, so
    that they look like nothing in particular to the network.
    """
    neutral = 0.5 if how.kind == "log_sigmoid" else 0.0
    if how.kind == "log_sigmoid":
        x = torch.from_numpy(_by_table(pixels, how)).to(device, non_blocking=True)
    else:
        x = _scaled(pixels, how, device)
    if pixels.dtype.kind == "f":
        x.masked_fill_(~torch.isfinite(x), neutral)
        valid = valid & np.isfinite(pixels).all(axis=1)
    if not valid.all():
        mask = torch.from_numpy(np.ascontiguousarray(~valid)).to(device, non_blocking=True)
        x.masked_fill_(mask[:, None], neutral)
    return x


def _scaled(pixels: NDArray[Any], how: Normalization, device: str) -> Tensor:
    """``dn * gain + bias`` in float32: one gain and bias per band, worked out in float64."""
    bands = pixels.shape[1]
    std = np.broadcast_to(np.asarray(how.std, np.float64), bands)
    gain = np.asarray(how.scale, np.float64) / std
    bias = (np.asarray(how.offset, np.float64) - np.asarray(how.mean, np.float64)) / std
    raw = torch.from_numpy(np.ascontiguousarray(pixels))
    if device.startswith("cuda"):
        raw = raw.pin_memory()
    x = raw.to(device, non_blocking=True).to(torch.float32, memory_format=torch.channels_last)
    per_band = (1, bands, 1, 1)
    x *= torch.from_numpy(gain.astype(np.float32)).to(device).view(per_band)
    x += torch.from_numpy(bias.astype(np.float32)).to(device).view(per_band)
    return x


def _by_table(pixels: NDArray[Any], how: Normalization) -> NDArray[np.float32]:
    """A logarithm per number, not per pixel, where the numbers are few."""
    if pixels.dtype not in (np.int16, np.uint16, np.uint8):
        return normalize(pixels, how)
    table = _table(how, pixels.dtype.str, pixels.shape[1])
    index = pixels.view(np.uint16) if pixels.dtype == np.int16 else pixels
    bands = [np.take(table[band], index[:, band]) for band in range(pixels.shape[1])]
    return np.stack(bands, axis=1)


@lru_cache(maxsize=4)
def _table(how: Normalization, dtype: str, bands: int) -> NDArray[np.float32]:
    """Normalized values of all numbers of a type, (band, number), by their bits."""
    if np.dtype(dtype) == np.uint8:
        numbers = np.arange(256, dtype=np.uint8)
    else:
        numbers = np.arange(65536, dtype=np.uint16).view(np.dtype(dtype))
    values = np.broadcast_to(numbers, (bands, 1, len(numbers)))
    return normalize(values, how)[:, 0]
