"""Masks as COCO writes them: polygons, run lengths, compressed run lengths."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["mask_of", "run_lengths"]


def run_lengths(pixels: NDArray[np.int64], size: int) -> list[int]:
    """Lengths of runs of 0 and 1 in turn, 0 first, down the columns."""
    gaps = np.flatnonzero(np.diff(pixels) != 1)
    starts = pixels[np.concatenate([[0], gaps + 1])]
    ends = pixels[np.concatenate([gaps, [len(pixels) - 1]])] + 1
    edges = np.stack([starts, ends], 1).ravel()
    return [int(n) for n in np.diff(np.concatenate([[0], edges, [size]]))]


def mask_of(segmentation: Any, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Polygons, run lengths or compressed run lengths as a mask (row, col)."""
    if isinstance(segmentation, list):
        from rasterio.features import rasterize

        rings = [np.reshape(ring, (-1, 2)).tolist() for ring in segmentation if len(ring) >= 6]
        # COCO leaves the last side out; GDAL takes a triangle only with it
        shapes = [{"type": "Polygon", "coordinates": [[*ring, ring[0]]]} for ring in rings]
        if not shapes:
            return np.zeros(shape, bool)
        return rasterize(shapes, shape).astype(bool)
    counts = segmentation["counts"]
    runs = _decoded(counts) if isinstance(counts, str) else list(counts)
    if min(runs, default=0) < 0 or sum(runs) != shape[0] * shape[1]:
        raise ValueError(f"run lengths of {sum(runs)} px in an image of {shape[0] * shape[1]}")
    values = np.arange(len(runs)) % 2 == 1
    flat = np.repeat(values, runs)
    return flat.reshape(shape[::-1]).T


def _decoded(text: str) -> list[int]:
    """COCO's compressed run lengths: five bits a character, runs as steps from two before."""
    runs: list[int] = []
    at = 0
    while at < len(text):
        value, shift, more = 0, 0, True
        while more:
            bits = ord(text[at]) - 48
            value |= (bits & 31) << shift
            shift += 5
            more = bool(bits & 32)
            if not more and bits & 16:
                value -= 1 << shift
            at += 1
        runs.append(value + runs[-2] if len(runs) > 2 else value)
    return runs
