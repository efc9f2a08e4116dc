"""Vectorizing against its peers: speed, memory, exactness.

    python benchmarks/vectorize.py speed      # to WKB, CPU time, interleaved in one run
    python benchmarks/vectorize.py simplify   # against shapely.coverage_simplify
    python benchmarks/vectorize.py files      # file to file against GDAL's polygonize to GPKG
    python benchmarks/vectorize.py memory     # peak memory by height, streamed
    python benchmarks/vectorize.py exact N    # N random rasters against GDAL's polygons

Rasters: lc8 and lc3, smooth land cover (argmax of six gaussian fields, sigma 8 and 3 px); n1
and n5, lc8 with 1 and 5 % salt noise; fields, 160 px Voronoi parcels; weeds, 63,500 blobs per
4096 x 4096 px.
"""

from __future__ import annotations

import contextlib
import math
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from affine import Affine

from geoseg.grid import Window
from geoseg.vectorize.coverage import Coverage
from geoseg.vectorize.merge import Frontier
from geoseg.vectorize.rings import Rings
from geoseg.vectorize.stream import VectorizeOptions, polygonize_blocks, trace_block
from geoseg.vectorize.strips import ArraySource, BlockLabels
from geoseg.vectorize.table import Attributes

NAMES = ("lc8", "lc3", "n1", "n5", "fields", "weeds")
REPEATS = 3
PEERS = {"xarray-spatial": "xrspatial", "contourrs": "contourrs"}
"""By their distributions, with the module of each: they are measured where they are installed."""


