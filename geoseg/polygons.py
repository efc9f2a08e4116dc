"""Polygons of any raster of integers: an array, a file, a map, an xarray."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from affine import Affine
from numpy.typing import NDArray

from geoseg.errors import InputError
from geoseg.grid import Window
from geoseg.legend import NODATA_CATEGORY
from geoseg.sieving import SievedLabels, Sieving, pixel_area
from geoseg.vectorize.stream import VectorizeOptions, polygonize_blocks
from geoseg.vectorize.strips import ArraySource, LabelSource
from geoseg.vectorize.table import Attributes

if TYPE_CHECKING:
    import geopandas as gpd
    import pyarrow as pa

    from geoseg.scene.reader import Scene

__all__ = ["Labels", "Sieving", "polygon_batches", "polygonize"]


@dataclass(frozen=True)
class _SceneLabels:
    """One band of a scene as labels; what isn't valid is masked."""

    scene: Scene
    band: int

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, cols)."""
        return self.scene.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the band."""
        return np.dtype(self.scene.dtype)

    def read(self, window: Window) -> tuple[NDArray[Any], None]:
        """Labels (row, col), masked where the scene isn't valid."""
        pixels, valid = self.scene.read(window, [self.band])
        return pixels[0] if valid.all() else np.ma.MaskedArray(pixels[0], ~valid), None


@dataclass(frozen=True)
class Labels:
    """A raster of labels and where it lies.

    Attributes:
        source: gives the labels.
        attributes: what columns are made of: transform, CRS, legend.
        nodata: label that gets no polygon, besides those that are masked.

    """

    source: LabelSource
    attributes: Attributes
    nodata: int | None = None

    @classmethod
    def open(
        cls,
        raster: Any,
        *,
        band: int = 1,
        mask: NDArray[np.bool_] | None = None,
        transform: Affine | None = None,
        crs: Any = None,
    ) -> Labels:
        """From an array, a file, a folder of a map (.zarr), a SegmentMap, a Scene or an xarray.

        Args:
            raster: integers (row, col).
            band: of files, scenes and xarrays with several, from 1.
            mask: of arrays: True where pixels count.
            transform: of arrays: pixel to CRS; pixel coordinates by default.
            crs: of arrays, and of sources that have none: anything that pyproj takes.

        Raises InputError for what holds no integers, SceneError for files that can't be read.

        """
        from geoseg.scene.reader import Scene

        if isinstance(raster, np.ndarray):
            labels = raster if mask is None else np.ma.MaskedArray(raster, ~np.asarray(mask, bool))
            where = Attributes(transform=transform or Affine.identity(), crs_wkt=_wkt(crs))
            return cls(ArraySource(labels), where)
        if mask is not None or transform is not None:
            raise InputError("mask and transform go with an array: files and maps bring their own")
        if isinstance(raster, (str, os.PathLike)) and Path(raster).suffix == ".zarr":
            from geoseg.engine.segmentmap import SegmentMap

            raster = SegmentMap.open(str(raster))
        if hasattr(raster, "legend") and hasattr(raster, "geobox"):
            from geoseg.mapsource import MapSource

            where = Attributes(
                transform=raster.geobox.affine,
                crs_wkt=_wkt(raster.geobox.crs) or _wkt(crs),
                legend=raster.legend,
            )
            return cls(MapSource(raster), where, NODATA_CATEGORY)
        if not isinstance(raster, Scene):
            from geoseg.scene.opening import open_scene

            raster = open_scene(raster)
        return cls._of_scene(raster, band, crs)

    def sieved(self, sieving: Sieving, on_pixels: Callable[[int], None] | None = None) -> Labels:
        """Without small segments and holes; the raster is read, and sieved, at once.

        In bounded memory, block by block, with what ``stitch.sieve`` gives the whole raster.
        Pixels that are masked are nodata; what ``VectorizeOptions.nodata`` leaves out takes
        part like any label. Areas become pixels by the pixel at the raster's centre, and are
        in units of the transform where there is no CRS.

        Args:
            sieving: what is small, and where it goes.
            on_pixels: told how many more pixels one of ``sieving``'s steps is done with.

        """
        if not sieving:
            return self
        where = self.attributes
        area = pixel_area(where.transform, where.crs_wkt, self.source.shape)
        source = SievedLabels.of(
            self.source, sieving.joins(area), nodata=self.nodata, on_pixels=on_pixels
        )
        return replace(self, source=source)

    @classmethod
    def _of_scene(cls, scene: Scene, band: int, crs: Any) -> Labels:
        if not 1 <= band <= len(scene.bands):
            raise InputError(f"{scene.name}: no band {band}: it has {len(scene.bands)}")
        if np.dtype(scene.dtype).kind not in "iub":
            raise InputError(
                f"{scene.name}: holds {scene.dtype}: polygons are made of integers; round or "
                "classify it first"
            )
        where = Attributes(
            transform=scene.geobox.affine, crs_wkt=_wkt(scene.geobox.crs) or _wkt(crs)
        )
        return cls(_SceneLabels(scene, band - 1), where)


