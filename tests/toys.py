"""A scene in memory and a segmenter whose answer can be worked out by hand."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from scipy import ndimage

from geoseg.errors import BlockError
from geoseg.grid import Window
from geoseg.legend import Category, Legend
from geoseg.models.segmenter import LabelTile, ModelCard, TileResult
from geoseg.scene.reader import Band, Scene

TOY_LEGEND = Legend((Category(0, "low", "#000000"), Category(1, "high", "#ffffff")), "toy")


@dataclass(frozen=True)
class ArrayReader:
    """Windows of an array; NaN is not valid."""

    pixels: NDArray[Any]
    valid: NDArray[np.bool_]

    def read(self, window: Window, bands: Sequence[int]) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        rows, cols = window.slices
        return self.pixels[list(bands), rows, cols], self.valid[rows, cols]

    def fingerprint(self) -> Mapping[str, Any]:
        return {"sum": float(self.pixels.astype(float).sum())}


def array_scene(
    pixels: NDArray[Any],
    valid: NDArray[np.bool_] | None = None,
    *,
    crs: str | None = "EPSG:32633",
    gsd: float = 10.0,
) -> Scene:
    """A scene over (band, row, col) in memory."""
    shape = pixels.shape[1:]
    geobox = GeoBox(shape, Affine(gsd, 0, 500000.0, 0, -gsd, 5200000.0), crs)
    bands = tuple(Band(f"b{i + 1}") for i in range(len(pixels)))
    reader = ArrayReader(pixels, np.ones(shape, bool) if valid is None else valid)
    return Scene(
        name="array",
        geobox=geobox,
        bands=bands,
        dtype=pixels.dtype.name,
        nodata=None,
        reader=reader,
    )


def mean_labels(pixels: NDArray[Any], size: int) -> NDArray[np.uint8]:
    """1 where the mean over ``size`` x ``size`` of band 0 is above 128."""
    total = ndimage.uniform_filter(pixels[0].astype(np.int64) * size * size, size, mode="mirror")
    return (total > 128 * size * size).astype(np.uint8)


@dataclass(frozen=True)
class MeanSegmenter:
    """A label depends on the pixels within ``reach``: law 4 holds with that halo."""

    reach: int = 3
    tile_size: int = 32
    join: Any = None
    card: ModelCard = field(init=False)

    def __post_init__(self) -> None:
        card = ModelCard(
            name=f"mean-{self.reach}",
            task="semantic",
            legend=TOY_LEGEND,
            tile_size=self.tile_size,
            halo=self.reach,
            parameters={"reach": self.reach},
        )
        object.__setattr__(self, "card", card)

    def predict(self, pixels: NDArray[Any], valid: NDArray[np.bool_]) -> list[TileResult]:
        size = 2 * self.reach + 1
        results: list[TileResult] = []
        for tile in pixels:
            labels = mean_labels(tile, size)
            results.append(LabelTile(labels, tile[0].astype(np.uint8) // 2))
        return results

    def for_scene(self, scene: Scene) -> tuple[MeanSegmenter, list[str]]:
        return self, []


@dataclass(frozen=True)
class PoisonSegmenter(MeanSegmenter):
    """Ends its process without a word on a tile that holds the value 255.

    With ``once``, a path, only until that file is there.
    """

    once: str = ""

    def predict(self, pixels: NDArray[Any], valid: NDArray[np.bool_]) -> list[TileResult]:
        if (pixels == 255).any() and not (self.once and Path(self.once).exists()):
            if self.once:
                Path(self.once).touch()
            os._exit(1)
        return super().predict(pixels, valid)


@dataclass(frozen=True)
class BrokenReader(ArrayReader):
    """Fails where a window meets ``bad``, as a corrupt block of a file does."""

    bad: Window = Window(0, 0, 0, 0)

    def read(self, window: Window, bands: Sequence[int]) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        if (window & self.bad).pixels:
            raise BlockError(f"broken.tif: {window} can't be read")
        return super().read(window, bands)
