"""What tiling costs a noisy network, and how near the stitching comes to the best there is.

    python benchmarks/stitch_noise.py            the whole table
    python benchmarks/stitch_noise.py 160/32 strips   one of its rows, for some kinds of object
    python benchmarks/stitch_noise.py cut 160/32      only fragments that are cut are split

PQ of the same network (outlines moved by up to 2 px, 5 % of the fragments that show less than
half their object missed, 5 % of all fragments split or, with ``cut``, of those that show less
than half, so that nothing is split where there is one tile) on each scene as one tile; in tiles, joined by
``OverlapJoin``; in the same tiles, joined by someone who knows the true object of each fragment
and joins those that other tiles connect, or all of them (``oracle.ideal``). Printed as Markdown.
"""

from __future__ import annotations

import platform
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from oracle import CUT, FAIR, NOISY_SCENES, Noise, ideal, predict, predict_knowing, stitched

from geoseg.assess.instances import Quality, match_segments
from geoseg.assess.overlap import BACKGROUND, OverlapTable, segment_key
from geoseg.grid import TileGrid
from geoseg.stitch.labels import OverlapJoin

SIZES = [(160, halo) for halo in (16, 32, 48, 64)]
SIZES += [(256, halo) for halo in (16, 32, 48, 64, 96)]
SIZES += [(512, halo) for halo in (16, 32, 48, 64, 96, 128)]


def quality(truth, found):
    def keys(ids):
        return segment_key(np.where(ids > 0, 1, 255), ids, none=BACKGROUND)

    return match_segments(OverlapTable.of(keys(truth), keys(found))).quality()


def pooled(qualities):
    parts = ("iou_sum", "tp", "fp", "fn")
    return Quality(*(sum(getattr(q, part) for q in qualities) for part in parts)).pq


def scores(name: str, tile: int, halo: int, noise: Noise = FAIR) -> list[float]:
    """PQ as one tile, in tiles, in tiles by who knows, by who knows without seeing."""
    make, seeds = NOISY_SCENES[name]
    found: list[list[Quality]] = [[], [], [], []]
    for truth in make():
        one = next(iter(TileGrid(truth.shape, max(truth.shape), 0)))
        many = TileGrid(truth.shape, tile, halo)
        for seed in range(seeds):
            whole = predict(truth, one, noise, seed).instance_id
            made = {tile.index: predict_knowing(truth, tile, noise, seed) for tile in many}
            maps = [
                whole[one.core.relative_to(one.read).slices],
                stitched(truth, OverlapJoin(), many, 4, lambda t, m=made: m[t.index][0])[
                    "instance_id"
                ],
                ideal(truth, many, made),
                ideal(truth, many, made, witnessed=False),
            ]
            for kind, ids in zip(found, maps, strict=True):
                kind.append(quality(truth, ids))
    return [pooled(kind) for kind in found]


def main(*arguments: str) -> None:
    noise = CUT if "cut" in arguments else FAIR
    size, *names = [a for a in arguments if a != "cut"] or [""]
    sizes = [tuple(int(n) for n in size.split("/"))] if size else SIZES
    print("| objects | tile/halo | one tile | tiles | ideal | all joined |")
    print("|---|---|---|---|---|---|")
    for name in names or NOISY_SCENES:
        for tile, halo in sizes:
            row = " | ".join(f"{value:.3f}" for value in scores(name, tile, halo, noise))
            print(f"| {name} | {tile}/{halo} | {row} |", flush=True)


if __name__ == "__main__":
    versions = ", ".join(f"{n} {version(n)}" for n in ("numpy", "numba", "scipy"))
    print(f"`{' '.join(sys.argv)}`: {platform.machine()}, {versions}\n", flush=True)
    main(*sys.argv[1:])
