"""A map of categories as the verbs that make tables read it: in windows, with areas."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geoseg.errors import InputError
from geoseg.grid import Window

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from odc.geo.geobox import GeoBox

    from geoseg.engine.segmentmap import SegmentMap
    from geoseg.labels.sources import LabelSource
    from geoseg.legend import Legend

__all__ = ["ClassMap", "check_table", "open_class_map", "write_table"]

TABLES = (".csv", ".json")

STRIP_PX = 1 << 22


@dataclass(frozen=True)
class ClassMap:
    """``source`` gives the categories, ``geobox`` says where they lie."""

    name: str
    source: LabelSource
    geobox: GeoBox
    legend: Legend

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, cols)."""
        return self.source.shape

    def windows(self) -> Iterator[Window]:
        """Strips of whole rows, from the top."""
        rows, cols = self.shape
        height = max(STRIP_PX // cols, 1)
        for row in range(0, rows, height):
            yield Window(row, 0, min(height, rows - row), cols)

    def read(self, window: Window) -> NDArray[np.uint8]:
        """Categories (row, col) of a window, 255 = nodata."""
        return self.source.read(window)[0]

    def strips(self) -> Iterator[tuple[Window, NDArray[np.uint8]]]:
        """Each window with its categories."""
        for window in self.windows():
            yield window, self.read(window)

    def pixel_m2(self, window: Window) -> float:
        """Area on the ground of the pixel at the window's centre; raises InputError."""
        from geoseg.scene.geodesy import pixel_size_m

        size = pixel_size_m(self.geobox[window.slices])
        if size is None:
            raise InputError(f"{self.name}: has no CRS, so no areas: give it one")
        return size[0] * size[1]


class _KeptMap:
    """A SegmentMap as a LabelSource."""

    def __init__(self, segments: SegmentMap) -> None:
        self._map = segments
        self.shape = segments.shape
        self.legend = segments.legend

    def read(self, window: Window) -> tuple[NDArray[np.uint8], NDArray[Any]]:
        """See LabelSource."""
        categories = self._map.read(window, ["category_id"])["category_id"]
        return categories, categories.astype("int32") * 0


def open_class_map(path: str, legend: str | None = None) -> ClassMap:
    """A GeoTIFF of categories, or a map that geoseg kept (.zarr); raises InputError.

    The legend is the one given, else the one that the file carries.
    """
    from geoseg.export.facts import read_facts
    from geoseg.labels.sources import open_labels, raster_grid
    from geoseg.legend import Legend

    if path.rstrip("/").endswith(".zarr"):
        from geoseg.engine.segmentmap import SegmentMap

        segments = SegmentMap.open(path)
        return ClassMap(path, _KeptMap(segments), segments.geobox, segments.legend)
    carried = read_facts(path).get("legend")
    known = Legend.open(legend) if legend else None
    if known is None and carried:
        known = Legend.from_dict(json.loads(carried))
    grid = raster_grid(Path(path))
    source = open_labels(path, grid, known)
    return ClassMap(path, source, grid, known or source.legend)


def check_table(path: str | None, *, overwrite: bool) -> None:
    """Raises OutputError where a table can't go to ``path``, before it is made."""
    from geoseg.export.target import check_file

    if path:
        check_file(path, TABLES, overwrite)


def write_table(table: Any, path: str, *, overwrite: bool) -> None:
    """A DataFrame as .csv or .json, complete or not at all; raises OutputError."""
    from geoseg.export.target import written_beside

    with written_beside(path, overwrite, suffixes=TABLES) as part:
        if Path(path).suffix.lower() == ".csv":
            text = table.to_csv(index=table.index.name is not None)
        else:
            text = json.dumps(json.loads(table.to_json(orient="records")), indent=2) + "\n"
        part.write_text(text, encoding="utf-8")
