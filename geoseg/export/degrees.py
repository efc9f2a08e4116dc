"""Formats in longitude and latitude: which maps can have them at all."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from geoseg.errors import OutputError

__all__ = ["IN_DEGREES", "check_place"]

IN_DEGREES = {".geojson": "GeoJSON (RFC 7946)", ".pmtiles": "PMTiles"}
"""Formats whose coordinates are those of WGS 84, by extension."""


def check_place(path: str | os.PathLike[str], crs: Any, name: str = "the map") -> None:
    """Raises OutputError where a format in degrees is asked of what has no place on the earth.

    ``crs`` is pyproj's, its text, or None; ``name`` says whose it is.
    """
    from pyproj import CRS

    form = IN_DEGREES.get(Path(path).suffix.lower())
    if form is None:
        return
    if crs is None:
        raise OutputError(
            f"{path}: {form} is in WGS 84, but {name} has no CRS: "
            "write .gpkg, .fgb or .parquet, or give the CRS"
        )
    known = CRS.from_user_input(crs)
    if known.is_bound and known.source_crs is not None:
        known = known.source_crs
    flat = known.sub_crs_list[0] if known.is_compound else known
    if not (flat.is_geographic or flat.is_projected or flat.is_geocentric):
        raise OutputError(
            f"{path}: {form} is in longitude and latitude, but {name} has the local CRS "
            f"'{known.name}', which has no place on the earth: write .gpkg, .fgb or .parquet"
        )
