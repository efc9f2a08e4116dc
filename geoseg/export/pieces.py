"""The pieces that the web page shows: tiles of the scene and of classes, cells of polygons.

All lie on one pixel grid: the scene's, or one laid over the polygons. A piece is made when
it is asked for, so that a page and a server share this code.
"""

from __future__ import annotations

import json
import math
import warnings
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import rasterio.features
import shapely
from affine import Affine
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning

from geoseg.errors import InputError

__all__ = ["TILE", "Grid", "Pieces", "grid_of"]

TILE = 512
_NOWHERE = 255
_BUFFER_PX = 4.0
_UNITS_PER_PX = 4
_FREE_GRID_PX = 8192
_QUALITY = 70
_COARSE_PX = 4096


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


def grid_of(scene: Path | None, frame: Any) -> Grid:
    """The scene's grid; without a scene one of up to 8,192 pixels over the polygons."""
    if scene is not None:
        with _open(scene) as file:
            wkt = None if file.crs is None else file.crs.to_wkt()
            return Grid(file.transform, (file.height, file.width), wkt)
    if not len(frame):
        raise InputError("the map has no polygon and there is no scene: give --scene")
    xmin, ymin, xmax, ymax = frame.total_bounds
    step = max(xmax - xmin, ymax - ymin) / _FREE_GRID_PX or 1.0
    shape = max(1, math.ceil((ymax - ymin) / step)), max(1, math.ceil((xmax - xmin) / step))
    wkt = None if frame.crs is None else frame.crs.to_wkt()
    return Grid(Affine(step, 0, xmin, 0, -step, ymax), shape, wkt)


def _open(scene: Path) -> Any:
    try:
        return rasterio.open(scene)
    except rasterio.errors.RasterioIOError as error:
        raise InputError(f"{scene}: can't be read as a scene: {error}") from error


