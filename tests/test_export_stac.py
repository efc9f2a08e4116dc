"""STAC items: valid by pystac's own schemas, without a network; files as they are."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import jsonschema
import pystac
import pytest
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox
from pystac.extensions.classification import ClassificationExtension
from pystac.extensions.file import FileExtension
from pystac.extensions.projection import ProjectionExtension
from pystac.validation.stac_validator import JsonSchemaSTACValidator
from test_export_raster import class_map, grid
from test_export_vector import HOSTILE, LEGEND, polygons

from geoseg.errors import InputError
from geoseg.export.raster import write_raster
from geoseg.export.stac import RunItem, write_item
from geoseg.export.vector import write_vector

NUMBERS = {"type": "array", "items": {"type": "number"}}
CLASS = {
    "type": "object",
    "required": ["value", "name"],
    "properties": {
        "value": {"type": "integer"},
        "name": {"type": "string", "pattern": "^[0-9A-Za-z_-]+$"},
        "color_hint": {"type": "string", "pattern": "^[0-9A-F]{6}$"},
        "title": {"type": "string"},
        "description": {"type": "string"},
    },
}
FIELDS: dict[str, dict[str, object]] = {
    # what the documents of the extensions say of their fields, by extension and version
    "projection/v2.0.0": {
        "proj:code": {"type": ["string", "null"], "pattern": "^[A-Z]+:[0-9]+$"},
        "proj:projjson": {"type": ["object", "null"], "required": ["type", "name"]},
        "proj:shape": {"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 2},
        "proj:transform": {**NUMBERS, "minItems": 6, "maxItems": 9},
    },
    "classification/v2.0.0": {
        "classification:classes": {
            "type": "array", "items": CLASS, "minItems": 1, "uniqueItems": True,
        },
    },
    "file/v2.1.0": {
        "file:size": {"type": "integer", "minimum": 0},
        "file:checksum": {"type": "string", "pattern": "^1220[a-f0-9]{64}$"},
    },
    "processing/v1.2.0": {
        "processing:level": {"enum": ["RAW", "L0", "L1", "L1A", "L1B", "L1C", "L2", "L2A", "L3", "L4"]},
        "processing:lineage": {"type": "string"},
        "processing:software": {
            "type": "object", "minProperties": 1, "additionalProperties": {"type": "string"},
        },
    },
}  # fmt: skip


def check_extensions(item: dict[str, Any]) -> int:
    """Extensions whose fields are used, declared and of the right form; no others are there.

    The extensions' own schemas are only to be had from their sites; these checks are written
    after their documents.
    """
    used = set()
    known = {name: part for part, names in FIELDS.items() for name in names}
    for holder in (item["properties"], *item["assets"].values()):
        for name, value in holder.items():
            if name.partition(":")[1] and not name.startswith("geoseg:"):
                part = known[name]
                jsonschema.validate(value, FIELDS[part][name])
                used.add(f"https://stac-extensions.github.io/{part}/schema.json")
    assert used == set(item["stac_extensions"])
    return len(used)


def run_of(folder: Path, geobox: GeoBox) -> RunItem:
    write_raster(class_map(50, 40), folder / "map.tif", geobox=grid(50, 40), legend=LEGEND)
    write_vector(polygons(), folder / "map.gpkg", legend=LEGEND)
    return RunItem(
        id="run 1",
        files=[folder / "map.tif", folder / "map.gpkg"],
        geobox=geobox,
        legend=LEGEND,
        provenance={"model": HOSTILE},
        scenes=["./scene.tif"],
        model=("./model/item.json", "a model"),
    )


def test_an_item_is_valid_and_says_what_the_files_are(tmp_path: Path) -> None:
    write_item(run_of(tmp_path, grid(50, 40)), tmp_path / "item.json")
    item = pystac.Item.from_file(str(tmp_path / "item.json"))
    JsonSchemaSTACValidator().validate_core(item.to_dict(), pystac.STACObjectType.ITEM, "1.1.0")
    assert check_extensions(json.loads((tmp_path / "item.json").read_text())) == 4
    projection = ProjectionExtension.ext(item)
    assert projection.epsg == 32721 and projection.shape == [50, 40]
    asset = item.assets["map.tif"]
    content = (tmp_path / "map.tif").read_bytes()
    assert FileExtension.ext(asset).size == len(content)
    assert FileExtension.ext(asset).checksum == "1220" + hashlib.sha256(content).hexdigest()
    classes = ClassificationExtension.ext(asset).classes
    assert classes is not None
    assert [(c.value, c.to_dict()["title"]) for c in classes] == [(c.id, c.name) for c in LEGEND]
    assert Path(asset.get_absolute_href() or "") == tmp_path / "map.tif"
    assert [link.rel for link in item.links if link.rel == "derived_from"] == ["derived_from"] * 2
    assert item.properties["geoseg:model"] == HOSTILE


def test_the_footprint_is_split_at_the_antimeridian(tmp_path: Path) -> None:
    crs = "+proj=tmerc +lon_0=180 +k=0.9996 +ellps=WGS84 +units=m"
    where = GeoBox((50, 40), Affine(1000, 0, -2e4, 0, -1000, 2.5e4), crs)
    write_item(run_of(tmp_path, where), tmp_path / "item.json")
    item = json.loads((tmp_path / "item.json").read_text())
    shape = shapely.geometry.shape(item["geometry"])
    assert shape.is_valid and len(shape.geoms) == 2 and shape.area < 1
    west, _, east, _ = item["bbox"]
    assert 179 < west < 180 and -180 < east < -179
    assert item["properties"]["proj:code"] is None
    assert item["properties"]["proj:projjson"]["type"] == "ProjectedCRS"


def test_without_a_crs_it_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="CRS"):
        write_item(run_of(tmp_path, grid(50, 40, None)), tmp_path / "item.json")
    assert not (tmp_path / "item.json").exists()
