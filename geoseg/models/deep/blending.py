"""Blending on the device: probabilities of tiles are added up where they are worked out.

What ``stitch/sums.py`` does on the host, with the same whole numbers: only labels, scores,
layers and the sums along a block's edge leave the device.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from geoseg.grid import Window
from geoseg.legend import NODATA_CATEGORY
from geoseg.models.segmenter import Arrays, HeldTile

__all__ = ["DeviceSums", "OpenDeviceSums", "to_levels"]

PROB_LEVELS = 65535
STRIP_ROWS = 256
"""Rows that are read off at once: what is worked out on the way is as large as the sums."""

_log = logging.getLogger("geoseg")


def to_levels(probs: Tensor) -> Tensor:
    """Probabilities as whole numbers of 65535, uint16, rounded as the host rounds them."""
    levels = probs.clamp(0, 1).to(torch.float64).mul_(PROB_LEVELS).add_(0.5)
    return levels.to(torch.int32).to(torch.uint16)


@dataclass(frozen=True)
class OpenDeviceSums:
    """Makes sums on a device."""

    device: str

    def __call__(self, shape: tuple[int, int, int]) -> DeviceSums:
        """Zeros (class + 1, row, col)."""
        return DeviceSums(shape, self.device)


class DeviceSums:
    """See ``stitch.sums.Sums``. int64: the largest sums don't fit 31 bits."""

    def __init__(self, shape: tuple[int, int, int], device: str) -> None:
        try:
            self.total = torch.zeros(shape, dtype=torch.int64, device=device)
        except torch.OutOfMemoryError:
            _log.warning("memory is short on %s: tiles are blended on the host", device)
            self.total = torch.zeros(shape, dtype=torch.int64)
        self._weights: dict[bytes, Tensor] = {}

    def add(self, tile: Any, place: Window, ramp: NDArray[np.uint32]) -> None:
        """See Sums; ``tile`` is a HeldTile or a SemanticTile."""
        device = self.total.device
        held = tile.levels if isinstance(tile, HeldTile) else to_levels(torch.tensor(tile.probs))
        key = ramp.tobytes()
        if key not in self._weights:
            line = torch.from_numpy(ramp.astype(np.int64)).to(device)
            self._weights[key] = line[:, None] * line  # (row, col)
        weight = self._weights[key]
        rows, cols = place.slices
        self.total[:-1, rows, cols] += held.to(device).to(torch.int64) * weight
        self.total[-1, rows, cols] += weight

    def read(self, window: Window, valid: NDArray[np.bool_], how: Any) -> Arrays:
        """See Sums; ``how`` is a ``stitch.sums.Reading``."""
        rows, cols = window.slices
        parts = []
        for start in range(0, window.height, STRIP_ROWS):
            stop = min(start + STRIP_ROWS, window.height)
            sums = self.total[:, rows.start + start : rows.start + stop, cols]
            parts.append(_read(sums, torch.from_numpy(valid[start:stop].copy()), how))
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def taken(self, windows: Sequence[Window]) -> NDArray[np.uint32]:
        """See Sums."""
        count = len(self.total)
        parts = [self.total[:, w.slices[0], w.slices[1]].reshape(count, -1) for w in windows]
        if not parts:
            return np.zeros((count, 0), np.uint32)
        return torch.cat(parts, 1).cpu().numpy().astype(np.uint32)


def _read(sums: Tensor, valid: Tensor, how: Any) -> dict[str, NDArray[np.uint8]]:
    """As ``stitch.sums.read_sums`` for (class + 1, row, col) on a device."""
    classes, weight = sums[:-1], sums[-1]
    device = sums.device
    whole = weight * PROB_LEVELS
    known = valid.to(device) & (weight > 0)
    ids = torch.tensor([*how.category_ids, NODATA_CATEGORY], dtype=torch.uint8, device=device)
    labels = ids[_best(classes, whole, how.thresholds)]
    labels = torch.where(known, labels, NODATA_CATEGORY)
    levels = {kind: _score(kind, classes, whole) for kind in how.kinds}
    out = {
        "category_id": labels,
        "score": torch.where(labels != NODATA_CATEGORY, levels[how.score], 255),
    }
    for name in how.layers:
        if name not in levels:
            index = how.category_ids.index(int(name.removeprefix("prob_")))
            levels[name] = _levels(classes[index], whole)
        out[name] = torch.where(known, levels[name], 255)
    host = torch.stack([layer.to(torch.uint8) for layer in out.values()]).cpu().numpy()
    return dict(zip(out, host, strict=True))


def _best(classes: Tensor, whole: Tensor, thresholds: tuple[float, ...]) -> Tensor:
    """Index of the largest sum that reaches its threshold, ties to the first; else the count."""
    if not thresholds:
        return classes.argmax(0)
    least = torch.tensor(thresholds, dtype=torch.float64, device=classes.device)
    reached = classes >= least[:, None, None] * whole
    held = torch.where(reached, classes, -1)
    return torch.where(reached.any(0), held.argmax(0), len(classes))


def _score(kind: str, classes: Tensor, whole: Tensor) -> Tensor:
    if kind == "confidence":
        return _levels(classes.amax(0), whole)
    if kind == "margin":
        first, *second = classes.topk(min(2, len(classes)), dim=0).values
        return _levels(first - second[0] if second else first, whole)
    shares = classes.to(torch.float64) / classes.sum(0).clamp_min(1)
    entropy = -torch.special.xlogy(shares, shares).sum(0) / max(float(np.log(len(classes))), 1e-12)
    return (entropy.clamp(0, 1) * 254 + 0.5).to(torch.uint8)


def _levels(values: Tensor, whole: Tensor) -> Tensor:
    """Shares of what sums could be, in levels of 254."""
    over = 2 * 254 * values + whole
    return torch.div(over, (2 * whole).clamp_min(1), rounding_mode="floor").clamp_max(254)
