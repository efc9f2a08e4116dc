"""What files that geoseg wrote say of themselves: provenance and legend."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pyogrio
import rasterio

from geoseg import __version__
from geoseg.errors import InputError
from geoseg.export.target import RASTERS, VECTORS
from geoseg.legend import Legend

__all__ = ["derived_facts", "legend_of", "read_facts"]

_HANDED_ON = ("scene", "model", "model_licence", "model_sha256")


def read_facts(path: str | Path) -> dict[str, str]:
    """Provenance of a .tif, .gpkg, .parquet, .fgb or .geojson; empty when it has none.

    Raises InputError when the file can't be read.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    try:
        if suffix in RASTERS:
            with rasterio.open(path, driver="GTiff") as file:
                return dict(file.tags())
        if suffix == ".parquet":
            text = (pq.read_metadata(path).metadata or {}).get(b"geoseg", b"{}")
            return dict(json.loads(text))
        layers = [name for name, kind in pyogrio.list_layers(path) if kind is not None]
        info = pyogrio.read_info(path, layer=layers[0] if layers else None)
    except (rasterio.errors.RasterioIOError, pyogrio.errors.DataSourceError, OSError) as error:
        raise InputError(f"{path}: can't be read: {error}") from error
    found = {**(info.get("dataset_metadata") or {}), **(info.get("layer_metadata") or {})}
    if str(found.get("DESCRIPTION", "")).startswith("{"):  # FlatGeobuf and GeoJSON
        found = json.loads(found["DESCRIPTION"])
    return {name: str(value) for name, value in found.items()}


def legend_of(path: str | Path) -> Legend:
    """The legend that the file carries; raises InputError when it has none."""
    text = read_facts(path).get("legend")
    if text is None:
        raise InputError(f"{path}: has no legend in it: give one with --legend")
    try:
        return Legend.from_dict(json.loads(text))
    except ValueError as error:
        raise InputError(f"{path}: its legend can't be read: {error}") from error


def derived_facts(source: str | Path, verb: str, options: Mapping[str, Any]) -> dict[str, str]:
    """Provenance of a table that ``geoseg VERB`` made of a map: the map's, and how it was made.

    ``options`` are those of the command line; where files go isn't told.
    """
    known = {}
    if Path(source).suffix.lower() in (*VECTORS, *RASTERS) and Path(source).is_file():
        facts = read_facts(source)
        known = {name: facts[name] for name in _HANDED_ON if name in facts}
    plain = {
        name: value
        for name, value in options.items()
        if isinstance(value, (bool, int, float)) or (isinstance(value, str) and "/" not in value)
    }
    return {
        **known,
        "geoseg": __version__,
        "made_by": f"geoseg {verb}",
        "made_of": Path(source).name,
        "options": json.dumps(plain, sort_keys=True, ensure_ascii=False),
    }
