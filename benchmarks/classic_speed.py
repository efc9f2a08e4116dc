"""How fast the classic methods are, beside scikit-learn and GDAL's own tools.

    python benchmarks/classic_speed.py kmeans SCENE.tif
    python benchmarks/classic_speed.py otsu SCENE.tif FOLDER --side 16384

``kmeans`` clusters all pixels of SCENE; ``otsu`` lays mirrored copies of a four-band SCENE
beside each other, and maps water by a script of gdal_calc, scikit-image and gdal_polygonize,
and by ``geoseg map``: for that it needs GNU time and GDAL's scripts.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import reduce
from operator import add
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

CORES = 2
ROWS = 256
ROUNDS = 3

THRESHOLD = """
import sys
import numpy as np, rasterio
from skimage.filters import threshold_otsu
with rasterio.open(sys.argv[1]) as file:
    index, profile = file.read(1), file.profile
mask = (index > threshold_otsu(index[np.isfinite(index)])).astype(np.uint8)
profile.update(dtype="uint8", nodata=None, compress="deflate")
with rasterio.open(sys.argv[2], "w", **profile) as out:
    out.write(mask, 1)
"""


def timed(work: Callable[[], Any]) -> tuple[float, float, Any]:
    """(seconds, processor seconds, result)."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = work()
    return time.perf_counter() - wall, time.process_time() - cpu, result


def kmeans(path: Path) -> None:
    """One array: 20 passes from the same start, then whole fits as they come."""
    from sklearn.cluster import KMeans
    from threadpoolctl import threadpool_limits

    from geoseg.models.classic import parse
    from geoseg.models.classic.clusters import Centres, KMeansPass, centres_plus_plus
    from geoseg.scene.opening import open_scene

    scene = open_scene(path, nodata=0)
    pixels, valid = scene.read()
    pixels = pixels.astype(np.float32)
    columns = np.ascontiguousarray(pixels[:, valid].T)
    model: Any = parse("kmeans:k=6").for_scene(scene)[0]
    strips = [slice(row, row + ROWS) for row in range(0, valid.shape[0], ROWS)]
    with ThreadPoolExecutor(CORES) as pool, threadpool_limits(CORES):

        def own(step: Any) -> Any:
            while not isinstance(step, Centres):
                parts = pool.map(lambda s: step.observe(pixels[:, s], valid[s]), strips)  # noqa: B023
                step = step.fitted(reduce(add, parts))
            return step

        sample = model.observe(pixels, valid)
        start = centres_plus_plus(sample, 6)
        passes = KMeansPass(model.card, model.features, start, sample, 0.0, 20)
        own(KMeansPass(model.card, model.features, start, sample, 0.0, 1))  # compiled
        twenty = KMeans(6, init=start, n_init=1, tol=0, max_iter=20)
        print(f"{columns.shape[0] / 1e6:.1f} Mpx, {columns.shape[1]} bands, 6 classes, "
              f"{CORES} threads, {ROUNDS} rounds in turn, load {os.getloadavg()[0]:.1f}")  # fmt: skip
        for name, mine, theirs in (
            ("20 passes from one start", passes, twenty),
            ("a fit with its own start", model, KMeans(6, random_state=0)),
        ):
            rounds = [(timed(lambda: own(mine)), timed(lambda: theirs.fit(columns)))  # noqa: B023
                      for _ in range(ROUNDS)]  # fmt: skip
            (wall, cpu), (their_wall, their_cpu) = (
                tuple(median(r[side][n] for r in rounds) for n in (0, 1)) for side in (0, 1)
            )
            found, reference = rounds[-1][0][2].centres, rounds[-1][1][2].cluster_centers_
            print(f"  {name}: own {wall:.2f} s ({cpu:.2f} s of processors), scikit-learn "
                  f"{their_wall:.2f} s ({their_cpu:.2f} s); ratio {their_wall / wall:.1f} "
                  f"({their_cpu / cpu:.1f})")  # fmt: skip
            spread, their_spread = (_spread(columns, c) for c in (found, reference))
            print(f"    mean squared distance: own {spread:.6g}, scikit-learn {their_spread:.6g}")


