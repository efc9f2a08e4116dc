"""A scene on another grid: another GSD, another CRS, the grid of another scene.

Nothing is read before a window is asked for, and then only what that window needs. A window
equals the crop of the whole, to the bit (scene/resample.py says how).
"""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from geoseg.errors import InputError, SceneError
from geoseg.grid import Window
from geoseg.scene.geodesy import pixel_size_m
from geoseg.scene.reader import Reader, Scene
from geoseg.scene.resample import Axis, Lattice, Method, combine, interpolate, store_as

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

__all__ = [
    "MAX_RATIO",
    "RESAMPLED",
    "Regridded",
    "Warped",
    "gsd_for",
    "locate",
    "on_grid",
    "resampled",
]

BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float64]

MAX_RATIO = 4.0
"""A scene is resampled to a GSD up to this many times finer or coarser."""

RESAMPLED = "geoseg_resampled"
"""Tag of a resampled scene: from which GSD to which."""

_SAME = 0.01
"""Ratios this close to a whole number (or its inverse) are taken as that number."""

_LATTICE_PX = 16
"""Between CRSs, coordinates are exact every so many pixels of the target and interpolated
between; the lattice is anchored at the grid's origin."""


def resampled(scene: Scene, gsd_m: float) -> Scene:
    """The scene at a GSD of ``gsd_m`` metres: area means coarser, bilinear finer.

    Anchored at the scene's upper left corner; the last row and column are kept where their
    centre lies in the scene. The scene itself where the GSD is the same within 1 %.
    Raises InputError for a GSD that is none, SceneError beyond 4 x, or without a GSD of its own.
    """
    from affine import Affine
    from odc.geo.geobox import GeoBox

    if not (math.isfinite(gsd_m) and gsd_m > 0):
        raise InputError(f"--gsd {gsd_m:g}: give model, scene or metres such as 10")
    size = pixel_size_m(scene.geobox) if scene.georeferenced else None
    if size is None:
        raise SceneError(
            f"{scene.name}: its GSD is unknown, it can't be resampled to {gsd_m:g} m: "
            "give it a CRS or use --gsd scene"
        )
    ratios = [_whole(gsd_m / side) for side in size]
    if not all(1 / MAX_RATIO <= ratio <= MAX_RATIO for ratio in ratios):
        raise SceneError(
            f"{scene.name}: {math.sqrt(size[0] * size[1]):.3g} m to {gsd_m:.3g} m is more than "
            f"{MAX_RATIO:g} x: use a GSD between {max(size) / MAX_RATIO:.3g} and "
            f"{min(size) * MAX_RATIO:.3g} m"
        )
    if ratios == [1.0, 1.0]:
        return scene
    # a target pixel is there when its centre is: rows / ratio rounded, halves down
    sides = zip(scene.shape, ratios, strict=True)
    rows, cols = (math.ceil(n / ratio - 0.5) or 1 for n, ratio in sides)
    if any(n < ratio / 2 for n, ratio in zip(scene.shape, ratios, strict=True)):
        raise SceneError(f"{scene.name}: smaller than half a pixel of {gsd_m:g} m")
    affine = scene.geobox.affine * Affine.scale(ratios[1], ratios[0])
    coarse = on_grid(scene, GeoBox((rows, cols), affine, scene.geobox.crs))
    said = f"{math.sqrt(size[0] * size[1]):.4g} m to {gsd_m:.4g} m"
    return replace(coarse, tags={**scene.tags, RESAMPLED: said})


def gsd_for(scene: Scene, wanted: tuple[float, float] | None) -> float | None:
    """The GSD to resample to for a model made for ``wanted`` (finest, coarsest) metres.

    None where the scene is within the range (1 % is no difference) or the model takes any.
    Raises SceneError when the scene's GSD is unknown.
    """
    if wanted is None:
        return None
    have = scene.gsd_m if scene.georeferenced else None
    if have is None:
        raise SceneError(
            f"{scene.name}: its GSD is unknown, the model wants {wanted[0]:g} to {wanted[1]:g} m: "
            "give it a CRS or use --gsd scene"
        )
    nearest = min(max(have, wanted[0]), wanted[1])
    return None if abs(nearest / have - 1) <= _SAME else nearest


