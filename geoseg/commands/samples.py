"""Files that classic methods learn from: sample polygons for objects, seed points for growing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from geoseg.errors import InputError, ModelError
from geoseg.shapes import moved, read_shapes

if TYPE_CHECKING:
    import geopandas as gpd

    from geoseg.legend import Legend
    from geoseg.models.classic.objects import Labelled, ObjectClasses
    from geoseg.scene.reader import Scene

__all__ = ["seeded", "trained_objects"]

CLASS_COLUMNS = ("class", "category", "label", "name", "type")
"""Columns in which the class of a sample is looked for."""


def trained_objects(
    scene: Scene, model: str, path: str, column: str | None = None
) -> ObjectClasses:
    """``objects:...`` trained on the polygons (or points) of a vector file.

    ``column`` holds the class, by default the first of class, category, label, name, type.
    Only tiles with samples are read for training, besides one pass for the features' spread.
    Raises InputError and ModelError.
    """
    from geoseg.models.classic import is_method, parse
    from geoseg.models.classic.objects import ObjectFit

    fit = parse(model) if is_method(model) else None
    if not isinstance(fit, ObjectFit):
        raise ModelError(
            f"--samples: {model} learns nothing from them: samples belong to the classic method "
            "objects: write --model objects, or leave --samples out"
        )
    frame, names = _open(path, scene, column)
    legend = _legend(names)
    fit, _ = fit.adapted(scene)
    bands = scene.band_indices(fit.card.bands)
    sample: Any = None
    for window in _windows(scene):
        part = fit.observe(*scene.read(window, bands))
        sample = part if sample is None else sample + part
    objects = fit.described(sample)
    numbers = [c.id for name in names for c in legend if c.name == name]
    labelled = _labelled(scene, objects.card, bands, list(zip(frame.geometry, numbers)))
    return objects.train(labelled, legend)


def seeded(scene: Scene, model: str, path: str) -> Any:
    """``grow:...`` from the points of a vector file (of polygons: a point inside each part)."""
    from geoseg.models.classic import is_method, parse
    from geoseg.models.classic.regions import GrownRegions

    grower = parse(model) if is_method(model) else None
    if not isinstance(grower, GrownRegions):
        raise ModelError(
            f"--seeds: {model} grows nothing from them: seeds belong to the classic method grow: "
            "write --model grow:ndvi, say, or leave --seeds out"
        )
    frame = _read(path, scene)
    points = frame.geometry.explode(index_parts=False).representative_point()
    back = ~scene.geobox.affine
    x, y = points.x.to_numpy(), points.y.to_numpy()
    cols = np.floor(back.a * x + back.b * y + back.c).astype(int)
    rows = np.floor(back.d * x + back.e * y + back.f).astype(int)
    places = zip(rows, cols, strict=True)
    height, width = scene.shape
    return grower.with_seeds([(r, c) for r, c in places if 0 <= r < height and 0 <= c < width])


def _read(path: str, scene: Scene) -> gpd.GeoDataFrame:
    frame = read_shapes(path)
    frame = frame[~(frame.geometry.isna() | frame.geometry.is_empty)]
    if frame.empty:
        raise InputError(f"{path}: holds no geometry")
    crs = scene.geobox.crs
    if frame.crs is not None and crs is not None:
        frame = moved(frame, str(crs), path)
    return frame


def _open(path: str, scene: Scene, column: str | None) -> tuple[gpd.GeoDataFrame, list[str]]:
    frame = _read(path, scene)
    known = [c for c in frame.columns if c != frame.geometry.name]
    lower = {str(c).lower(): c for c in known}
    chosen = column or next((lower[c] for c in CLASS_COLUMNS if c in lower), None)
    if chosen is None or chosen not in known:
        have = ", ".join(map(str, known)) or "none"
        raise InputError(
            f"{path}: no column {column or 'class'!r} among {have}: "
            "name the column that holds the class with --sample-column"
        )
    frame = frame[frame[chosen].notna()]
    return frame, [str(value) for value in frame[chosen]]


def _legend(names: list[str]) -> Legend:
    from geoseg.legend import Category, Legend
    from geoseg.models.classic.palette import distinct

    unique = sorted(set(names))
    if len(unique) > 254:
        raise InputError(f"{len(unique)} different classes: at most 254 fit a map")
    return Legend(tuple(Category(i, n, distinct(i)) for i, n in enumerate(unique)), "samples")


def _windows(scene: Scene, size: int = 1024) -> Iterator[Any]:
    from geoseg.grid import TileGrid

    return (tile.core for tile in TileGrid(scene.shape, size))


def _labelled(
    scene: Scene, card: Any, bands: tuple[int, ...], shapes: list[tuple[Any, int]]
) -> Iterator[Labelled]:
    """Tiles that hold samples, with the class of each pixel; a later polygon covers earlier."""
    from affine import Affine
    from rasterio.features import rasterize

    from geoseg.grid import TileGrid
    from geoseg.models.classic.objects import Labelled

    to_scene: Affine = scene.geobox.affine
    for tile in TileGrid(scene.shape, card.tile_size, card.halo, card.divisor):
        inside = tile.read & scene.window
        here = to_scene * Affine.translation(inside.col_off, inside.row_off)
        given = rasterize(shapes, inside.shape, fill=255, transform=here, dtype=np.uint8)
        if (given == 255).all():
            continue
        classes = np.full(tile.read.shape, 255, np.uint8)
        classes[inside.relative_to(tile.read).slices] = given
        yield Labelled(tile, *scene.read(tile.read, bands), classes)
