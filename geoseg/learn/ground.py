"""Scenes and label files to labelled ground: what is wrong with them is said here.

Labels are polygons (any CRS), a GeoTIFF of categories or of instances, or a COCO file, in which
an image goes by the scene's file name. What nobody labelled is IGNORE, not background, unless
an extent says that everything inside it is labelled.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from geoseg.errors import InputError
from geoseg.grid import Window
from geoseg.labels.sources import VECTOR_SUFFIXES, open_labels
from geoseg.learn.labels import CLASS_COLUMNS, OBJECT, Drawn, LabelOptions, NamedLabels
from geoseg.learn.polygons import drawn_polygons, labelled_extent
from geoseg.learn.samples import IGNORE, Labelled
from geoseg.legend import NODATA_CATEGORY, Legend

if TYPE_CHECKING:
    from geoseg.scene.reader import Scene

__all__ = [
    "CLASS_COLUMNS",
    "LabelOptions",
    "NamedLabels",
    "class_counts",
    "digest",
    "labels_for",
    "read_labels",
    "read_shared",
]


def labels_for(scenes: Sequence[Path], given: Sequence[Path]) -> list[Path]:
    """The label file of each scene: one each, one for all, or a folder of equal names."""
    if len(given) == 1 and given[0].is_dir():
        taken = {scene.resolve() for scene in scenes}
        return [_of_same_name(given[0], scene, taken) for scene in scenes]
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


def _of_same_name(folder: Path, scene: Path, taken: Collection[Path]) -> Path:
    """``scene.*``, else ``scene_labels.*``: another letter or digit begins another name."""
    kinds = (*VECTOR_SUFFIXES, ".tif", ".tiff", ".json")

    def rank(path: Path) -> tuple[bool, int, str]:
        return path.stem != scene.stem, kinds.index(path.suffix.lower()), path.name

    found = [
        p
        for p in folder.iterdir()
        if p.suffix.lower() in kinds
        and p.resolve() not in taken
        and p.stem.startswith(scene.stem)
        and not p.stem[len(scene.stem) :][:1].isalnum()
    ]
    if not found:
        raise InputError(
            f"{folder}: no labels of {scene.name}: a file called {scene.stem}.gpkg or "
            f"{scene.stem}_labels.tif, say"
        )
    return min(found, key=rank)


def digest(paths: Sequence[Path]) -> str:
    """sha256 of files: what an unfinished training was begun with."""
    total = hashlib.sha256()
    for path in paths:
        inside = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
        for file in inside:
            total.update(file.read_bytes())
    return total.hexdigest()


def read_labels(scene: Scene, path: Path, options: LabelOptions, margin: int) -> NamedLabels:
    """The labels of a file on a scene's grid; raises InputError where there are none."""
    found = _found(scene, path, options, margin, alone=True)
    if found is None:
        raise InputError(f"{path}: no label lies on {scene.name}: give the labels of this scene")
    return found


def read_shared(
    scenes: Sequence[Scene], path: Path, options: LabelOptions, margin: int
) -> list[NamedLabels | None]:
    """The labels of one file on several scenes' grids; None where none lies on a scene.

    Scenes without a label are background where ``options`` say that everything is labelled.
    Raises InputError where no scene has any.
    """
    found = [_found(scene, path, options, margin, alone=False) for scene in scenes]
    if not any(one is not None and one.drawn for one in found):
        raise InputError(f"{path}: no label lies on any of the {len(scenes)} scenes")
    return found


def _found(
    scene: Scene, path: Path, options: LabelOptions, margin: int, *, alone: bool
) -> NamedLabels | None:
    notes: list[str] = []
    if path.suffix.lower() in VECTOR_SUFFIXES:
        drawn = drawn_polygons(scene, path, options, notes)
    else:
        drawn = _from_numbers(scene, path, options, notes)
    empty = bool((drawn.position == IGNORE).all())
    if empty and alone:
        return None
    extent = labelled_extent(scene, path, options, notes)
    if empty and (extent is None or not extent.any()):
        return None
    if extent is not None:
        drawn = drawn.filled(extent, options.background)
    window = _around(drawn.position != IGNORE, margin)
    return NamedLabels(
        drawn.names,
        drawn.position[window.slices],
        window,
        tuple(notes),
        drawn.instance_id[window.slices] if options.things else None,
        drawn.things,
        not empty,
    )


def _from_numbers(scene: Scene, path: Path, options: LabelOptions, notes: list[str]) -> Drawn:
    """A raster's or COCO's categories and instances, by name."""
    if path.suffix.lower() == ".json":
        source = open_labels(path, scene.geobox, image=scene.name)
        (category, instance), legend = source.read(scene.window), source.legend
    else:
        category, instance, legend = _from_raster(scene, path, options, notes)
    found = [k for k in np.unique(category).tolist() if k != NODATA_CATEGORY]
    known = {c.id: c for c in legend}
    missing = [k for k in found if k not in known]
    if missing:
        raise InputError(
            f"{path}: unknown class {missing[0]}: the legend has {sorted(known)}: correct the "
            "labels or the --legend"
        )
    table = np.full(256, IGNORE, np.uint8)
    table[found] = np.arange(len(found))
    # ids of any size become 1, 2, ...; 0 stays
    ids, dense = np.unique(np.append(instance.ravel(), 0), return_inverse=True)
    dense = dense[:-1].reshape(instance.shape).astype(np.int32)
    things = frozenset(known[k].name for k in found if known[k].isthing)
    names = tuple(known[k].name for k in found)
    if options.things and names == (OBJECT,):
        names, things = (options.single,), frozenset({options.single})
    return Drawn(names, table[category], dense - np.searchsorted(ids, 0).astype(np.int32), things)


def _from_raster(
    scene: Scene, path: Path, options: LabelOptions, notes: list[str]
) -> tuple[NDArray[np.uint8], NDArray[Any], Legend]:
    """Categories and instances on the scene's grid, warped there where they have another."""
    from geoseg.labels.sources import raster_grid

    own = raster_grid(path)
    source = open_labels(path, own, options.legend, scheme=options.scheme)
    category, instance = source.read(Window(0, 0, *source.shape))
    if own == scene.geobox:
        return category, instance, source.legend
    if (own.crs is None) != (scene.geobox.crs is None):
        raise InputError(f"{path} and {scene.name}: one has a CRS, the other has none: give it one")
    if own.crs is None:
        raise InputError(f"{path}: its grid is not that of {scene.name}, and neither has a CRS")
    from rasterio.warp import reproject

    warped = np.full(scene.shape, NODATA_CATEGORY, np.uint8)
    # not every width of whole numbers can be warped
    numbers = np.zeros(scene.shape, np.int32)
    for values, target, empty in (
        (category, warped, NODATA_CATEGORY),
        (instance.astype(np.int32), numbers, 0),
    ):
        reproject(
            values, target,
            src_transform=own.affine, src_crs=str(own.crs), src_nodata=empty,
            dst_transform=scene.geobox.affine, dst_crs=str(scene.geobox.crs), dst_nodata=empty,
        )  # fmt: skip
    notes.append(f"{path}: warped to the grid of {scene.name}, nearest pixel")
    return warped, numbers, source.legend


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