def _spread(columns: Any, centres: Any) -> float:
    squares = np.full(len(columns), np.inf)
    for centre in np.asarray(centres, float):
        squares = np.minimum(squares, ((columns - centre) ** 2).sum(1))
    return float(squares.mean())


def mosaic(source: Path, target: Path, side: int) -> None:
    """Mirrored copies of a scene beside each other, so that no border shows."""
    import rasterio

    with rasterio.open(source) as file:
        pixels, profile = file.read(), file.profile
    both = np.concatenate([pixels, pixels[:, ::-1]], 1)
    both = np.concatenate([both, both[:, :, ::-1]], 2)
    profile.update(height=side, width=side, tiled=True, blockxsize=512, blockysize=512,
                   compress="deflate", interleave="pixel", photometric="MINISBLACK", alpha="NO", driver="GTiff")  # fmt: skip
    cols = np.arange(side) % both.shape[2]
    with rasterio.open(target, "w", **profile) as out:
        for row in range(0, side, 512):
            rows = np.arange(row, min(row + 512, side)) % both.shape[1]
            window = rasterio.windows.Window(0, row, side, len(rows))
            out.write(both[:, rows[:, None], cols], window=window)


def step(name: str, command: list[str]) -> NDArray[np.float64]:
    """Seconds, processor seconds and peak MiB of a command."""
    done = subprocess.run(["/usr/bin/time", "-f", "%e %U %S %M", *command], check=True,
                          capture_output=True, text=True)  # fmt: skip
    seconds, user, system, peak = map(float, done.stderr.splitlines()[-1].split())
    print(f"  {name}: {seconds:.0f} s, {user + system:.0f} s of processors, peak "
          f"{peak / 1024:.0f} MiB, load {os.getloadavg()[0]:.1f}", flush=True)  # fmt: skip
    return np.array([seconds, user + system, peak / 1024])


def otsu(source: Path, folder: Path, side: int) -> None:
    """Water by NDWI and Otsu to polygons, by a script of GDAL's tools and by geoseg."""
    folder.mkdir(parents=True, exist_ok=True)
    scene = folder / f"scene-{side}.tif"
    if not scene.exists():
        mosaic(source, scene, side)
    index, mask, theirs, own = (
        folder / n for n in ("ndwi.tif", "mask.tif", "gdal.gpkg", "geoseg.gpkg")
    )
    for path in (index, mask, theirs, own):
        path.unlink(missing_ok=True)
    formula = "(A.astype(float)-B)/(A.astype(float)+B)"
    geoseg = str(Path(sys.executable).with_name("geoseg"))
    print(f"{side} x {side}, 4 bands of 8 bits")
    mine = step("geoseg map --model otsu:ndwi", [geoseg, "map", str(scene), "-m", "otsu:ndwi",
                "-o", str(own), "--quiet"])  # fmt: skip
    script = [
        step("gdal_calc", ["gdal_calc.py", "-A", str(scene), "--A_band=2", "-B", str(scene),
             "--B_band=4", f"--calc={formula}", "--type=Float32", f"--outfile={index}",
             "--hideNoData", "--quiet"]),
        step("scikit-image threshold", [sys.executable, "-c", THRESHOLD, str(index), str(mask)]),
        step("gdal_polygonize", ["gdal_polygonize.py", str(mask), str(theirs), "water", "-q"]),
    ]  # fmt: skip
    seconds, busy, _ = np.sum(script, axis=0)
    print(f"  the script: {seconds:.0f} s, {busy:.0f} s of processors, peak "
          f"{np.max(script, axis=0)[2]:.0f} MiB; geoseg is {seconds / mine[0]:.1f} times as fast, "
          f"with {mine[1] / busy:.2f} of the processor time")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["kmeans", "otsu"])
    parser.add_argument("scene", type=Path)
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--side", type=int, default=16384)
    chosen = parser.parse_args()
    if chosen.what == "otsu":
        if chosen.folder is None:
            parser.error("otsu needs a folder to work in")
        otsu(chosen.scene, chosen.folder, chosen.side)
    else:
        kmeans(chosen.scene)


if __name__ == "__main__":
    main()
