"""What files that geoseg wrote say of themselves: provenance and legend."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pyogrio
import rasterio

from geoseg.errors import InputError
from geoseg.export.target import RASTERS
from geoseg.legend import Legend

__all__ = ["legend_of", "read_facts"]


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
