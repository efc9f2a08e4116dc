"""Maps to Cloud Optimized GeoTIFF, block by block, styled for QGIS.

A plain tiled GeoTIFF is filled first and turned into the COG by GDAL: memory stays bounded
whatever the size. Compression runs on one thread: with several, GDAL says nothing when the
disk is full. What was written is read back and compared before the file gets its name.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from xml.etree import ElementTree as ET

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio._err import CPLE_BaseError  # what the COG driver raises has no public name
from rasterio.errors import RasterioError
from rasterio.windows import Window as RasterioWindow

from geoseg.errors import OutputError
from geoseg.export import qgis
from geoseg.export.columns import with_legend
from geoseg.export.target import written_beside
from geoseg.grid import Window
from geoseg.legend import NODATA_CATEGORY, Legend, count_categories

__all__ = ["RasterOptions", "write_raster"]

Source = NDArray[Any] | Callable[[Window], NDArray[Any]]
Kind = Literal["category", "score", "instance"]

_STEP = 2048
_CACHE_BYTES = 8 << 20
_SIDE = 512
_LOWEST = 64
_CHUNK_BYTES = 1 << 20
"""Overviews are made of rows as wide as the raster, in several buffers of so many bytes each."""
_DTYPE = {"category": "uint8", "score": "uint8", "instance": "uint32"}
_NODATA = {"category": NODATA_CATEGORY, "score": 255, "instance": 0}
_SCORE_SCALE = 1 / 254


@dataclass(frozen=True, kw_only=True)
class RasterOptions:
    """What is rarely asked for.

    Attributes:
        kind: what the numbers are: ``category`` (uint8, 255 = nodata), ``score`` (uint8
            levels of 254, 255 = none; scaled to 0..1 when a GIS reads it) or ``instance``
            (uint32, 0 = none).
        bands: their descriptions where there are several, else the kind is its description.
        creation: options of GDAL's COG driver, by name.

    """

    kind: Kind = "category"
    bands: tuple[str, ...] = ()
    creation: Mapping[str, str] = field(default_factory=dict)


def write_raster(
    source: Source,
    path: str | os.PathLike[str],
    *,
    geobox: Any,
    legend: Legend | None = None,
    provenance: Mapping[str, str] | None = None,
    overwrite: bool = False,
    options: RasterOptions | None = None,
) -> dict[int, int]:
    """Write a map to a Cloud Optimized GeoTIFF; returns pixels per value of a class map.

    ``source`` is an array (row, col), or (band, row, col) where ``options`` name bands, or a
    function that gives one for a Window of the grid ``geobox`` (odc-geo's; its crs may be
    None). With a legend a class map gets its colour table, category names and attribute table
    (``.aux.xml``) and a ``.qml`` for QGIS beside.
    Overviews take the mode of classes, the mean of scores, the nearest instance.

    Raises OutputError when the file can't be written or reads back otherwise than it was
    written; nothing is left then.
    """
    options = options or RasterOptions()
    rows, cols = (int(n) for n in geobox.shape)
    read = source if callable(source) else _reader_of(source, (rows, cols), path)
    with written_beside(path, overwrite, kinds=("raster",)) as part:
        plain = part.with_name("plain")  # no output is called so: it has an extension
        try:
            with rasterio.Env(**_bounds((rows, cols), options)):
                sums, counts = _fill(read, plain, geobox, legend, options)
                _tag(plain, with_legend(provenance, legend), options)
                _to_cog(plain, part, options)
                plain.unlink()
                _compare(part, sums, (rows, cols))
        except (RasterioError, CPLE_BaseError) as error:
            raise OutputError(
                f"{path}: could not be written: {error.__cause__ or error}"
            ) from error
        _sidecars(part, legend, options, counts)
    return {} if counts is None else {int(v): int(counts[v]) for v in np.flatnonzero(counts)}


def _bounds(shape: tuple[int, int], options: RasterOptions) -> dict[str, Any]:
    """What keeps GDAL's memory the same for rasters of any width; no byte depends on it."""
    return {
        "GDAL_CACHEMAX": _CACHE_BYTES,
        "GDAL_OVR_CHUNKYSIZE": _rows_at_once(shape[1], options),
        # of temporary overviews: Zstandard, which it would be, takes 15 MB a thread and is slower
        "COG_TMP_COMPRESSION": "LZW",
    }


def _rows_at_once(cols: int, options: RasterOptions) -> int:
    """Rows of a block of the plain file: a power of two, so that they fill the COG's blocks."""
    rows = _SIDE
    while rows > _LOWEST and rows * cols * np.dtype(_DTYPE[options.kind]).itemsize > _CHUNK_BYTES:
        rows //= 2
    return rows


def _reader_of(
    array: NDArray[Any], shape: tuple[int, int], path: str | os.PathLike[str]
) -> Callable[[Window], NDArray[Any]]:
    if array.shape[-2:] != shape:
        raise OutputError(f"{path}: an array of {array.shape} does not fit a grid of {shape}")
    return lambda window: array[(..., *window.slices)]


def _windows(shape: tuple[int, int]) -> Iterator[Window]:
    whole = Window(0, 0, *shape)
    for row in range(0, shape[0], _STEP):
        for col in range(0, shape[1], _STEP):
            yield Window(row, col, _STEP, _STEP) & whole


def _of_rasterio(window: Window) -> RasterioWindow:
    return RasterioWindow(window.col_off, window.row_off, window.width, window.height)