def _whole(ratio: float) -> float:
    """2 for 1.9996: a UTM scale factor is no reason to blur."""
    if ratio >= 1:
        near = float(round(ratio))
        return near if abs(ratio / near - 1) <= _SAME else ratio
    return 1 / _whole(1 / ratio)


def on_grid(scene: Scene, geobox: GeoBox, *, method: Method = "mean") -> Scene:
    """The scene on another grid; ``nearest`` for classes and flags.

    Raises SceneError when only one of the two has a CRS.
    """
    if geobox == scene.geobox:
        return scene
    if (geobox.crs is None) != (scene.geobox.crs is None):
        raise SceneError(
            f"{scene.name}: its CRS is {scene.geobox.crs}, that of the grid {geobox.crs}: "
            "give both one (--assume-crs)"
        )
    axes = _axes(scene.geobox, geobox) if geobox.crs == scene.geobox.crs else None
    reader: Reader
    if axes is None:
        reader = Warped(scene.reader, scene.geobox, geobox, scene.dtype, method)
    else:
        if all(axis.a == 1 and axis.b == int(axis.b) for axis in axes):
            method = "nearest"  # the same pixels, shifted
        reader = Regridded(scene.reader, axes, scene.shape, scene.dtype, method)
    return replace(scene, geobox=geobox, reader=reader, quality=None)


def _axes(source: GeoBox, target: GeoBox) -> tuple[Axis, Axis] | None:
    """Rows and columns where the grids differ by scale and shift only, else None."""
    to_source = ~source.affine * target.affine
    if abs(to_source.b) > 1e-9 or abs(to_source.d) > 1e-9 or min(to_source.a, to_source.e) <= 0:
        return None
    rows, cols = (int(n) for n in source.shape)
    return (
        Axis(_clean(to_source.e, 1e-10), _clean(to_source.f, 1e-5), rows),
        Axis(_clean(to_source.a, 1e-10), _clean(to_source.c, 1e-5), cols),
    )


def _clean(value: float, tolerance: float) -> float:
    """Without the last digits of a product of affines, which would blur what could be copied."""
    near = round(value * 4096) / 4096
    return near if abs(value - near) <= tolerance else value


@dataclass(frozen=True, slots=True)
class Regridded:
    """Another reader by scale and shift."""

    reader: Reader
    axes: tuple[Axis, Axis]
    shape: tuple[int, int]
    dtype: str
    method: Method = "mean"

    def read(self, window: Window, bands: Sequence[int]) -> tuple[NDArray[Any], BoolArray]:
        """Pixels (band, row, col) and valid (row, col); raises BlockError."""
        rows = self.axes[0].taps(window.row_off, window.row_end, self.method)
        cols = self.axes[1].taps(window.col_off, window.col_end, self.method)
        if not (rows.inside.any() and cols.inside.any()):
            return _nothing(window, bands, self.dtype)
        source = Window(
            int(rows.index.min()),
            int(cols.index.min()),
            int(np.ptp(rows.index)) + 1,
            int(np.ptp(cols.index)) + 1,
        )
        pixels, valid = self.reader.read(source, bands)
        rows = replace(rows, index=rows.index - source.row_off)
        cols = replace(cols, index=cols.index - source.col_off)
        if self.method == "nearest":
            inside = rows.inside[:, None] & cols.inside[None, :]
            at = rows.index[:, 0][:, None], cols.index[:, 0][None, :]
            return pixels[:, at[0], at[1]], valid[at] & inside
        values, valid = combine(pixels, valid, rows, cols)
        return store_as(values, self.dtype), valid

    def fingerprint(self) -> Mapping[str, Any]:
        """The source's, and the grid."""
        grid = [[axis.a, axis.b] for axis in self.axes]
        return {"source": dict(self.reader.fingerprint()), "regrid": grid, "method": self.method}


