"""The columns of geoseg's tables: what they hold, in words that a GIS shows.

A field's alias and description travel in the Arrow schema; GDAL puts them where the format
has a place for them (GeoPackage: ``gpkg_data_columns``).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa

from geoseg.legend import Legend

__all__ = [
    "POLYGONS",
    "area_text",
    "described",
    "plain_type",
    "provenance_json",
    "shapefile_name",
    "with_legend",
]


@dataclass(frozen=True, slots=True)
class _Words:
    alias: str
    description: str
    short: str = ""
    """Name in a shapefile, where ten characters are all there is."""


_WORDS = {
    "segment_id": _Words("Segment", "Number of the polygon, in order of its lower right corner"),
    "category_id": _Words("Class id", "Number of the class in the legend", "cat_id"),
    "category": _Words("Class", "Name of the class"),
    "isthing": _Words("Countable", "True for objects that are counted, false for cover"),
    "instance_id": _Words("Object", "Number of the object; empty for cover", "inst_id"),
    "score": _Words("Confidence", "Mean confidence of the pixels, 0 to 1"),
    "area_m2": _Words("Area (m²)", "Geodesic area in square metres"),
    "perimeter_m": _Words("Perimeter (m)", "Geodesic length of the outline in metres", "perim_m"),
    "pixels": _Words("Pixels", "Number of pixels of the map"),
    "on_edge": _Words("On the edge", "True where the edge of the map cuts the polygon"),
}

POLYGONS = pa.schema(
    [
        ("segment_id", pa.int64()),
        ("category_id", pa.uint8()),
        ("category", pa.string()),
        ("isthing", pa.bool_()),
        ("instance_id", pa.int64()),
        ("score", pa.float32()),
        ("area_m2", pa.float64()),
        ("perimeter_m", pa.float64()),
        ("pixels", pa.int64()),
        ("on_edge", pa.bool_()),
        ("geometry", pa.binary()),
    ]
)
"""Schema of an empty table of polygons whose own schema is not known."""


def alias_of(name: str) -> str:
    """Words for a column that geoseg knows; its name otherwise."""
    return _WORDS[name].alias if name in _WORDS else name


def area_text(area_m2: float) -> str:
    """An area as people say it: hectares, and square metres where that would be 0.0 ha."""
    if area_m2 >= 1000:
        return f"{area_m2 / 1e4:,.{1 if area_m2 >= 1e5 else 2}f} ha"
    return f"{area_m2:,.{0 if area_m2 >= 100 else 1 if area_m2 >= 1 else 3}f} m²"


def plain_type(kind: pa.DataType) -> pa.DataType:
    """The type that every format can hold: dictionaries become their values."""
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def described(schema: pa.Schema, descriptions: dict[str, str]) -> pa.Schema:
    """The schema with plain types, aliases and descriptions, geometry last as WKB.

    ``descriptions`` add to, or replace, those of the columns that geoseg knows.
    """
    fields = []
    for column in schema:
        if column.name == "geometry":
            continue
        words = _WORDS.get(column.name)
        metadata = {}
        if words is not None:
            metadata["GDAL:OGR:alternative_name"] = words.alias
        text = descriptions.get(column.name, words.description if words else "")
        if text:
            metadata["GDAL:OGR:comment"] = text
        fields.append(pa.field(column.name, plain_type(column.type), metadata=metadata or None))
    geometry = pa.field("geometry", pa.binary(), metadata={"ARROW:extension:name": "geoarrow.wkb"})
    return pa.schema([*fields, geometry])


def shapefile_name(name: str, taken: set[str]) -> str:
    """At most ten characters, not yet ``taken`` (which it joins)."""
    words = _WORDS.get(name)
    short = base = (words.short if words and words.short else name)[:10]
    number = 1
    while short.lower() in taken:
        number += 1
        short = f"{base[: 9 - len(str(number))]}_{number}"
    taken.add(short.lower())
    return short


def with_legend(provenance: Mapping[str, str] | None, legend: Legend | None) -> dict[str, str]:
    """The facts of a file, and the legend that tells what its numbers mean."""
    facts = dict(provenance or {})
    if legend is not None:
        facts["legend"] = json.dumps(legend.to_dict(), ensure_ascii=False)
    return dict(sorted(facts.items()))


def provenance_json(provenance: Mapping[str, str]) -> str:
    """One line of JSON, keys sorted."""
    return json.dumps(dict(sorted(provenance.items())), ensure_ascii=False)
