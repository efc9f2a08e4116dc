"""Shapes that a person gives: polygons or points in any vector file, or GeoParquet."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from geoseg.errors import InputError
from geoseg.scene.formats import is_remote

if TYPE_CHECKING:
    import os

    import geopandas as gpd

__all__ = ["moved", "read_shapes", "refuse_remote"]


def read_shapes(path: str | os.PathLike[str], *, layer: str | None = None) -> gpd.GeoDataFrame:
    """The features of ``layer`` where the file has it, else of its first layer with geometry.

    Raises InputError where there is no such file, no geometry in it, or one that is broken.
    """
    import geopandas as gpd
    import pyogrio
    from shapely.errors import GEOSException

    errors = pyogrio.errors
    refuse_remote(path)
    try:
        if Path(path).suffix.lower() in (".parquet", ".geoparquet"):
            return gpd.read_parquet(path)
        layers = [name for name, kind in pyogrio.list_layers(path) if kind is not None]
        if not layers:
            raise InputError(f"{path}: a table without geometry: give polygons or points")
        return gpd.read_file(path, layer=layer if layer in layers else layers[0])
    except (OSError, ValueError, errors.DataSourceError, errors.DataLayerError) as error:
        raise InputError(f"{path}: no polygons can be read from it: {error}") from error
    except GEOSException as error:
        raise InputError(f"{path}: holds a broken geometry: {error}: repair it in a GIS") from error


def refuse_remote(path: str | os.PathLike[str]) -> None:
    """Raises InputError for a URL or a /vsi path: tables and shapes are read from files here."""
    if is_remote(path):
        raise InputError(f"{path}: not a local file: fetch it and give the copy")


def moved(frame: gpd.GeoDataFrame, crs: Any, name: str | os.PathLike[str]) -> gpd.GeoDataFrame:
    """Shapes of the file ``name`` in another CRS; raises InputError where none leads there."""
    from pyproj.exceptions import ProjError

    try:
        return frame.to_crs(crs)
    except ProjError as error:
        theirs = getattr(frame.crs, "name", frame.crs)
        raise InputError(
            f"{name}: can't be moved from its CRS '{theirs}' to another: a local CRS has no place "
            "on the earth: give both sides in one CRS"
        ) from error
