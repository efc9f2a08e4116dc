"""Labels of a scene from any file that holds them, read window by window."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from geoseg.errors import InputError
from geoseg.grid import Window
from geoseg.labels.coco import read_coco
from geoseg.labels.rasterize import PolygonLabels, polygon_labels
from geoseg.labels.schemes import Scheme, to_categories
from geoseg.legend import NODATA_CATEGORY, Category, Legend
from geoseg.shapes import read_shapes

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

__all__ = ["VECTOR_SUFFIXES", "ArrayLabels", "LabelSource", "RasterLabels", "open_labels"]

VECTOR_SUFFIXES = (".gpkg", ".parquet", ".geoparquet", ".fgb", ".geojson", ".shp")

Pair = tuple[NDArray[np.uint8], NDArray[Any]]


class LabelSource(Protocol):
    """Anything that has labels on a grid."""

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, cols)."""
        ...

    @property
    def legend(self) -> Legend:
        """Its categories."""
        ...

    def read(self, window: Window) -> Pair:
        """(category_id, instance_id) of a window inside the grid."""
        ...


@dataclass(frozen=True)
class ArrayLabels:
    """Labels in memory; ``transform`` and ``crs`` as in a LabelImage."""

    category_id: NDArray[np.uint8]
    instance_id: NDArray[Any]
    legend: Legend
    score: NDArray[np.uint8] | None = None
    transform: tuple[float, ...] | None = None
    crs: str | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, cols)."""
        return self.category_id.shape[0], self.category_id.shape[1]

    def read(self, window: Window) -> Pair:
        """See LabelSource."""
        return self.category_id[window.slices], self.instance_id[window.slices]


@dataclass(frozen=True)
class RasterLabels:
    """One band: 8 bits are categories (nodata and 255: none), more are instances (0: none)
    of ``category``; None: it holds categories, in the numbers of ``scheme`` where one is given.
    """

    path: Path
    shape: tuple[int, int]
    category: int | None
    legend: Legend
    scheme: Scheme | None = None

    def read(self, window: Window) -> Pair:
        """See LabelSource."""
        import rasterio
        from rasterio.errors import RasterioError
        from rasterio.windows import Window as RasterWindow

        part = RasterWindow(window.col_off, window.row_off, window.width, window.height)
        try:
            with rasterio.open(self.path, driver="GTiff") as file:
                values = file.read(1, window=part)
                known = file.read_masks(1, window=part) > 0
        except RasterioError as error:
            rows = f"rows {window.row_off} to {window.row_end}"
            raise InputError(
                f"{self.path}: can't read {rows}: {error.__cause__ or error}: is it whole?"
            ) from error
        if self.category is not None:
            inside = known & (values > 0)
            category = np.where(inside, np.uint8(self.category), np.uint8(NODATA_CATEGORY))
            return category, np.where(inside, values, 0)
        if self.scheme is not None:
            category = np.full(window.shape, NODATA_CATEGORY, np.uint8)
            try:
                category[known] = to_categories(values[known], self.scheme)
            except InputError as error:
                raise InputError(f"{self.path}: {error}") from error
        else:
            category = np.where(known, values, NODATA_CATEGORY).astype(np.uint8)
        return category, np.zeros(window.shape, np.uint32)


def raster_grid(path: Path) -> GeoBox:
    """The grid of a GeoTIFF; raises InputError where it can't be opened."""
    import rasterio
    from odc.geo.geobox import GeoBox
    from rasterio.errors import RasterioIOError

    try:
        with rasterio.open(path, driver="GTiff") as file:
            crs = None if file.crs is None else file.crs.to_wkt()
            return GeoBox(file.shape, file.transform, crs)
    except RasterioIOError as error:
        raise InputError(f"{path}: no labels can be read from it: {error}") from error


