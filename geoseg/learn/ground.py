"""Scenes and label files to labelled ground: what is wrong with them is said here.

Labels are polygons (any CRS), a GeoTIFF of categories or a COCO file of one image. What
nobody labelled is IGNORE, not background, unless an extent says that everything inside it
is labelled.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from geoseg.errors import InputError
from geoseg.grid import Window
from geoseg.labels.sources import VECTOR_SUFFIXES, open_labels
from geoseg.learn.samples import IGNORE, Labelled
from geoseg.legend import NODATA_CATEGORY, Legend

if TYPE_CHECKING:
    import geopandas as gpd

    from geoseg.scene.reader import Scene

__all__ = ["CLASS_COLUMNS", "LabelOptions", "NamedLabels", "digest", "labels_for", "read_labels"]

CLASS_COLUMNS = ("category", "class", "label", "name", "type", "category_id")
"""Columns in which the class of a polygon is looked for."""

LABELS_LAYER, EXTENT_LAYER = "labels", "extent"
"""Layers of a GeoPackage that ``geoseg label`` makes."""


@dataclass(frozen=True, kw_only=True)
class LabelOptions:
    """How label files are read.

    Attributes:
        column: that holds the class; None: the first of ``CLASS_COLUMNS``.
        legend: names of the numbers of a label raster.
        extent: polygons inside which all is labelled; None: the layer ``extent`` of the
            label file, where it has one.
        background: class of what has no label inside the extent.

    """

    column: str | None = None
    legend: Legend | None = None
    extent: Path | None = None
    background: str = "background"


@dataclass(frozen=True)
class NamedLabels:
    """Labels on a scene's grid: ``position`` (row, col) uint8 into ``names``, 255 = none.

    Only ``window`` of the scene is held: the smallest that shows all labels and ``margin``
    pixels around. ``notes`` are what a person should know of.
    """

    names: tuple[str, ...]
    position: NDArray[np.uint8]
    window: Window
    notes: tuple[str, ...] = field(default=())

    def ground(
        self, scene: Scene, classes: Sequence[str], bands: Sequence[int], path: Path
    ) -> Labelled:
        """With the scene's pixels; raises InputError on names that ``classes`` lack."""
        seen = {self.names[k] for k in np.unique(self.position).tolist() if k != IGNORE}
        unknown = sorted(seen - set(classes))
        if unknown:
            raise InputError(
                f"{path}: unknown class {', '.join(map(repr, unknown))}: the classes are "
                f"{', '.join(classes)}: correct the label or add it to --classes"
            )
        table = np.full(256, IGNORE, np.uint8)
        for k, name in enumerate(self.names):
            if name in classes:
                table[k] = classes.index(name)
        pixels, valid = scene.read(self.window, bands)
        labels = np.where(valid, table[self.position], np.uint8(IGNORE))
        return Labelled(name=scene.name, pixels=pixels, valid=valid, labels=labels)


def labels_for(scenes: Sequence[Path], given: Sequence[Path]) -> list[Path]:
    """The label file of each scene: one each, one for all, or a folder of equal names."""
    if len(given) == 1 and given[0].is_dir():
        return [_of_same_name(given[0], scene) for scene in scenes]
    for path in given:
        if not path.is_file():
            raise InputError(f"{path}: no such file of labels")
    if len(given) == 1:
        return [given[0]] * len(scenes)
    if len(given) != len(scenes):
        raise InputError(
            f"{len(scenes)} scenes and {len(given)} files of labels: give one --labels for "
            "each scene, in their order, or one for all"
        )
    return list(given)


def _of_same_name(folder: Path, scene: Path) -> Path:
    kinds = (*VECTOR_SUFFIXES, ".tif", ".tiff", ".json")
    found = [p for kind in kinds for p in sorted(folder.glob(f"{scene.stem}*{kind}"))]
    found = [p for p in found if p.resolve() != scene.resolve()]
    if not found:
        raise InputError(f"{folder}: no labels whose name begins with {scene.stem!r}")
    return found[0]