def raster(name: str, n: int = 4096, seed: int = 0) -> np.ndarray:
    """One of the test rasters, n x n uint8."""
    rng = np.random.default_rng(seed)
    if name in ("n1", "n5"):
        labels = raster("lc8", n, seed)
        noisy = rng.random((n, n)) < (0.01 if name == "n1" else 0.05)
        labels[noisy] = rng.integers(1, 7, int(noisy.sum()))
        return labels
    if name == "fields":
        from scipy.spatial import cKDTree

        centres = rng.random(((n // 160) ** 2, 2)) * n
        tree, rows = cKDTree(centres), np.arange(n)
        parts = [tree.query(np.c_[np.full(n, r), rows])[1] for r in range(n)]
        return (np.stack(parts) % 250 + 1).astype(np.uint8)
    if name == "weeds":
        labels = np.zeros((n, n), np.uint8)
        count = int(63_500 * (n / 4096) ** 2)
        row, col = rng.integers(8, n - 8, (2, count))
        radius = rng.integers(2, 5, count)
        for dr in range(-4, 5):
            for dc in range(-4, 5):
                inside = dr * dr + dc * dc <= radius * radius
                labels[row[inside] + dr, col[inside] + dc] = 1
        return labels
    from scipy.ndimage import gaussian_filter

    best, labels = np.full((n, n), -np.inf, np.float32), np.zeros((n, n), np.uint8)
    for value in range(1, 7):
        field = gaussian_filter(rng.standard_normal((n, n), np.float32), int(name[2:]))
        labels[field > best] = value
        np.maximum(best, field, out=best)
    return labels


def ours(labels: np.ndarray, **options: Any) -> int:
    """Polygons as WKB in Arrow, counted."""
    nodata = (0,) if labels.min() == 0 else ()
    chosen = VectorizeOptions(**{"multi": False, "nodata": nodata, **options})
    return sum(b.num_rows for b in polygonize_blocks(ArraySource(labels), chosen, Attributes()))


def rasterio_shapely(labels: np.ndarray) -> int:
    """What most people do."""
    import rasterio.features
    from shapely.geometry import shape

    mask = labels != 0
    return len([shape(s) for s, _ in rasterio.features.shapes(labels, mask, connectivity=4)])


def xarray_spatial(labels: np.ndarray) -> int:
    """xarray-spatial's NumPy path, which has no nodata: zeros become polygons too."""
    import xarray as xr

    try:
        from xrspatial import polygonize
    except ImportError:  # before 0.6
        from xrspatial.experimental.polygonize import polygonize
    return len(polygonize(xr.DataArray(labels.astype(np.int32)), connectivity=4)[0])


def contourrs(labels: np.ndarray) -> int:
    """contourrs, which needs Python 3.12, to WKB in Arrow as ours."""
    from contourrs import shapes_arrow

    return int(shapes_arrow(labels, mask=labels != 0, connectivity=4).num_rows)


def cpu(work: Callable[[], Any]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def versions() -> str:
    from importlib.metadata import version

    names = ["numba", "numpy", "shapely", "rasterio", "pyarrow"]
    names += [n for n, module in PEERS.items() if find_spec(module)]
    found = ", ".join(f"{n} {version(n)}" for n in names)
    with open("/proc/cpuinfo") as info:
        model = next(line.split(":")[1].strip() for line in info if "model name" in line)
    return f"{model}, Python {platform.python_version()}, {found}"


def speed(*names: str, n: int = 4096) -> None:
    """Mpx/s and ratios, by turns, all on the whole raster."""
    print(versions())
    for warm in (np.eye(64, dtype=np.uint8), np.zeros((64, 64), np.uint8)):
        ours(warm)
        ours(warm, shared_vertices=True)
    peers: dict[str, Callable[[np.ndarray], int]] = {"rasterio": rasterio_shapely}
    for name, work in (("xarray-spatial", xarray_spatial), ("contourrs", contourrs)):
        if find_spec(PEERS[name]):
            work(np.eye(8, dtype=np.uint8))
            peers[name] = work
    ways = peers | {
        "geoseg": ours,
        "shared": lambda labels: ours(labels, shared_vertices=True),
    }
    to_peers = " | ".join(f"to {name}" for name in peers)
    print(f"| raster | {' | '.join(peers)} | geoseg | {to_peers} | shared vertices |")
    print("|---" * (2 * len(peers) + 3) + "|")
    for name in names or NAMES:
        labels = raster(name, n)
        rates: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(REPEATS):
            for way, work in ways.items():
                rates[way].append(labels.size / cpu(lambda w=work, a=labels: w(a)) / 1e6)

        def ratio(way: str, to: str, rates: dict[str, list[float]] = rates) -> float:
            return statistics.median(b / a for a, b in zip(rates[to], rates[way], strict=True))

        cells = [name, *(f"{statistics.median(rates[peer]):.2f}" for peer in peers)]
        cells.append(f"{statistics.median(rates['geoseg']):.0f}")
        cells += [f"{ratio('geoseg', peer):.1f}x" for peer in peers]
        shared = statistics.median(rates["shared"])
        cells.append(f"{shared:.0f} ({ratio('shared', 'geoseg'):.2f})")
        print(f"| {' | '.join(cells)} |", flush=True)


def simplify(n: int = 2048) -> None:
    """Simplifying a coverage: ours alone and from pixels to WKB, GEOS' from coverages in memory."""
    import pyarrow as pa
    import shapely

    print(versions())
    ours(np.eye(64, dtype=np.uint8), simplify_m=1.5)
    print("| raster | coverage_simplify | geoseg, simplifying alone | with tracing to WKB |")
    print("|---|---|---|---|")
    for name in NAMES:
        labels = raster(name, n)
        table = pa.Table.from_batches(
            polygonize_blocks(
                ArraySource(labels),
                VectorizeOptions(multi=False, shared_vertices=True),
                Attributes(),
            )
        )
        shapes = shapely.from_wkb(table["geometry"].to_numpy(zero_copy_only=False))
        coverage = _coverage(labels)
        took = []
        for _ in range(5):
            theirs = cpu(lambda s=shapes: shapely.coverage_simplify(s, 1.5))
            whole = cpu(lambda a=labels: ours(a, simplify_m=1.5))
            took.append((theirs, cpu(lambda c=coverage: _simplify(c)), whole))
        rates = [labels.size / statistics.median(t[i] for t in took) / 1e6 for i in range(3)]
        ratios = [statistics.median(t[0] / t[i] for t in took) for i in (1, 2)]
        print(
            f"| {name} | {rates[0]:.1f} Mpx/s | {rates[1]:.0f} Mpx/s, {ratios[0]:.1f}x | ", end=""
        )
        print(f"{rates[2]:.0f} Mpx/s, {ratios[1]:.1f}x |", flush=True)


def _coverage(labels: np.ndarray) -> Coverage:
    """All polygons of a raster with shared vertices, in memory."""
    whole = BlockLabels(labels.shape, Window(0, 0, *labels.shape[::-1]), labels)
    options = VectorizeOptions(multi=False, shared_vertices=True)
    inside, across = trace_block(whole, options)
    coverage = Coverage(labels.shape, None)
    coverage.extend([Rings.of(inside, Frontier().add([across]))])
    return coverage


def _simplify(coverage: Coverage) -> int:
    """From vertices in memory to fewer, in memory."""
    coverage.simplify((1.5, 1.5))
    return sum(len(polygons) for polygons in coverage.polygons())


class Repeated:
    """A raster of any height that is made while it is read: a small one, again and again."""

    def __init__(self, base: np.ndarray, shape: tuple[int, int]) -> None:
        self.shape, self.dtype = shape, base.dtype
        self._high, self._wide = base.shape
        times = -(-shape[1] // self._wide) + 1
        self._rows = np.tile(base, (1, times))

    def read(self, window: Window) -> tuple[np.ndarray, None]:
        out = np.empty(window.shape, self.dtype)
        for i in range(window.height):
            # every repeat is shifted, so that no seam runs straight through
            turn, row = divmod(window.row_off + i, self._high)
            shift = 997 * turn % self._wide
            out[i] = self._rows[row, shift : shift + window.width]
        return out, None


def memory_of(name: str, height: int, nodata: str) -> None:
    """Print peak memory above the imports in MB; run in a process of its own."""
    base = raster(name, 2048)
    source = Repeated(base, (height, 16384))
    warm = VectorizeOptions(multi=False)
    list(polygonize_blocks(ArraySource(base[:64, :64].copy()), warm, Attributes()))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    options = VectorizeOptions(multi=False, nodata=(0,) if nodata == "out" else ())
    start, rows, largest = time.perf_counter(), 0, 0
    for batch in polygonize_blocks(source, options, Attributes()):
        rows += batch.num_rows
        largest = max(
            largest,
            *np.diff(
                np.frombuffer(batch.column("geometry").buffers()[1], np.int32, batch.num_rows + 1)
            ).tolist(),
        )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    took = time.perf_counter() - start
    print(
        f"| {name}, background {nodata} | {height} | {rows:,} | {largest / 2**20:.0f} MB | ", end=""
    )
    print(f"{peak - before:.0f} MB | {took:.0f} s |", flush=True)


def memory() -> None:
    print("| raster | height x 16384 | polygons | largest | peak above imports | time |")
    print("|---|---|---|---|---|---|")
    for name, nodata in (("lc8", "kept"), ("weeds", "out"), ("weeds", "kept")):
        for height in (4096, 16384, 65536):
            if (name, nodata, height) == ("weeds", "kept", 65536):
                continue  # one polygon of more than 2 GiB
            command = [sys.executable, __file__, "memory-of", name, str(height), nodata]
            subprocess.run(command, check=True)


def files(n: int = 16384) -> None:
    """File to file: GDAL's polygonize to GPKG and ours, one thread and two."""
    import rasterio

    print(versions())
    print(_output(["gdalinfo", "--version"]))
    print("| raster | program | CPU | time | peak | CPU to GDAL's | time to one thread's |")
    print("|---|---|---|---|---|---|---|")
    for name in ("lc8", "n1"):
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder) / f"{name}.tif"
            whole = Repeated(raster(name, 4096), (n, n))
            profile = {
                "driver": "GTiff", "width": n, "height": n, "count": 1, "dtype": "uint8",
                "crs": "EPSG:32631", "transform": Affine(10, 0, 3e5, 0, -10, 5e6),
                "compress": "deflate", "tiled": True, "blockxsize": 512, "blockysize": 512,
            }  # fmt: skip
            with rasterio.open(source, "w", **profile) as out:
                for row in range(0, n, 512):
                    window = Window(row, 0, 512, n)
                    out.write(whole.read(window)[0], 1, window=((row, row + 512), (0, n)))
            gdal = one_thread = math.nan
            for label, command in _commands(source, Path(folder)):
                spent, took, peak = _run(command)
                if label.startswith("gdal"):
                    gdal = spent
                if "1 thread" in label:
                    one_thread = took
                print(
                    f"| {name} | {label} | {spent:.1f} s | {took:.1f} s | {peak:.0f} MB | "
                    f"{gdal / spent:.1f}x | {one_thread / took:.2f}x |",
                    flush=True,
                )


def _output(command: list[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def _commands(source: Path, folder: Path) -> Iterator[tuple[str, list[str]]]:
    """What is run, in this order; GDAL's needs Debian's gdal-bin and python3-gdal."""
    script = ["/usr/bin/python3", "/usr/bin/gdal_polygonize.py", "-q", str(source)]
    yield (
        "gdal_polygonize to GPKG",
        [*script, "-f", "GPKG", str(folder / "gdal.gpkg"), "p", "value"],
    )
    geoseg = [str(Path(sys.executable).with_name("geoseg")), "polygonize", str(source), "-q"]
    for suffix in ("parquet", "gpkg"):
        for threads in (1, 2):
            out = str(folder / f"ours{threads}.{suffix}")
            label = f"geoseg to {suffix}, {threads} thread{'s' * (threads > 1)}"
            yield label, [*geoseg, "-o", out, "--threads", str(threads)]


def _run(command: list[str]) -> tuple[float, float, float]:
    """CPU seconds, seconds and peak memory in MB of a program."""
    start = time.perf_counter()
    child = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    peak, pid = 0, 0
    while not pid:  # the peak that wait reports is never below that of this process
        with contextlib.suppress(OSError, StopIteration):
            status = Path(f"/proc/{child.pid}/status").read_text().splitlines()
            peak = int(next(line for line in status if line.startswith("VmHWM")).split()[1])
        time.sleep(0.02)
        pid, code, used = os.wait4(child.pid, os.WNOHANG)
    child.returncode = os.waitstatus_to_exitcode(code)
    if child.returncode:
        sys.exit(f"{command[0]} ended with {child.returncode}")
    return used.ru_utime + used.ru_stime, time.perf_counter() - start, peak / 1024


def exact(count: int) -> None:
    """Random rasters, tiles of 1 to 17 px: the same polygons as GDAL's, all valid."""
    import pyarrow as pa
    import rasterio.features
    import shapely

    print(versions())
    rng = np.random.default_rng(2026)
    wrong = invalid = polygons = 0
    start = time.perf_counter()
    for _ in range(count):
        rows, cols = rng.integers(1, 25, 2)
        kinds, grain = rng.integers(1, 5, 2)
        labels = np.kron(
            rng.integers(0, kinds, (rows // grain + 1, cols // grain + 1)), np.ones((grain, grain))
        )[:rows, :cols].astype(np.uint8)
        noise = rng.random((rows, cols)) < rng.choice([0, 0.1, 0.4])
        labels[noise] = rng.integers(0, kinds, int(noise.sum()))
        nodata = (0,) if rng.random() < 0.5 else ()
        size = tuple(int(v) for v in rng.integers(1, 18, 2))
        options = VectorizeOptions(multi=False, nodata=nodata, tile_size=size)
        table = pa.Table.from_batches(polygonize_blocks(ArraySource(labels), options, Attributes()))
        shapes = shapely.from_wkb(table["geometry"].to_numpy(zero_copy_only=False))
        got = set(zip([g.wkb for g in shapely.normalize(shapes)], table["value"].to_pylist()))
        mask = labels != 0 if nodata else None
        found = list(rasterio.features.shapes(labels, mask, connectivity=4))
        theirs = np.array([shapely.geometry.shape(s) for s, _ in found], object)
        expected = set(zip([g.wkb for g in shapely.normalize(theirs)], [v for _, v in found]))
        wrong += got != expected or len(got) != len(shapes)
        invalid += int((~shapely.is_valid(shapes)).sum())
        polygons += len(shapes)
    took = time.perf_counter() - start
    print(
        f"{count:,} rasters, {polygons:,} polygons: {wrong} differ, "
        f"{invalid} invalid ({took:.0f} s)"
    )


if __name__ == "__main__":
    mode, *rest = sys.argv[1:]
    if mode == "memory-of":
        memory_of(rest[0], int(rest[1]), rest[2])
    else:
        work: dict[str, Callable[..., None]] = {
            "speed": speed, "simplify": simplify, "files": files, "memory": memory, "exact": exact,
        }  # fmt: skip
        work[mode](*(int(given) if given.isdigit() else given for given in rest))
