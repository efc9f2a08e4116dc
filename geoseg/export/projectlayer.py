"""A layer of a QGIS project: which file, what it is, where it lies, how a scene is drawn."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from xml.etree import ElementTree as ET

import numpy as np
import pyogrio
import rasterio
from pyproj import CRS, Geod

from geoseg.errors import InputError
from geoseg.export.columns import aliases_in, shapefile_name
from geoseg.export.target import RASTERS

__all__ = [
    "Ground",
    "ProjectLayer",
    "Role",
    "add_srs",
    "aliases_of",
    "box_of",
    "category_column",
    "check_name",
    "ground_of",
    "has_points",
    "hectares_of",
    "layer_name",
    "metres_per_unit",
    "role_of",
    "scene_renderer",
]

Role = Literal["polygons", "category", "score", "scene"]

_SAMPLE_PX = 512
_MISREAD = re.compile(r"\||%[0-9A-Fa-f]{2}")
"""The first ends a path in QGIS' sources, the other is decoded by GDAL 3.6."""
_IMAGES = (".jp2", ".jpg", ".jpeg", ".png")
"""Scenes, and never maps of geoseg's."""


@dataclass(frozen=True, kw_only=True)
class ProjectLayer:
    """One file of the project.

    Attributes:
        path: of the file; named relative to the project.
        role: what it is, which decides its style and its group.
        name: shown in the tree.
        bands: numbers from 1 shown as red, green and blue (scenes).

    """

    path: Path
    role: Role
    name: str
    bands: tuple[int, int, int] = (1, 2, 3)


def role_of(path: Path) -> Role:
    """What a file is, by what geoseg wrote into it; raises InputError when it can't be read."""
    if path.suffix.lower() in _IMAGES:
        return "scene"
    if path.suffix.lower() not in RASTERS:
        return "polygons"
    try:
        # only as what it is called: a VRT in disguise may read any file, and the network
        with rasterio.open(path, driver="GTiff") as file:
            kind = file.descriptions[0] if file.count == 1 else None
            layer = file.tags().get("layer")
    except rasterio.errors.RasterioIOError as error:
        raise InputError(f"{path}: can't be read: {error}") from error
    if kind == "category":
        return "category"
    return "score" if kind == "score" or (layer and kind == layer) else "scene"


def check_name(layer: ProjectLayer) -> None:
    """Raises InputError for a table whose path QGIS would take for something else."""
    if layer.role == "polygons" and _MISREAD.search(str(layer.path)):
        raise InputError(
            f"{layer.path}: QGIS can't open tables with | or %20 and the like in their path: "
            "choose another name"
        )
    if layer.path.suffix.lower() == ".pmtiles":
        raise InputError(f"{layer.path}: tiles hold polygons in pieces: give the map as .gpkg, say")


def category_column(layer: ProjectLayer) -> str:
    """The number of the class; a shapefile's names are shorter."""
    fields = set(pyogrio.read_info(layer.path, layer=layer_name(layer))["fields"])
    short = shapefile_name("category_id", set())
    return short if short in fields and "category_id" not in fields else "category_id"


def hectares_of(layer: ProjectLayer) -> dict[int, float]:
    """Sums of ``area_m2`` by category_id; empty for rasters and tables without areas."""
    if layer.role != "polygons":
        return {}
    name = layer_name(layer)
    if not {"category_id", "area_m2"} <= set(pyogrio.read_info(layer.path, layer=name)["fields"]):
        return {}
    columns = ["category_id", "area_m2"]
    table = pyogrio.read_dataframe(layer.path, layer=name, columns=columns, read_geometry=False)
    sums = table.groupby("category_id")["area_m2"].sum() / 1e4
    return {int(number): float(area) for number, area in sums.items()}


@dataclass(frozen=True)
class Ground:
    """Where a layer lies."""

    crs: CRS | None
    extent: tuple[float, float, float, float]