def open_labels(
    path: str | Path,
    grid: GeoBox | None,
    legend: Legend | None = None,
    *,
    column: str | None = None,
    image: str | None = None,
    scheme: Scheme | None = None,
) -> LabelSource:
    """Labels of a file: GeoTIFF, polygons (which need ``grid``), COCO JSON of one image, or of
    several with the name of the one that is meant in ``image``. ``scheme`` says what the numbers
    of a GeoTIFF mean where they are not the ids of the legend.

    Raises InputError on other files, and where its grid is not ``grid``.
    """
    path = Path(path)
    if path.suffix.lower() in VECTOR_SUFFIXES:
        if grid is None:
            raise InputError(f"{path}: polygons need the grid of a raster: give --like RASTER")
        return _open_polygons(path, grid, legend, column)
    if path.suffix.lower() == ".json":
        source: LabelSource = _open_coco(path, grid, image)
    else:
        source = _open_raster(path, legend, scheme)
        _check_grid(path, raster_grid(path), grid)
    if grid is not None and source.shape != tuple(grid.shape):
        raise InputError(
            f"{path} has {source.shape} pixels, the other side {tuple(grid.shape)}: bring both "
            "to one grid"
        )
    return source


def _check_grid(path: Path, own: GeoBox, grid: GeoBox | None) -> None:
    if grid is None:
        return
    same_place = np.allclose(tuple(own.affine)[:6], tuple(grid.affine)[:6], rtol=1e-9, atol=1e-6)
    if not same_place or (own.crs and grid.crs and own.crs != grid.crs):
        raise InputError(
            f"{path}: its grid is not that of the other side: warp it there, nearest neighbour"
        )


def _open_raster(path: Path, legend: Legend | None, scheme: Scheme | None) -> RasterLabels:
    import rasterio

    shape = tuple(int(n) for n in raster_grid(path).shape)
    with rasterio.open(path, driver="GTiff") as file:
        dtype = np.dtype(file.dtypes[0])
    if dtype.kind not in "iu":
        raise InputError(f"{path}: holds {dtype.name}: labels are whole numbers")
    if scheme is not None:
        return RasterLabels(path, (shape[0], shape[1]), None, scheme.legend, scheme)
    instances = dtype.itemsize > 1
    if legend is None:
        legend = _plain_legend(instances)
    category = _only_thing(path, legend) if instances else None
    return RasterLabels(path, (shape[0], shape[1]), category, legend)


def _only_thing(path: Path, legend: Legend) -> int:
    things = [category for category in legend if category.isthing]
    if len(things) != 1:
        named = ", ".join(category.name for category in things) or "none"
        raise InputError(
            f"{path}: holds instances (more than 8 bits) of one category, the other side's things "
            f"are {named}: give categories in 8 bits, or a --legend with one thing"
        )
    return things[0].id


def _plain_legend(instances: bool) -> Legend:
    if instances:
        return Legend((Category(0, "object", "#0072b2", isthing=True),))
    return Legend(tuple(Category(k, str(k), "#999999") for k in range(NODATA_CATEGORY - 1)))


def _open_polygons(
    path: Path, grid: GeoBox, legend: Legend | None, column: str | None
) -> PolygonLabels:
    return polygon_labels(read_shapes(path), grid, legend, column=column)


def _open_coco(path: Path, grid: GeoBox | None, image: str | None) -> ArrayLabels:
    legend, images = read_coco(path, image)
    first = next(images, None)
    if first is None or next(images, None) is not None:
        raise InputError(f"{path}: holds no image or several: give a file of one image")
    if first.transform is not None:
        from affine import Affine
        from odc.geo.geobox import GeoBox
        from pyproj.exceptions import CRSError

        try:
            place = GeoBox(first.category_id.shape, Affine(*first.transform[:6]), first.crs)
        except (TypeError, ValueError, CRSError) as error:
            raise InputError(f"{path}: its place is odd: {error!r}") from error
        _check_grid(path, place, grid)
    return ArrayLabels(
        first.category_id, first.instance_id, legend, first.score, first.transform, first.crs
    )
