"""A page to print: title, map, legend, scale bar, north arrow and the licence's line."""

from __future__ import annotations

import base64
import textwrap
import uuid
from collections.abc import Mapping, Sequence
from xml.etree import ElementTree as ET

from geoseg.export.picture import round_length_m
from geoseg.export.qgis import clean_text, options

__all__ = ["print_layout"]

_PAGE = (297.0, 210.0)
_MAP = (10.0, 24.0, 205.0, 170.0)
_LEGEND = (220.0, 24.0, 67.0, 150.0)
_TYPES = {"page": 65638, "map": 65639, "picture": 65640, "label": 65641, "legend": 65642}
_SCALE_BAR = 65646
_LINE = 32
"""Characters of a line of the legend."""
_LINES = 3
_BREAK = "\ue000"
"""Parts lines of the legend: a character that no name has."""
_ARROW = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 40 60" width="40" height="60">'
    '<path d="M20 2 L34 42 L20 34 L6 42 Z" fill="#20262b"/>'
    '<text x="20" y="58" font-size="16" font-family="sans-serif" text-anchor="middle"'
    ' fill="#20262b">N</text></svg>'
)


def print_layout(
    title: str,
    note: str,
    extent: Sequence[float],
    metres_per_unit: float,
    legend_layers: Sequence[tuple[str, str, Mapping[int, str]]],
) -> ET.Element:
    """QGIS' ``Layout`` on A4, landscape.

    ``extent`` is (xmin, ymin, xmax, ymax) in CRS units, ``metres_per_unit`` its unit's
    length at the centre, ``legend_layers`` (id, name, entries) of the layers listed, with the
    text of each entry of the layer's own legend that is shown, by its place there.
    """
    layout = ET.Element("Layout", name="Map", printResolution="200", units="mm")
    pages = ET.SubElement(layout, "PageCollection")
    _item(pages, "page", (0, 0, *_PAGE))
    x, _y, wide, high = _MAP
    shown = _fitted(extent, wide / high)
    number = _uuid("map")
    drawn = _item(layout, "map", _MAP, uuid=number, frame="true", keepLayerSet="false")
    names = ("xmin", "ymin", "xmax", "ymax")
    ET.SubElement(drawn, "Extent", {n: repr(v) for n, v in zip(names, shown, strict=True)})
    _label(layout, title, (x, 8, wide, 12), 18)
    _label(layout, note, (x, 197, 277, 8), 8)
    _legend(layout, legend_layers, number)
    arrow = base64.b64encode(_ARROW.encode()).decode()
    _item(layout, "picture", (272, 6, 12, 16), file=f"base64:{arrow}", mapUuid=number, mode="1")
    _scale_bar(layout, number, (shown[2] - shown[0]) * metres_per_unit, metres_per_unit)
    return layout


def _fitted(extent: Sequence[float], shape: float) -> tuple[float, float, float, float]:
    """The extent, a twentieth larger, widened or heightened to the shape of the map item."""
    xmin, ymin, xmax, ymax = extent
    wide, high = max(xmax - xmin, 1e-9) * 1.05, max(ymax - ymin, 1e-9) * 1.05
    wide, high = max(wide, high * shape), max(high, wide / shape)
    x, y = (xmin + xmax) / 2, (ymin + ymax) / 2
    return x - wide / 2, y - high / 2, x + wide / 2, y + high / 2


def _uuid(name: str) -> str:
    return f"{{{uuid.uuid5(uuid.NAMESPACE_URL, f'geoseg:{name}')}}}"


def _item(
    parent: ET.Element, kind: str, box: tuple[float, float, float, float], **attributes: str
) -> ET.Element:
    x, y, wide, high = box
    common = {
        "type": str(_TYPES.get(kind, _SCALE_BAR)),
        "position": f"{x},{y},mm",
        "positionOnPage": f"{x},{y},mm",
        "size": f"{wide},{high},mm",
        "background": "true" if kind in {"page", "map"} else "false",
        "zValue": {"page": "0", "map": "1"}.get(kind, "2"),
        "visibility": "1",
        "opacity": "1",
        "uuid": _uuid(f"{kind}{x}{y}"),
    }
    node = ET.SubElement(parent, "LayoutItem", {**common, **attributes})
    ET.SubElement(node, "BackgroundColor", red="255", green="255", blue="255", alpha="255")
    ET.SubElement(node, "FrameColor", red="130", green="140", blue="148", alpha="255")
    return node


def _label(
    layout: ET.Element, text: str, box: tuple[float, float, float, float], size: int
) -> None:
    shown = clean_text(text)
    node = _item(layout, "label", box, labelText=shown, htmlState="0", halign="1", valign="128")
    ET.SubElement(node, "LabelFont", description=_font(size))


def _font(size: int) -> str:
    return f"Sans Serif,{size},-1,5,50,0,0,0,0,0"


def _legend(
    layout: ET.Element, layers: Sequence[tuple[str, str, Mapping[int, str]]], map_uuid: str
) -> None:
    node = _item(
        layout,
        "legend",
        _LEGEND,
        map_uuid=map_uuid,
        resizeToContents="0",
        title="",
        symbolWidth="7",
        symbolHeight="4",
        wrapChar=_BREAK,
    )
    styles = ET.SubElement(node, "styles")
    for name, size in (("group", 11), ("subgroup", 10), ("symbolLabel", 9)):
        style = ET.SubElement(styles, "style", name=name, marginTop="2", marginLeft="2")
        ET.SubElement(style, "styleFont", description=_font(size))
    tree = ET.SubElement(node, "layer-tree-group")
    for number, name, entries in layers:
        listed = ET.SubElement(
            tree, "layer-tree-layer", id=number, name=clean_text(name), expanded="1"
        )
        texts = {f"legend/label-{place}": _wrapped(text) for place, text in entries.items()}
        order = ",".join(map(str, entries))
        options(ET.SubElement(listed, "customproperties"), {"legend/node-order": order, **texts})


def _wrapped(text: str) -> str:
    """At most three lines, so that a long name stays on the page."""
    lines = textwrap.wrap(clean_text(text).replace(_BREAK, ""), _LINE)
    if len(lines) > _LINES:
        # the end holds the area
        lines = [*lines[: _LINES - 1], f"… {lines[-1]}"]
    return _BREAK.join(lines)


def _scale_bar(layout: ET.Element, map_uuid: str, width_m: float, unit_m: float) -> None:
    segment_m = round_length_m(width_m / 8)
    unit, name, per_unit = (
        ("kilometers", "km", 1000.0) if segment_m >= 1000 else ("meters", "m", 1.0)
    )
    x, y, _, high = _MAP
    node = _item(
        layout,
        "scale bar",
        (x + 4, y + high - 16, 80, 13),
        mapUuid=map_uuid,
        style="Single Box",
        unitType=unit,
        unitLabel=name,
        numSegments="2",
        numSegmentsLeft="0",
        numUnitsPerSegment=repr(segment_m / per_unit),
        numMapUnitsPerScaleBarUnit="1",
        height="2",
        boxContentSpace="2",
        background="true",
    )
    ET.SubElement(node, "text-style", fontSize="9", fontSizeUnit="Point", textColor="32,38,43,255")
