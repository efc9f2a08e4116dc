"""A QGIS project: the scene, the maps and the polygons, grouped, styled, ready to print.

Paths are relative, so the folder can be moved. There are no macros and no expressions taken
from data. The style of every layer is in the project itself.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from xml.etree import ElementTree as ET

import numpy as np
import pyogrio
import rasterio
from pyproj import CRS, Geod

from geoseg.errors import InputError
from geoseg.export import qgis
from geoseg.export.layout import print_layout
from geoseg.export.ogr import date
from geoseg.export.target import RASTERS, written_beside
from geoseg.legend import NODATA_CATEGORY, Legend

__all__ = ["Project", "ProjectLayer", "hectares_of", "role_of", "write_project"]

Role = Literal["polygons", "category", "score", "scene"]

_GROUPS = {"polygons": "Map", "category": "Map", "score": "Confidence", "scene": "Scene"}
_BOOKMARKS = 10
_SAMPLE_PX = 512


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


@dataclass(frozen=True, kw_only=True)
class Project:
    """What the project shows.

    Attributes:
        layers: from the top of the map to its ground.
        legend: of class rasters and polygons.
        title: of project and page.
        note: the line below the printed map: sources and licences.
        hectares: by category_id, shown in the legend.

    """

    layers: Sequence[ProjectLayer]
    legend: Legend
    title: str
    note: str = ""
    hectares: Mapping[int, float] = field(default_factory=dict)


def write_project(
    project: Project, path: str | os.PathLike[str], *, overwrite: bool = False
) -> None:
    """Write a .qgz; raises OutputError, or InputError when a layer can't be read."""
    with written_beside(path, overwrite, kinds=("project",)) as part:
        folder = Path(path).resolve().parent
        text = qgis.document(_document(project, folder))
        entry = zipfile.ZipInfo(f"{part.stem}.qgs", date().timetuple()[:6])
        entry.compress_type = zipfile.ZIP_DEFLATED
        with zipfile.ZipFile(part, "w") as archive:
            archive.writestr(entry, text)


@dataclass(frozen=True)
class _Ground:
    """Where a layer lies."""

    crs: CRS | None
    extent: tuple[float, float, float, float]


def _ground(layer: ProjectLayer) -> _Ground:
    try:
        if layer.role == "polygons":
            info = pyogrio.read_info(layer.path, layer=_layer_name(layer), force_total_bounds=True)
            crs = None if info["crs"] is None else CRS.from_user_input(info["crs"])
            return _Ground(crs, tuple(info["total_bounds"]))
        with rasterio.open(layer.path) as file:
            crs = None if file.crs is None else CRS.from_wkt(file.crs.to_wkt())
            return _Ground(crs, tuple(file.bounds))
    except (rasterio.errors.RasterioIOError, pyogrio.errors.DataSourceError) as error:
        raise InputError(f"{layer.path}: can't be read as a layer: {error}") from error


def _layer_name(layer: ProjectLayer) -> str | None:
    """The first layer with a geometry."""
    for name, kind in pyogrio.list_layers(layer.path):
        if kind is not None:
            return str(name)
    raise InputError(f"{layer.path}: has no layer with a geometry")


def _document(project: Project, folder: Path) -> ET.Element:
    root = ET.Element("qgis", version="3.22.0", projectname=qgis.clean_text(project.title))
    ET.SubElement(root, "title").text = qgis.clean_text(project.title)
    grounds = [_ground(layer) for layer in project.layers]
    # QGIS takes no id of ten characters or fewer
    ids = [f"geoseg_layer_{layer.role}_{number}" for number, layer in enumerate(project.layers)]
    main = grounds[0]
    if main.crs is not None:
        _srs(ET.SubElement(root, "projectCrs"), main.crs)
    _tree(root, project.layers, ids)
    nodes = ET.SubElement(root, "projectlayers")
    for layer, number, ground in zip(project.layers, ids, grounds, strict=True):
        nodes.append(_map_layer(layer, number, ground, project, folder))
    order = ET.SubElement(root, "layerorder")
    for number in ids:
        ET.SubElement(order, "layer", id=number)
    _properties(root)
    views = ET.SubElement(root, "ProjectViewSettings")
    view = ET.SubElement(views, "DefaultViewExtent", _box(main.extent))
    if main.crs is not None:
        _srs(view, main.crs)
    _bookmarks(root, project.layers, main)
    listed = [
        (number, layer.name, _entries(project, layer))
        for layer, number in zip(project.layers, ids, strict=True)
        if layer.role in {"polygons", "category"}
    ][:1]
    unit = _metres_per_unit(main)
    layouts = ET.SubElement(root, "Layouts")
    layouts.append(print_layout(project.title, project.note, main.extent, unit, listed))
    return root


