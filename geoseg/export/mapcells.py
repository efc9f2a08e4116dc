"""One map of a web page: tiles of classes, cells of polygons, and the table."""

from __future__ import annotations

import json
import zlib
from functools import cached_property
from typing import Any

import numpy as np
import rasterio.features
import shapely
from affine import Affine
from numpy.typing import NDArray

from geoseg.export.pagegrid import TILE, Grid

__all__ = ["MapCells"]

_NOWHERE = 255
_BUFFER_PX = 4.0
_UNITS_PER_PX = 4


class MapCells:
    """Made of ``frame``, a GeoDataFrame in the grid's CRS, whose polygons are put into pixels
    of ``grid`` once.
    """

    def __init__(self, frame: Any, grid: Grid) -> None:
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

        self._things = (
            frame["isthing"].eq(True).to_numpy(bool)
            if "isthing" in frame
            else np.zeros(len(frame), bool)
        )

    @cached_property
    def _tree(self) -> shapely.STRtree:
        return shapely.STRtree(self._shapes)

    def _within(self, row: int, col: int, size: int) -> NDArray[np.intp]:
        box = shapely.box(col * size, row * size, (col + 1) * size, (row + 1) * size)
        return np.sort(self._tree.query(box))

    def classes(self, level: int, row: int, col: int) -> bytes | None:
        """category_id of the polygons at pixel centres, 255 elsewhere and between objects that
        touch; None where none is.
        """
        size, step = TILE * 2**level, 2**level
        found = self._within(row, col, size)
        if not len(found):
            return None
        pairs = ((self._shapes[n], number + 1) for number, n in enumerate(found))
        origin = Affine(step, 0, col * size, 0, step, row * size)
        rows = rasterio.features.rasterize(pairs, (TILE, TILE), transform=origin, dtype="int32")
        ids = np.r_[np.uint8(_NOWHERE), self._ids[found]][rows]
        ids[self._parted(rows, found, step)] = _NOWHERE
        return None if (ids == _NOWHERE).all() else zlib.compress(ids.tobytes(), 6)

    def _parted(
        self, rows: NDArray[np.int32], found: NDArray[np.intp], step: int
    ) -> NDArray[np.bool_]:
        """Pixels at whose right or lower side another object of the same class begins.

        Objects of fewer than 64 pixels would be nothing but border. ``rows`` count from 1 in
        ``found``; 0 is nowhere.
        """
        large = self._things[found] & (shapely.area(self._shapes[found]) > 64 * step**2)
        can = np.r_[False, large][rows]
        kind = np.r_[np.uint8(_NOWHERE), self._ids[found]][rows]
        parted = np.zeros(rows.shape, bool)
        for here, there in ((np.s_[:, :-1], np.s_[:, 1:]), (np.s_[:-1], np.s_[1:])):
            other = (rows[here] != rows[there]) & (kind[here] == kind[there])
            parted[here] |= other & can[here] & can[there]
        return parted

    def cell(self, row: int, col: int) -> bytes | None:
        """Polygons cut a little beyond the cell; None where there is none."""
        found = self._within(row, col, TILE)
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
