"""The web page at its limit: 20,000 x 20,000 px of scene and 200,000 polygons.

Prints the file's size, how long it took to write, and the times between frames over ten
seconds of scripted panning and zooming in a headless Chromium that draws in software.

    python benchmarks/web_page.py [SIDE] [POLYGONS]
"""

from __future__ import annotations

import os
import platform
import sys
import tempfile
import time
from pathlib import Path

import geopandas as gpd
import numpy as np
import rasterio
import shapely
from affine import Affine

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from browser import browser  # noqa: E402
from test_web import PAN_AND_ZOOM  # noqa: E402

from geoseg.export.web import Page, PageMap, write_page  # noqa: E402
from geoseg.legend import Legend  # noqa: E402

DEMO = ROOT / "geoseg" / "data" / "demo" / "java_west_s2l2a.tif"


def big_scene(path: Path, side: int) -> Affine:
    """The bundled Sentinel-2 scene, repeated and mirrored until it is large enough."""
    with rasterio.open(DEMO) as file:
        pixels = file.read([4, 3, 2])
        transform = file.transform
        profile = {"driver": "GTiff", "dtype": pixels.dtype, "count": 3, "crs": file.crs}
    profile |= {"tiled": True, "blockxsize": 512, "blockysize": 512}
    strip = np.concatenate([pixels, pixels[:, :, ::-1]], axis=2)
    strip = np.tile(strip, (1, 1, -(-side // strip.shape[2])))[:, :, :side]
    strip = np.concatenate([strip, strip[:, ::-1]], axis=1)
    strip = np.roll(strip, 37, axis=2)
    with rasterio.open(path, "w", width=side, height=side, transform=transform, **profile) as file:
        for row in range(0, side, 512):
            rows = np.arange(row, min(row + 512, side)) % strip.shape[1]
            window = rasterio.windows.Window(0, row, side, len(rows))
            file.write(np.roll(strip[:, rows], row, axis=2), window=window)
    return transform


def many_polygons(transform: Affine, side: int, count: int, legend: Legend) -> gpd.GeoDataFrame:
    """Stars with 24 vertices on whole pixels, one to a cell."""
    cells = int(np.ceil(np.sqrt(count)))
    step = side / cells
    rng = np.random.default_rng(0)
    angle = np.linspace(0, 2 * np.pi, 25)
    radius = rng.uniform(0.25, 0.5, (cells * cells, 24)) * step
    radius = np.concatenate([radius, radius[:, :1]], axis=1)
    row, col = np.divmod(np.arange(cells * cells), cells)
    x = np.rint((col[:, None] + 0.5) * step + radius * np.cos(angle))
    y = np.rint((row[:, None] + 0.5) * step + radius * np.sin(angle))
    xs, ys = transform @ (x.ravel(), y.ravel())
    rings = np.stack([xs, ys], axis=1).reshape(-1, 25, 2)[:count]
    shapes = shapely.polygons(rings)
    ids = rng.choice([c.id for c in legend], count).astype("uint8")
    return gpd.GeoDataFrame(
        {
            "segment_id": np.arange(count),
            "category_id": ids,
            "category": [legend.by_id(int(i)).name for i in ids],
            "score": rng.random(count, "float32"),
            "area_m2": shapely.area(shapes),
            "perimeter_m": shapely.length(shapes),
        },
        geometry=shapes,
        crs=rasterio.open(DEMO).crs,
    )


def main() -> None:
    side = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 200_000
    legend = Legend.open("dynamic_world")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        transform = big_scene(folder / "scene.tif", side)
        frame = many_polygons(transform, side, count, legend)
        shown = PageMap(polygons=frame, legend=legend)
        page = Page(maps=[shown], title="At its limit", scene=folder / "scene.tif")
        start = time.perf_counter()
        size = write_page(page, folder / "page.html")
        wrote = time.perf_counter() - start
        print(
            f"{side} x {side} px, {count} polygons: {size / 1e6:.1f} MB in {wrote:.0f} s",
            flush=True,
        )
        with browser(folder) as chrome:
            chrome.size(1280, 800)
            start = time.perf_counter()
            chrome.open((folder / "page.html").as_uri())
            chrome.settle()
            opened = time.perf_counter() - start
            frames = np.array(chrome.value(PAN_AND_ZOOM % 10.0))
            chrome.settle()
            if len(sys.argv) > 3:
                chrome.picture(Path(sys.argv[3]))
            errors = chrome.errors
        load = os.getloadavg()[0]
        print(f"{platform.machine()}, {os.cpu_count()} CPUs, load {load:.1f}, no GPU")
        print(f"opened in {opened:.1f} s, {len(frames)} frames in 10 s, errors: {errors}")
        shares = np.percentile(frames, [50, 95, 99])
        print(f"between frames: median {shares[0]:.1f} ms, 95 % {shares[1]:.1f} ms, "
              f"99 % {shares[2]:.1f} ms, longest {frames.max():.0f} ms")  # fmt: skip


if __name__ == "__main__":
    main()