@dataclass(frozen=True, slots=True)
class Warped:
    """Another reader through a change of CRS, or a rotation.

    Bilinear where the target is about as fine as the source or finer; where it is coarser,
    the mean of ``k`` x ``k`` points per pixel, k being the ratio of the two pixel sizes.
    """

    reader: Reader
    source: GeoBox
    target: GeoBox
    dtype: str
    method: Method = "mean"

    @property
    def points_per_side(self) -> int:
        """How many points are averaged per pixel and axis; from the grid's centre alone."""
        if self.method == "nearest":
            return 0
        rows, cols = (int(n) / 2 for n in self.target.shape)
        at_row, at_col = np.array([rows, rows + 1, rows]), np.array([cols, cols, cols + 1])
        row, col = locate(self.target, self.source, at_row, at_col)
        steps = np.hypot(row[1:] - row[0], col[1:] - col[0])
        return max(1, math.floor(steps.max() + 0.5)) if np.isfinite(steps).all() else 1

    def _lattice(self, window: Window) -> Lattice:
        step = _LATTICE_PX
        first = window.row_off // step, window.col_off // step
        node_row = np.arange(first[0], (window.row_end - 1) // step + 2) * float(step)
        node_col = np.arange(first[1], (window.col_end - 1) // step + 2) * float(step)
        row, col = locate(self.target, self.source, *np.meshgrid(node_row, node_col, indexing="ij"))
        return Lattice(row, col, first, step)

    def read(self, window: Window, bands: Sequence[int]) -> tuple[NDArray[Any], BoolArray]:
        """Pixels (band, row, col) and valid (row, col); raises BlockError."""
        lattice = self._lattice(window)
        source = self._needed(lattice)
        if source.pixels == 0:
            return _nothing(window, bands, self.dtype)
        pixels, valid = self.reader.read(source, bands)
        windows = window, source
        values, valid = interpolate(pixels, valid, lattice, windows, self.points_per_side)
        return store_as(values, self.dtype), valid

    def _needed(self, lattice: Lattice) -> Window:
        grid = Window(0, 0, *(int(n) for n in self.source.shape))
        good = np.isfinite(lattice.row) & np.isfinite(lattice.col)
        if not good.any():
            return Window(0, 0, 0, 0)
        # far outside, coordinates need not fit an integer
        row = np.clip(lattice.row[good], -2, grid.height + 2)
        col = np.clip(lattice.col[good], -2, grid.width + 2)
        top, left = math.floor(row.min()) - 1, math.floor(col.min()) - 1
        bottom, right = math.ceil(row.max()) + 1, math.ceil(col.max()) + 1
        return Window(top, left, bottom - top, right - left) & grid

    def fingerprint(self) -> Mapping[str, Any]:
        """The source's, and the grid."""
        grid = [str(self.target.crs), *list(self.target.affine)[:6], *map(int, self.target.shape)]
        return {"source": dict(self.reader.fingerprint()), "warp": grid, "method": self.method}


def locate(
    grid: GeoBox, other: GeoBox, row: FloatArray, col: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Coordinates (row, col) of ``grid`` in ``other``; infinite where they have no place."""
    affine, inverse = grid.affine, ~other.affine
    x = affine.a * col + affine.b * row + affine.c
    y = affine.d * col + affine.e * row + affine.f
    if grid.crs != other.crs:
        x, y = _transformer(grid.crs.to_wkt(), other.crs.to_wkt()).transform(x, y)
    return (
        inverse.d * x + inverse.e * y + inverse.f,
        inverse.a * x + inverse.b * y + inverse.c,
    )


_transformers = threading.local()


def _transformer(source: str, target: str) -> Any:
    """From one CRS to another: one per thread, which PROJ wants."""
    import pyproj

    known: dict[str, Any] = _transformers.__dict__
    key = f"{source} to {target}"
    if key not in known:
        known[key] = pyproj.Transformer.from_crs(source, target, always_xy=True)
    return known[key]


def _nothing(window: Window, bands: Sequence[int], dtype: str) -> tuple[NDArray[Any], BoolArray]:
    return np.zeros((len(bands), *window.shape), dtype), np.zeros(window.shape, bool)
