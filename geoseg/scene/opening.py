"""Anything a person may call a scene, opened by what it is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from geoseg.errors import SceneError
from geoseg.scene.arrays import from_array, from_xarray
from geoseg.scene.formats import Access, is_remote
from geoseg.scene.geotiff import open_file
from geoseg.scene.masking import masked, open_mask
from geoseg.scene.reader import Scene
from geoseg.scene.sentinel2 import is_safe, open_safe

if TYPE_CHECKING:
    from xarray import DataArray

__all__ = ["open_scene", "parse_nodata"]


def open_scene(
    source: str | Path | NDArray[Any] | DataArray,
    *,
    bands: Sequence[str] | None = None,
    nodata: float | Literal["none"] | None = None,
    assume_crs: str | None = None,
    mask: str | Path | Sequence[str] | None = None,
    allow_vrt: bool = False,
    allow_network: bool = False,
) -> Scene:
    """Open an image as a scene; no pixel is read.

    Args:
        source: a GeoTIFF (COG, BigTIFF), JPEG 2000, JPEG or PNG file; a Sentinel-2 SAFE
            folder; a STAC item (JSON file); an xarray DataArray; an array (band, row, col).
        bands: the bands to use, in order, by name or number from 1; ``"red=3"`` also names
            it. All by default.
        nodata: value that replaces the declared one; ``"none"``: every value counts.
        assume_crs: the CRS of a source that has none, as pyproj reads it.
        mask: what to leave out: SCL or QA_PIXEL, a raster or a vector file; or several.
        allow_vrt: follow a VRT, which may read any other file.
        allow_network: read URLs and /vsi paths.

    Raises SceneError when the source can't be opened as an image or lacks a band.

    """
    access = Access(allow_vrt, allow_network)
    scene = _open(source, nodata, access)
    if assume_crs is not None:
        scene = scene.with_crs(assume_crs)
    if mask is not None:
        # before bands are chosen: the band that tells of clouds is seldom one of them
        scene = masked(scene, *open_mask(scene, mask))
    return scene if bands is None else scene.select(bands)


def _open(source: Any, nodata: float | Literal["none"] | None, access: Access) -> Scene:
    if isinstance(source, np.ndarray):
        return from_array(source, nodata=None if nodata == "none" else nodata)
    if not isinstance(source, (str, Path)):
        return from_xarray(source, nodata=nodata)
    path = Path(source)
    if path.suffix.lower() == ".xml" and path.name.startswith("MTD_MSI"):
        path = path.parent
    if is_safe(path):
        return open_safe(path, nodata=nodata)
    if path.suffix.lower() == ".json" and not is_remote(source):
        from geoseg.scene.stac import open_item

        return open_item(path, nodata=nodata, access=access)
    return open_file(source, nodata=nodata, access=access)


def parse_nodata(text: str | None) -> float | Literal["none"] | None:
    """``--nodata`` as typed: a number, ``nan``, or ``none``; raises SceneError."""
    if text is None or text.lower() == "none":
        return None if text is None else "none"
    try:
        return float(text)
    except ValueError:
        raise SceneError(f"nodata {text!r} is no number: give one, or none") from None