def ground_of(layer: ProjectLayer) -> Ground:
    """From the file; raises InputError when it can't be read."""
    try:
        if layer.role == "polygons":
            info = pyogrio.read_info(layer.path, layer=layer_name(layer), force_total_bounds=True)
            crs = None if info["crs"] is None else CRS.from_user_input(info["crs"])
            # an empty layer has none
            return Ground(crs, tuple(info["total_bounds"] or (0.0, 0.0, 0.0, 0.0)))
        with rasterio.open(layer.path) as file:
            crs = None if file.crs is None else CRS.from_wkt(file.crs.to_wkt())
            return Ground(crs, tuple(file.bounds))
    except (rasterio.errors.RasterioIOError, pyogrio.errors.DataSourceError) as error:
        raise InputError(f"{layer.path}: can't be read as a layer: {error}") from error


def aliases_of(layer: ProjectLayer) -> dict[str, str]:
    """Names of the columns as people read them, of those that geoseg knows."""
    fields = pyogrio.read_info(layer.path, layer=layer_name(layer))["fields"]
    return aliases_in(map(str, fields))


def has_points(layer: ProjectLayer) -> bool:
    """Whether points stand for the segments."""
    return "Point" in str(pyogrio.read_info(layer.path, layer=layer_name(layer))["geometry_type"])


def layer_name(layer: ProjectLayer) -> str | None:
    """The first layer with a geometry."""
    for name, kind in pyogrio.list_layers(layer.path):
        if kind is not None:
            return str(name)
    raise InputError(f"{layer.path}: has no layer with a geometry")


def box_of(extent: Sequence[float]) -> dict[str, str]:
    """xmin, ymin, xmax, ymax as attributes."""
    return {
        n: repr(float(v)) for n, v in zip(("xmin", "ymin", "xmax", "ymax"), extent, strict=True)
    }


def metres_per_unit(ground: Ground) -> float:
    """Of the CRS at the layer's centre; 1 without a CRS."""
    if ground.crs is None:
        return 1.0
    if not ground.crs.is_geographic:
        return float(ground.crs.axis_info[0].unit_conversion_factor)
    xmin, ymin, xmax, ymax = ground.extent
    x, y = (xmin + xmax) / 2, (ymin + ymax) / 2
    return float(Geod(ellps="WGS84").inv(x - 0.005, y, x + 0.005, y)[2]) * 100


def add_srs(parent: ET.Element, crs: CRS) -> None:
    """A CRS as QGIS writes it, inside ``parent``."""
    node = ET.SubElement(parent, "spatialrefsys")
    ET.SubElement(node, "wkt").text = crs.to_wkt()
    authority = crs.to_authority()
    ET.SubElement(node, "authid").text = ":".join(authority) if authority else ""
    ET.SubElement(node, "description").text = crs.name
    ET.SubElement(node, "geographicflag").text = "true" if crs.is_geographic else "false"


def scene_renderer(layer: ProjectLayer) -> ET.Element:
    """Bands stretched between their 2nd and 98th percentile."""
    with rasterio.open(layer.path) as file:
        step = max(1.0, max(file.shape) / _SAMPLE_PX)
        shape = tuple(max(1, int(n / step)) for n in file.shape)
        count = file.count
        bands = [min(band, count) for band in layer.bands]
        sample: Any = file.read(bands, out_shape=(3, *shape), masked=True).astype(float)
    node = ET.Element("rasterrenderer", type="multibandcolor", opacity="1", alphaBand="-1")
    ET.SubElement(node, "rasterTransparency")
    for name, band, values in zip(("red", "green", "blue"), bands, sample, strict=True):
        node.set(f"{name}Band", str(band))
        seen = values.compressed()
        seen = seen[np.isfinite(seen)]
        low, high = np.percentile(seen, [2, 98]) if seen.size else (0.0, 1.0)
        stretch = ET.SubElement(node, f"{name}ContrastEnhancement")
        ET.SubElement(stretch, "minValue").text = repr(float(low))
        ET.SubElement(stretch, "maxValue").text = repr(float(max(high, low + 1e-6)))
        ET.SubElement(stretch, "algorithm").text = "StretchToMinimumMaximum"
    return node
