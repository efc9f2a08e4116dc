"""Adjacent or overlapping images as one scene.

Order rule: where several have a valid pixel, the first in the order given wins. All are on the
grid of the first, continued to the bounds of all; images on that grid already are copied, others
resampled.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from geoseg.errors import SceneError
from geoseg.grid import Window
from geoseg.scene.reader import Reader, Scene
from geoseg.scene.regrid import locate, on_grid

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

__all__ = ["Mosaic", "mosaic"]

BoolArray = NDArray[np.bool_]

_POINTS_PER_SIDE = 33
_MAX_GROWTH = 10_000


def mosaic(scenes: Sequence[Scene]) -> Scene:
    """One scene that covers all; the first with a valid pixel wins.

    Raises SceneError when they differ in bands, lack a georeference or are far apart.
    """
    if not scenes:
        raise SceneError("nothing to mosaic: give at least one file")
    first = scenes[0]
    for scene in scenes:
        _check(first, scene)
    windows = [_footprint(scene.geobox, first.geobox) for scene in scenes]
    top, left = min(w.row_off for w in windows), min(w.col_off for w in windows)
    whole = Window(
        top, left, max(w.row_end for w in windows) - top, max(w.col_end for w in windows) - left
    )
    if whole.pixels > _MAX_GROWTH * sum(w.pixels for w in windows):
        raise SceneError(
            f"{first.name} and the others are far apart: {whole.height} x {whole.width} pixels "
            "would hold them: map them one by one"
        )
    parts = []
    for scene, window in zip(scenes, windows, strict=True):
        placed = on_grid(scene, _cut(first.geobox, window))
        parts.append((window.relative_to(whole), placed.reader))
    dtype = np.result_type(*(scene.dtype for scene in scenes)).name
    name = first.name if len(scenes) == 1 else f"{first.name} and {len(scenes) - 1} more"
    return replace(
        first,
        name=name,
        geobox=_cut(first.geobox, whole),
        dtype=dtype,
        reader=Mosaic(tuple(parts), dtype),
        quality=None,
    )


def _check(first: Scene, scene: Scene) -> None:
    names = [band.name for band in first.bands], [band.name for band in scene.bands]
    if names[0] != names[1]:
        raise SceneError(
            f"{scene.name} has bands {', '.join(names[1])} and {first.name} "
            f"{', '.join(names[0])}: give files with the same bands, or choose some with --bands"
        )
    if not scene.georeferenced:
        raise SceneError(f"{scene.name}: no georeference: it has no place in a mosaic")


def _footprint(source: GeoBox, base: GeoBox) -> Window:
    """The pixels of ``base``, continued beyond its edges, that hold all of ``source``."""
    rows, cols = (int(n) for n in source.shape)
    down, right = np.linspace(0, rows, _POINTS_PER_SIDE), np.linspace(0, cols, _POINTS_PER_SIDE)
    row = np.concatenate([down, down, np.zeros_like(right), np.full_like(right, rows)])
    col = np.concatenate([np.zeros_like(down), np.full_like(down, cols), right, right])
    at_row, at_col = locate(source, base, row, col)
    if not (np.isfinite(at_row).all() and np.isfinite(at_col).all()):
        raise SceneError(f"an image in {source.crs} has no place in {base.crs}: map it alone")
    tolerance = 1e-5  # what affines leave of whole numbers
    top, left = math.floor(at_row.min() + tolerance), math.floor(at_col.min() + tolerance)
    bottom, right_end = math.ceil(at_row.max() - tolerance), math.ceil(at_col.max() - tolerance)
    return Window(top, left, bottom - top, right_end - left)


def _cut(geobox: GeoBox, window: Window) -> GeoBox:
    from affine import Affine
    from odc.geo.geobox import GeoBox

    if window == Window(0, 0, *map(int, geobox.shape)):
        return geobox
    affine = geobox.affine * Affine.translation(window.col_off, window.row_off)
    return GeoBox(window.shape, affine, geobox.crs)


@dataclass(frozen=True, slots=True)
class Mosaic:
    """Readers at their windows of a common grid, the first on top."""

    parts: tuple[tuple[Window, Reader], ...]
    dtype: str

    def read(self, window: Window, bands: Sequence[int]) -> tuple[NDArray[Any], BoolArray]:
        """Pixels (band, row, col) and valid (row, col); raises BlockError."""
        out = np.zeros((len(bands), *window.shape), self.dtype)
        valid = np.zeros(window.shape, bool)
        for place, reader in self.parts:
            common = window & place
            if common.pixels == 0:
                continue
            here = common.relative_to(window).slices
            if valid[here].all():
                continue
            pixels, good = reader.read(common.relative_to(place), bands)
            take = good & ~valid[here]
            np.copyto(out[:, here[0], here[1]], pixels, where=take)
            valid[here] |= take
        return out, valid

    def fingerprint(self) -> Mapping[str, Any]:
        """Those of all readers, with their places."""
        return {
            "mosaic": [
                {"at": [place.row_off, place.col_off], **reader.fingerprint()}
                for place, reader in self.parts
            ]
        }
