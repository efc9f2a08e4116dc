"""One image file as a scene: GeoTIFF, Cloud Optimized GeoTIFF, JPEG 2000, JPEG, PNG.

Mask band, alpha band (which is then no image band), nodata values and NaN become ``valid``
here, once; scene/validity.py has the rule for nodata values.
"""

from __future__ import annotations

import hashlib
import os
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.windows import Window as RasterioWindow

from geoseg.errors import BlockError, SceneError
from geoseg.grid import Window
from geoseg.scene.formats import DRIVERS, Access, Source, find_source
from geoseg.scene.reader import Band, Scene
from geoseg.scene.validity import measured

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox
    from rasterio.io import DatasetReader

__all__ = ["FileReader", "Layout", "open_file"]

BoolArray = NDArray[np.bool_]

LOCAL_FILES = Access()
MAX_BLOCK_BYTES = 1 << 28
"""A file's own block beyond this is refused: one pixel of it costs the whole block."""

_CACHE_BYTES = 64 << 20
_GDAL: dict[str, Any] = {
    "GDAL_CACHEMAX": _CACHE_BYTES,  # else a twentieth of the machine's memory fills with blocks
    "GDAL_ERROR_ON_LIBJPEG_WARNING": "TRUE",  # else a cut JPEG reads as grey without a word
    "GDAL_DISABLE_READDIR_ON_OPEN": "TRUE",  # folders with 100,000 files
}
_LOCAL_ONLY = {"CPL_VSIL_CURL_ALLOWED_FILENAME": "-"}  # no request can leave, whatever a file says
_COLOURS = {"red", "green", "blue", "nir", "rededge", "coastal", "pan"}

_opening = threading.Lock()
_inherited: list[Any] = []
"""Datasets that a forked child got from its parent: never used there, never closed there."""


@dataclass(frozen=True, slots=True)
class Layout:
    """What the bands of a file are: indices count from 1, as in GDAL.

    ``nodata`` holds one value per image band, None where it has none.
    """

    image: tuple[int, ...]
    nodata: tuple[float | None, ...]
    alpha: int | None = None
    mask: bool = False


@contextmanager
def _opened(source: Source) -> Iterator[DatasetReader]:
    # what is asked of a dataset may open more files: overviews, masks
    with rasterio.Env(**_options(source)), _open(source) as dataset:
        yield dataset


def _options(source: Source) -> dict[str, Any]:
    return _GDAL if source.network else _GDAL | _LOCAL_ONLY


def _open(source: Source) -> DatasetReader:
    drivers = [source.driver] if source.driver else list(DRIVERS)
    path = source.path if source.remote else Path(source.path)
    problem: Exception | None = None
    with _opening, warnings.catch_warnings(), rasterio.Env(**_options(source)):
        # a scene without georeference is told to the caller, not to stderr
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        for driver in drivers:
            try:
                return rasterio.open(path, driver=driver)
            except RasterioError as error:
                problem = problem or error
    raise SceneError(
        f"{source.path}: can't be opened as {' or '.join(drivers)}: {problem}: "
        "write or fetch it again"
    ) from problem


@dataclass(frozen=True)
class FileReader:
    """Reads windows of one file. One handle per thread, opened where it is used."""

    source: Source
    layout: Layout
    _local: threading.local = field(
        default_factory=threading.local, init=False, repr=False, compare=False
    )

    def __reduce__(self) -> tuple[Any, ...]:
        return FileReader, (self.source, self.layout)

    def _dataset(self) -> DatasetReader:
        pid, dataset = getattr(self._local, "handle", (None, None))
        if dataset is None or pid != os.getpid():
            if dataset is not None:
                _inherited.append(dataset)
            try:
                dataset = _open(self.source)
            except SceneError as error:
                raise BlockError(str(error)) from error
            self._local.handle = os.getpid(), dataset
        return dataset

    def close(self) -> None:
        """Close this thread's handle; the next read opens it again."""
        pid, dataset = getattr(self._local, "handle", (None, None))
        if dataset is not None and pid == os.getpid():
            dataset.close()
        self._local.handle = None, None

    def read(self, window: Window, bands: Sequence[int]) -> tuple[NDArray[Any], BoolArray]:
        """Pixels (band, row, col) and valid (row, col); raises BlockError."""
        where = RasterioWindow(window.col_off, window.row_off, window.width, window.height)
        return self._read(bands, where, window.shape)

    def read_decimated(
        self, shape: tuple[int, int], bands: Sequence[int]
    ) -> tuple[NDArray[Any], BoolArray]:
        """The whole file at ``shape`` (rows, cols), nearest pixel, from overviews if any."""
        dataset = self._dataset()
        return self._read(bands, RasterioWindow(0, 0, dataset.width, dataset.height), shape)

    def _read(
        self, bands: Sequence[int], where: RasterioWindow, shape: tuple[int, int]
    ) -> tuple[NDArray[Any], BoolArray]:
        dataset = self._dataset()
        indexes = [self.layout.image[band] for band in bands]
        try:
            with rasterio.Env(**_options(self.source)):
                pixels = dataset.read(indexes, window=where, out_shape=(len(indexes), *shape))
                valid = np.ones(shape, bool)
                if self.layout.mask:
                    valid &= dataset.read_masks(1, window=where, out_shape=shape) > 0
                if self.layout.alpha is not None:
                    valid &= dataset.read(self.layout.alpha, window=where, out_shape=shape) > 0

                def read_band(band: int) -> NDArray[Any]:
                    index = self.layout.image[band]
                    return dataset.read(index, window=where, out_shape=shape)

                valid &= measured(pixels, bands, self.layout.nodata, read_band)
        except (RasterioError, MemoryError) as error:
            cause = str(error.__cause__ or error)
            # GDAL's own errors can't be sent from worker to scheduler, so their text goes alone
            error.__cause__ = error.__context__ = None
            raise BlockError(
                f"{self.source.path}: can't read rows {int(where.row_off)} to "
                f"{int(where.row_off + where.height)}, columns {int(where.col_off)} to "
                f"{int(where.col_off + where.width)}: {cause}"
            ) from error
        return pixels, valid

    def fingerprint(self, *, sha256: bool = False) -> Mapping[str, Any]:
        """Path, size and time of the file (``mtime_ns``); its sha256 where asked for."""
        if self.source.remote:
            return {"path": self.source.path}
        status = os.stat(self.source.path)
        out: dict[str, Any] = {
            "path": self.source.path,
            "size": status.st_size,
            "mtime_ns": status.st_mtime_ns,
        }
        if sha256:
            with open(self.source.path, "rb") as file:
                out["sha256"] = hashlib.file_digest(file, "sha256").hexdigest()
        return out


