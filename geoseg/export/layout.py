"""A page to print: title, map, legend, scale bar, north arrow and the licence's line."""

from __future__ import annotations

import base64
import textwrap
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from xml.etree import ElementTree as ET

from geoseg.export.picture import round_length_m
from geoseg.export.qgis import clean_text, options

__all__ = ["print_layout"]


@dataclass(frozen=True)
class _Sheet:
    """A4: places in millimetres as x, y, width, height; ``line``: letters beside a symbol."""

    page: tuple[float, float]
    map: tuple[float, float, float, float]
    legend: tuple[float, float, float, float]
    line: int


_LANDSCAPE = _Sheet((297.0, 210.0), (10.0, 24.0, 205.0, 170.0), (220.0, 24.0, 67.0, 150.0), 32)
_PORTRAIT = _Sheet((210.0, 297.0), (10.0, 24.0, 130.0, 257.0), (144.0, 24.0, 60.0, 230.0), 26)
_TALL = 1.3
"""Maps this much higher than wide go on a sheet that is, too."""
_TYPES = {"page": 65638, "map": 65639, "picture": 65640, "label": 65641, "legend": 65642}
_SCALE_BAR = 65646
_EM = 0.2
"""Millimetres that a letter takes of a line, per point of its font's size."""
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
    """QGIS' ``Layout`` on A4, landscape, or portrait for what is tall.

    ``extent`` is (xmin, ymin, xmax, ymax) in CRS units, ``metres_per_unit`` its unit's
    length at the centre, ``legend_layers`` (id, name, entries) of the layers listed, with the
    text of each entry of the layer's own legend that is shown, by its place there.
    """
    tall = (extent[3] - extent[1]) > _TALL * (extent[2] - extent[0])
    sheet = _PORTRAIT if tall else _LANDSCAPE
    layout = ET.Element("Layout", name="Map", printResolution="200", units="mm")
    pages = ET.SubElement(layout, "PageCollection")
    right, below = sheet.page
    _item(pages, "page", (0, 0, right, below))
    x, _y, wide, high = sheet.map
    shown = _fitted(extent, wide / high)
    number = _uuid("map")
    drawn = _item(layout, "map", sheet.map, uuid=number, frame="true", keepLayerSet="false")
    names = ("xmin", "ymin", "xmax", "ymax")
    ET.SubElement(drawn, "Extent", {n: repr(v) for n, v in zip(names, shown, strict=True)})
    room = right - x - 30
    size = 18 if len(title) * 18 * _EM < room else 12
    _label(layout, _shortened(title, 2 * room / (size * _EM)), (x, 8, room, 12), size)
    _label(layout, note, (x, below - 13, right - 2 * x, 8), 8)
    _legend(layout, legend_layers, number, sheet)
    arrow = base64.b64encode(_ARROW.encode()).decode()
    place = (right - 25, 6, 12, 16)
    _item(layout, "picture", place, file=f"base64:{arrow}", mapUuid=number, mode="1")
    metres = (shown[2] - shown[0]) * metres_per_unit
    _scale_bar(layout, number, metres, sheet)
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
    layout: ET.Element,
    layers: Sequence[tuple[str, str, Mapping[int, str]]],
    map_uuid: str,
    sheet: _Sheet,
) -> None:
    node = _item(
        layout,
        "legend",
        sheet.legend,
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
        texts = {
            f"legend/label-{place}": _wrapped(text, sheet.line) for place, text in entries.items()
        }
        order = ",".join(map(str, entries))
        options(ET.SubElement(listed, "customproperties"), {"legend/node-order": order, **texts})


def _shortened(text: str, letters: float) -> str:
    return text if len(text) <= letters else f"{text[: int(letters) - 1]}…"


def _wrapped(text: str, line: int) -> str:
    """At most three lines, so that a long name stays on the page."""
    lines = textwrap.wrap(clean_text(text).replace(_BREAK, ""), line)
    if len(lines) > _LINES:
        # the end holds the area
        lines = [*lines[: _LINES - 1], f"… {lines[-1]}"]
    return _BREAK.join(lines)


def _scale_bar(layout: ET.Element, map_uuid: str, width_m: float, sheet: _Sheet) -> None:
    segment_m = round_length_m(width_m / 8)
    unit, name, per_unit = (
        ("kilometers", "km", 1000.0) if segment_m >= 1000 else ("meters", "m", 1.0)
    )
    # below the legend: on the map it would hide some of it
    x, (_, y, _, high) = sheet.legend[0], sheet.map
    node = _item(
        layout,
        "scale bar",
        (x, y + high - 13, sheet.legend[2], 13),
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
    ET.SubElement(
        node, "text-style", fontFamily="Sans Serif", fontSize="9", fontSizeUnit="Point",
        fontWeight="50", textColor="32,38,43,255", textOpacity="1",
    )  # fmt: skip
