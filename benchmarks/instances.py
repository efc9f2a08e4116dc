"""What joining 50,000 things costs beside predicting them with the light one-shot network.

    python benchmarks/instances.py

Predicting is the architecture ``centers`` with its default encoder on tiles of 640 px: its
forward pass on one tile of noise, and the decoding of a tile full of plants from the outputs
that training aims at, each measured and multiplied by the number of tiles. Joining is measured
on the whole scene, from tiles that tell the truth. Everything on one core, in CPU time.
"""

from __future__ import annotations

import platform
import sys
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).parent))

from oracle import window_of
from stitch import Timed, quality

from geoseg.grid import BlockGrid, TileGrid
from geoseg.legend import Category, Legend
from geoseg.models.deep.architectures import Architecture, build, defaults
from geoseg.models.deep.centers import CenterRule, Channels, center_targets, decode_centers
from geoseg.models.segmenter import InstanceTile
from geoseg.stitch.frame import join_in_memory
from geoseg.stitch.labels import OverlapJoin

SIDE, TILE, HALO, PLANTS = 8192, 640, 64, 50_000
CHANNELS = Channels.of(Legend((Category(1, "plant", "#66a61e", True),)))


def truth():
    """Discs in rows and columns, (row, col) int32."""
    step = int(SIDE / np.sqrt(PLANTS))
    rows, cols = np.mgrid[:SIDE, :SIDE]
    number = (rows // step) * (SIDE // step + 1) + cols // step + 1
    inside = (rows % step - step / 2) ** 2 + (cols % step - step / 2) ** 2 < (0.49 * step) ** 2
    return np.where(inside, number, 0).astype(np.int32)


def outputs(ids):
    """What a perfect network would give for a tile."""
    dense = np.unique(ids, return_inverse=True)[1].reshape(ids.shape)
    aim = center_targets(dense, CHANNELS.index(np.where(ids > 0, 1, 255)), sigma_px=3)
    thing = (ids > 0).astype(np.float32)
    return np.stack([1 - thing, thing]) * 0.9 + 0.05, aim.center * 0.9, aim.offset


def seconds(call, times):
    call()
    start = time.process_time()
    for _ in range(times):
        call()
    return (time.process_time() - start) / times


def main():
    torch.set_num_threads(1)
    ids = truth()
    tiles = TileGrid(ids.shape, TILE, HALO)
    one = list(tiles)[len(tiles) // 2]
    given = outputs(window_of(ids, one))
    everywhere = np.ones((TILE, TILE), bool)
    rule = CenterRule(reach_px=16)
    found = decode_centers(*given, everywhere, CHANNELS, rule)
    decode = seconds(lambda: decode_centers(*given, everywhere, CHANNELS, rule), 3) * len(tiles)
    network = Architecture(name="centers", encoder=defaults("centers").encoder, bands=3, classes=2)
    module = build(network).eval().to(memory_format=torch.channels_last)
    batch = torch.rand(1, 3, TILE, TILE).to(memory_format=torch.channels_last)
    with torch.inference_mode():
        forward = seconds(lambda: module(batch), 3) * len(tiles)

    def tell(tile):
        number = np.unique(window_of(ids, tile), return_inverse=True)[1]
        number = number.reshape(TILE, TILE).astype(np.int32)
        thing = (number > 0).astype(np.uint8)
        return InstanceTile(number, np.where(thing, 1, 255).astype(np.uint8), thing * 200)

    valid = np.ones(ids.shape, bool)
    small = BlockGrid(TileGrid((TILE, TILE), TILE, HALO), 1)
    join_in_memory(  # compiles
        small, OverlapJoin(), lambda b: [(t, found) for t in b.tiles], valid[:TILE, :TILE]
    )
    join = Timed(OverlapJoin())
    made = {tile.index: tell(tile) for tile in tiles}
    out = join_in_memory(
        BlockGrid(tiles, 4), join, lambda b: [(t, made[t.index]) for t in b.tiles], valid
    )
    predict = forward + decode
    print("| what | figure |\n|---|---|")
    print(f"| things in the truth / joined | {len(np.unique(ids)) - 1:,} / ", end="")
    print(f"{int(out['instance_id'].max()):,} |")
    print(f"| PQ | {quality(ids, out['instance_id']).pq:.6f} |")
    print(f"| things in one tile / decoded | {len(np.unique(window_of(ids, one))) - 1} / ", end="")
    print(f"{int(found.instance_id.max())} |")
    print(f"| forward passes of {len(tiles)} tiles | {forward:.1f} s |")
    print(f"| decoding them | {decode:.1f} s |")
    print(f"| joining | {join.seconds:.2f} s |")
    print(f"| joining beside predicting | {join.seconds / predict:.1%} |")
    print(f"| frames / the map's ids | {join.frame_bytes / 2**20:.0f} / ", end="")
    print(f"{ids.nbytes / 2**20:.0f} MiB |")


if __name__ == "__main__":
    versions = ", ".join(f"{n} {version(n)}" for n in ("numpy", "numba", "scipy", "torch"))
    print(f"`python {' '.join(sys.argv)}`: {platform.machine()}, {versions}\n")
    main()
