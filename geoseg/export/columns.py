"""The columns of geoseg's tables: what they hold, in words that a GIS shows.

A field's alias and description travel in the Arrow schema; GDAL puts them where the format
has a place for them (GeoPackage: ``gpkg_data_columns``).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import pyarrow as pa

from geoseg.legend import Legend

__all__ = [
    "POLYGONS",
    "aliases_in",
    "area_text",
    "closed",
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

_TABLES: dict[tuple[str, ...], dict[str, _Words]] = {
    # by columns that tell the kind of table: others' columns may be called note, or row
    ("parcel_id", "shape_index"): {
        "parcel_id": _Words("Parcel", "Number of the parcel, from north to south"),
        "area_ha": _Words("Area (ha)", "Geodesic area in hectares"),
        "shape_index": _Words("Shape index", "Outline over that of a circle of the same area"),
        "cover": _Words("Cover", "Class that covers most of the parcel"),
        "cover_share": _Words("Share of the cover", "Share of the parcel under it, 0 to 1"),
    },
    ("spot_share", "rate_l_ha"): {
        "cell": _Words("Cell", "Number of the cell"),
        "row": _Words("Row", "Number of the cell along the rows of the crop"),
        "column": _Words("Column", "Number of the cell across the rows of the crop"),
        "weeds": _Words("Weeds", "Number of weeds that lie in the cell"),
        "weed_m2": _Words("Weeds (m²)", "Ground under weeds in square metres"),
        "pressure": _Words("Weed pressure", "Share of the cell under weeds, 0 to 1"),
        "spot_share": _Words("To spray", "Share of the cell around weeds, 0 to 1"),
        "area_m2": _Words("Area (m²)", "Area of the cell inside the field in square metres"),
        "rate_l_ha": _Words("Rate (l/ha)", "What to spray in litres per hectare"),
    },
    ("point", "stratum", "reference"): {
        "point": _Words("Point", "Number of the point"),
        "stratum": _Words("Stratum", "Class of the map that the point was drawn from"),
        "reference": _Words("Reference", "Class that is really there"),
        "note": _Words("Note", "Anything to say of the point"),
    },
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

_TURNS = dict.fromkeys("\u202a\u202b\u202d\u202e", "\u202c") | dict.fromkeys(
    "\u2066\u2067\u2068", "\u2069"
)
"""Characters that turn the direction of writing, and what ends each."""


def _words_of(names: Sequence[str]) -> dict[str, _Words]:
    """What is known of a table's columns."""
    known = dict(_WORDS)
    for signs, words in _TABLES.items():
        if set(signs) <= set(names):
            known |= words
    for name in names:
        if name.endswith("per_ha"):
            known |= _counts(name.removesuffix("per_ha"), names)
    return {name: known[name] for name in names if name in known}


def _counts(prefix: str, names: Sequence[str]) -> dict[str, _Words]:
    """Columns of objects that were counted: in all, per hectare, and of each class."""
    label = prefix.strip("_ ")
    of = f" ({label})" if label else ""
    known = {
        f"{prefix}count": _Words(f"Objects{of}", "Number of objects that lie here"),
        f"{prefix}per_ha": _Words(f"Objects per ha{of}", "Number of objects per hectare"),
    }
    if f"{prefix}count" not in names:
        return {}
    start = f"{prefix}count_"
    for category in (name.removeprefix(start) for name in names if name.startswith(start)):
        text = f"Number of objects of the class {category} that lie here"
        known[start + category] = _Words(f"{category}{of}", text)
    return known


def aliases_in(names: Iterable[str]) -> dict[str, str]:
    """Words for the columns of a table, of those that geoseg knows."""
    return {name: words.alias for name, words in _words_of(list(names)).items()}


def closed(text: str) -> str:
    """The text with its turns of writing direction ended: what follows is read as it stands.

    >>> closed("plain"), closed("\u202eab")
    ('plain', '\u202eab\u202c')
    """
    open_turns: list[str] = []
    for letter in text:
        if letter in _TURNS:
            open_turns.append(_TURNS[letter])
        elif open_turns and letter == open_turns[-1]:
            open_turns.pop()
    return text + "".join(reversed(open_turns))


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
    known = _words_of(schema.names)
    for column in schema:
        if column.name == "geometry":
            continue
        words = known.get(column.name)
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
    """The facts of a file, its date where one is set, and the legend that its numbers have.

    A date of the clock would make every run another file: only SOURCE_DATE_EPOCH's is told.
    """
    facts = dict(provenance or {})
    epoch = os.environ.get("SOURCE_DATE_EPOCH", "")
    if facts and epoch.isdigit():
        facts["date"] = datetime.fromtimestamp(int(epoch), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    if legend is not None:
        facts["legend"] = json.dumps(legend.to_dict(), ensure_ascii=False)
    return dict(sorted(facts.items()))


def provenance_json(provenance: Mapping[str, str]) -> str:
    """One line of JSON, keys sorted."""
    return json.dumps(dict(sorted(provenance.items())), ensure_ascii=False)
