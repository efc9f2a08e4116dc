"""The pixel grid of a web page: the scene's, or one laid over the polygons."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine

from geoseg.errors import InputError

__all__ = ["TILE", "Grid", "grid_of", "open_scene"]

TILE = 512
_FREE_GRID_PX = 8192


@dataclass(frozen=True)
class Grid:
    """A pixel grid: ``transform`` pixel to CRS, ``shape`` (rows, cols), CRS as WKT or None."""

    transform: Affine
    shape: tuple[int, int]
    crs_wkt: str | None

    @property
    def levels(self) -> int:
        """Halvings until all fits one tile."""
        return max(0, math.ceil(math.log2(max(self.shape) / TILE)))

    def tiles(self, level: int) -> Iterator[tuple[int, int]]:
        """(row, col) of all tiles of a level."""
        size = TILE * 2**level
        for row in range(-(-self.shape[0] // size)):
            for col in range(-(-self.shape[1] // size)):
                yield row, col


def grid_of(scene: Path | None, maps: Sequence[tuple[str, Any]]) -> Grid:
    """The scene's grid; without a scene one of up to 8,192 pixels over all polygons.

    ``maps`` are names and GeoDataFrames; without a scene the CRS is that of the first that has
    polygons. Raises InputError where there is neither scene nor polygon, or polygons have no
    place in that CRS.
    """
    if scene is not None:
        with open_scene(scene) as file:
            wkt = None if file.crs is None else file.crs.to_wkt()
            return Grid(file.transform, (file.height, file.width), wkt)
    full = [(name, frame) for name, frame in maps if len(frame)]
    if not full:
        raise InputError("the map has no polygon and there is no scene: give --scene")
    crs = full[0][1].crs
    boxes = []
    for name, frame in full:
        moved = frame if crs is None or frame.crs is None else frame.to_crs(crs)
        boxes.append(moved.total_bounds)
        if not np.isfinite(boxes[-1]).all():
            raise InputError(
                f"map {name!r} has no place in {crs.to_string()}, the CRS of {full[0][0]!r}: "
                "give a --scene, or one page for each"
            )
    xmin, ymin = np.min(boxes, axis=0)[:2]
    xmax, ymax = np.max(boxes, axis=0)[2:]
    step = max(xmax - xmin, ymax - ymin) / _FREE_GRID_PX or 1.0
    shape = max(1, math.ceil((ymax - ymin) / step)), max(1, math.ceil((xmax - xmin) / step))
    wkt = None if crs is None else crs.to_wkt()
    return Grid(Affine(step, 0, xmin, 0, -step, ymax), shape, wkt)


def open_scene(scene: Path) -> Any:
    """The open raster; raises InputError."""
    try:
        return rasterio.open(scene)
    except rasterio.errors.RasterioIOError as error:
        raise InputError(f"{scene}: can't be read as a scene: {error}") from error
