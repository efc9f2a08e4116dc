"""QGIS projects to label in: empty or drawn-from layers with lists to choose from.

Every layer is editable with its classes as a drop-down list; digitizing snaps and doesn't
overlap; the scene lies below.
"""

from __future__ import annotations

import os
import xml.etree.ElementTree as ET
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyogrio
from pyproj import CRS

from geoseg.export import qgis
from geoseg.export.ogr import date
from geoseg.export.projectlayer import ProjectLayer, add_srs, box_of, ground_of, scene_renderer
from geoseg.export.target import written_beside
from geoseg.legend import Category, Legend

__all__ = ["EditLayer", "extent_qml", "label_qml", "reference_qml", "write_labelling_project"]


@dataclass(frozen=True)
class EditLayer:
    """A layer of a GeoPackage that is edited: ``layer`` name, title, ``Point`` or ``Polygon``,
    and its style as ``label_qml`` and the others give it.
    """

    path: Path
    layer: str
    title: str
    geometry: str
    qml: str


def label_qml(legend: Legend) -> str:
    """Polygons by ``category``, a name chosen from the legend's."""
    root = ET.fromstring(qgis.vector_qml(legend, column="category").split("\n", 1)[1])
    root.set("styleCategories", "Symbology|Labeling|Fields|Forms")
    for category in root.iter("category"):
        category.set("value", category.get("label", ""))
        category.set("type", "string")
    names = {category.name: category.name for category in legend}
    _forms(root, {"category": names}, hidden=("fid",))
    return qgis.document(root)


def extent_qml() -> str:
    """Outlines of ground where everything is labelled: what has no label there is background."""
    legend = Legend((Category(0, "all labelled inside", "#ffffff"),))
    root = ET.fromstring(qgis.vector_qml(legend, column="kind").split("\n", 1)[1])
    for option in root.iter("Option"):
        if option.get("name") == "style":
            option.set("value", "no")
        if option.get("name") == "outline_color":
            option.set("value", "255,0,255,255")
    return qgis.document(root)


def reference_qml(legend: Legend) -> str:
    """Points by ``reference``, chosen from the names; the map's own class is hidden."""
    named = [Category(c.id, c.name, c.colour) for c in legend]
    todo = Category(254, "not labelled yet", "#ffffff")
    root = ET.Element("qgis", version="3.22.0", styleCategories="Symbology|Fields|Forms")
    node = qgis.renderer(Legend((*named, todo)), "points", "reference", {})
    for category in node.iter("category"):
        category.set("value", "" if category.get("value") == "254" else category.get("label", ""))
        category.set("type", "string")
    root.append(node)
    _forms(root, {"reference": {c.name: c.name for c in legend}}, hidden=("fid", "stratum"))
    ET.SubElement(root, "layerGeometryType").text = "0"
    return qgis.document(root)


def _forms(root: ET.Element, lists: Mapping[str, Mapping[str, str]], hidden: Sequence[str]) -> None:
    """How columns are edited: from a list, or not at all."""
    fields = ET.SubElement(root, "fieldConfiguration")
    for column, values in lists.items():
        config = _widget(fields, column, "ValueMap")
        choices = ET.SubElement(config, "Option", type="Map")
        listed = ET.SubElement(choices, "Option", name="map", type="List")
        for name, value in values.items():
            pair = ET.SubElement(listed, "Option", type="Map")
            ET.SubElement(pair, "Option", name=qgis.clean_text(name), value=value, type="QString")
    for column in hidden:
        _widget(fields, column, "Hidden")


def _widget(fields: ET.Element, column: str, kind: str) -> ET.Element:
    field = ET.SubElement(fields, "field", name=column)
    return ET.SubElement(ET.SubElement(field, "editWidget", type=kind), "config")


def write_labelling_project(
    layers: Sequence[EditLayer],
    path: str | os.PathLike[str],
    *,
    title: str,
    scene: str | None = None,
    bands: tuple[int, int, int] = (1, 2, 3),
    bookmarks: Mapping[str, tuple[float, float, float, float]] | None = None,
    overwrite: bool = False,
) -> None:
    """A .qgz with layers to edit, topmost first, and the scene below.

    ``bands`` are the scene's that are shown as red, green and blue, from 1.
    ``bookmarks`` are places by name, in the CRS of the first layer.

    Raises OutputError, or InputError when the scene can't be read.
    """
    with written_beside(path, overwrite, kinds=("project",)) as part:
        below = None
        if scene is not None:
            below = ProjectLayer(path=Path(scene), role="scene", name=Path(scene).stem, bands=bands)
        root = _document(layers, Path(path).resolve().parent, title, below)
        _bookmarks(root, bookmarks or {}, _place(layers[0])[0])
        text = qgis.document(root)
        entry = zipfile.ZipInfo(f"{part.stem}.qgs", date().timetuple()[:6])
        entry.compress_type = zipfile.ZIP_DEFLATED
        with zipfile.ZipFile(part, "w") as archive:
            archive.writestr(entry, text)


