"""Small rasters of labels as files, and `geoseg polygonize` over them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import rasterio
from affine import Affine
from click.testing import CliRunner
from numpy.typing import NDArray

from geoseg.cli import geoseg as cli

NORTH_UP = Affine(10, 0, 500000, 0, -10, 5000000)


def write(path: Path, labels: NDArray[Any], **profile: Any) -> str:
    """A GeoTIFF of labels (row, col); returns its path."""
    rows, cols = labels.shape
    options = {"crs": "EPSG:32631", "transform": NORTH_UP, **profile}
    with rasterio.open(
        path, "w", driver="GTiff", width=cols, height=rows, count=1, dtype=labels.dtype, **options
    ) as file:
        file.write(labels, 1)
    return str(path)


def run(*args: str) -> Any:
    """The command's result."""
    return CliRunner().invoke(cli, ["polygonize", *args])
