"""Arrays in memory, or behind xarray, as scenes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from geoseg.errors import BlockError, SceneError
from geoseg.grid import Window
from geoseg.scene.reader import Band, Scene
from geoseg.scene.validity import measured

if TYPE_CHECKING:
    from affine import Affine
    from odc.geo.geobox import GeoBox
    from xarray import DataArray

__all__ = ["ArrayReader", "from_array", "from_xarray"]

BoolArray = NDArray[np.bool_]

_Y_NAMES = ("y", "lat", "latitude", "northing")
_X_NAMES = ("x", "lon", "longitude", "easting")
_REGULAR = 1e-3
"""Coordinates may be this share of a pixel off an even spacing."""


@dataclass(frozen=True, slots=True)
class ArrayReader:
    """Windows of an array (band, row, col); of a DataArray, lazily."""

    array: Any
    nodata: tuple[float | None, ...]
    valid: BoolArray | None = None

    def read(self, window: Window, bands: Sequence[int]) -> tuple[NDArray[Any], BoolArray]:
        """Pixels (band, row, col) and valid (row, col); raises BlockError."""
        pixels = self._get(list(bands), window)

        def read_band(band: int) -> NDArray[Any]:
            layer: NDArray[Any] = self._get([band], window)[0]
            return layer

        valid = measured(pixels, bands, self.nodata, read_band)
        return pixels, valid if self.valid is None else valid & self.valid[window.slices]

    def _get(self, bands: list[int], window: Window) -> NDArray[Any]:
        rows, cols = window.slices
        if isinstance(self.array, np.ndarray):
            return self.array[bands, rows, cols]
        try:
            return np.asarray(self.array[bands, rows, cols].values)
        except (OSError, RuntimeError, ValueError, KeyError) as error:
            # whatever stands behind a lazy array
            raise BlockError(
                f"array: can't read rows {window.row_off} to {window.row_end}, columns "
                f"{window.col_off} to {window.col_end}: {error}"
            ) from error

    def fingerprint(self) -> Mapping[str, Any]:
        """Shape, type and sha256 of the pixels; of a lazy array its name instead."""
        what: dict[str, Any] = {"shape": list(self.array.shape), "dtype": str(self.array.dtype)}
        if isinstance(self.array, np.ndarray):
            what["sha256"] = hashlib.sha256(self.array.tobytes()).hexdigest()
            if self.valid is not None:
                what["valid"] = hashlib.sha256(self.valid.tobytes()).hexdigest()
        else:
            what["name"] = str(self.array.name)
        return what


def from_array(
    array: NDArray[Any],
    *,
    crs: str | None = None,
    transform: Affine | None = None,
    bands: Sequence[str] | None = None,
    nodata: float | None = None,
    valid: BoolArray | None = None,
) -> Scene:
    """An array (band, row, col) or (row, col) as a scene.

    ``transform`` is the affine from (col, row) to coordinates; without it coordinates are
    pixels. ``valid`` (row, col): False where a pixel may not be used, besides ``nodata``, NaN
    and what a masked array masks in any band. Raises SceneError where the shapes don't fit.
    """
    from affine import Affine
    from odc.geo.geobox import GeoBox

    if array.ndim == 2:
        array = array[None]
    if array.ndim != 3 or 0 in array.shape or array.dtype.kind not in "uif":
        raise SceneError(
            f"an array of shape {array.shape} and type {array.dtype}: "
            "give numbers as (band, row, col) or (row, col)"
        )
    if valid is not None and valid.shape != array.shape[1:]:
        raise SceneError(f"valid has shape {valid.shape}, the array {array.shape[1:]}")
    if np.ma.isMaskedArray(array):
        seen: BoolArray = np.logical_not(np.ma.getmaskarray(array).any(axis=0))
        valid = seen if valid is None else seen & valid
        array = np.ma.getdata(array)
    names = list(bands) if bands is not None else [str(i + 1) for i in range(len(array))]
    if len(names) != len(array):
        raise SceneError(f"{len(names)} band names for {len(array)} bands: give one per band")
    return Scene(
        name="array",
        geobox=GeoBox(array.shape[1:], transform or Affine.identity(), crs),
        bands=tuple(Band(name) for name in names),
        dtype=array.dtype.name,
        nodata=nodata,
        reader=ArrayReader(array, (nodata,) * len(array), valid),
        georeferenced=transform is not None,
    )


def from_xarray(array: DataArray, *, nodata: float | Literal["none"] | None = None) -> Scene:
    """A DataArray with evenly spaced coordinates as a scene; pixels stay lazy.

    Rows and columns are the dimensions y and x (lat, lon, northing, easting ...), the third
    is the bands. CRS from ``spatial_ref`` (rioxarray, odc) or ``attrs["crs"]``; nodata from the
    attributes. Raises SceneError where a dimension is missing or not evenly spaced.
    """
    y, x = _dimension(array, _Y_NAMES), _dimension(array, _X_NAMES)
    others = [dim for dim in array.dims if dim not in (y, x)]
    if len(others) > 1:
        raise SceneError(
            f"array {array.name!r} has dimensions {', '.join(map(str, array.dims))}: "
            "select one of all but bands, rows and columns"
        )
    names = _band_names(array, others[0]) if others else ("1",)
    if not others:
        array, others = array.expand_dims("band"), ["band"]
    array = array.transpose(others[0], y, x)
    value = _nodata(array) if nodata is None else None if nodata == "none" else float(nodata)
    geobox, georeferenced = _geobox(array, y, x)
    return Scene(
        name=str(array.name or "array"),
        geobox=geobox,
        bands=tuple(Band(name) for name in names),
        dtype=array.dtype.name,
        nodata=value,
        reader=ArrayReader(array, (value,) * len(names)),
        georeferenced=georeferenced,
        tags={str(key): str(text) for key, text in array.attrs.items()},
    )


def _dimension(array: DataArray, names: Sequence[str]) -> str:
    for dim in array.dims:
        if str(dim).lower() in names:
            return str(dim)
    raise SceneError(
        f"array {array.name!r} has dimensions {', '.join(map(str, array.dims))}: "
        f"rename one to {names[0]!r}"
    )


def _band_names(array: DataArray, dim: Any) -> tuple[str, ...]:
    count = array.sizes[dim]
    labels = array.attrs.get("long_name")
    if isinstance(labels, (tuple, list)) and len(labels) == count:
        return tuple(str(label) for label in labels)
    if dim in array.coords:
        return tuple(str(value) for value in array.coords[dim].values)
    return tuple(str(i + 1) for i in range(count))


def _nodata(array: DataArray) -> float | None:
    for source in (array.attrs, array.encoding):
        for key in ("nodata", "_FillValue", "missing_value"):
            if source.get(key) is not None:
                return float(source[key])
    return None


def _geobox(array: DataArray, y: str, x: str) -> tuple[GeoBox, bool]:
    from affine import Affine
    from odc.geo.geobox import GeoBox

    shape = array.sizes[y], array.sizes[x]
    if y not in array.coords or x not in array.coords:
        return GeoBox(shape, Affine.identity(), None), False
    (top, down), (left, right) = _spacing(array, y), _spacing(array, x)
    affine = Affine(right, 0, left - right / 2, 0, down, top - down / 2)
    reference = array.coords.get("spatial_ref")
    attributes = {} if reference is None else reference.attrs
    crs = attributes.get("crs_wkt") or attributes.get("spatial_ref") or array.attrs.get("crs")
    return GeoBox(shape, affine, None if crs is None else str(crs)), True


def _spacing(array: DataArray, dim: str) -> tuple[float, float]:
    """First coordinate and step."""
    values = np.asarray(array.coords[dim].values, np.float64)
    if len(values) < 2:
        raise SceneError(f"array {array.name!r} has one coordinate in {dim!r}: give two or more")
    step = (values[-1] - values[0]) / (len(values) - 1)
    off = np.abs(values - (values[0] + step * np.arange(len(values)))).max()
    if step == 0 or not off <= _REGULAR * abs(step):
        raise SceneError(f"array {array.name!r}: coordinates in {dim!r} are not evenly spaced")
    return float(values[0]), float(step)
