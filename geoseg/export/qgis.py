"""Styles that QGIS reads (QML), built as XML trees so that no name can break out of them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal
from xml.etree import ElementTree as ET

from geoseg.legend import NODATA_CATEGORY, Category, Legend

__all__ = ["clean_text", "raster_qml", "score_qml", "vector_qml"]

_VERSION = "3.22.0-Białowieża"
_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_FILL_ALPHA = 115
_ANY_COLUMN = (
    "coalesce(attribute($currentfeature, 'category_id'), attribute($currentfeature, 'cat_id'))"
)
"""The class, whether its column has its name or the shapefile's."""
_LABEL_SCALE = 5000
"""Objects are labelled at 1:5000 and closer."""


def clean_text(text: str) -> str:
    """The text without characters that XML forbids, and without QGIS expressions (``[% %]``)."""
    return _FORBIDDEN.sub("�", text).replace("[%", "[\u2060%")


def document(root: ET.Element) -> str:
    """The document that QGIS expects around a style."""
    return "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n" + ET.tostring(
        root, encoding="unicode"
    )


def options(parent: ET.Element, values: Mapping[str, str]) -> None:
    """QGIS' map of strings."""
    node = ET.SubElement(parent, "Option", type="Map")
    for name, value in values.items():
        ET.SubElement(node, "Option", name=name, value=value, type="QString")


def _rgba(category: Category, alpha: int, shade: float = 1.0) -> str:
    return ",".join([*(str(round(c * shade)) for c in category.rgb), str(alpha)])


def vector_qml(
    legend: Legend,
    *,
    kind: Literal["polygons", "points"] = "polygons",
    column: str = "category_id",
    aliases: Mapping[str, str] | None = None,
) -> str:
    """Style of a layer of polygons or points: one symbol per class, objects labelled close by.

    ``aliases`` name the columns; QGIS before 3.28 doesn't read them from the file itself.
    """
    root = ET.Element("qgis", version=_VERSION, styleCategories="Symbology|Labeling|Fields")
    root.append(renderer(legend, kind, column, {}))
    if any(category.isthing for category in legend):
        root.append(labels())
    root.append(alias_list(aliases or {}))
    ET.SubElement(root, "layerGeometryType").text = "2" if kind == "polygons" else "0"
    return document(root)


def alias_list(aliases: Mapping[str, str]) -> ET.Element:
    """Names of columns as people read them."""
    node = ET.Element("aliases")
    for index, (field, name) in enumerate(aliases.items()):
        ET.SubElement(node, "alias", field=field, index=str(index), name=clean_text(name))
    return node


def renderer(legend: Legend, kind: str, column: str, names: Mapping[int, str]) -> ET.Element:
    """One category of QGIS per class of the legend."""
    node = ET.Element("renderer-v2", type="categorizedSymbol", attr=column, enableorderby="0")
    categories = ET.SubElement(node, "categories")
    symbols = ET.SubElement(node, "symbols")
    for number, category in enumerate(legend):
        ET.SubElement(
            categories,
            "category",
            value=str(category.id),
            type="long",
            symbol=str(number),
            label=clean_text(names.get(category.id, category.name)),
            render="true",
        )
        symbols.append(
            _polygon(category, number) if kind == "polygons" else _point(category, number)
        )
    return node


def _symbol(number: int, kind: str, layer_class: str, values: Mapping[str, str]) -> ET.Element:
    symbol = ET.Element("symbol", type=kind, name=str(number), alpha="1", clip_to_extent="1")
    layer = ET.SubElement(
        symbol, "layer", {"class": layer_class, "enabled": "1", "locked": "0", "pass": "0"}
    )
    options(layer, values)
    return symbol


def _polygon(category: Category, number: int) -> ET.Element:
    values = {
        "color": _rgba(category, _FILL_ALPHA),
        "outline_color": _rgba(category, 255, 0.6),
        "outline_style": "solid",
        "outline_width": "0.46" if category.isthing else "0.26",
        "outline_width_unit": "MM",
        "style": "solid",
    }
    return _symbol(number, "fill", "SimpleFill", values)


