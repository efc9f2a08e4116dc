"""Polygons of a file on a scene's grid: reprojected, repaired, counted, and all of it said."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely
from numpy.typing import NDArray

from geoseg.errors import InputError
from geoseg.learn.labels import CLASS_COLUMNS, Drawn, LabelOptions
from geoseg.learn.samples import IGNORE
from geoseg.legend import Legend
from geoseg.shapes import moved, read_shapes

if TYPE_CHECKING:
    import geopandas as gpd

    from geoseg.scene.reader import Scene

__all__ = ["drawn_polygons", "labelled_extent"]

LABELS_LAYER, EXTENT_LAYER = "labels", "extent"
"""Layers of a GeoPackage that ``geoseg label`` makes."""


def drawn_polygons(scene: Scene, path: Path, options: LabelOptions, notes: list[str]) -> Drawn:
    """Classes and numbers of the polygons; the later one lies on top.

    ``notes`` grow by what was done to them. Raises InputError on files without polygons,
    classes or a CRS.
    """
    frame = _repaired(
        _in_crs(read_shapes(path, layer=LABELS_LAYER), scene, path, notes), path, notes
    )
    column = _column(frame, path, options)
    if column is None:
        named = [options.single] * len(frame)
    else:
        unnamed = frame[column].isna() | (frame[column].astype(str).str.strip() == "")
        if unnamed.any():
            notes.append(f"{path}: {int(unnamed.sum())} polygons without a class are left out")
            frame = frame[~unnamed]
        named = [_name(value, options.legend) for value in frame[column]]
    names = tuple(sorted(set(named)))
    if len(names) >= IGNORE - 1:
        raise InputError(f"{path}: column {column!r} holds {len(names)} classes: at most 253")
    ids = _burnt(scene, frame.geometry, range(1, len(frame) + 1))
    # what isn't drawn is number 0
    table = np.array([IGNORE, *(names.index(name) for name in named)], np.uint8)
    flags = frame["isthing"] if "isthing" in frame.columns else [False] * len(frame)
    things = frozenset(name for name, flag in zip(named, flags, strict=True) if _yes(flag))
    return Drawn(names, table[ids], ids, things)


def _name(value: Any, legend: Legend | None) -> str:
    """Text as it is; a number as the legend calls it, else without the .0 of tables with gaps."""
    if isinstance(value, float | np.floating) and float(value).is_integer():
        value = int(value)
    text = str(value).strip()
    known = {} if legend is None else {str(c.id): c.name for c in legend}
    return known.get(text, text)


def _yes(value: Any) -> bool:
    """Tables without a type for it hold true, 1, or the words."""
    return str(value).strip().lower() in ("true", "1", "1.0", "yes")


def labelled_extent(
    scene: Scene, path: Path, options: LabelOptions, notes: list[str]
) -> NDArray[np.bool_] | None:
    """(row, col) ground that is labelled all over; None where nobody said so."""
    import pyogrio

    if options.exhaustive:
        return np.ones(scene.shape, bool)
    if options.extent is not None:
        frame = _in_crs(
            read_shapes(options.extent, layer=EXTENT_LAYER), scene, options.extent, notes
        )
    elif path.suffix.lower() == ".gpkg" and EXTENT_LAYER in pyogrio.list_layers(path)[:, 0]:
        frame = _in_crs(read_shapes(path, layer=EXTENT_LAYER), scene, path, [])
    else:
        return None
    return None if frame.empty else _burnt(scene, frame.geometry, [1] * len(frame)) > 0


def _in_crs(
    frame: gpd.GeoDataFrame, scene: Scene, path: Path, notes: list[str]
) -> gpd.GeoDataFrame:
    crs = scene.geobox.crs
    if (frame.crs is None) != (crs is None):
        lacks = path if frame.crs is None else scene.name
        raise InputError(f"{lacks} has no CRS, the other side has one: give it one")
    if crs is None or frame.crs == str(crs):
        return frame
    notes.append(f"{path}: reprojected from {frame.crs.name} to that of {scene.name}")
    return moved(frame, str(crs), path)


def _repaired(frame: gpd.GeoDataFrame, path: Path, notes: list[str]) -> gpd.GeoDataFrame:
    shapes = frame.geometry.to_numpy()
    frame = frame[~(shapely.is_missing(shapes) | shapely.is_empty(shapes))]
    if frame.empty:
        raise InputError(f"{path}: holds no polygon: draw some, with a class each")
    wrong = ~frame.geometry.is_valid
    if wrong.any():
        frame = frame.copy()
        frame.loc[wrong, frame.geometry.name] = frame.geometry[wrong].make_valid()
        notes.append(f"{path}: {int(wrong.sum())} self-intersecting polygons are repaired")
    return frame


def _column(frame: gpd.GeoDataFrame, path: Path, options: LabelOptions) -> str | None:
    """The one that holds the class; None where things need none."""
    columns = [str(c) for c in frame.columns if c != frame.geometry.name]
    chosen = options.column or next((c for c in CLASS_COLUMNS if c in columns), None)
    if chosen is None and options.things:
        return None
    if chosen is None or chosen not in columns:
        raise InputError(
            f"{path}: no column {options.column or 'category'!r} among "
            f"{', '.join(columns) or 'none'}: name the one that holds the class with --column"
        )
    return chosen


def _burnt(scene: Scene, shapes: Any, values: Sequence[int]) -> NDArray[np.int32]:
    from rasterio.features import rasterize

    if not len(values):
        return np.zeros(scene.shape, np.int32)
    burnt: NDArray[np.int32] = rasterize(
        zip(shapes, values, strict=True), scene.shape, transform=scene.geobox.affine, dtype="int32"
    )
    return burnt