def _wkt(crs: Any) -> str | None:
    """A CRS of whatever kind as WKT."""
    if crs is None:
        return None
    from pyproj import CRS

    wkt: str = CRS.from_user_input(crs.to_wkt() if hasattr(crs, "to_wkt") else crs).to_wkt()
    return wkt


def polygon_batches(
    labels: Labels,
    options: VectorizeOptions | None = None,
    on_rows: Callable[[int], None] | None = None,
) -> Iterator[pa.RecordBatch]:
    """Stream polygons as Arrow batches in bounded memory, at least one; see polygonize_blocks."""
    options = options or VectorizeOptions()
    if labels.nodata is not None:
        options = replace(options, nodata=(*options.nodata, labels.nodata))
    return polygonize_blocks(labels.source, options, labels.attributes, on_rows)


def polygonize(
    raster: Any,
    options: VectorizeOptions | None = None,
    *,
    band: int = 1,
    mask: NDArray[np.bool_] | None = None,
    transform: Affine | None = None,
    crs: Any = None,
    sieving: Sieving | None = None,
) -> gpd.GeoDataFrame:
    """Polygons of a raster of integers as a GeoDataFrame.

    The polygons equal GDAL's (4-connected), whatever ``options.tile_size``, and come in the
    order in which a scan from the upper left finishes them. ``Labels.open`` says what a raster
    may be and what the other arguments mean; for rasters whose polygons don't fit in memory
    use ``polygon_batches(Labels.open(...))``, with ``write_vector`` say. ``sieving`` takes small
    segments and holes out of the raster first: see ``Labels.sieved``.

    >>> import numpy as np
    >>> polygonize(np.array([[1, 1], [1, 2]], np.uint8))[["value", "pixels"]].values.tolist()
    [[1, 3], [2, 1]]
    """
    import pyarrow as pa

    options = options or VectorizeOptions(multi=False)
    labels = Labels.open(raster, band=band, mask=mask, transform=transform, crs=crs)
    labels = labels.sieved(sieving or Sieving())
    table = pa.Table.from_batches(polygon_batches(labels, options))
    return to_frame(table, labels.attributes.crs_wkt)


def to_frame(table: pa.Table, crs_wkt: str | None) -> gpd.GeoDataFrame:
    """A table of polygons as a GeoDataFrame; instance_id is Int64, null for stuff."""
    import geopandas as gpd

    frame = table.drop_columns("geometry").to_pandas(integer_object_nulls=False)
    if "instance_id" in frame:
        frame["instance_id"] = table["instance_id"].to_pandas(integer_object_nulls=True)
        frame["instance_id"] = frame["instance_id"].astype("Int64")
    wkb = table["geometry"].to_numpy(zero_copy_only=False)
    return gpd.GeoDataFrame(frame, geometry=gpd.GeoSeries.from_wkb(wkb), crs=crs_wkt)
