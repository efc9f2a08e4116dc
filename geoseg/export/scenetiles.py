"""The scene of a web page in tiles."""

from __future__ import annotations

import math
import warnings
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning

from geoseg.export.pagegrid import TILE, Grid, open_scene

__all__ = ["SceneTiles"]

_QUALITY = 70
_COARSE_PX = 4096
_LIFTED = np.rint(255 * (np.arange(256) / 255) ** 0.7).astype(np.uint8)
"""Bright clouds or roofs leave the rest of a stretched scene dark: that is lifted a little."""


class SceneTiles:
    """JPEG tiles of three bands, stretched to what an eye sees; made when they are asked for."""

    def __init__(self, scene: Path, grid: Grid, bands: tuple[int, ...]) -> None:
        self.grid = grid
        self._scene = scene
        self._bands = bands

    def tile(self, level: int, row: int, col: int) -> bytes:
        """A JPEG of up to 512 x 512 pixels."""
        from rasterio.io import MemoryFile

        if level < self._coarse_level:
            image = self._image(level, row, col, TILE)
        else:
            image = _shrunk(self._coarse, 2 ** (level - self._coarse_level), row, col)
        _, high, wide = image.shape
        profile = {"driver": "JPEG", "count": 3, "dtype": "uint8", "QUALITY": str(_QUALITY)}
        with MemoryFile() as memory, warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)  # a tile lies on the page
            with memory.open(height=high, width=wide, **profile) as out:
                out.write(image)
            return bytes(memory.read())

    def _image(self, level: int, row: int, col: int, side: int) -> NDArray[np.uint8]:
        """(3, row, col) of the square that starts at ``row * side`` in pixels of the level."""
        from rasterio.enums import Resampling
        from rasterio.windows import Window

        size = side * 2**level
        rows, cols = self.grid.shape
        wide, high = min(size, cols - col * size), min(size, rows - row * size)
        shape = (3, max(1, -(-high // 2**level)), max(1, -(-wide // 2**level)))
        window = Window(col * size, row * size, wide, high)
        with open_scene(self._scene) as file:
            how = Resampling.average if level else Resampling.nearest
            pixels = file.read(self._bands, window=window, out_shape=shape, resampling=how)
        low, high_value = self._stretch
        scaled = (pixels.astype(np.float32) - low) / (high_value - low)
        stretched = (255 * np.clip(np.nan_to_num(scaled), 0, 1)).astype(np.uint8)
        image: NDArray[np.uint8] = _LIFTED[stretched]
        return image

    @property
    def _coarse_level(self) -> int:
        return max(0, math.ceil(math.log2(max(self.grid.shape) / _COARSE_PX)))

    @cached_property
    def _coarse(self) -> NDArray[np.uint8]:
        """(3, row, col) of the whole scene, up to 4,096 pixels a side: all coarser levels are
        made of it, so that a large scene without overviews isn't read once for each.
        """
        level = self._coarse_level
        rows, cols = (-(-n // 2**level) for n in self.grid.shape)
        whole = np.zeros((3, rows, cols), np.uint8)
        for row in range(-(-rows // TILE)):
            for col in range(-(-cols // TILE)):
                image = self._image(level, row, col, TILE)
                where = np.s_[:, row * TILE : (row + 1) * TILE, col * TILE : (col + 1) * TILE]
                whole[where] = image
        return whole

    @cached_property
    def _stretch(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """(3, 1, 1) 2nd and 98th percentile of the bands, from a thousand pixels a side."""
        with open_scene(self._scene) as file:
            step = max(1.0, max(file.shape) / 1000)
            shape = (3, *(max(1, int(n / step)) for n in file.shape))
            sample = file.read(self._bands, out_shape=shape, masked=True).astype(np.float32)
        found = []
        for band in sample:
            seen = band.compressed()
            seen = seen[np.isfinite(seen)]
            found.append(np.percentile(seen, [2, 98]) if seen.size else np.array([0.0, 1.0]))
        low, high = np.array(found, np.float32).T
        least = np.maximum(1e-6, 1e-6 * np.abs(low))  # of a flat band, as float32 can tell it
        return low[:, None, None], np.maximum(high, low + least)[:, None, None]


def _shrunk(image: NDArray[np.uint8], by: int, row: int, col: int) -> NDArray[np.uint8]:
    """A tile of the image ``by`` times smaller, each pixel the mean of what it covers."""
    size = TILE * by
    part = image[:, row * size : (row + 1) * size, col * size : (col + 1) * size]
    _, high, wide = part.shape
    full = np.pad(part, ((0, 0), (0, -high % by), (0, -wide % by)), mode="edge")
    blocks = full.reshape(3, full.shape[1] // by, by, full.shape[2] // by, by)
    return blocks.mean(axis=(2, 4)).astype(np.uint8)
