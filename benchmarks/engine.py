"""What the engine costs beyond its parts: time, processes, memory.

    python benchmarks/engine.py overhead SCENE MODEL  # one process against its forward passes
    python benchmarks/engine.py free                  # a segmenter that costs nothing
    python benchmarks/engine.py processes SCENE MODEL # one process and two, a thread each
    python benchmarks/engine.py memory                # peak by size

Each measured run is a process of its own; runs that are compared take turns (ROUNDS=3
of them). Start-up, imports and opening the model are printed beside, not counted.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scenes import land_cover, repeat_scene, write_scene

from geoseg.legend import Category, Legend
from geoseg.models.segmenter import LabelTile, ModelCard, TileResult

ROUNDS = int(os.environ.get("ROUNDS", "3"))
BASE = 2048
_LARGEST_FILE = 24576
"""Larger scenes are a small file that is shown again and again."""
LEGEND = Legend(tuple(Category(i, f"class {i}", f"#{40 * i:02x}8040") for i in range(1, 7)), "six")


@dataclass(frozen=True)
class FreeSegmenter:
    """The first band is the map already."""

    join: None = None
    card: ModelCard = field(
        default=ModelCard(name="free", task="semantic", legend=LEGEND, tile_size=512, halo=0)
    )

    def predict(self, pixels: NDArray[Any], valid: NDArray[np.bool_]) -> list[TileResult]:
        """See Segmenter."""
        score = np.full(pixels.shape[2:], 200, np.uint8)
        return [LabelTile(tile[0] // 40, score) for tile in pixels]

    def for_scene(self, scene: Any) -> tuple[FreeSegmenter, list[str]]:
        """See Segmenter."""
        return self, []


def clock(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def outputs(folder: Path, number: int = 0) -> list[str]:
    return [str(folder / f"map{number}.tif"), str(folder / f"map{number}.gpkg")]


# in processes of their own


def overhead_run(scene: str, model: str, folder: str, threads: int) -> dict[str, float]:
    """Forward passes on tiles in memory, and the whole path, in turns."""
    began = time.perf_counter()
    import torch

    import geoseg
    from geoseg.engine.turns import in_turn, side_by_side
    from geoseg.models.deep.backends import forward_of
    from geoseg.models.deep.inputs import to_inputs
    from geoseg.pipeline import RunOptions, map_scene, prepare

    imported = time.perf_counter()
    options = RunOptions(threads=threads)
    opened = geoseg.open_scene(scene)
    prepared = prepare(opened, model, options)
    segmenter: Any = prepared.segmenter
    plan = prepared.plan
    batches: list[torch.Tensor] = []
    for block in plan.iter_blocks():
        pixels, valid = opened.read(block.read, plan.bands)
        for start in range(0, len(block.tiles), plan.pins.batch):
            tiles = list(block.tiles)[start : start + plan.pins.batch]
            cut = [tile.read.relative_to(block.read).slices for tile in tiles]
            stacked = np.stack([pixels[(slice(None), *where)] for where in cut])
            inside = np.stack([valid[where] for where in cut])
            batches.append(to_inputs(stacked, inside, segmenter.card.normalization, "cpu"))
    forward = forward_of(segmenter.network, segmenter.runtime, tuple(batches[0].shape))

    def bare(some: list[torch.Tensor], threads: int) -> None:
        torch.set_num_threads(threads)
        with torch.inference_mode():
            for batch in some:
                forward(batch)

    def all_threads() -> None:
        in_turn(lambda: bare(batches, threads))

    def beside() -> None:
        works = [partial(bare, [batch], plan.pins.threads) for batch in batches]
        side_by_side(works, plan.passes)

    in_turn(lambda: bare(batches[:1], threads))
    loaded = time.perf_counter()

    passes, whole, ways = [], [], []
    for number in range(ROUNDS + 1):
        both = clock(all_threads), clock(beside)
        spent = min(both)
        took = clock(lambda n=number: map_scene(opened, model, outputs(Path(folder), n), options))
        if number:
            passes.append(spent)
            whole.append(took)
            ways.append(both)
    return {
        "import": imported - began,
        "load": loaded - imported,
        "tiles": sum(len(batch) for batch in batches),
        "forward": statistics.median(passes),
        "all threads": statistics.median(way[0] for way in ways),
        "side by side": statistics.median(way[1] for way in ways),
        "whole": statistics.median(whole),
        "ratio": statistics.median(b / a for a, b in zip(passes, whole, strict=True)),
    }


def free_run(scene: str, folder: str) -> dict[str, float]:
    """The whole engine, and each part alone on the same bytes, in turns."""
    import geoseg
    from geoseg.engine.plan import Plan
    from geoseg.engine.segmentmap import SegmentMap
    from geoseg.engine.store import MapLayout, create_map, open_map
    from geoseg.outputs import polygon_batches
    from geoseg.pipeline import RunOptions, map_scene, prepare, segment

    geoseg.map_scene(scene, FreeSegmenter(), outputs(Path(folder)), RunOptions())  # warm
    opened = geoseg.open_scene(scene)
    plan: Plan = prepare(opened, FreeSegmenter(), RunOptions()).plan
    result: SegmentMap = segment(opened, FreeSegmenter(), store=f"{folder}/kept")
    blocks = list(plan.iter_blocks())
    maps = [result.read(block.window) for block in blocks]

    def read() -> None:
        for block in blocks:
            opened.read(block.read, plan.bands)

    def store() -> None:
        url = f"{folder}/store-{time.monotonic_ns()}"
        layout = MapLayout(
            shape=plan.shape,
            block=plan.blocks.size,
            chunk=plan.chunk,
            names=("category_id", "score"),
        )
        create_map(url, layout, {})
        group = open_map(url, {}, read_only=False)
        for block, arrays in zip(blocks, maps, strict=True):
            for name in ("category_id", "score"):
                group[name][block.window.slices] = arrays[name]

    def raster() -> None:
        geoseg.write_raster(result, f"{folder}/alone.tif", overwrite=True)

    def polygons() -> None:
        geoseg.write_vector(
            polygon_batches(result),
            f"{folder}/alone.gpkg",
            legend=result.legend,
            crs=result.geobox.crs.to_wkt(),
            overwrite=True,
        )

    rows: list[dict[str, float]] = []
    for number in range(ROUNDS):
        row = {work.__name__: clock(work) for work in (read, store, raster, polygons)}
        files = outputs(Path(folder), number + 1)
        row["whole"] = clock(lambda f=files: map_scene(opened, FreeSegmenter(), f, RunOptions()))
        row["ratio"] = row["whole"] / (row["read"] + row["store"] + row["raster"] + row["polygons"])
        rows.append(row)
    return {name: statistics.median(row[name] for row in rows) for name in rows[0]}


def mapped(scene: str, model: str, folder: str, workers: int, cores: int) -> dict[str, float]:
    """``segment`` alone with a thread per process; the cluster's start is not counted.

    Workers are as the engine starts them itself, all of them on the first ``cores`` cores.
    """
    import dask
    from distributed import Client, LocalCluster

    import geoseg
    from geoseg.engine.cluster import SETTINGS
    from geoseg.engine.plan import SLOTS
    from geoseg.pipeline import segment

    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
    with (
        dask.config.set(SETTINGS),
        LocalCluster(
            n_workers=workers, threads_per_worker=SLOTS, dashboard_address=":0"
        ) as cluster,
        Client(cluster) as client,
    ):
        opened = geoseg.open_scene(scene)
        times = [
            clock(
                lambda n=n: segment(
                    opened, model, store=f"{folder}/{workers}-{n}", client=client, threads=1
                )
            )
            for n in range(2)
        ]
    return {"seconds": times[-1]}  # the first opened the model in each worker


def memory_run(scene: str, folder: str) -> dict[str, float]:
    """The whole path with a segmenter that costs nothing; peak against the projection."""
    import geoseg
    from geoseg.engine.blocks import peak_bytes
    from geoseg.pipeline import RunOptions, map_scene

    opened = geoseg.open_scene(scene, allow_vrt=True)
    took = time.perf_counter()
    report = map_scene(opened, FreeSegmenter(), outputs(Path(folder)), RunOptions(memory=4 << 30))
    took = time.perf_counter() - took
    return {
        "side": opened.shape[0],
        "seconds": took,
        "peak_mb": peak_bytes() / 2**20,
        "projected_mb": report.projected_bytes / 2**20,
    }


# tables


def alone(mode: str, *arguments: str) -> dict[str, float]:
    """A run in a process of its own."""
    command = [sys.executable, __file__, "one", mode, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    print(f"{mode} {result}", file=sys.stderr)
    return result


def machine() -> str:
    from importlib.metadata import version

    with open("/proc/cpuinfo") as info:
        model = next(line.split(":")[1].strip() for line in info if "model name" in line)
    names = ("torch", "dask", "zarr", "rasterio", "numpy")
    found = ", ".join(f"{name} {version(name)}" for name in names)
    load = os.getloadavg()[0]
    return (
        f"{model}, {os.cpu_count()} cores, load {load:.1f} at the start, "
        f"Python {platform.python_version()}, {found}"
    )


def overhead(scene: str, model: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        r = alone("overhead", scene, model, folder, str(os.cpu_count()))
    print("| imports | opening | tiles | forward passes | end to end | ratio |")
    print("|---|---|---|---|---|---|")
    print(
        f"| {r['import']:.1f} s | {r['load']:.1f} s | {r['tiles']:.0f} | {r['forward']:.2f} s | "
        f"{r['whole']:.2f} s | {r['ratio']:.2f} |"
    )


def free(side: int = 4096) -> None:
    print("| scene | reading | store | COG | polygons, GPKG | sum | whole engine | ratio |")
    print("|---|---|---|---|---|---|---|---|")
    for compress in ("deflate", "zstd"):
        with tempfile.TemporaryDirectory() as folder:
            scene = write_scene(Path(folder) / "scene.tif", land_cover(side), compress)
            r = alone("free", str(scene), folder)
        parts = [r[name] for name in ("read", "store", "raster", "polygons")]
        cells = " | ".join(f"{seconds:.2f} s" for seconds in (*parts, sum(parts), r["whole"]))
        print(f"| {side} px, {compress} | {cells} | {r['ratio']:.2f} |", flush=True)


def processes(scene: str, model: str) -> None:
    """A process beside which a core is free reads and writes there; of two none has one."""
    print("| one process on one core | one process | two processes | ratio | to one core |")
    print("|---|---|---|---|---|")
    times = []
    for _ in range(ROUNDS):
        runs = []
        for workers, cores in ((1, 1), (1, 2), (2, 2)):
            with tempfile.TemporaryDirectory() as folder:
                found = alone("mapped", scene, model, folder, str(workers), str(cores))
            runs.append(found["seconds"])
        times.append(runs)
    pinned, one, two = (statistics.median(t[i] for t in times) for i in range(3))
    ratio, to_core = (statistics.median(t[i] / t[2] for t in times) for i in (1, 0))
    print(f"| {pinned:.1f} s | {one:.1f} s | {two:.1f} s | {ratio:.2f} | {to_core:.2f} |")


def memory(*sides: str) -> None:
    print("| scene | seconds | peak | projected | share |")
    print("|---|---|---|---|---|")
    for side in map(int, sides or ("6144", "12288", "24576", "49152")):
        with tempfile.TemporaryDirectory() as folder:
            if side <= _LARGEST_FILE:
                scene = write_scene(Path(folder) / "scene.tif", land_cover(BASE), "zstd", side)
            else:
                small = write_scene(Path(folder) / "small.tif", land_cover(BASE), "zstd")
                scene = repeat_scene(Path(folder) / "scene.vrt", small, side)
            r = alone("memory", str(scene), folder)
        share = r["peak_mb"] / r["projected_mb"]
        print(
            f"| {side} px, {scene.suffix} | {r['seconds']:.0f} s | {r['peak_mb']:.0f} MB | "
            f"{r['projected_mb']:.0f} MB | {share:.2f} |",
            flush=True,
        )


def one(mode: str, *arguments: str) -> None:
    if mode == "overhead":
        scene, model, folder, threads = arguments
        result = overhead_run(scene, model, folder, int(threads))
    elif mode == "mapped":
        scene, model, folder, workers, cores = arguments
        result = mapped(scene, model, folder, int(workers), int(cores))
    else:
        result = {"free": free_run, "memory": memory_run}[mode](*arguments)
    print(json.dumps(result))


def main() -> None:
    modes: dict[str, Callable[..., None]] = {
        "overhead": overhead, "free": free, "processes": processes, "memory": memory, "one": one,
    }  # fmt: skip
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("mode", choices=modes)
    parser.add_argument("arguments", nargs="*")
    given = parser.parse_args()
    if given.mode != "one":
        print(machine(), end="\n\n")
    modes[given.mode](*given.arguments)


if __name__ == "__main__":
    main()