def _fill(
    read: Callable[[Window], NDArray[Any]],
    plain: Path,
    geobox: Any,
    legend: Legend | None,
    options: RasterOptions,
) -> tuple[list[int], NDArray[np.int64] | None]:
    """Write all pixels; the checksum of each window, and the counts of a class map."""
    rows, cols = (int(n) for n in geobox.shape)
    dtype = _DTYPE[options.kind]
    sums: list[int] = []
    counts = np.zeros(256, np.int64) if options.kind == "category" else None
    profile = {
        "driver": "GTiff",
        "width": cols,
        "height": rows,
        "count": max(len(options.bands), 1),
        "dtype": dtype,
        "nodata": _NODATA[options.kind],
        "crs": None if geobox.crs is None else geobox.crs.to_wkt(),
        # a grid in pixels has none; rasterio would warn of the identity
        "transform": None if geobox.affine.is_identity else geobox.affine,
        "tiled": True,
        "blockxsize": _SIDE,
        "blockysize": _rows_at_once(cols, options),
        "compress": "deflate",
        "zlevel": 1,
        "BIGTIFF": "IF_SAFER",
    }
    with rasterio.open(plain, "w", **profile) as file:
        if legend is not None and options.kind == "category":
            file.write_colormap(1, {c.id: (*c.rgb, 255) for c in legend})
        for window in _windows((rows, cols)):
            pixels = np.ascontiguousarray(read(window), dtype)
            layers = pixels.reshape(-1, *window.shape)
            file.write(layers, window=_of_rasterio(window))
            sums.append(zlib.crc32(pixels.data))
            if counts is not None:
                counts += count_categories(pixels)
    return sums, counts


def _tag(plain: Path, provenance: Mapping[str, str], options: RasterOptions) -> None:
    # with a driver, since what a full disk has cut short is of none, which is a TypeError
    with rasterio.open(plain, "r+", driver="GTiff") as file:
        file.update_tags(**provenance)
        for number, name in enumerate(options.bands or (options.kind,), 1):
            file.set_band_description(number, name)
        if options.kind == "score":
            file.scales = (_SCORE_SCALE,) * file.count


def _to_cog(plain: Path, part: Path, options: RasterOptions) -> None:
    from rasterio.shutil import copy

    resampling = {"category": "MODE", "score": "AVERAGE", "instance": "NEAREST"}[options.kind]
    creation = {
        "COMPRESS": "DEFLATE",
        "BLOCKSIZE": str(_SIDE),
        "OVERVIEW_RESAMPLING": resampling,
        "BIGTIFF": "IF_SAFER",
        "NUM_THREADS": "ALL_CPUS",  # the bytes are those of one thread
        **{name.upper(): value for name, value in options.creation.items()},
    }
    copy(plain, part, driver="COG", **creation)


def _compare(part: Path, sums: list[int], shape: tuple[int, int]) -> None:
    """Read every pixel back; raises OutputError where one differs."""
    with rasterio.open(part, driver="GTiff") as file:
        for window, expected in zip(_windows(shape), sums, strict=True):
            pixels = np.ascontiguousarray(file.read(window=_of_rasterio(window)))
            if zlib.crc32(pixels.data) != expected:
                raise OutputError(
                    f"{part.name}: {window} reads back otherwise than it was written: "
                    "check the disk's free space and write again"
                )


def _sidecars(
    part: Path, legend: Legend | None, options: RasterOptions, counts: NDArray[np.int64] | None
) -> None:
    style = ""
    if options.kind == "category" and legend is not None and counts is not None:
        style = qgis.raster_qml(legend)
        part.with_name(part.name + ".aux.xml").write_text(_pam(legend, counts), encoding="utf-8")
    elif options.kind == "score":
        style = qgis.score_qml()
    if style:
        part.with_suffix(".qml").write_text(style, encoding="utf-8")


def _pam(legend: Legend, counts: NDArray[np.int64]) -> str:
    """GDAL's side file: category names and a raster attribute table."""
    root = ET.Element("PAMDataset")
    band = ET.SubElement(root, "PAMRasterBand", band="1")
    names = {category.id: qgis.clean_text(category.name) for category in legend}
    listed = ET.SubElement(band, "CategoryNames")
    for number in range(max(names, default=-1) + 1):
        ET.SubElement(listed, "Category").text = names.get(number, "")
    table = ET.SubElement(band, "GDALRasterAttributeTable", tableType="thematic")
    # name, GDAL's type (0 integer, 2 text), GDAL's usage
    columns = (
        ("Value", 0, 5),
        ("Class", 2, 2),
        ("Red", 0, 6),
        ("Green", 0, 7),
        ("Blue", 0, 8),
        ("Count", 0, 1),
    )
    for index, (name, kind, usage) in enumerate(columns):
        column = ET.SubElement(table, "FieldDefn", index=str(index))
        for tag, value in (("Name", name), ("Type", kind), ("Usage", usage)):
            ET.SubElement(column, tag).text = str(value)
    for index, category in enumerate(legend):
        row = ET.SubElement(table, "Row", index=str(index))
        # counts beyond 32 bits do not fit GDAL's integer column
        count = min(int(counts[category.id]), 2**31 - 1)
        for value in (category.id, names[category.id], *category.rgb, count):
            ET.SubElement(row, "F").text = str(value)
    return ET.tostring(root, encoding="unicode")