def _box(extent: Sequence[float]) -> dict[str, str]:
    return {
        n: repr(float(v)) for n, v in zip(("xmin", "ymin", "xmax", "ymax"), extent, strict=True)
    }


def _metres_per_unit(ground: _Ground) -> float:
    if ground.crs is None:
        return 1.0
    if not ground.crs.is_geographic:
        return float(ground.crs.axis_info[0].unit_conversion_factor)
    xmin, ymin, xmax, ymax = ground.extent
    x, y = (xmin + xmax) / 2, (ymin + ymax) / 2
    return float(Geod(ellps="WGS84").inv(x - 0.005, y, x + 0.005, y)[2]) * 100


def _srs(parent: ET.Element, crs: CRS) -> None:
    node = ET.SubElement(parent, "spatialrefsys")
    ET.SubElement(node, "wkt").text = crs.to_wkt()
    authority = crs.to_authority()
    ET.SubElement(node, "authid").text = ":".join(authority) if authority else ""
    ET.SubElement(node, "description").text = crs.name
    ET.SubElement(node, "geographicflag").text = "true" if crs.is_geographic else "false"


def _tree(root: ET.Element, layers: Sequence[ProjectLayer], ids: Sequence[str]) -> None:
    tree = ET.SubElement(root, "layer-tree-group")
    groups: dict[str, ET.Element] = {}
    shown = next((number for layer, number in zip(layers, ids) if layer.role == "polygons"), "")
    for layer, number in zip(layers, ids, strict=True):
        name = _GROUPS[layer.role]
        if name not in groups:
            groups[name] = ET.SubElement(
                tree, "layer-tree-group", name=name, expanded="1", checked="Qt::Checked"
            )
        # polygons over the scene; the rasters are one click away
        on = layer.role in {"polygons", "scene"} or (layer.role == "category" and not shown)
        ET.SubElement(
            groups[name],
            "layer-tree-layer",
            id=number,
            name=qgis.clean_text(layer.name),
            expanded="1" if on and layer.role != "scene" else "0",
            checked="Qt::Checked" if on else "Qt::Unchecked",
        )


def _properties(root: ET.Element) -> None:
    properties = ET.SubElement(root, "properties")
    crs = ET.SubElement(properties, "SpatialRefSys")
    ET.SubElement(crs, "ProjectionsEnabled", type="int").text = "1"
    paths = ET.SubElement(properties, "Paths")
    ET.SubElement(paths, "Absolute", type="bool").text = "false"
    measure = ET.SubElement(properties, "Measurement")
    ET.SubElement(measure, "AreaUnits", type="QString").text = "ha"
    ET.SubElement(measure, "DistanceUnits", type="QString").text = "meters"


def _map_layer(
    layer: ProjectLayer, number: str, ground: _Ground, project: Project, folder: Path
) -> ET.Element:
    vector = layer.role == "polygons"
    node = ET.Element(
        "maplayer", type="vector" if vector else "raster", hasScaleBasedVisibilityFlag="0"
    )
    ET.SubElement(node, "id").text = number
    relative = os.path.relpath(layer.path.resolve(), folder)
    source = f"./{Path(relative).as_posix()}"
    if vector:
        node.set("geometry", "Polygon")
        node.set("labelsEnabled", "1")
        source += f"|layername={_layer_name(layer)}"
    ET.SubElement(node, "datasource").text = source
    ET.SubElement(node, "layername").text = qgis.clean_text(layer.name)
    if ground.crs is not None:
        _srs(ET.SubElement(node, "srs"), ground.crs)
    provider = ET.SubElement(node, "provider")
    provider.text = "ogr" if vector else "gdal"
    if vector:
        provider.set("encoding", "UTF-8")
        node.append(qgis.renderer(project.legend, "polygons", "category_id", _names(project)))
        if any(category.isthing for category in project.legend):
            node.append(qgis.labels())
        ET.SubElement(node, "layerGeometryType").text = "2"
    else:
        ET.SubElement(node, "pipe").append(_raster_renderer(layer, project))
    return node


