"""Ids of segments as the colours of a PNG: red + 256 green + 65536 blue, as COCO has them."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from geoseg.errors import InputError

__all__ = ["read_png", "write_png"]


def write_png(path: Path, ids: NDArray[np.uint32]) -> None:
    """Ids (row, col) below 2**24; whole or not at all. Raises InputError on a full disk."""
    import rasterio
    from rasterio.errors import NotGeoreferencedWarning

    bands = np.stack([ids & 255, ids >> 8 & 255, ids >> 16]).astype(np.uint8)
    profile = {"driver": "PNG", "count": 3, "dtype": "uint8"}
    part = path.with_name(f"{path.name}.part")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            height, width = ids.shape
            with rasterio.open(part, "w", height=height, width=width, **profile) as file:
                file.write(bands)
            with rasterio.open(part, driver="PNG") as file:
                if not (file.read() == bands).all():
                    raise InputError(f"{path}: what was written is not what is read: disk full?")
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def read_png(path: Path, shape: tuple[int, int]) -> NDArray[np.int64]:
    """Ids of a PNG of ``shape`` (rows, cols); raises ValueError where it has another."""
    import rasterio
    from rasterio.errors import NotGeoreferencedWarning, RasterioIOError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(path, driver="PNG") as file:
                if file.shape != shape:
                    raise ValueError(f"{path.name} has {file.shape} px (rows, columns)")
                red, green, blue = file.read([1, 2, 3]).astype(np.int64)
    except RasterioIOError as error:
        raise InputError(f"{path}: can't be read as PNG: {error}") from error
    ids: NDArray[np.int64] = red + (green << 8) + (blue << 16)
    return ids
