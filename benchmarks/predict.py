"""File to map on disk: a plain PyTorch loop against geoseg, side by side.

    python benchmarks/predict.py ortho.tif --size 2560 --rounds 3 --report results.md

The network is a U-Net on EfficientNet-Lite0 with 3 classes; tiles of 512 px, overlap 64 px.
The plain loop is what most tools do: windows by rasterio, NCHW, float32, batches of 4,
softmax and argmax on arrays, glibc as it comes. Every run is a process of its own, so that
no setting of one reaches another; runs take turns. Without ``--encoder`` weights are random:
the speed is the same.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from importlib import import_module
from pathlib import Path

TILE, OVERLAP, BATCH, CLASSES = 512, 64, 4, 3
MEAN = STD = 0.5


def make_model(folder: Path, encoder: str | None) -> Path:
    """The bundle that both sides run."""
    import torch

    from geoseg.legend import Category, Legend
    from geoseg.models.deep.architectures import Architecture, build
    from geoseg.models.deep.bundle import write_bundle
    from geoseg.models.segmenter import ModelCard
    from geoseg.radiometry import Normalization

    torch.manual_seed(0)
    given = Architecture(name="unet", encoder="tu-tf_efficientnet_lite0", bands=3, classes=CLASSES)
    module = build(given)
    if encoder:
        from safetensors.torch import load_file

        weights = {f"model.{key}": tensor for key, tensor in load_file(encoder).items()}
        module.encoder.load_state_dict(weights, strict=False)
    names = (("soil", "#8c6d46"), ("potato", "#3a9d23"), ("weed", "#d62728"))
    card = ModelCard(
        name="unet-lite0",
        task="semantic",
        bands=("red", "green", "blue"),
        legend=Legend(tuple(Category(i, n, c) for i, (n, c) in enumerate(names))),
        normalization=Normalization(scale=(1 / 255,), mean=(MEAN,), std=(STD,)),
        value_range=(0.0, 255.0),
        tile_size=TILE,
        halo=OVERLAP // 2,
        divisor=32,
        runtimes=("torch-fp32", "openvino-fp32"),
    )
    return write_bundle(folder / "model.zip", card, given, module.state_dict()).path


def plain(scene: str, model: str, out: str, threads: int) -> None:
    """The loop that most tools run."""
    import numpy as np
    import rasterio
    import torch
    from rasterio.windows import Window

    from geoseg.models.deep.architectures import build
    from geoseg.models.deep.bundle import open_bundle

    torch.set_num_threads(threads)
    bundle = open_bundle(model)
    network = build(bundle.architecture)
    network.load_state_dict(bundle.read_weights())
    network.eval()
    half, stride = OVERLAP // 2, TILE - OVERLAP
    with rasterio.open(scene) as source:
        height, width = source.shape
        profile = {**source.profile, "count": 1, "compress": "deflate", "photometric": None}
        profile = {k: v for k, v in profile.items() if v is not None}
        result = np.zeros((height, width), np.uint8)
        places = [(r, c) for r in range(0, height, stride) for c in range(0, width, stride)]
        for start in range(0, len(places), BATCH):
            group = places[start : start + BATCH]
            tiles = []
            for row, col in group:
                top, left = max(row - half, 0), max(col - half, 0)
                low, right = min(row - half + TILE, height), min(col - half + TILE, width)
                read = source.read((1, 2, 3), window=Window(left, top, right - left, low - top))
                around = (
                    (0, 0),
                    (top - row + half, row - half + TILE - low),
                    (left - col + half, col - half + TILE - right),
                )
                read = np.pad(read, around, mode="reflect")
                tiles.append((read.astype(np.float32) / 255 - MEAN) / STD)
            with torch.no_grad():
                logits = network(torch.from_numpy(np.stack(tiles)))
                labels = torch.softmax(logits, 1).argmax(1).numpy()
            for (row, col), label in zip(group, labels, strict=True):
                core = label[half:-half, half:-half][: height - row, : width - col]
                result[row : row + core.shape[0], col : col + core.shape[1]] = core
    with rasterio.open(out, "w", **profile) as target:
        target.write(result, 1)


def ours(scene: str, model: str, out: str, threads: int, backend: str) -> None:
    """geoseg, as ``geoseg map`` runs it."""
    import geoseg

    options = geoseg.RunOptions(threads=threads, backend=backend, precision="fp32")
    geoseg.map_scene(scene, model, [out], options)


def one_run(kind: str, scene: str, model: str, out: str, threads: int) -> None:
    """In a process of its own; prints wall and processor seconds after imports."""
    # imports are not timed: on a scene of real size they don't count
    for name in ("distributed", "zarr", "odc.geo.geobox", "rasterio", "timm", "torchvision"):
        import_module(name)
    import segmentation_models_pytorch  # noqa: F401

    import geoseg

    _ = geoseg.map_scene, geoseg.open_scene
    import_module("geoseg.models.deep.semantic")
    import_module("geoseg.export.raster")
    if kind == "openvino":
        import_module("openvino")
    start, before = time.perf_counter(), _spent()
    if kind == "plain":
        plain(scene, model, out, threads)
    else:
        ours(scene, model, out, threads, kind)
    wall, spent = time.perf_counter() - start, _spent() - before
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"wall": wall, "cpu": spent, "peak_mb": peak}))


def _spent() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def crop(scene: str, size: int, folder: Path) -> Path:
    """A corner of the scene that is all image, written as it is stored."""
    import rasterio
    from rasterio.windows import Window

    path = folder / "scene.tif"
    with rasterio.open(scene) as source:
        window = Window(source.width // 2 - size // 2, source.height // 2 - size // 2, size, size)
        profile = {k: source.profile[k] for k in ("driver", "dtype", "count", "crs")}
        profile |= {"width": size, "height": size, "transform": source.window_transform(window)}
        with rasterio.open(path, "w", **profile, tiled=True, compress="deflate") as target:
            target.write(source.read(window=window))
            target.colorinterp = source.colorinterp
    return path


def agreement(first: Path, second: Path) -> float:
    import rasterio

    with rasterio.open(first) as a, rasterio.open(second) as b:
        return float((a.read(1) == b.read(1)).mean())


def machine() -> str:
    import torch

    from geoseg.models.deep.runtime import available

    name = next(
        line.split(":")[1].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    )
    bf16 = available("torch", "bf16", "cpu") or "bf16 on the processor"
    return (
        f"{name or 'x86-64'}, {os.cpu_count()} cores, {torch.backends.cpu.get_cpu_capability()}, "
        f"{bf16}; Python {platform.python_version()}, torch {torch.__version__}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("scene")
    parser.add_argument("--size", type=int, default=2560, help="Side of the crop in pixels.")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--kinds", default="plain,torch,openvino")
    parser.add_argument("--encoder", help="EfficientNet-Lite0 weights (safetensors).")
    parser.add_argument("--report", help="Write a Markdown table.")
    parser.add_argument("--one", nargs=3, metavar=("KIND", "MODEL", "OUT"), help="For itself.")
    given = parser.parse_args()
    if given.one:
        kind, model, out = given.one
        one_run(kind, given.scene, model, out, given.threads)
        return
    with tempfile.TemporaryDirectory() as name:
        text = compare(given, Path(name))
    print(text)
    if given.report:
        Path(given.report).write_text(text + "\n")


def compare(given: argparse.Namespace, folder: Path) -> str:
    os.environ.setdefault("GEOSEG_CACHE", str(folder / "cache"))
    model, scene = make_model(folder, given.encoder), crop(given.scene, given.size, folder)
    kinds = given.kinds.split(",")
    runs: dict[str, list[dict[str, float]]] = {kind: [] for kind in kinds}
    for number in range(given.rounds + 1):  # the first one warms the caches and converts
        for kind in kinds:
            out = folder / f"{kind}-{number}.tif"
            command = [sys.executable, __file__, str(scene), "--threads", str(given.threads)]
            command += ["--one", kind, str(model), str(out)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                sys.exit(done.stderr)
            result = json.loads(done.stdout.splitlines()[-1])
            print(f"round {number} {kind}: {result}", file=sys.stderr)
            if number:
                runs[kind].append(result)
    mpx = given.size**2 / 1e6
    rows = []
    for kind in kinds:
        wall = statistics.median(run["wall"] for run in runs[kind])
        spent = statistics.median(run["cpu"] for run in runs[kind])
        base = statistics.median(
            a["wall"] / b["wall"] for a, b in zip(runs["plain"], runs[kind], strict=True)
        )
        work = statistics.median(
            a["cpu"] / b["cpu"] for a, b in zip(runs["plain"], runs[kind], strict=True)
        )
        same = agreement(folder / "plain-1.tif", folder / f"{kind}-1.tif")
        rows.append(
            f"| {kind} | {wall:.1f} | {mpx / wall:.2f} | {base:.2f}x | {spent:.1f} | {work:.2f}x "
            f"| {max(run['peak_mb'] for run in runs[kind]):.0f} | {same:.5f} |"
        )
    head = (
        f"Scene {given.size} x {given.size} px of 3 bands, U-Net EfficientNet-Lite0, tile {TILE}, "
        f"overlap {OVERLAP}, {given.threads} threads, median of {given.rounds} rounds.\n"
        f"{machine()}.\nCommand: `python benchmarks/predict.py {Path(given.scene).name} "
        f"--size {given.size} --rounds {given.rounds} --threads {given.threads}`\n"
    )
    table = (
        "| run | wall s | Mpx/s | speed | processor s | work | peak MB | labels as plain |\n"
        "|---|---|---|---|---|---|---|---|\n"
    )
    return head + "\n" + table + "\n".join(rows)


if __name__ == "__main__":
    main()
