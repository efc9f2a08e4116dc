"""Scenes of known objects, and a segmenter that knows the truth inside its window.

The noise is that of a fair network: outlines off by up to 2 px, objects that are cut by the
window sometimes missed, some split in two. It depends on the tile alone, never on the block.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from geoseg.grid import Block, BlockGrid, Tile, TileGrid, Window
from geoseg.models.segmenter import Arrays, InstanceTile, Join
from geoseg.stitch.frame import join_in_memory
from geoseg.stitch.objects import groups
from geoseg.stitch.overlap import overlaps

Truth = NDArray[np.int32]


@dataclass(frozen=True)
class Noise:
    """Share of fragments, and pixels. Only fragments with less than half their object in the
    tile are dropped; ``split_any``: others are split, too, and so are whole objects.
    """

    outline_px: int = 0
    dropped: float = 0.0
    split: float = 0.0
    merged: float = 0.0
    split_any: bool = True


NONE = Noise()
FAIR = Noise(outline_px=2, dropped=0.05, split=0.05)
CUT = Noise(outline_px=2, dropped=0.05, split=0.05, split_any=False)
"""Of these only fragments that are cut are split. Nothing is where a scene is one tile."""


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
    return predict_knowing(truth, tile, noise, seed, pieces=pieces)[0]


def predict_knowing(
    truth: Truth, tile: Tile, noise: Noise, seed: int = 0, *, pieces: bool = False
) -> tuple[Any, NDArray[Any]]:
    """(InstanceTile, the true object of each of its ids; 0 is none)."""
    rng = np.random.default_rng([seed, *tile.index])
    inside = window_of(truth, tile)
    shown = _piece_by_piece(inside) if pieces else inside
    values, labels = np.unique(np.append(shown.ravel(), 0), return_inverse=True)
    labels = labels[:-1].reshape(inside.shape)
    objects = np.zeros(len(values), np.int64)
    objects[labels.ravel()] = inside.ravel()
    if noise != NONE:
        # the copies beyond the scene are no objects of their own: they take no noise
        scene = tile.read & Window(0, 0, *truth.shape)
        cut = scene.relative_to(tile.read).slices
        seen, objects = _noisy(labels[cut], objects, np.bincount(truth.ravel()), noise, rng)
        labels = np.zeros_like(labels)
        labels[cut] = seen
    ids = np.concatenate([[0], 1 + rng.permutation(len(objects) - 1)])
    known = np.zeros_like(objects)
    known[ids] = objects
    instance = ids[labels].astype(np.int32)
    category = np.where(instance > 0, 1, 0).astype(np.uint8)
    score = np.where(instance > 0, 100 + instance % 100, 254).astype(np.uint8)
    return InstanceTile(instance, category, score), known


def _piece_by_piece(labels: Truth) -> NDArray[Any]:
    out = np.zeros_like(labels)
    count = 0
    for label, box in enumerate(ndimage.find_objects(labels), 1):
        if box is not None:
            part, n = ndimage.label(labels[box] == label, np.ones((3, 3)))
            out[box][part > 0] = part[part > 0] + count
            count += n
    return out


def _noisy(
    labels: NDArray[Any], objects: NDArray[Any], whole_px: NDArray[Any], noise: Noise, rng: Any
) -> tuple[NDArray[Any], NDArray[Any]]:
    """(labels from 1, the object of each): later objects of a random order lie on top."""
    out = np.zeros_like(labels)
    known = [0]
    boxes = list(enumerate(ndimage.find_objects(labels), 1))
    reach = noise.outline_px
    # an object that the window or the scene cuts has no outline there
    wide = np.pad(labels, 2 * reach + 1, mode="edge")
    for k in rng.permutation(len(boxes)):
        label, box = boxes[k]
        if box is None:
            continue
        cut = 2 * np.count_nonzero(labels[box] == label) < whole_px[objects[label]]
        if cut and rng.random() < noise.dropped:
            continue
        rows, cols = _moved(wide, label, box, reach, rng)
        inside = (rows >= 0) & (rows < labels.shape[0]) & (cols >= 0) & (cols < labels.shape[1])
        rows, cols = rows[inside], cols[inside]
        if not len(rows):
            continue
        known.append(objects[label])
        ids = np.full(len(rows), len(known) - 1)
        if (cut or noise.split_any) and rng.random() < noise.split:
            known.append(objects[label])
            along = rows if np.ptp(rows) > np.ptp(cols) else cols
            ids[along > rng.uniform(along.min(), along.max())] = len(known) - 1
        if rng.random() < noise.merged:
            near = out[np.clip(rows + 3, 0, len(labels) - 1), cols]
            ids[:] = near[near > 0][0] if (near > 0).any() else ids[0]
        out[rows, cols] = ids
    left, labels = np.unique(np.append(out.ravel(), 0), return_inverse=True)
    return labels[:-1].reshape(out.shape), np.array(known)[left]


def _moved(wide: NDArray[Any], label: int, box: Any, reach: int, rng: Any) -> tuple[Any, Any]:
    """Pixels of an object whose outline is moved: grown or shrunk, and shifted, ``reach`` px in
    all. What shrinking would take altogether is not shrunk.
    """
    margin = 2 * reach + 1
    start = [side.start for side in box]
    mask = wide[tuple(slice(side.start, side.stop + 2 * margin) for side in box)] == label
    by = int(rng.integers(-reach, reach + 1))
    if by > 0:
        mask = ndimage.binary_dilation(mask, np.ones((3, 3)), by)
    if by < 0:
        smaller = ndimage.binary_erosion(mask, np.ones((3, 3)), -by, border_value=1)
        mask = smaller if smaller[margin:-margin, margin:-margin].any() else mask
    shift = rng.integers(abs(by) - reach, reach - abs(by) + 1, 2)
    rows, cols = np.nonzero(mask)
    return rows + start[0] - margin + shift[0], cols + start[1] - margin + shift[1]


def ideal(
    truth: Truth, tiles: TileGrid, made: Mapping[tuple[int, int], Any], *, witnessed: bool = True
) -> NDArray[Any]:
    """The best map of noisy tiles: by someone who knows the object of each fragment.

    Each pixel belongs to the tile whose core it is in. Where that tile has no fragment of an
    object that others saw there, and nothing else, it takes that. All fragments of an object
    are one; with ``witnessed`` only those that a chain of fragments of it in other tiles, each
    overlapping the next, connects: no one can know of the others. ``made``: what
    ``predict_knowing`` gives, by the tile's index.
    """
    local = np.zeros(truth.shape, np.int64)
    base, objects, links = 0, [np.zeros(1, np.int64)], []
    whole: dict[tuple[int, int], tuple[Tile, NDArray[Any], NDArray[Any]]] = {}
    for tile in tiles:
        result, known = made[tile.index]
        own = np.where(result.instance_id > 0, result.instance_id.astype(np.int64) + base, 0)
        objects.append(known[1:])
        base += len(known) - 1
        whole[tile.index] = (tile, own, known)
        local[tile.core.slices] = own[tile.core.relative_to(tile.read).slices]
    object_of = np.concatenate(objects)
    for (row, col), (tile, own, known) in whole.items():
        for step_row, step_col in np.ndindex(3, 3):
            near = whole.get((row + step_row - 1, col + step_col - 1))
            if near is None or near[0] is tile:
                continue
            both = tile.read & near[0].read
            if not both.pixels:
                continue
            a = own[both.relative_to(tile.read).slices]
            b = near[1][both.relative_to(near[0].read).slices]
            table = overlaps(a, b)
            same = (table.a > 0) & (table.b > 0) & (object_of[table.a] == object_of[table.b])
            links.append(np.stack([table.a[same], table.b[same]], 1))
            core = tile.core & near[0].read
            if not core.pixels:
                continue
            there = near[1][core.relative_to(near[0].read).slices]
            free = (local[core.slices] == 0) & ~np.isin(object_of[there], known)
            local[core.slices][free] = there[free]
    if not witnessed:
        return object_of[local]
    return groups(links, base + 1)[local]


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


def bars(count: int) -> Truth:
    """Objects of 12 x 960 px side by side."""
    rows = np.kron(np.arange(1, count + 1, dtype=np.int32)[:, None], np.ones((12, 960), np.int32))
    return np.pad(rows, ((64, 64), (0, 0)))


def squares(count: int) -> Truth:
    """Squares of 32 px side by side: at every corner four meet."""
    number = np.arange(1, count * count + 1, dtype=np.int32).reshape(count, count)
    return np.kron(number, np.ones((32, 32), np.int32))


NOISY_SCENES: dict[str, tuple[Callable[[], list[Truth]], int]] = {
    # kind: (scenes, how often each is seen by another noisy network)
    "parcels": (lambda: [parcels((700, 700), 14, seed) for seed in range(3)], 2),
    "strips": (lambda: [strips((600, 860), 12)], 3),
    "ten tiles": (lambda: [bars(48)], 3),
    "rings": (lambda: [rings((420, 380))], 8),
    "corners": (lambda: [squares(20)], 3),
    "blobs": (lambda: [blobs((700, 700), 5000, 2)], 1),
}