def _document(
    layers: Sequence[EditLayer], folder: Path, title: str, scene: ProjectLayer | None
) -> ET.Element:
    root = ET.Element("qgis", version="3.22.0", projectname=qgis.clean_text(title))
    ET.SubElement(root, "title").text = qgis.clean_text(title)
    tree = ET.SubElement(root, "layer-tree-group")
    nodes = ET.SubElement(root, "projectlayers")
    for number, layer in enumerate(layers):
        _edit_layer(layer, f"geoseg_layer_edit_{number}", folder, tree, nodes)
    crs, extent = _place(layers[0])
    if scene is not None:
        place = ground_of(scene)
        crs, extent = place.crs or crs, place.extent
        _scene_layer(scene, place.crs, folder, tree, nodes)
    if crs is not None:
        add_srs(ET.SubElement(root, "projectCrs"), crs)
    # snap to corners and edges within 12 px, and let neighbours share them
    ET.SubElement(
        root, "snapping-settings", enabled="1", mode="2", type="3", tolerance="12", unit="1"
    )
    properties = ET.SubElement(root, "properties")
    system = ET.SubElement(properties, "SpatialRefSys")
    ET.SubElement(system, "ProjectionsEnabled", type="int").text = "1"
    paths = ET.SubElement(properties, "Paths")
    ET.SubElement(paths, "Absolute", type="bool").text = "false"
    digitizing = ET.SubElement(properties, "Digitizing")
    ET.SubElement(digitizing, "TopologicalEditing", type="int").text = "1"
    if extent is not None:
        view = ET.SubElement(ET.SubElement(root, "ProjectViewSettings"), "DefaultViewExtent")
        for name, value in box_of(extent).items():
            view.set(name, value)
        if crs is not None:
            add_srs(view, crs)
    return root


def _bookmarks(
    root: ET.Element,
    places: Mapping[str, tuple[float, float, float, float]],
    crs: CRS | None,
) -> None:
    node = ET.SubElement(root, "Bookmarks")
    for number, (name, (xmin, ymin, xmax, ymax)) in enumerate(places.items(), 1):
        corners = ((xmin, ymin), (xmax, ymin), (xmax, ymax), (xmin, ymax), (xmin, ymin))
        ring = ", ".join(f"{x!r} {y!r}" for x, y in corners)
        mark = ET.SubElement(
            node,
            "Bookmark",
            id=f"geoseg-{number}",
            name=qgis.clean_text(name),
            group="Hardest",
            extent=f"POLYGON(({ring}))",
        )
        if crs is not None:
            add_srs(mark, crs)


def _place(layer: EditLayer) -> tuple[CRS | None, tuple[float, float, float, float] | None]:
    info = pyogrio.read_info(layer.path, layer=layer.layer, force_total_bounds=True)
    crs = None if info["crs"] is None else CRS.from_user_input(info["crs"])
    bounds = info["total_bounds"]
    return crs, None if bounds is None else tuple(bounds)


def _edit_layer(
    layer: EditLayer, number: str, folder: Path, tree: ET.Element, nodes: ET.Element
) -> None:
    name = qgis.clean_text(layer.title)
    ET.SubElement(tree, "layer-tree-layer", id=number, name=name, checked="Qt::Checked")
    node = ET.SubElement(nodes, "maplayer", type="vector", geometry=layer.geometry)
    ET.SubElement(node, "id").text = number
    relative = Path(os.path.relpath(layer.path.resolve(), folder)).as_posix()
    ET.SubElement(node, "datasource").text = f"./{relative}|layername={layer.layer}"
    ET.SubElement(node, "layername").text = name
    crs, _ = _place(layer)
    if crs is not None:
        add_srs(ET.SubElement(node, "srs"), crs)
    ET.SubElement(node, "provider", encoding="UTF-8").text = "ogr"
    node.extend(list(ET.fromstring(layer.qml.split("\n", 1)[1])))


def _scene_layer(
    layer: ProjectLayer, crs: CRS | None, folder: Path, tree: ET.Element, nodes: ET.Element
) -> None:
    number = "geoseg_layer_scene"
    ET.SubElement(tree, "layer-tree-layer", id=number, name=layer.name, checked="Qt::Checked")
    node = ET.SubElement(nodes, "maplayer", type="raster")
    ET.SubElement(node, "id").text = number
    relative = Path(os.path.relpath(layer.path.resolve(), folder)).as_posix()
    ET.SubElement(node, "datasource").text = f"./{relative}"
    ET.SubElement(node, "layername").text = qgis.clean_text(layer.name)
    if crs is not None:
        add_srs(ET.SubElement(node, "srs"), crs)
    ET.SubElement(node, "provider").text = "gdal"
    ET.SubElement(node, "pipe").append(scene_renderer(layer))
