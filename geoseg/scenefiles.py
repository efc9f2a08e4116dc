"""The files of this machine that a scene was read from, for what shows or names them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from geoseg.export.vrt import BandSource
    from geoseg.scene.reader import Scene

__all__ = [
    "colour_bands",
    "colour_sources",
    "file_bands",
    "files_of",
    "is_product",
    "one_file",
    "taken_of",
]

_COLOURS = (("red", "green", "blue"), ("b04", "b03", "b02"), ("b4", "b3", "b2"))
_MOMENTS = (
    # of Sentinel-2 products, STAC items, Landsat's metadata, GDAL's IMAGERY domain
    "PRODUCT_START_TIME",
    "datetime",
    "DATETIME",
    "DATE_ACQUIRED",
    "ACQUISITIONDATETIME",
)


def colour_bands(scene: Scene) -> tuple[int, int, int]:
    """Numbers from 1 of the bands shown as red, green and blue."""
    names = [band.name.lower() for band in scene.bands]
    chosen = next((t for t in _COLOURS if set(t) <= set(names)), None)
    numbers = [names.index(n) + 1 for n in chosen] if chosen else [1, 2, 3]
    red, green, blue = (min(n, len(names)) for n in numbers)
    return red, green, blue


def file_bands(path: Path) -> tuple[int, int, int]:
    """The same of an image of this machine; raises SceneError."""
    from geoseg.scene.opening import open_scene

    return colour_bands(open_scene(path, allow_vrt=path.suffix.lower() == ".vrt"))


def is_product(path: Path) -> bool:
    """Whether a scene is a folder of files, or an item that names them."""
    if path.suffix.lower() != ".json":
        return path.is_dir()
    try:
        return "stac_version" in json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError):
        return False


def colour_sources(
    scene: Scene, bands: tuple[int, int, int] | None = None
) -> list[list[BandSource]] | None:
    """For red, green and blue the files that hold it, those on top first.

    ``bands`` number from 1 what is shown so. None where a colour is in no file of this machine:
    arrays, and scenes read from afar.
    """
    numbers = bands or colour_bands(scene)
    found = [_sources(scene.reader, min(n, len(scene.bands)) - 1) for n in numbers]
    return found if all(found) else None


def one_file(sources: Sequence[Sequence[BandSource]]) -> tuple[Path, tuple[int, int, int]] | None:
    """The file and its bands where one holds all three colours."""
    if any(len(of_band) != 1 for of_band in sources):
        return None
    red, green, blue = (of_band[0] for of_band in sources)
    if not red.path == green.path == blue.path:
        return None
    return red.path, (red.band, green.band, blue.band)


def files_of(scene: Scene) -> list[Path]:
    """All files of this machine that hold bands of the scene, each once."""
    found = [source.path for n in range(len(scene.bands)) for source in _sources(scene.reader, n)]
    return list(dict.fromkeys(found))


def _sources(reader: Any, band: int) -> list[BandSource]:
    """Files that hold a band of a reader, through whatever masks, resamples and joins them."""
    from geoseg.export.vrt import BandSource
    from geoseg.scene.geotiff import FileReader
    from geoseg.scene.mosaic import Mosaic
    from geoseg.scene.stack import Stack

    if isinstance(reader, FileReader):
        path = Path(reader.source.path)
        if reader.source.remote or not path.is_file():
            return []
        return [BandSource(path, reader.layout.image[band], reader.layout.nodata[band])]
    if isinstance(reader, Stack):
        for inner, count in zip(reader.readers, reader.counts, strict=True):
            if band < count:
                return _sources(inner, band)
            band -= count
        return []
    if isinstance(reader, Mosaic):
        return [source for _, inner in reader.parts for source in _sources(inner, band)]
    # masks and grids hold one reader; a selection renumbers its bands
    held = getattr(reader, "reader", None) or next(iter(getattr(reader, "readers", ())[-1:]), None)
    numbers = getattr(reader, "indices", None)
    return [] if held is None else _sources(held, band if numbers is None else numbers[band])


def taken_of(scene: Scene) -> datetime | None:
    """When the scene was taken, where its metadata say so."""
    for name in _MOMENTS:
        try:
            moment = datetime.fromisoformat(scene.tags.get(name, ""))
        except ValueError:
            continue
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    return None