def digest(paths: Sequence[Path]) -> str:
    """sha256 of files: what an unfinished training was begun with."""
    total = hashlib.sha256()
    for path in paths:
        total.update(path.read_bytes())
    return total.hexdigest()


def read_labels(scene: Scene, path: Path, options: LabelOptions, margin: int) -> NamedLabels:
    """The labels of a file on a scene's grid; raises InputError where there are none."""
    if path.suffix.lower() in VECTOR_SUFFIXES:
        return _from_polygons(scene, path, options, margin)
    notes: list[str] = []
    if path.suffix.lower() == ".json":
        source = open_labels(path, scene.geobox)
        category, legend = source.read(scene.window)[0], source.legend
    else:
        category, legend = _from_raster(scene, path, options.legend, notes)
    found = [k for k in np.unique(category).tolist() if k != NODATA_CATEGORY]
    if not found:
        raise _off(path, scene)
    known = {c.id: c.name for c in legend}
    missing = [k for k in found if k not in known]
    if missing:
        raise InputError(
            f"{path}: unknown class {missing[0]}: the legend has {sorted(known)}: correct the "
            "labels or the --legend"
        )
    table = np.full(256, IGNORE, np.uint8)
    table[found] = np.arange(len(found))
    window = _around(category != NODATA_CATEGORY, margin)
    names = tuple(known[k] for k in found)
    return NamedLabels(names, table[category[window.slices]], window, tuple(notes))


def _from_raster(
    scene: Scene, path: Path, legend: Legend | None, notes: list[str]
) -> tuple[NDArray[np.uint8], Legend]:
    """Categories on the scene's grid, warped there where they have another."""
    from geoseg.labels.sources import raster_grid

    own = raster_grid(path)
    source = open_labels(path, own, legend)
    category = source.read(Window(0, 0, *source.shape))[0]
    if own == scene.geobox:
        return category, source.legend
    if (own.crs is None) != (scene.geobox.crs is None):
        raise InputError(f"{path} and {scene.name}: one has a CRS, the other has none: give it one")
    if own.crs is None:
        raise InputError(f"{path}: its grid is not that of {scene.name}, and neither has a CRS")
    from rasterio.warp import reproject

    warped = np.full(scene.shape, NODATA_CATEGORY, np.uint8)
    reproject(
        category, warped,
        src_transform=own.affine, src_crs=str(own.crs), src_nodata=NODATA_CATEGORY,
        dst_transform=scene.geobox.affine, dst_crs=str(scene.geobox.crs),
        dst_nodata=NODATA_CATEGORY,
    )  # fmt: skip
    notes.append(f"{path}: warped to the grid of {scene.name}, nearest pixel")
    return warped, source.legend


def _from_polygons(scene: Scene, path: Path, options: LabelOptions, margin: int) -> NamedLabels:
    notes: list[str] = []
    frame = _repaired(_in_crs(_read(path, LABELS_LAYER), scene, path, notes), path, notes)
    column = _column(frame, path, options.column)
    unnamed = frame[column].isna() | (frame[column].astype(str).str.strip() == "")
    if unnamed.any():
        notes.append(f"{path}: {int(unnamed.sum())} polygons without a class are left out")
        frame = frame[~unnamed]
    names = tuple(sorted(set(_names(frame, column))))
    place = {name: k for k, name in enumerate(names)}
    position = np.full(scene.shape, IGNORE, np.uint8)
    extent = _extent(scene, path, options, notes)
    if extent is not None:
        names = (*names, options.background) if options.background not in place else names
        position[_burnt(scene, extent.geometry, [1] * len(extent)) == 1] = names.index(
            options.background
        )
    if len(names) >= IGNORE:
        raise InputError(f"{path}: column {column!r} holds {len(names)} classes: at most 254")
    burnt = _burnt(scene, frame.geometry, [place[n] + 1 for n in _names(frame, column)])
    if not burnt.any():
        raise _off(path, scene)
    position[burnt > 0] = burnt[burnt > 0] - 1
    window = _around(position != IGNORE, margin)
    return NamedLabels(names, position[window.slices], window, tuple(notes))