def _names(project: Project) -> dict[int, str]:
    """Names with their hectares, for the legend."""
    return {
        c.id: f"{c.name} ({project.hectares[c.id]:,.1f} ha)"
        for c in project.legend
        if c.id in project.hectares
    }


def _entries(project: Project, layer: ProjectLayer) -> dict[int, str]:
    """Entries of a layer's legend that are printed, by their place: classes that are there."""
    names = _names(project)
    shown = [c for c in project.legend if layer.role == "polygons" or c.id != NODATA_CATEGORY]
    return {
        place: names.get(c.id, c.name)
        for place, c in enumerate(shown)
        if not project.hectares or project.hectares.get(c.id)
    }


def _raster_renderer(layer: ProjectLayer, project: Project) -> ET.Element:
    if layer.role == "category":
        return qgis.palette(project.legend, 0.7, _names(project))
    if layer.role == "score":
        return qgis.grey(0.8, 0, 1)
    return _scene_renderer(layer)


def _scene_renderer(layer: ProjectLayer) -> ET.Element:
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


def _bookmarks(root: ET.Element, layers: Sequence[ProjectLayer], main: _Ground) -> None:
    """The largest objects, or, on a map without objects, the largest polygons."""
    node = ET.SubElement(root, "Bookmarks")
    layer = next((layer for layer in layers if layer.role == "polygons"), None)
    if layer is None or main.crs is None:
        return
    fields = set(pyogrio.read_info(layer.path, layer=_layer_name(layer))["fields"])
    if not {"category", "area_m2", "isthing"} <= fields:
        return
    name = str(_layer_name(layer)).replace('"', '""')
    query = f'SELECT * FROM "{name}" ORDER BY isthing DESC, area_m2 DESC LIMIT {_BOOKMARKS}'
    found = pyogrio.read_dataframe(layer.path, sql=query, sql_dialect="SQLITE")
    for rank, row in enumerate(found.itertuples(), 1):
        xmin, ymin, xmax, ymax = row.geometry.bounds
        ring = ", ".join(
            f"{x!r} {y!r}"
            for x, y in ((xmin, ymin), (xmax, ymin), (xmax, ymax), (xmin, ymax), (xmin, ymin))
        )
        title = f"{rank}. {row.category}, {row.area_m2 / 1e4:,.2f} ha"
        mark = ET.SubElement(
            node,
            "Bookmark",
            id=f"geoseg-{rank}",
            name=qgis.clean_text(title),
            group="Largest",
            extent=f"POLYGON(({ring}))",
        )
        _srs(mark, main.crs)


def role_of(path: Path) -> Role:
    """What a file is, by what geoseg wrote into it; raises InputError when it can't be read."""
    if path.suffix.lower() not in RASTERS:
        return "polygons"
    try:
        with rasterio.open(path) as file:
            kind = file.descriptions[0] if file.count == 1 else None
    except rasterio.errors.RasterioIOError as error:
        raise InputError(f"{path}: can't be read: {error}") from error
    if kind == "category":
        return "category"
    return "score" if kind == "score" else "scene"


def hectares_of(layer: ProjectLayer) -> dict[int, float]:
    """Sums of ``area_m2`` by category_id; empty for rasters and tables without areas."""
    if layer.role != "polygons":
        return {}
    name = _layer_name(layer)
    if not {"category_id", "area_m2"} <= set(pyogrio.read_info(layer.path, layer=name)["fields"]):
        return {}
    columns = ["category_id", "area_m2"]
    table = pyogrio.read_dataframe(layer.path, layer=name, columns=columns, read_geometry=False)
    sums = table.groupby("category_id")["area_m2"].sum() / 1e4
    return {int(number): float(area) for number, area in sums.items()}