class Pieces:
    """Makes pieces by key: ``s-LEVEL-ROW-COL`` (JPEG), ``c-LEVEL-ROW-COL`` (deflated
    category ids, 512 x 512), ``v-ROW-COL`` (deflated JSON: rows of the table, rings as
    differences in quarters of a pixel) and ``table`` (deflated JSON, by column).

    ``frame`` is a GeoDataFrame; its polygons are put into pixels of ``grid`` once.
    """

    def __init__(self, frame: Any, grid: Grid, scene: Path | None, bands: tuple[int, ...]) -> None:
        self.grid = grid
        self._scene = scene
        self._bands = bands
        a, b, c, d, e, f = list(~grid.transform)[:6]
        place = np.array([[a, b], [d, e]])
        self._shapes = shapely.transform(
            np.asarray(frame.geometry.values), lambda xy: xy @ place.T + [c, f]
        )
        self._frame = frame.drop(columns=frame.geometry.name)
        self._ids = (
            frame["category_id"].to_numpy("uint8")
            if "category_id" in frame
            else np.zeros(len(frame), "uint8")
        )

    @cached_property
    def _tree(self) -> shapely.STRtree:
        return shapely.STRtree(self._shapes)

    def _within(self, row: int, col: int, size: int) -> tuple[NDArray[np.intp], Any]:
        box = shapely.box(col * size, row * size, (col + 1) * size, (row + 1) * size)
        return np.sort(self._tree.query(box)), box

    def get(self, key: str) -> bytes | None:
        """The piece; None when there is none of that name."""
        kind, *numbers = key.split("-")
        if kind == "table" and not numbers:
            return self.table()
        if not all(n.isdecimal() and len(n) < 9 for n in numbers):
            return None
        where = tuple(int(n) for n in numbers)
        makers = {"s": (self.scene, 3), "c": (self.classes, 3), "v": (self.cell, 2)}
        maker, count = makers.get(kind, (None, 0))
        if maker is None or len(where) != count:
            return None
        level, row, col = where if count == 3 else (0, *where)
        inside = level <= self.grid.levels and row * TILE * 2**level < self.grid.shape[0]
        if not (inside and col * TILE * 2**level < self.grid.shape[1]):
            return None
        return maker(*where)  # type: ignore[operator, no-any-return]

    def scene(self, level: int, row: int, col: int) -> bytes | None:
        """A JPEG of up to 512 x 512 pixels; None where there is no scene."""
        if self._scene is None:
            return None
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
        with _open(self._scene) as file:  # type: ignore[arg-type]
            how = Resampling.average if level else Resampling.nearest
            pixels = file.read(self._bands, window=window, out_shape=shape, resampling=how)
        low, high_value = self._stretch
        scaled = (pixels.astype(np.float32) - low) / (high_value - low)
        image: NDArray[np.uint8] = (255 * np.clip(np.nan_to_num(scaled), 0, 1)).astype(np.uint8)
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
        with _open(self._scene) as file:  # type: ignore[arg-type]
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

    def classes(self, level: int, row: int, col: int) -> bytes | None:
        """category_id of the polygons at pixel centres, 255 elsewhere; None where none is."""
        size, step = TILE * 2**level, 2**level
        found, _ = self._within(row, col, size)
        if not len(found):
            return None
        pairs = ((self._shapes[n], int(self._ids[n])) for n in found)
        origin = Affine(step, 0, col * size, 0, step, row * size)
        shape = (TILE, TILE)
        ids = rasterio.features.rasterize(
            pairs, shape, fill=_NOWHERE, transform=origin, dtype="uint8"
        )
        return None if (ids == _NOWHERE).all() else zlib.compress(ids.tobytes(), 6)

    def cell(self, row: int, col: int) -> bytes | None:
        """Polygons cut a little beyond the cell; None where there is none."""
        found, _ = self._within(row, col, TILE)
        if not len(found):
            return None
        x, y = col * TILE, row * TILE
        room = _BUFFER_PX
        box = (x - room, y - room, x + TILE + room, y + TILE + room)
        cut = shapely.clip_by_rect(self._shapes[found], *box)
        rows, shapes = [], []
        for number, shape in zip(found.tolist(), cut, strict=True):
            rings = _rings(shape, x, y)
            if rings:
                rows.append(number)
                shapes.append(rings)
        if not rows:
            return None
        text = json.dumps({"i": rows, "p": shapes}, separators=(",", ":"))
        return zlib.compress(text.encode(), 6)

    def table(self) -> bytes:
        """The attributes by column, and ``box``: four pixels per row."""
        columns: dict[str, Any] = {}
        for name, values in self._frame.items():
            plain = values.astype(object).where(values.notna(), None).tolist()
            columns[str(name)] = [
                round(float(v), 3) if isinstance(v, (float, np.floating)) else _json(v)
                for v in plain
            ]
        columns["box"] = np.rint(shapely.bounds(self._shapes)).astype(int).ravel().tolist()
        return zlib.compress(json.dumps(columns, separators=(",", ":")).encode(), 6)


def _shrunk(image: NDArray[np.uint8], by: int, row: int, col: int) -> NDArray[np.uint8]:
    """A tile of the image ``by`` times smaller, each pixel the mean of what it covers."""
    size = TILE * by
    part = image[:, row * size : (row + 1) * size, col * size : (col + 1) * size]
    _, high, wide = part.shape
    full = np.pad(part, ((0, 0), (0, -high % by), (0, -wide % by)), mode="edge")
    blocks = full.reshape(3, full.shape[1] // by, by, full.shape[2] // by, by)
    return blocks.mean(axis=(2, 4)).astype(np.uint8)


def _json(value: Any) -> Any:
    if value is None or isinstance(value, (bool, int, str)):
        return value
    return value.item() if isinstance(value, np.generic) else str(value)


def _rings(shape: Any, x: int, y: int) -> list[list[int]]:
    """All rings of all parts, as differences from point to point, without their last point."""
    if shape is None or shape.is_empty:
        return []
    out = []
    for part in shapely.get_parts(shape):
        if part.geom_type != "Polygon":
            continue
        for ring in (part.exterior, *part.interiors):
            points = np.rint((shapely.get_coordinates(ring)[:-1] - [x, y]) * _UNITS_PER_PX)
            steps = np.diff(points, axis=0, prepend=np.zeros((1, 2))).astype(int)
            out.append(steps.ravel().tolist())
    return out
