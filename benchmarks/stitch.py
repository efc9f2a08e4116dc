"""What stitching costs, and which criterion joins fragments best.

    python benchmarks/stitch.py objects     50,000 objects: time and memory of the join
    python benchmarks/stitch.py nms         200,000 boxes
    python benchmarks/stitch.py sieve       small segments on a large noisy map
    python benchmarks/stitch.py criterion FOLDER   GeoTIFFs with *_fields.gpkg beside them
    python benchmarks/stitch.py criterion FOLDER 512/64   only this tile size and halo

Results are printed as Markdown.
"""

from __future__ import annotations

import platform
import sys
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from oracle import FAIR, Noise, connected, predict, stitched, window_of

from geoseg.assess.instances import Quality, match_segments
from geoseg.assess.overlap import BACKGROUND, OverlapTable, segment_key
from geoseg.grid import BlockGrid, TileGrid
from geoseg.models.segmenter import InstanceTile
from geoseg.stitch.frame import join_in_memory
from geoseg.stitch.labels import OverlapJoin
from geoseg.stitch.panoptic import nms
from geoseg.stitch.sieve import SieveJoin


def quality(truth, found):
    def keys(ids):
        return segment_key(np.where(ids > 0, 1, 255), ids, none=BACKGROUND)

    return match_segments(OverlapTable.of(keys(truth), keys(found))).quality()


class Timed:
    """A join whose three steps are timed, and whose frames are weighed."""

    def __init__(self, join):
        self.join, self.seconds, self.frame_bytes = join, 0.0, 0

    def _time(self, step, *arguments):
        start = time.process_time()
        out = step(*arguments)
        self.seconds += time.process_time() - start
        return out

    def collect(self, *arguments):
        kept, frame = self._time(self.join.collect, *arguments)
        self.frame_bytes += sum(array.nbytes for array in frame.values())
        return kept, frame

    def solve(self, frames, grid):
        return self._time(self.join.solve, list(frames), grid)

    def apply(self, *arguments):
        return self._time(self.join.apply, *arguments)


