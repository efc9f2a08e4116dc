"""A QGIS project: the scene, the maps and the polygons, grouped, styled, ready to print.

Paths are relative, so the folder can be moved. There are no macros and no expressions taken
from data. The style of every layer is in the project itself.
"""

from __future__ import annotations

import math
import os
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree as ET

import pyogrio

from geoseg.export import qgis
from geoseg.export.columns import area_text, closed
from geoseg.export.layout import print_layout
from geoseg.export.ogr import date
from geoseg.export.projectlayer import (
    Ground,
    ProjectLayer,
    add_srs,
    aliases_of,
    box_of,
    category_column,
    check_name,
    ground_of,
    has_points,
    layer_name,
    metres_per_unit,
    scene_renderer,
)
from geoseg.export.target import written_beside
from geoseg.legend import NODATA_CATEGORY, Legend

__all__ = ["Project", "write_project"]

_GROUPS = {"polygons": "Map", "category": "Map", "score": "Confidence", "scene": "Scene"}
_BOOKMARKS = 10


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
    for layer in project.layers:
        check_name(layer)
    with written_beside(path, overwrite, kinds=("project",)) as part:
        folder = Path(path).resolve().parent
        text = qgis.document(_document(project, folder))
        entry = zipfile.ZipInfo(f"{part.stem}.qgs", date().timetuple()[:6])
        entry.compress_type = zipfile.ZIP_DEFLATED
        with zipfile.ZipFile(part, "w") as archive:
            archive.writestr(entry, text)


def _document(project: Project, folder: Path) -> ET.Element:
    root = ET.Element("qgis", version="3.22.0", projectname=qgis.clean_text(project.title))
    ET.SubElement(root, "title").text = qgis.clean_text(project.title)
    grounds = [ground_of(layer) for layer in project.layers]
    # QGIS takes no id of ten characters or fewer
    ids = [f"geoseg_layer_{layer.role}_{number}" for number, layer in enumerate(project.layers)]
    main = grounds[0]
    if main.crs is not None:
        add_srs(ET.SubElement(root, "projectCrs"), main.crs)
    _tree(root, project.layers, ids)
    nodes = ET.SubElement(root, "projectlayers")
    for layer, number, ground in zip(project.layers, ids, grounds, strict=True):
        nodes.append(_map_layer(layer, number, ground, project, folder))
    order = ET.SubElement(root, "layerorder")
    for number in ids:
        ET.SubElement(order, "layer", id=number)
    _properties(root)
    views = ET.SubElement(root, "ProjectViewSettings")
    view = ET.SubElement(views, "DefaultViewExtent", box_of(main.extent))
    if main.crs is not None:
        add_srs(view, main.crs)
    _bookmarks(root, project.layers, main)
    listed = [
        (number, layer.name, _entries(project, layer))
        for layer, number in zip(project.layers, ids, strict=True)
        if layer.role in {"polygons", "category"}
    ][:1]
    unit = metres_per_unit(main)
    layouts = ET.SubElement(root, "Layouts")
    layouts.append(print_layout(project.title, project.note, main.extent, unit, listed))
    return root


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
    layer: ProjectLayer, number: str, ground: Ground, project: Project, folder: Path
) -> ET.Element:
    vector = layer.role == "polygons"
    node = ET.Element(
        "maplayer", type="vector" if vector else "raster", hasScaleBasedVisibilityFlag="0"
    )
    ET.SubElement(node, "id").text = number
    relative = os.path.relpath(layer.path.resolve(), folder)
    source = f"./{Path(relative).as_posix()}"
    if vector:
        points = has_points(layer)
        node.set("geometry", "Point" if points else "Polygon")
        node.set("labelsEnabled", "1")
        source += f"|layername={layer_name(layer)}"
    ET.SubElement(node, "datasource").text = source
    ET.SubElement(node, "layername").text = qgis.clean_text(layer.name)
    if ground.crs is not None:
        add_srs(ET.SubElement(node, "srs"), ground.crs)
    provider = ET.SubElement(node, "provider")
    provider.text = "ogr" if vector else "gdal"
    if vector:
        provider.set("encoding", "UTF-8")
        kind = "points" if points else "polygons"
        column = category_column(layer)
        node.append(qgis.renderer(project.legend, kind, column, _names(project)))
        if any(category.isthing for category in project.legend):
            node.append(qgis.labels())
        node.append(qgis.alias_list(aliases_of(layer)))
        ET.SubElement(node, "layerGeometryType").text = "0" if points else "2"
    else:
        pipe = ET.SubElement(node, "pipe")
        pipe.append(_raster_renderer(layer, project))
        if layer.role == "scene":  # few bright places leave the rest of it dark
            ET.SubElement(pipe, "brightnesscontrast", brightness="0", contrast="0", gamma="1.4")
    return node


def _names(project: Project) -> dict[int, str]:
    """Names with their areas, for the legend."""
    return {
        c.id: f"{closed(c.name)} ({area_text(project.hectares[c.id] * 1e4)})"
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
    return scene_renderer(layer)


def _bookmarks(root: ET.Element, layers: Sequence[ProjectLayer], main: Ground) -> None:
    """The largest objects, or, on a map without objects, the largest polygons."""
    node = ET.SubElement(root, "Bookmarks")
    layer = next((layer for layer in layers if layer.role == "polygons"), None)
    if layer is None or main.crs is None:
        return
    fields = set(pyogrio.read_info(layer.path, layer=layer_name(layer))["fields"])
    if not {"category", "area_m2", "isthing"} <= fields:
        return
    name = str(layer_name(layer)).replace('"', '""')
    query = f'SELECT * FROM "{name}" ORDER BY isthing DESC, area_m2 DESC LIMIT {_BOOKMARKS}'
    points = has_points(layer)
    found = pyogrio.read_dataframe(layer.path, sql=query, sql_dialect="SQLITE")
    for rank, row in enumerate(found.itertuples(), 1):
        # a point stands in the middle of its object
        room = math.sqrt(row.area_m2) / metres_per_unit(main) if points else 0
        xmin, ymin, xmax, ymax = row.geometry.buffer(room).bounds if points else row.geometry.bounds
        ring = ", ".join(
            f"{x!r} {y!r}"
            for x, y in ((xmin, ymin), (xmax, ymin), (xmax, ymax), (xmin, ymax), (xmin, ymin))
        )
        title = f"{rank}. {closed(row.category)}, {area_text(row.area_m2)}"
        mark = ET.SubElement(
            node,
            "Bookmark",
            id=f"geoseg-{rank}",
            name=qgis.clean_text(title),
            group="Largest",
            extent=f"POLYGON(({ring}))",
        )
        add_srs(mark, main.crs)