def _off(path: Path, scene: Scene) -> InputError:
    return InputError(f"{path}: no label lies on {scene.name}: give the labels of this scene")


def _read(path: Path, layer: str) -> gpd.GeoDataFrame:
    import geopandas as gpd
    import pyogrio

    try:
        if path.suffix.lower() in (".parquet", ".geoparquet"):
            return gpd.read_parquet(path)
        layers = pyogrio.list_layers(path)[:, 0].tolist()
        return gpd.read_file(path, layer=layer if layer in layers else layers[0])
    except (OSError, ValueError, pyogrio.errors.DataSourceError) as error:
        raise InputError(f"{path}: no polygons can be read from it: {error}") from error


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
    return frame.to_crs(str(crs))


def _repaired(frame: gpd.GeoDataFrame, path: Path, notes: list[str]) -> gpd.GeoDataFrame:
    frame = frame[frame.geometry.notna() & ~frame.geometry.is_empty]
    if frame.empty:
        raise InputError(f"{path}: holds no polygon: draw some, with a class each")
    wrong = ~frame.geometry.is_valid
    if wrong.any():
        frame = frame.copy()
        frame.loc[wrong, frame.geometry.name] = frame.geometry[wrong].make_valid()
        notes.append(f"{path}: {int(wrong.sum())} self-intersecting polygons are repaired")
    return frame


def _column(frame: gpd.GeoDataFrame, path: Path, wanted: str | None) -> str:
    columns = [str(c) for c in frame.columns if c != frame.geometry.name]
    chosen = wanted or next((c for c in CLASS_COLUMNS if c in columns), None)
    if chosen is None or chosen not in columns:
        raise InputError(
            f"{path}: no column {wanted or 'category'!r} among {', '.join(columns) or 'none'}: "
            "name the one that holds the class with --column"
        )
    return chosen


def _names(frame: gpd.GeoDataFrame, column: str) -> list[str]:
    return [str(value).strip() for value in frame[column]]


def _extent(
    scene: Scene, path: Path, options: LabelOptions, notes: list[str]
) -> gpd.GeoDataFrame | None:
    """Ground that is labelled all over; None where nobody said so."""
    import pyogrio

    if options.extent is not None:
        return _in_crs(_read(options.extent, EXTENT_LAYER), scene, options.extent, notes)
    if path.suffix.lower() != ".gpkg" or EXTENT_LAYER not in pyogrio.list_layers(path)[:, 0]:
        return None
    frame = _in_crs(_read(path, EXTENT_LAYER), scene, path, [])
    return None if frame.empty else frame


def _burnt(scene: Scene, shapes: Any, values: Sequence[int]) -> NDArray[np.uint8]:
    from rasterio.features import rasterize

    if not len(values):
        return np.zeros(scene.shape, np.uint8)
    burnt: NDArray[np.uint8] = rasterize(
        zip(shapes, values, strict=True), scene.shape, transform=scene.geobox.affine, dtype="uint8"
    )
    return burnt


def _around(mask: NDArray[np.bool_], margin: int) -> Window:
    rows, cols = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    top, left = max(int(rows[0]) - margin, 0), max(int(cols[0]) - margin, 0)
    bottom = min(int(rows[-1]) + 1 + margin, mask.shape[0])
    right = min(int(cols[-1]) + 1 + margin, mask.shape[1])
    return Window(top, left, bottom - top, right - left)


def class_counts(grounds: Sequence[Labelled], classes: Sequence[str]) -> Mapping[str, int]:
    """Labelled pixels of each class."""
    total = np.zeros(256, np.int64)
    for ground in grounds:
        total += np.bincount(ground.labels.ravel(), minlength=256)
    return {name: int(total[k]) for k, name in enumerate(classes)}