def objects(side=8192):
    """A field of 50,000 plants, and what a forward pass of a small U-Net costs on it."""
    import segmentation_models_pytorch as smp
    import torch

    step = int(side / np.sqrt(50_000))
    rows, cols = np.mgrid[:side, :side]
    number = (rows // step) * (side // step + 1) + cols // step + 1
    round_ = (rows % step - step / 2) ** 2 + (cols % step - step / 2) ** 2 < (0.49 * step) ** 2
    truth = np.where(round_, number, 0).astype(np.int32)
    tiles = TileGrid(truth.shape, 640, 64)

    def tell(tile):
        ids = np.unique(window_of(truth, tile), return_inverse=True)[1].astype(np.int32)
        ids = ids.reshape(640, 640)
        return InstanceTile(ids, (ids > 0).astype(np.uint8), np.full(ids.shape, 200, np.uint8))

    valid = np.ones(truth.shape, bool)
    made = {tile.index: tell(tile) for tile in tiles}
    join_in_memory(
        BlockGrid(TileGrid((640, 640), 640, 64), 1),
        OverlapJoin(),
        lambda block: [(tile, made[0, 0]) for tile in block.tiles],
        valid[:640, :640],
    )
    join = Timed(OverlapJoin())
    out = join_in_memory(
        BlockGrid(tiles, 4),
        join,
        lambda block: [(tile, made[tile.index]) for tile in block.tiles],
        valid,
    )
    torch.set_num_threads(1)
    network = smp.Unet("timm-mobilenetv3_small_minimal_100", encoder_weights=None, classes=4).eval()
    batch = torch.zeros(1, 3, 640, 640).to(memory_format=torch.channels_last)
    network = network.to(memory_format=torch.channels_last)
    with torch.inference_mode():
        network(batch)
        start = time.process_time()
        for _ in range(5):
            network(batch)
        forward = (time.process_time() - start) / 5 * len(tiles)
    strips = sum(4 * 2 * 64 * 640 * 4 * 4 for _ in BlockGrid(tiles, 4))
    print(f"| objects in the truth / found | {truth.max():,} / {int(out['instance_id'].max()):,} |")
    print(f"| PQ | {quality(truth, out['instance_id']).pq:.6f} |")
    print(f"| stitching {side} x {side} px, one core | {join.seconds:.2f} s |")
    print(f"| bare forward passes of a MobileNetV3-small U-Net, one core | {forward:.1f} s |")
    print(f"| share | {join.seconds / forward:.1%} |")
    print(
        f"| frames / of which strips / the map's ids | {join.frame_bytes / 2**20:.0f} / "
        f"{strips / 2**20:.0f} / {truth.nbytes / 2**20:.0f} MiB |"
    )


def boxes():
    rng = np.random.default_rng(1)
    nms(rng.random((100, 4)).cumsum(1), rng.random(100))
    for copies in (1, 20):
        for count in (25_000, 50_000, 100_000, 200_000):
            objects = count // copies
            at = rng.random((objects, 2)) * 3000 * np.sqrt(count / 200_000)
            size = 1 + rng.random((objects, 2)) ** 3 * 40
            given = np.repeat(np.concatenate([at, at + size], 1), copies, 0)
            given += rng.normal(0, 0.5, given.shape) * (copies > 1)
            scores = rng.random(count)
            start = time.process_time()
            kept = nms(given, scores, 0.5)
            took = time.process_time() - start
            print(f"| {count:,} boxes, {copies} per object, {len(kept):,} kept | {took:.2f} s |")


def small():
    rng = np.random.default_rng(3)
    from scipy.ndimage import gaussian_filter

    smooth = gaussian_filter(rng.random((4096, 4096), np.float32), 40)
    category = np.digitize(smooth, np.quantile(smooth, [0.3, 0.6, 0.8])).astype(np.uint8)
    category[rng.random(category.shape) < 0.05] = 7
    arrays = {"category_id": category, "score": np.full(category.shape, 100, np.uint8)}
    valid = np.ones(category.shape, bool)
    maps = []
    for block in (4096, 2048, 1024):
        join = Timed(SieveJoin(20))
        grid = BlockGrid(TileGrid(category.shape, block), 1)
        out = join_in_memory(
            grid, join, lambda b: {n: a[b.window.slices] for n, a in arrays.items()}, valid
        )
        if not maps:  # compiled on the first call
            join = Timed(SieveJoin(20))
            out = join_in_memory(
                grid, join, lambda b: {n: a[b.window.slices] for n, a in arrays.items()}, valid
            )
        maps.append(out["category_id"])
        same = (maps[0] == out["category_id"]).all()
        print(
            f"| blocks of {block} px | {join.seconds:.1f} s | {join.frame_bytes / 2**20:.1f} MiB "
            f"of frames | {'same map' if same else 'OTHER MAP'} |"
        )


def criterion(folder, *only):
    import geopandas as gpd
    import rasterio
    from rasterio.features import rasterize

    truths = []
    for path in sorted(Path(folder).glob("**/*.tif")):
        with rasterio.open(path) as file:
            frame = gpd.read_file(path.with_name(f"{path.stem}_fields.gpkg")).to_crs(file.crs)
            pairs = ((geometry, k) for k, geometry in enumerate(frame.geometry, 1))
            truths.append(
                connected(rasterize(pairs, file.shape, transform=file.transform, dtype="int32"))
            )
    noises = {
        "fair": FAIR,
        "fair, 5 % merged": Noise(outline_px=2, dropped=0.05, split=0.05, merged=0.05),
    }
    never = 1 << 20
    # overlap of, share, px from the seam (0: anywhere), side of a square anywhere, near the seam,
    # share of the union anywhere (2: never)
    choices = [
        ("iou", 0.25, 0, never, 0, 2.0), ("iou", 0.5, 0, never, 0, 2.0),
        ("smaller", 0.5, 0, never, 0, 2.0), ("smaller", 0.5, 8, 6, 0, 2.0),
        ("smaller", 0.5, 8, 6, 5, 2.0), ("smaller", 0.5, 8, 6, 5, 0.5),
        ("smaller", 0.5, 8, 6, 5, 0.3),
    ]  # fmt: skip
    sizes = {"fair": ((256, 8), (256, 32), (512, 64), (512, 160))}
    sizes["fair, 5 % merged"] = ((256, 32), (512, 160))
    if only:
        sizes = {n: [s for s in of if "{}/{}".format(*s) in only] for n, of in sizes.items()}
    rows = {choice: [] for choice in choices}
    head, untiled = [], []
    for name, noise in noises.items():
        for size, halo in sizes[name]:
            head.append(f"{name}, {size}/{halo}")
            whole = []
            found = {choice: [] for choice in choices}
            for seed, truth in enumerate(truths):
                one = TileGrid(truth.shape, max(truth.shape), 0)
                plain = stitched(
                    truth,
                    OverlapJoin(),
                    one,
                    1,
                    lambda t, s=seed, x=truth, n=noise: predict(x, t, n, s),
                )
                whole.append(quality(truth, plain["instance_id"]))
                tiles = TileGrid(truth.shape, size, halo)
                made = {tile.index: predict(truth, tile, noise, seed) for tile in tiles}
                for choice in choices:
                    kind, threshold, seam_px, broad_px, firm_px, alike = choice
                    join = OverlapJoin(
                        criterion=kind,
                        threshold=threshold,
                        seam_px=seam_px,
                        broad_px=broad_px,
                        firm_px=firm_px,
                        alike=alike,
                    )
                    ids = stitched(truth, join, tiles, 9, lambda t, m=made: m[t.index])
                    found[choice].append(quality(truth, ids["instance_id"]))
            untiled.append(pooled(whole))
            for choice in choices:
                rows[choice].append(pooled(found[choice]))
    print("| overlap, share, seam px, square, square at the seam, union |" + "|".join(head) + "|")
    print("|---" * (len(head) + 1) + "|")
    print("| untiled |" + "|".join(f"{value:.3f}" for value in untiled) + "|")
    for choice, values in rows.items():
        print(f"| {choice} |" + "|".join(f"{value:.3f}" for value in values) + "|")


def pooled(found):
    parts = ("iou_sum", "tp", "fp", "fn")
    return Quality(*(sum(getattr(q, part) for q in found) for part in parts)).pq


if __name__ == "__main__":
    versions = ", ".join(f"{n} {version(n)}" for n in ("numpy", "numba", "scipy", "torch"))
    print(f"`{' '.join(sys.argv)}`: {platform.machine()}, {versions}\n")
    {"objects": objects, "nms": boxes, "sieve": small, "criterion": criterion}[sys.argv[1]](
        *sys.argv[2:]
    )
