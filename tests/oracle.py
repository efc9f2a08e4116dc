"""Scenes of known objects, and a segmenter that knows the truth inside its window.

The noise is that of a fair network: outlines off by up to 2 px, objects that are cut by the
window sometimes missed, some split in two. It depends on the tile alone, never on the block.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from geoseg.grid import Block, BlockGrid, Tile, TileGrid
from geoseg.models.segmenter import Arrays, InstanceTile, Join
from geoseg.stitch.frame import join_in_memory

Truth = NDArray[np.int32]


@dataclass(frozen=True)
class Noise:
    """Share of fragments, and pixels."""

    outline_px: int = 0
    dropped: float = 0.0
    split: float = 0.0
    merged: float = 0.0


NONE = Noise()
FAIR = Noise(outline_px=2, dropped=0.05, split=0.05)


def window_of(truth: Truth, tile: Tile) -> Truth:
    """The truth in a tile's read window, reflected beyond the scene."""
    rows = _reflected(tile.read.row_off, tile.read.height, truth.shape[0])
    cols = _reflected(tile.read.col_off, tile.read.width, truth.shape[1])
    return truth[np.ix_(rows, cols)]


def _reflected(start: int, length: int, size: int) -> NDArray[Any]:
    place = np.arange(start, start + length) % (2 * size)
    return np.where(place < size, place, 2 * size - 1 - place)


def predict(truth: Truth, tile: Tile, noise: Noise, seed: int = 0, *, pieces: bool = False) -> Any:
    """An InstanceTile: ids scrambled; ``pieces``: each connected piece is an object."""
    rng = np.random.default_rng([seed, *tile.index])
    inside = window_of(truth, tile)
    if noise != NONE:
        # the copies beyond the scene are no objects of their own: they take no noise
        rows, cols = tile.read.slices
        inside[np.arange(rows.start, rows.stop) % (1 << 40) >= truth.shape[0]] = 0
        inside[:, np.arange(cols.start, cols.stop) % (1 << 40) >= truth.shape[1]] = 0
    labels = np.unique(inside, return_inverse=True)[1].reshape(inside.shape)
    labels = labels + (0 if (inside == 0).any() else 1)
    if pieces:
        labels = _pieces(labels)
    if noise != NONE:
        labels = _noisy(labels, inside, np.bincount(truth.ravel()), noise, rng)
    ids = np.concatenate([[0], 1 + rng.permutation(int(labels.max(initial=0)))])
    instance = ids[labels].astype(np.int32)
    category = np.where(instance > 0, 1, 0).astype(np.uint8)
    score = np.where(instance > 0, 100 + instance % 100, 254).astype(np.uint8)
    return InstanceTile(instance, category, score)


def _pieces(labels: NDArray[Any]) -> NDArray[Any]:
    out = np.zeros_like(labels)
    count = 0
    for label, box in enumerate(ndimage.find_objects(labels), 1):
        if box is not None:
            part, n = ndimage.label(labels[box] == label, np.ones((3, 3)))
            out[box][part > 0] = part[part > 0] + count
            count += n
    return out


def _noisy(
    labels: NDArray[Any], inside: Truth, whole_px: NDArray[Any], noise: Noise, rng: Any
) -> NDArray[Any]:
    out = np.zeros_like(labels)
    count = int(labels.max(initial=0))
    boxes = list(enumerate(ndimage.find_objects(labels), 1))
    reach = noise.outline_px
    for k in rng.permutation(len(boxes)):
        label, box = boxes[k]
        if box is None:
            continue
        mask = labels[box] == label
        rows, cols = np.nonzero(mask)
        rows, cols = rows + box[0].start, cols + box[1].start
        cut = 2 * len(rows) < whole_px[inside[rows[0], cols[0]]]
        if cut and rng.random() < noise.dropped:
            continue
        shift = rng.integers(-reach, reach + 1, 2) if reach else (0, 0)
        ids = np.full(len(rows), label)
        if rng.random() < noise.split:
            count += 1
            along = rows if np.ptp(rows) > np.ptp(cols) else cols
            ids[along > rng.uniform(along.min(), along.max())] = count
        if rng.random() < noise.merged:
            near = labels[np.clip(rows + 3, 0, len(labels) - 1), cols]
            others = near[(near > 0) & (near != label)]
            ids[:] = others[0] if len(others) else label
        to_rows = np.clip(rows + shift[0], 0, labels.shape[0] - 1)
        to_cols = np.clip(cols + shift[1], 0, labels.shape[1] - 1)
        out[to_rows, to_cols] = ids
    return np.unique(out, return_inverse=True)[1].reshape(out.shape) + (
        0 if (out == 0).any() else 1
    )


def stitched(
    truth: Truth,
    join: Join,
    tiles: TileGrid,
    side: int,
    tell: Callable[[Tile], Any],
    valid: NDArray[np.bool_] | None = None,
) -> Arrays:
    """The map of a scene in blocks of ``side`` x ``side`` tiles; ``tell`` predicts a tile."""
    valid = np.ones(truth.shape, bool) if valid is None else valid

    def results(block: Block) -> list[tuple[Tile, Any]]:
        live = [tile for tile in block.tiles if valid[tile.core.slices].any()]
        return [(tile, tell(tile)) for tile in live]

    return join_in_memory(BlockGrid(tiles, side), join, results, valid)


def parcels(shape: tuple[int, int], count: int, seed: int) -> Truth:
    """Touching parcels: the plane cut by lines, then into connected pieces."""
    rng = np.random.default_rng(seed)
    rows, cols = np.mgrid[: shape[0], : shape[1]]
    code = np.zeros(shape, np.int64)
    for _ in range(count):
        angle = rng.uniform(0, np.pi)
        at = rng.uniform(0, 1, 2) * shape
        side = (rows - at[0]) * np.cos(angle) + (cols - at[1]) * np.sin(angle) > 0
        code = (code * 2 + side) % 1_000_003
    return connected(code)


def connected(code: NDArray[Any]) -> Truth:
    """Each 4-connected piece of equal codes is one object; code 0 is background."""
    out = np.zeros(code.shape, np.int32)
    count = 0
    labels = np.unique(code, return_inverse=True)[1].reshape(code.shape)
    labels = labels + (0 if (code == 0).any() else 1)
    for label, box in enumerate(ndimage.find_objects(labels), 1):
        part, n = ndimage.label(labels[box] == label)
        out[box][part > 0] = part[part > 0] + count
        count += n
    return out


def strips(shape: tuple[int, int], width: int) -> Truth:
    """Long thin strips side by side, slanted, all touching."""
    rows, cols = np.mgrid[: shape[0], : shape[1]]
    return ((rows * 3 + cols) // (3 * width) + 1).astype(np.int32)


def rings(shape: tuple[int, int]) -> Truth:
    """Rings around rings around a disc."""
    rows, cols = np.mgrid[: shape[0], : shape[1]]
    far = np.hypot(rows - shape[0] / 2.1, cols - shape[1] / 1.9)
    return connected(np.minimum(far // 13, 9) + 1)


def blobs(shape: tuple[int, int], count: int, seed: int) -> Truth:
    """Small blobs, many of them touching."""
    rng = np.random.default_rng(seed)
    out = np.zeros(shape, np.int64)
    for k in range(1, count + 1):
        row, col, radius = rng.integers(0, shape[0]), rng.integers(0, shape[1]), rng.integers(2, 6)
        box = np.s_[max(row - radius, 0) : row + radius, max(col - radius, 0) : col + radius]
        out[box] = k
    return connected(out)
