"""Area of interest: which pixels of a grid a person asked for.

One rule, everywhere: a pixel belongs to the region where its *centre* lies inside it or on its
edge. What is read and what is predicted does not depend on the region, so that the map of a
region is exactly the crop of the whole map.
"""

from __future__ import annotations

import hashlib
import math
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from geoseg.errors import InputError
from geoseg.grid import Window
from geoseg.scene.scanline import edges_of, fill

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox
    from shapely.geometry.base import BaseGeometry

__all__ = ["Region"]

BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float64]

_STRAIGHT_PX = 0.05
"""An edge is cut until its curve in the scene's CRS is this straight, in pixels."""
_MAX_VERTICES = 2_000_000
_POLYGON = 3
_preparing = threading.Lock()  # a prepared geometry builds its index when it is first asked


@dataclass(frozen=True)
class Region:
    """Polygons in some CRS; ``crs`` None: in the scene's own.

    Attributes:
        geometry: a shapely Polygon or MultiPolygon.
        crs: as pyproj reads it, or None.
        name: for messages: the file's name, or the box as typed.

    """

    geometry: BaseGeometry
    crs: str | None = None
    name: str = "region"

    def __repr__(self) -> str:
        """Tells regions apart by all their vertices; shapely's own repr stops after a few."""
        digest = hashlib.sha256(self.geometry.wkb).hexdigest()[:16]
        return f"Region({self.name!r}, crs={self.crs!r}, sha256={digest})"

    @classmethod
    def open(cls, text: str | Path, *, layer: str | None = None) -> Region:
        """From ``west,south,east,north[,CRS]`` or from a vector file of polygons.

        Raises InputError when it is neither.
        """
        return cls._from_box(str(text)) or cls._from_file(Path(text), layer)

    @classmethod
    def _from_box(cls, text: str) -> Region | None:
        parts = [part.strip() for part in text.split(",")]
        try:
            values = [float(part) for part in parts[:4]]
        except ValueError:
            return None
        if len(parts) not in (4, 5) or len(values) != 4:
            return None
        box = (values[0], values[1], values[2], values[3])
        return replace(cls.box(box, crs=(*parts, None)[4]), name=",".join(parts))

    @classmethod
    def box(cls, bounds: tuple[float, float, float, float], *, crs: str | None = None) -> Region:
        """A rectangle: west, south, east, north (x, y in ``crs``).

        In degrees, west greater than east means that it crosses the antimeridian.
        """
        import shapely

        west, south, east, north = bounds
        name = ",".join(f"{value:.12g}" for value in bounds) + (f",{crs}" if crs else "")
        if not all(math.isfinite(value) for value in bounds) or south >= north or west == east:
            raise InputError(f"region {name}: give west,south,east,north with south < north")
        if west < east:
            return cls(shapely.box(west, south, east, north), crs, name)
        if crs is None or not _crs(crs, name).is_geographic:
            raise InputError(f"region {name}: give west,south,east,north with west < east")
        halves = shapely.box(west, south, 180, north), shapely.box(-180, south, east, north)
        return cls(shapely.MultiPolygon(list(halves)), crs, name)

    @classmethod
    def _from_file(cls, path: Path, layer: str | None) -> Region:
        import pyogrio
        import shapely

        if not path.exists():
            raise InputError(
                f"region {path}: neither a file nor a box: give a vector file of polygons "
                "or west,south,east,north[,CRS]"
            )
        try:
            meta, _, wkb, _ = pyogrio.raw.read(path, layer=layer, columns=[], force_2d=True)
        except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError) as error:
            raise InputError(f"region {path}: not a vector file: {error}") from error
        try:
            shapes = shapely.from_wkb(wkb) if wkb is not None else np.array([], object)
        except shapely.errors.GEOSException as error:
            raise InputError(f"region {path}: holds a broken geometry: {error}") from error
        geometry = _polygons(shapes)
        if geometry.is_empty:
            raise InputError(f"region {path}: no polygon in it: give polygons")
        return cls(geometry, meta["crs"], path.name)

    def window(self, geobox: GeoBox) -> Window:
        """The smallest window of the grid that holds all its pixels; raises InputError."""
        placed = _place(self, geobox)
        grid = Window(0, 0, *(int(size) for size in geobox.shape))
        window = Window(0, 0, 0, 0)
        if not placed.is_empty:
            left, top, right, bottom = placed.bounds
            row_off, col_off = math.ceil(top - 0.5), math.ceil(left - 0.5)
            height = math.floor(bottom - 0.5) + 1 - row_off
            width = math.floor(right - 0.5) + 1 - col_off
            window = Window(row_off, col_off, height, width) & grid
        if window.pixels == 0:
            box = ", ".join(f"{value:.8g}" for value in geobox.boundingbox.bbox)
            raise InputError(
                f"region {self.name}: no pixel of the scene has its centre in it: "
                f"the scene covers {box} in {geobox.crs or 'pixels'}{self._in_degrees(geobox)}"
            )
        return window

    def _in_degrees(self, geobox: GeoBox) -> str:
        """A word to those who typed longitudes and latitudes without saying so."""
        west, south, east, north = self.geometry.bounds
        degrees = max(-west, east) <= 180 and max(-south, north) <= 90
        if self.crs is not None or geobox.crs is None or geobox.crs.geographic or not degrees:
            return ""
        return ": say so if yours is in degrees, as west,south,east,north,EPSG:4326"

    def mask(self, window: Window, geobox: GeoBox) -> BoolArray:
        """(row, col): True where a pixel of ``window`` belongs to the region.

        The same for a pixel whatever window it is asked in.
        """
        import shapely

        placed = _place(self, geobox)
        out, rows, cols = fill(edges_of(placed), window)
        x, y = cols + (window.col_off + 0.5), rows + (window.row_off + 0.5)
        with _preparing:
            shapely.prepare(placed)
            out[rows, cols] = shapely.intersects_xy(placed, x, y)
        return out