def open_file(
    path: str | Path,
    *,
    nodata: float | Literal["none"] | None = None,
    access: Access = LOCAL_FILES,
) -> Scene:
    """One image file as a scene, as it is.

    ``nodata`` replaces the declared value; ``"none"`` means that every value counts.
    Raises SceneError where the file can't be opened or is none of the formats above.
    """
    source = find_source(path, access)
    with _opened(source) as dataset:
        _check(dataset, source, trusted=access.vrt or access.network)
        layout = _layout(dataset, nodata)
        declared = layout.nodata[0]
        return Scene(
            name=Path(source.path).name,
            geobox=_geobox(dataset),
            bands=_bands(dataset, layout),
            dtype=np.result_type(*(dataset.dtypes[i - 1] for i in layout.image)).name,
            nodata=None if declared is None else float(declared),
            reader=FileReader(source, layout),
            georeferenced=not dataset.transform.is_identity,
            tags=_tags(dataset, source),
        )


def _check(dataset: DatasetReader, source: Source, trusted: bool) -> None:
    path = source.path
    if not trusted and "OVERVIEW_FILE" in dataset.tags(ns="OVERVIEWS"):
        raise SceneError(f"{path}: its overviews are said to be in another file: remove that tag")
    if any(dtype.startswith("complex") for dtype in dataset.dtypes):
        raise SceneError(f"{path}: complex numbers: give amplitudes or intensities instead")
    pixel_interleaved = dataset.profile.get("interleave") == "pixel"
    for dtype, (rows, cols) in zip(dataset.dtypes, dataset.block_shapes, strict=True):
        size = rows * cols * np.dtype(dtype).itemsize * (dataset.count if pixel_interleaved else 1)
        if size > MAX_BLOCK_BYTES:
            raise SceneError(
                f"{path}: stored in blocks of {rows} x {cols} pixels, {size / 2**20:,.0f} MiB "
                f"each: write it in tiles first (gdal_translate -co TILED=YES)"
            )


def _layout(dataset: DatasetReader, nodata: float | Literal["none"] | None) -> Layout:
    alphas = [i for i, c in enumerate(dataset.colorinterp, 1) if c is ColorInterp.alpha]
    image = tuple(i for i in dataset.indexes if i not in alphas)
    if not image:
        raise SceneError(f"{dataset.name}: nothing but an alpha band: give an image")
    if nodata is None:
        values = tuple(dataset.nodatavals[i - 1] for i in image)
    else:
        values = (None if nodata == "none" else float(nodata),) * len(image)
    flags = dataset.mask_flag_enums[image[0] - 1]
    mask = MaskFlags.per_dataset in flags and MaskFlags.alpha not in flags
    return Layout(image, values, alphas[0] if alphas else None, mask)


def _bands(dataset: DatasetReader, layout: Layout) -> tuple[Band, ...]:
    """Named by description, else by colour, else by number; a repeated name gets a suffix."""
    bands: list[Band] = []
    seen: dict[str, int] = {}
    for number, index in enumerate(layout.image, 1):
        tags = dataset.tags(index)
        name = dataset.descriptions[index - 1] or _colour(dataset, index) or str(number)
        seen[name] = seen.get(name, 0) + 1
        if seen[name] > 1:
            name = f"{name}_{seen[name]}"
        bands.append(
            Band(
                name=name,
                wavelength_um=_number(tags.get("CENTRAL_WAVELENGTH_UM")),
                scale=float(dataset.scales[index - 1]),
                offset=float(dataset.offsets[index - 1]),
            )
        )
    return tuple(bands)


def _colour(dataset: DatasetReader, index: int) -> str | None:
    name: str = dataset.colorinterp[index - 1].name
    return name if name in _COLOURS else None


def _number(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return None


def _geobox(dataset: DatasetReader) -> GeoBox:
    from odc.geo.geobox import GeoBox

    crs = dataset.crs
    if not crs:
        return GeoBox(dataset.shape, dataset.transform, None)
    # by its code only where the whole definition is that code's
    authority = crs.to_authority(confidence_threshold=100)
    text = ":".join(authority) if authority else crs.to_wkt()
    return GeoBox(dataset.shape, dataset.transform, text)


def _tags(dataset: DatasetReader, source: Source) -> dict[str, str]:
    gcps, _ = dataset.gcps
    return {
        **dataset.tags(),
        **dataset.tags(ns="IMAGERY"),
        "file": Path(source.path).name,
        "driver": dataset.driver,
        "block": "{} x {}".format(*dataset.block_shapes[0]),
        "compression": dataset.compression.name if dataset.compression else "none",
        "overviews": ",".join(str(factor) for factor in dataset.overviews(1)),
        **({"gcps": str(len(gcps))} if gcps else {}),
    }