def _point(category: Category, number: int) -> ET.Element:
    values = {
        "color": _rgba(category, 255),
        "outline_color": "255,255,255,255",
        "outline_width": "0.3",
        "name": "circle",
        "size": "2.4",
        "size_unit": "MM",
    }
    return _symbol(number, "marker", "SimpleMarker", values)


def labels() -> ET.Element:
    """Class and number of an object, at close zoom."""
    node = ET.Element("labeling", type="simple")
    settings = ET.SubElement(node, "settings", calloutType="simple")
    name = """CASE WHEN "instance_id" > 0 THEN "category" || ' ' || "instance_id" END"""
    text = ET.SubElement(
        settings,
        "text-style",
        fieldName=name,
        isExpression="1",
        fontSize="8",
        fontSizeUnit="Point",
        textColor="30,30,30,255",
        textOpacity="1",
    )
    ET.SubElement(
        text,
        "text-buffer",
        bufferDraw="1",
        bufferSize="0.8",
        bufferSizeUnits="MM",
        bufferColor="255,255,255,255",
        bufferOpacity="0.8",
    )
    ET.SubElement(settings, "placement", placement="0", centroidInside="1")
    ET.SubElement(
        settings,
        "rendering",
        scaleVisibility="1",
        scaleMax=str(_LABEL_SCALE),
        scaleMin="0",
        obstacle="1",
        drawLabels="1",
    )
    return node


def _pipe() -> tuple[ET.Element, ET.Element]:
    root = ET.Element("qgis", version=_VERSION, styleCategories="AllStyleCategories")
    return root, ET.SubElement(root, "pipe")


def raster_qml(legend: Legend, opacity: float = 0.7) -> str:
    """Style of a raster of classes: a palette with the legend's names, nodata left out.

    It holds the style of polygons, too: QGIS gives ``map.qml`` to every ``map.*`` it opens,
    and takes from it what is for layers of that kind.
    """
    root, pipe = _pipe()
    pipe.append(palette(legend, opacity))
    root.append(renderer(legend, "polygons", _ANY_COLUMN, {}))
    ET.SubElement(root, "layerGeometryType").text = "2"
    return document(root)


def palette(legend: Legend, opacity: float, names: Mapping[int, str] | None = None) -> ET.Element:
    """The renderer of a raster of classes."""
    node = ET.Element(
        "rasterrenderer",
        type="paletted",
        band="1",
        opacity=str(opacity),
        alphaBand="-1",
        nodataColor="",
    )
    ET.SubElement(node, "rasterTransparency")
    entries = ET.SubElement(node, "colorPalette")
    for category in legend:
        if category.id != NODATA_CATEGORY:
            ET.SubElement(
                entries,
                "paletteEntry",
                value=str(category.id),
                color=category.colour,
                alpha="255",
                label=clean_text((names or {}).get(category.id, category.name)),
            )
    return node


def score_qml(opacity: float = 0.8) -> str:
    """Style of a raster of confidence, 0 to 1 from dark to light."""
    root, pipe = _pipe()
    pipe.append(grey(opacity, 0, 1))
    return document(root)


def grey(opacity: float, low: float, high: float) -> ET.Element:
    """A renderer from black to white over one band."""
    node = ET.Element(
        "rasterrenderer",
        type="singlebandgray",
        grayBand="1",
        gradient="BlackToWhite",
        opacity=str(opacity),
        alphaBand="-1",
        nodataColor="",
    )
    ET.SubElement(node, "rasterTransparency")
    stretch = ET.SubElement(node, "contrastEnhancement")
    ET.SubElement(stretch, "minValue").text = str(low)
    ET.SubElement(stretch, "maxValue").text = str(high)
    ET.SubElement(stretch, "algorithm").text = "StretchToMinimumMaximum"
    return node
