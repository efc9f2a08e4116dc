"""Scenes of any size for the benchmarks: a drawn one, written as often as is wanted or shown so."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray


def land_cover(side: int) -> NDArray[np.uint8]:
    """(3, side, side): the first band 40 times one of six smooth classes, the others noise."""
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(1)
    fields = [gaussian_filter(rng.standard_normal((side, side), np.float32), 12) for _ in range(6)]
    labels = (np.argmax(fields, axis=0) + 1).astype(np.uint8) * 40
    noise = rng.integers(0, 60, (2, side, side), np.uint8)
    return np.concatenate([labels[None], noise + 90])


def write_scene(
    path: Path, pixels: NDArray[np.uint8], compress: str, side: int | None = None
) -> Path:
    """A tiled GeoTIFF of 1 m pixels, which come again and again up to ``side`` px."""
    import rasterio
    from affine import Affine
    from rasterio.windows import Window

    high, wide = pixels.shape[1:]
    profile = {
        "driver": "GTiff", "width": side or wide, "height": side or high,
        "count": len(pixels), "dtype": "uint8", "crs": "EPSG:32633", "tiled": True,
        "transform": Affine(1, 0, 5e5, 0, -1, 5.2e6), "compress": compress,
        "blockxsize": 512, "blockysize": 512, "interleave": "pixel",
    }  # fmt: skip
    with rasterio.open(path, "w", **profile) as target:
        for row in range(0, side or high, high):
            for col in range(0, side or wide, wide):
                target.write(pixels, window=Window(col, row, wide, high))
    return path


def repeat_scene(path: Path, source: Path, side: int) -> Path:
    """A VRT of any size that shows one small file again and again.

    Of rows that are VRTs themselves: every handle keeps a list of all pieces.
    """
    import rasterio

    with rasterio.open(source) as opened:
        size, count, wkt = opened.width, opened.count, opened.crs.to_wkt()
        t = opened.transform
    head = f"<SRS>{wkt}</SRS><GeoTransform>{t.c},{t.a},0,{t.f},0,{t.e}</GeoTransform>"
    starts = range(0, side, size)

    def write(target: Path, name: str, shape: tuple[int, int], places: list[list[int]]) -> Path:
        high, wide = shape
        bands = []
        for band in range(1, count + 1):
            parts = "".join(
                f"<SimpleSource><SourceFilename relativeToVRT='1'>{name}</SourceFilename>"
                f"<SourceBand>{band}</SourceBand>"
                f"<SrcRect xOff='0' yOff='0' xSize='{w}' ySize='{size}'/>"
                f"<DstRect xOff='{col}' yOff='{row}' xSize='{w}' ySize='{size}'/></SimpleSource>"
                for row, col, w in places
            )
            bands.append(f"<VRTRasterBand dataType='Byte' band='{band}'>{parts}</VRTRasterBand>")
        target.write_text(
            f"<VRTDataset rasterXSize='{wide}' rasterYSize='{high}'>{head}{''.join(bands)}</VRTDataset>"
        )
        return target

    row = path.with_suffix(".row.vrt")
    write(row, source.name, (size, side), [[0, col, size] for col in starts])
    return write(path, row.name, (side, side), [[top, 0, side] for top in starts])
