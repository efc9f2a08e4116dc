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
        x = _by_table(pixels, how, device)
    else:
        x = _scaled(pixels, how, device)
    if pixels.dtype.kind == "f":
        x.masked_fill_(~torch.isfinite(x), neutral)
        valid = valid & np.isfinite(pixels).all(axis=1)
    if not valid.all():
        x.masked_fill_(_upload(~valid, device)[:, None], neutral)
    return x


def _upload(array: NDArray[Any], device: str) -> Tensor:
    """To the device; on CUDA from pinned memory, so that the host need not wait for it."""
    host = torch.from_numpy(np.ascontiguousarray(array))
    if device.startswith("cuda"):
        host = host.pin_memory()
    return host.to(device, non_blocking=True)


def _scaled(pixels: NDArray[Any], how: Normalization, device: str) -> Tensor:
    """``dn * gain + bias`` in float32: one gain and bias per band, worked out in float64."""
    gain, bias = _per_band(how, pixels.shape[1], device)
    x = _upload(pixels, device).to(torch.float32)
    if device == "cpu" and x.data_ptr() == pixels.ctypes.data:
        x = x.clone()  # the caller's own pixels stay as they are
    # plane by plane is three times as fast as with the bands side by side
    x *= gain
    x += bias
    return x.contiguous(memory_format=torch.channels_last)


@lru_cache(maxsize=64)
def _per_band(how: Normalization, bands: int, device: str) -> tuple[Tensor, Tensor]:
    """Gain and bias (1, band, 1, 1), uploaded once: an upload of a few numbers makes the host
    wait for all that its stream has to do.
    """
    std = np.broadcast_to(np.asarray(how.std, np.float64), bands)
    gain = np.asarray(how.scale, np.float64) / std
    bias = (np.asarray(how.offset, np.float64) - np.asarray(how.mean, np.float64)) / std
    with torch.inference_mode(False):
        one, other = (
            torch.from_numpy(values.astype(np.float32)).to(device).view(1, bands, 1, 1)
            for values in (gain, bias)
        )
    return one, other


def _by_table(pixels: NDArray[Any], how: Normalization, device: str) -> Tensor:
    """A logarithm per number, not per pixel, where the numbers are few."""
    if pixels.dtype not in (np.int16, np.uint16, np.uint8):
        return _upload(normalize(pixels, how), device)
    count = pixels.shape[1]
    index = pixels.view(np.uint16) if pixels.dtype == np.int16 else pixels
    if device == "cpu":
        table = _table(how, pixels.dtype.str, count)
        return torch.from_numpy(np.stack([np.take(table[i], index[:, i]) for i in range(count)], 1))
    place = _upload(index, device).to(torch.int64)  # a quarter of the bytes of float32 travel
    tables = _device_table(how, pixels.dtype.str, count, device)
    return torch.stack([tables[i][place[:, i]] for i in range(count)], 1)


@lru_cache(maxsize=4)
def _device_table(how: Normalization, dtype: str, bands: int, device: str) -> Tensor:
    with torch.inference_mode(False):
        return torch.from_numpy(_table(how, dtype, bands)).to(device)


@lru_cache(maxsize=4)
def _table(how: Normalization, dtype: str, bands: int) -> NDArray[np.float32]:
    """Normalized values of all numbers of a type, (band, number), by their bits."""
    if np.dtype(dtype) == np.uint8:
        numbers = np.arange(256, dtype=np.uint8)
    else:
        numbers = np.arange(65536, dtype=np.uint16).view(np.dtype(dtype))
    values = np.broadcast_to(numbers, (bands, 1, len(numbers)))
    return normalize(values, how)[:, 0]