def _crs(text: str, name: str) -> Any:
    import pyproj

    try:
        return pyproj.CRS.from_user_input(text)
    except pyproj.exceptions.CRSError as error:
        raise InputError(
            f"region {name}: {text!r} is no CRS: give one such as EPSG:4326"
        ) from error


@lru_cache(maxsize=16)
def _place(region: Region, geobox: GeoBox) -> Any:
    """The region in pixel coordinates (x = col, y = row) of a grid."""
    import shapely

    to_pixels = _to_pixels(region, geobox)
    if region.crs is None or geobox.crs is None:
        dense = region.geometry
    else:
        dense = _densify(region.geometry, to_pixels)
    placed = shapely.transform(dense, to_pixels)
    if not np.isfinite(shapely.get_coordinates(placed)).all():
        raise InputError(f"region {region.name}: parts of it have no place in {geobox.crs}")
    return _polygons(placed)


def _polygons(shapes: Any) -> Any:
    """The union of all polygons in a geometry or several; lines and points are left out."""
    import shapely

    parts = shapely.get_parts(shapely.get_parts(shapely.make_valid(shapes)))
    return shapely.union_all(parts[shapely.get_type_id(parts) == _POLYGON])


def _to_pixels(region: Region, geobox: GeoBox) -> Callable[[FloatArray], FloatArray]:
    """Coordinates (vertex, xy) of the region to (vertex, col-row)."""
    import pyproj

    if region.crs is not None and geobox.crs is None:
        raise InputError(f"region {region.name} is in {region.crs}, but the scene has no CRS")
    inverse = ~geobox.affine
    project = None
    if region.crs is not None:
        wkt = geobox.crs.to_wkt()
        project = pyproj.Transformer.from_crs(_crs(region.crs, region.name), wkt, always_xy=True)

    def to_pixels(points: FloatArray) -> FloatArray:
        x, y = points.T if project is None else project.transform(points[:, 0], points[:, 1])
        cols = inverse.a * x + inverse.b * y + inverse.c
        rows = inverse.d * x + inverse.e * y + inverse.f
        return np.column_stack([cols, rows])

    return to_pixels


def _densify(geometry: Any, to_pixels: Callable[[FloatArray], FloatArray]) -> Any:
    """With vertices added until every edge is straight in pixels, too."""
    import shapely

    left, bottom, right, top = geometry.bounds
    length = max(right - left, top - bottom)
    while True:
        dense = shapely.segmentize(geometry, length)
        points = shapely.get_coordinates(dense)
        bend = to_pixels((points[:-1] + points[1:]) / 2)
        placed = to_pixels(points)
        bend -= (placed[:-1] + placed[1:]) / 2
        # pairs that join two rings are no edges
        edges = np.hypot(*np.diff(points, axis=0).T) <= length * (1 + 1e-9)
        worst = np.abs(bend[edges & np.isfinite(bend).all(axis=1)]).max(initial=0.0)
        if worst <= _STRAIGHT_PX or len(points) > _MAX_VERTICES:
            return dense
        length /= 2
