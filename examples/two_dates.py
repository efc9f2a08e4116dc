"""Two dates, two files, two CRSs: one scene, read in windows on the first one's grid.

    python examples/two_dates.py first.tif second.tif change.png

Without files it takes a Sentinel-2 scene of the Inn near Braunau (Austria) from the tests, in
UTM, and writes its second date as a file of its own in web mercator first.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import rasterio
from rasterio.warp import Resampling, calculate_default_transform, reproject

import geoseg

SCENE = Path(__file__).parents[1] / "tests" / "data" / "austria" / "austria_two_dates.tif"
BANDS = ["red", "green", "blue", "nir"]


def second_date(folder: str) -> Path:
    """Bands 5 to 8 of the scene as a file in web mercator."""
    path = Path(folder) / "second.tif"
    with rasterio.open(SCENE) as source:
        pixels = source.read([5, 6, 7, 8])
        transform, width, height = calculate_default_transform(
            source.crs, "EPSG:3857", source.width, source.height, *source.bounds
        )
        out = np.zeros((4, height, width), pixels.dtype)
        reproject(
            pixels, out, src_transform=source.transform, src_crs=source.crs,
            dst_transform=transform, dst_crs="EPSG:3857", resampling=Resampling.cubic,
        )  # fmt: skip
    with rasterio.open(
        path, "w", driver="GTiff", count=4, height=height, width=width, dtype=out.dtype,
        crs="EPSG:3857", transform=transform, nodata=0,
    ) as target:  # fmt: skip
        target.write(out)
    return path


def ndvi(pixels: np.ndarray, red: int, nir: int) -> np.ndarray:
    """(nir - red) / (nir + red) of two bands of (band, row, col)."""
    near, low = pixels[nir].astype(float), pixels[red].astype(float)
    return (near - low) / np.maximum(near + low, 1)


def picture(scene: geoseg.Scene, path: str) -> None:
    """Both dates in true colour and the change of NDVI, side by side."""
    pixels, valid = scene.read()
    change = np.where(valid, ndvi(pixels, 4, 7) - ndvi(pixels, 0, 3), np.nan)
    figure, axes = plt.subplots(1, 3, figsize=(9, 3), layout="constrained")
    for axis, first, title in ((axes[0], 0, "first date"), (axes[1], 4, "second date")):
        colours = np.moveaxis(pixels[first : first + 3], 0, -1).astype(float)
        high = np.quantile(colours[valid], 0.98)
        axis.imshow(
            np.where(valid[..., None], np.clip(colours / high, 0, 1), 1), interpolation="nearest"
        )
        axis.set_title(title)
    shown = axes[2].imshow(change, cmap="RdYlGn", vmin=-0.8, vmax=0.8, interpolation="nearest")
    axes[2].set_title("change of NDVI")
    figure.colorbar(shown, ax=axes[2], shrink=0.8)
    for axis in axes:
        axis.set_axis_off()
    figure.savefig(path, dpi=100)


def main() -> None:
    files = sys.argv[1:3]
    out = sys.argv[3] if len(sys.argv) > 3 else "two_dates.png"
    with tempfile.TemporaryDirectory() as folder:
        if files:
            first, second = (geoseg.open_scene(file) for file in files)
        else:
            first = geoseg.open_scene(SCENE, bands=["1", "2", "3", "4"])
            second = geoseg.open_scene(second_date(folder))
        both = geoseg.stack([first.with_band_names(BANDS), second.with_band_names(BANDS)])
        print("bands:", ", ".join(band.name for band in both.bands))
        print("grid: ", both.shape, both.geobox.crs)
        picture(both, out)
    print("wrote", out)


if __name__ == "__main__":
    main()
