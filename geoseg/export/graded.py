"""The QGIS style of cells and parcels: shades by the number that they were made for."""

from __future__ import annotations

from itertools import pairwise
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
from numpy.typing import NDArray

from geoseg.export import qgis
from geoseg.export.columns import aliases_in

__all__ = ["graded_qml"]

_COLUMNS = ("rate_l_ha", "per_ha", "area_ha")
"""What cells and parcels are looked at for: the dose, how many, how large."""
_SHADES = ("255,255,204", "161,218,180", "65,182,196", "44,127,184", "37,52,148")
_NONE = "255,255,255,40"


def graded_qml(frame: Any) -> str | None:
    """Up to five shades, the last one dark, and nearly clear where the number is zero.

    Few numbers, as doses are, get a shade each; of many, each shade gets as many polygons.
    ``frame`` is a GeoDataFrame; None where it has no such column, or isn't of polygons.
    """
    column = _column([str(name) for name in frame.columns])
    if column is None or set(frame.geom_type.dropna()) - {"Polygon", "MultiPolygon"}:
        return None
    values = frame[column].to_numpy(float)
    values = values[np.isfinite(values) & (values > 0)]
    steps = _steps(values)
    shades = _SHADES[len(_SHADES) - len(steps) :]
    ranges = [(0.0, 0.0, _NONE)] + [
        (low, high, f"{shade},200") for (low, high), shade in zip(steps, shades, strict=True)
    ]
    root = ET.Element("qgis", version="3.22.0", styleCategories="Symbology|Fields")
    root.append(_renderer(column, ranges))
    names = [str(name) for name in frame.columns]
    root.append(qgis.alias_list(aliases_in(names)))
    ET.SubElement(root, "layerGeometryType").text = "2"
    return qgis.document(root)


def _steps(values: NDArray[np.float64]) -> list[tuple[float, float]]:
    """Lowest and highest number of each shade."""
    different = np.unique(values)
    if len(different) <= len(_SHADES):
        return [(value, value) for value in different.tolist()]
    marks = np.unique(np.quantile(values, np.linspace(0, 1, len(_SHADES) + 1)))
    return list(pairwise(marks.tolist()))


def _column(names: list[str]) -> str | None:
    for wanted in _COLUMNS:
        # with a prefix, as counts side by side have: the last one that was added
        found = [name for name in names if name == wanted or name.endswith(f"_{wanted}")]
        if found:
            return found[-1]
    return None


def _renderer(column: str, ranges: list[tuple[float, float, str]]) -> ET.Element:
    node = ET.Element(
        "renderer-v2", type="graduatedSymbol", attr=column, graduatedMethod="GraduatedColor"
    )
    listed, symbols = ET.SubElement(node, "ranges"), ET.SubElement(node, "symbols")
    for number, (low, high, colour) in enumerate(ranges):
        label = f"{low:.4g}" if low == high else f"{low:.4g} to {high:.4g}"
        ET.SubElement(
            listed, "range", lower=repr(low), upper=repr(high), symbol=str(number), label=label,
            render="true",
        )  # fmt: skip
        symbol = ET.SubElement(symbols, "symbol", type="fill", name=str(number), alpha="1")
        layer = ET.SubElement(symbol, "layer", {"class": "SimpleFill", "enabled": "1"})
        outline = {"outline_color": "90,90,90,255", "outline_width": "0.15"}
        qgis.options(layer, {"color": colour, "style": "solid", **outline})
    return node
