"""Anything a person may call a scene, opened by what it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from geoseg.errors import SceneError
from geoseg.scene.arrays import from_array, from_xarray
from geoseg.scene.formats import Access, is_remote
from geoseg.scene.geotiff import open_file
from geoseg.scene.masked import masked, masked_at
from geoseg.scene.masking import open_mask
from geoseg.scene.mosaic import mosaic
from geoseg.scene.reader import Scene
from geoseg.scene.sentinel2 import is_safe, open_safe
from geoseg.scene.stack import stack

if TYPE_CHECKING:
    from xarray import DataArray

__all__ = ["SceneOptions", "open_scene", "open_scenes", "parse_nodata"]


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
    options = SceneOptions(
        bands=bands, nodata=nodata, assume_crs=assume_crs, mask=mask, access=access
    )
    return open_scenes([source], options)


@dataclass(frozen=True, kw_only=True)
class SceneOptions:
    """How several sources become one scene; the rest as in ``open_scene``.

    Attributes:
        join: ``stack`` (bands of all on one grid) or ``mosaic`` (the first valid pixel wins).
        grid: that of a stack.
        gsd_m: metres to resample to; None: as it is.

    """

    join: Literal["stack", "mosaic"] | None = None
    grid: Literal["first", "finest"] = "first"
    gsd_m: float | None = None
    bands: Sequence[str] | None = None
    nodata: float | Literal["none"] | None = None
    assume_crs: str | None = None
    mask: str | Path | Sequence[str] | None = None
    access: Access = field(default_factory=Access)


def open_scenes(sources: Sequence[Any], options: SceneOptions) -> Scene:
    """One scene of several sources: opened, joined, masked, resampled, bands chosen.

    In this order: masks apply to the joined grid, before resampling; bands are chosen last, as
    the one that tells of clouds is seldom among them. Raises SceneError.
    """
    if len(sources) > 1 and options.join is None:
        raise SceneError(
            f"{len(sources)} files: stack their bands (--stack), join them side by side "
            "(--mosaic), or map them one by one"
        )
    scenes = [_open(source, options.nodata, options.access) for source in sources]
    if options.assume_crs is not None:
        scenes = [scene.with_crs(options.assume_crs) for scene in scenes]
    if options.join == "mosaic":
        scene = mosaic(scenes)
    else:
        scene = stack(scenes, grid=options.grid) if len(scenes) != 1 else scenes[0]
    masks = [] if options.mask is None else open_mask(scene, options.mask)
    if options.gsd_m is None:
        scene = masked(scene, *masks)
    else:
        scene = masked_at(scene, masks, options.gsd_m)
    return scene if options.bands is None else scene.select(options.bands)


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
