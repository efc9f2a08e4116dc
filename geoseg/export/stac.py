"""A STAC item that describes what a run wrote, so that results drop into catalogues.

STAC 1.1 with the extensions projection 2.0, classification 2.0, file 2.1 and processing 1.2.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from affine import Affine

from geoseg import __version__
from geoseg.errors import InputError
from geoseg.export.ogr import date
from geoseg.export.projectlayer import role_of
from geoseg.export.target import FORMATS, RASTERS, written_beside
from geoseg.legend import Legend

__all__ = ["RunItem", "item_of", "write_item"]

_EXTENSIONS = {
    "projection": "https://stac-extensions.github.io/projection/v2.0.0/schema.json",
    "classification": "https://stac-extensions.github.io/classification/v2.0.0/schema.json",
    "file": "https://stac-extensions.github.io/file/v2.1.0/schema.json",
    "processing": "https://stac-extensions.github.io/processing/v1.2.0/schema.json",
}
_MEDIA = {
    ".tif": "image/tiff; application=geotiff; profile=cloud-optimized",
    ".tiff": "image/tiff; application=geotiff; profile=cloud-optimized",
    ".gpkg": "application/geopackage+sqlite3",
    ".parquet": "application/vnd.apache.parquet",
    ".geojson": "application/geo+json",
    ".fgb": "application/vnd.flatgeobuf",
    ".pmtiles": "application/vnd.pmtiles",
    ".png": "image/png",
    ".html": "text/html",
    ".shp": "application/vnd.shp",
    ".shx": "application/vnd.shx",
    ".dbf": "application/vnd.dbf",
    ".json": "application/json",
    ".qgz": "application/x-qgis-project",
    ".qml": "text/xml",
    ".vrt": "text/xml",
    ".xml": "text/xml",
    ".prj": "text/plain",
    ".cpg": "text/plain",
}
_PARTS = {
    ".shp": (".dbf", ".shx", ".prj", ".cpg"),
    ".pmtiles": (".style.json",),
    **dict.fromkeys(RASTERS, (".qml",)),
}
"""What lies beside a file under another ending and belongs to it."""
_ROLES = {
    ".png": "overview", ".html": "overview", ".qgz": "overview", ".xml": "metadata",
}  # fmt: skip
_BLOCK = 1 << 20
_EDGE_POINTS = 16


@dataclass(frozen=True, kw_only=True)
class RunItem:
    """What a run wrote, and of what.

    Attributes:
        id: of the item.
        files: the outputs; hrefs are relative to the item.
        geobox: of the map (odc-geo's, or anything with crs, affine and shape).
        legend: of the map.
        taken: when the scene was taken; None: the date of SOURCE_DATE_EPOCH, or 1980.
        provenance: as text, under ``geoseg:``.
        scenes: hrefs of the files that the scene was read from.
        model: href of the model's own item (MLM), and its name there.

    """

    id: str
    files: Sequence[Path]
    geobox: Any
    legend: Legend
    taken: datetime | None = None
    provenance: Mapping[str, str] = field(default_factory=dict)
    scenes: Sequence[str] = ()
    model: tuple[str, str] | None = None


def item_of(run: RunItem, folder: Path) -> dict[str, Any]:
    """The item, its assets named relative to ``folder``. Raises InputError without a CRS."""
    if run.geobox.crs is None:
        raise InputError(f"{run.id}: a STAC item needs a CRS: give it with --assume-crs")
    geometry, bbox = _footprint(run.geobox)
    when = (run.taken or date()).strftime("%Y-%m-%dT%H:%M:%SZ")
    properties: dict[str, Any] = {
        "datetime": when,
        "processing:level": "L4",
        "processing:software": {"geoseg": __version__},
        "processing:lineage": f"segmented by geoseg with {run.provenance.get('model', 'a model')}",
        "proj:shape": [int(n) for n in run.geobox.shape],
        "proj:transform": [float(v) for v in list(run.geobox.affine)[:6]],
        **_crs(run.geobox.crs),
        **{f"geoseg:{name}": value for name, value in sorted(run.provenance.items())},
    }
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": sorted(_EXTENSIONS.values()),
        "id": run.id,
        "geometry": geometry,
        "bbox": bbox,
        "properties": properties,
        "links": _links(run),
        "assets": {path.name: _asset(path, folder, run.legend) for path in _with_parts(run.files)},
    }


def write_item(run: RunItem, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Write the item as .json beside its files; raises OutputError or InputError."""
    with written_beside(path, overwrite, kinds=("item",)) as part:
        item = item_of(run, Path(path).resolve().parent)
        part.write_text(json.dumps(item, indent=2, ensure_ascii=False), encoding="utf-8")


def _crs(crs: Any) -> dict[str, Any]:
    from pyproj import CRS

    known = CRS.from_user_input(str(crs) if not hasattr(crs, "to_wkt") else crs.to_wkt())
    authority = known.to_authority()
    if authority:
        return {"proj:code": ":".join(authority)}
    return {"proj:code": None, "proj:projjson": known.to_json_dict()}


def _footprint(geobox: Any) -> tuple[dict[str, Any], list[float]]:
    """The outline in WGS 84, split at the antimeridian, and its box (RFC 7946)."""
    import shapely
    from pyproj import Transformer

    transform: Affine = geobox.affine
    rows, cols = (int(n) for n in geobox.shape)
    corners = np.array([(0, 0), (0, rows), (cols, rows), (cols, 0), (0, 0)], float)
    outline = shapely.segmentize(shapely.linestrings(corners), max(rows, cols) / _EDGE_POINTS)
    xs, ys = transform @ tuple(shapely.get_coordinates(outline).T)
    to_degrees = Transformer.from_crs(geobox.crs.to_wkt(), 4326, always_xy=True)
    lon, lat = (np.asarray(values) for values in to_degrees.transform(xs, ys))
    if np.ptp(lon) <= 180:
        ring = shapely.orient_polygons(shapely.polygons(np.stack([lon, lat], axis=1)))
        west, south, east, north = shapely.bounds(ring).tolist()
        return shapely.geometry.mapping(ring), [west, south, east, north]
    whole = shapely.polygons(np.stack([lon % 360, lat], axis=1))
    eastern = shapely.clip_by_rect(whole, 0, -90, 180, 90)
    western = shapely.transform(
        shapely.clip_by_rect(whole, 180, -90, 360, 90), lambda p: p - [360, 0]
    )
    both = shapely.multipolygons([eastern, western])
    box = [
        float((lon % 360).min()),
        float(lat.min()),
        float((lon % 360).max() - 360),
        float(lat.max()),
    ]
    return shapely.geometry.mapping(shapely.orient_polygons(both)), box


def _links(run: RunItem) -> list[dict[str, str]]:
    links = [{"rel": "derived_from", "href": one, "title": "the scene"} for one in run.scenes]
    if run.model is not None:
        href, name = run.model
        kind = "application/geo+json"
        # MLM asks for the name: it tells this link from those to scenes
        links.append(
            {"rel": "derived_from", "href": href, "type": kind, "title": "the model",
             "mlm:name": name}
        )  # fmt: skip
    return links


def _with_parts(files: Sequence[Path]) -> list[Path]:
    """The files, each with what lies beside it and belongs to it."""
    found = []
    for path in files:
        ending = path.suffix.lower()
        beside = [path.with_suffix(other) for other in _PARTS.get(ending, ())]
        if ending in RASTERS:
            beside.append(path.with_name(f"{path.name}.aux.xml"))
        found += [path, *(part for part in beside if part.is_file())]
    return list(dict.fromkeys(found))


def _asset(path: Path, folder: Path, legend: Legend) -> dict[str, Any]:
    ending = path.suffix.lower()
    kind = FORMATS.get(ending, "")
    href = Path(os.path.relpath(path.resolve(), folder)).as_posix()
    style = path.name.endswith((".qml", ".style.json"))
    asset: dict[str, Any] = {
        "href": f"./{href}",
        "title": path.name,
        "roles": ["style"] if style else [_ROLES.get(ending, "data")],
        "file:size": path.stat().st_size,
        "file:checksum": _checksum(path),
    }
    if ending in _MEDIA:
        asset["type"] = _MEDIA[ending]
    if kind == "vector" or (kind == "raster" and role_of(path) == "category"):
        asset["classification:classes"] = legend.to_stac()
    return asset


def _checksum(path: Path) -> str:
    """Multihash of SHA-256: its code 12 and length 20, in hexadecimal, come first."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return f"1220{digest.hexdigest()}"
