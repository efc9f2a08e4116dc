"""A picture in three colours out of bands that lie in several files, as GDAL's virtual raster.

Nothing is copied: the file holds names, relative to itself, and places.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import rasterio
from affine import Affine

from geoseg.errors import OutputError

__all__ = ["BandSource", "write_vrt"]

_TYPES = {
    "uint8": "Byte", "int8": "Int8", "uint16": "UInt16", "int16": "Int16", "uint32": "UInt32",
    "int32": "Int32", "float32": "Float32", "float64": "Float64",
}  # fmt: skip
_COLOURS = ("Red", "Green", "Blue")


@dataclass(frozen=True)
class BandSource:
    """A band of a file, counted from 1; ``nodata`` where it isn't the one that the file states."""

    path: Path
    band: int
    nodata: float | None = None


@dataclass(frozen=True)
class _Raster:
    crs: Any
    transform: Affine
    shape: tuple[int, int]
    dtype: str
    nodata: float | None


def write_vrt(colours: Sequence[Sequence[BandSource]], path: Path, folder: Path) -> bool:
    """Write the .vrt; its names are relative to ``folder``, where it will lie.

    ``colours`` are red, green and blue, each of one or more files, the first on top. Files in
    another CRS than the first, or rotated, can't be placed: they are left out. False, and no
    file, where a colour has none left, or the first has no place itself.
    """
    rasters = {one.path: _look(one) for one in {s for of_band in colours for s in of_band}}
    first = rasters[colours[0][0].path]
    kept = [[s for s in of_band if _fits(rasters[s.path], first)] for of_band in colours]
    if not all(kept):
        return False
    used = [rasters[source.path] for of_band in kept for source in of_band]
    transform, shape = _grid(used)
    rows, cols = shape
    root = ET.Element("VRTDataset", rasterXSize=str(cols), rasterYSize=str(rows))
    if first.crs is not None:
        ET.SubElement(root, "SRS").text = first.crs.to_wkt()
    numbers = (transform.c, transform.a, 0.0, transform.f, 0.0, transform.e)
    ET.SubElement(root, "GeoTransform").text = ", ".join(map(repr, numbers))
    for number, (of_band, colour) in enumerate(zip(kept, _COLOURS, strict=True), 1):
        kind = _TYPES.get(rasters[of_band[0].path].dtype, "Float64")
        band = ET.SubElement(root, "VRTRasterBand", dataType=kind, band=str(number))
        ET.SubElement(band, "ColorInterp").text = colour
        nodata = rasters[of_band[0].path].nodata
        if nodata is not None:
            ET.SubElement(band, "NoDataValue").text = repr(nodata)
        for source in reversed(of_band):  # the last one drawn lies on top
            _add(band, source, rasters[source.path], transform, folder)
    try:
        path.write_text(ET.tostring(root, encoding="unicode"), encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{path}: could not be written: {error}") from error
    return True


def _look(source: BandSource) -> _Raster:
    with rasterio.open(source.path) as file:
        kind, stated = file.dtypes[source.band - 1], file.nodatavals[source.band - 1]
        nodata = stated if source.nodata is None else source.nodata
        return _Raster(file.crs, file.transform, file.shape, kind, nodata)


def _fits(one: _Raster, first: _Raster) -> bool:
    """Whether a raster can be placed on the first one's grid by shifting and scaling."""
    a = one.transform
    return bool(one.crs == first.crs and a.b == 0 and a.d == 0 and a.a > 0 and a.e < 0)


def _grid(rasters: Sequence[_Raster]) -> tuple[Affine, tuple[int, int]]:
    """The finest pixels over all."""
    step_x = min(one.transform.a for one in rasters)
    step_y = min(-one.transform.e for one in rasters)
    west, north = (
        min(one.transform.c for one in rasters),
        max(one.transform.f for one in rasters),
    )
    east = max(one.transform.c + one.transform.a * one.shape[1] for one in rasters)
    south = min(one.transform.f + one.transform.e * one.shape[0] for one in rasters)
    shape = max(1, round((north - south) / step_y)), max(1, round((east - west) / step_x))
    return Affine(step_x, 0, west, 0, -step_y, north), shape


def _add(
    band: ET.Element, source: BandSource, raster: _Raster, transform: Affine, folder: Path
) -> None:
    kind = "SimpleSource" if raster.nodata is None else "ComplexSource"
    node = ET.SubElement(band, kind)
    name = Path(os.path.relpath(source.path.resolve(), folder.resolve())).as_posix()
    ET.SubElement(node, "SourceFilename", relativeToVRT="1").text = name
    ET.SubElement(node, "SourceBand").text = str(source.band)
    rows, cols = raster.shape
    here = raster.transform
    x, y = ~transform @ (here.c, here.f)
    whole = {"xOff": "0", "yOff": "0", "xSize": str(cols), "ySize": str(rows)}
    ET.SubElement(node, "SrcRect", whole)
    wide, high = cols * here.a / transform.a, rows * here.e / transform.e
    place = {"xOff": x, "yOff": y, "xSize": wide, "ySize": high}
    ET.SubElement(node, "DstRect", {side: repr(value) for side, value in place.items()})
    if raster.nodata is not None:
        ET.SubElement(node, "NODATA").text = repr(raster.nodata)
