"""A Sentinel-2 product folder (SAFE) as one scene on its 10 m grid.

Folder layout, file names and metadata follow ESA's Sentinel-2 Products Specification Document.
"""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Literal
from xml.etree import ElementTree

from geoseg.errors import SceneError
from geoseg.scene.geotiff import open_file
from geoseg.scene.reader import Band, Scene
from geoseg.scene.regrid import on_grid
from geoseg.scene.stack import stack

__all__ = ["WAVELENGTHS_UM", "is_safe", "open_safe"]

WAVELENGTHS_UM = {
    "B01": 0.4427, "B02": 0.4924, "B03": 0.5598, "B04": 0.6646, "B05": 0.7041, "B06": 0.7405,
    "B07": 0.7828, "B08": 0.8328, "B8A": 0.8647, "B09": 0.9451, "B10": 1.3735, "B11": 1.6137,
    "B12": 2.2024,
}  # fmt: skip
"""Central wavelengths of Sentinel-2A's MSI, in band order."""

_ORDER = tuple(WAVELENGTHS_UM)
_FILE = re.compile(r"_(B\d\d|B8A|SCL)(?:_(\d\d)m)?\.jp2$", re.IGNORECASE)
_METADATA = (
    "PRODUCT_URI",
    "PROCESSING_LEVEL",
    "PROCESSING_BASELINE",
    "PRODUCT_START_TIME",
    "SPACECRAFT_NAME",
)


def is_safe(path: Path) -> bool:
    """Whether a folder is a Sentinel-2 product."""
    return os.path.isdir(path) and (
        path.suffix.upper() == ".SAFE" or any(path.glob("MTD_MSIL[12][AC].xml"))
    )


def open_safe(folder: Path, *, nodata: float | Literal["none"] | None = None) -> Scene:
    """All bands of a product, each from its finest file, on the 10 m grid.

    Digital numbers as stored; scale and offset of each band are the product's (offset -1000
    since processing baseline 04.00). 0 is nodata. SCL, where there is one, is the scene's
    ``quality``. Raises SceneError where the folder has no band that can be read.
    """
    files = _band_files(folder)
    value = 0 if nodata is None else nodata
    bands = {name: open_file(path, nodata=value) for name, path in files.items()}
    classes = bands.pop("SCL", None)
    if not bands:
        raise SceneError(f"{folder}: no band in GRANULE/*/IMG_DATA/*.jp2: unpack the whole product")
    finest = min(bands.values(), key=lambda scene: scene.gsd_m or float("inf"))
    offsets, quantification, tags = _metadata(folder)
    named = []
    for name in sorted(bands, key=_ORDER.index):
        band = Band(
            name=name,
            wavelength_um=WAVELENGTHS_UM[name],
            scale=1 / quantification,
            offset=offsets.get(name, 0.0) / quantification,
        )
        named.append(replace(bands[name], bands=(band,)))
    scene = stack(named, grid=finest.geobox)
    quality = None
    if classes is not None:
        classes = replace(classes, bands=(Band("SCL"),))
        quality = on_grid(classes, finest.geobox, method="nearest")
    return replace(scene, name=folder.name, tags={**scene.tags, **tags}, quality=quality)


def _band_files(folder: Path) -> dict[str, Path]:
    found: dict[str, tuple[int, Path]] = {}
    for path in sorted(folder.glob("GRANULE/*/IMG_DATA/**/*.jp2")):
        match = _FILE.search(path.name)
        if match is None:
            continue
        name, metres = match[1].upper(), int(match[2] or 0)
        if name not in found or metres < found[name][0]:
            found[name] = metres, path
    return {name: path for name, (_, path) in found.items()}


def _metadata(folder: Path) -> tuple[dict[str, float], float, dict[str, str]]:
    """Offset per band in digital numbers, digital numbers per unit, and tags."""
    tags = {"file": folder.name}
    path = next(iter(sorted(folder.glob("MTD_MSIL[12][AC].xml"))), None)
    if path is None:
        return {}, 10_000.0, tags
    try:
        root = ElementTree.parse(path).getroot()
    except (ElementTree.ParseError, OSError) as error:
        raise SceneError(f"{path}: not the product's metadata: {error}") from error
    offsets: dict[str, float] = {}
    quantification = 10_000.0
    for element in root.iter():
        name, text = element.tag.rpartition("}")[2], (element.text or "").strip()
        if name in _METADATA:
            tags[name] = text
        elif name in ("BOA_ADD_OFFSET", "RADIO_ADD_OFFSET"):
            offsets[_ORDER[int(element.attrib["band_id"])]] = float(text)
        elif name in ("BOA_QUANTIFICATION_VALUE", "QUANTIFICATION_VALUE"):
            quantification = float(text)
    if offsets:
        tags["BOA_ADD_OFFSET"] = ",".join(f"{value:g}" for value in sorted(set(offsets.values())))
    return offsets, quantification, tags
