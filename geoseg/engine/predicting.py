"""Predicting a block: its pixels, its tiles in batches, their cores as one map."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoseg.engine.job import Clock, Job, inside
from geoseg.engine.turns import in_turn, side_by_side
from geoseg.errors import BlockError
from geoseg.grid import Block, Tile, Window
from geoseg.legend import NODATA_CATEGORY, Legend
from geoseg.models.segmenter import (
    Arrays,
    InstanceTile,
    LabelTile,
    SemanticTile,
    Streaming,
    TileResult,
)
from geoseg.radiometry import score_level

__all__ = ["crop", "cut", "label_tile", "mask_out", "predict_tiles", "read_block"]


def label_tile(result: TileResult, legend: Legend) -> LabelTile | InstanceTile:
    """Probabilities to labels: the best class, ties to the first, and its score level."""
    if isinstance(result, LabelTile | InstanceTile):
        return result
    assert isinstance(result, SemanticTile), "held tiles go to a join"
    ids = np.array([category.id for category in legend], np.uint8)
    return LabelTile(ids[result.probs.argmax(0)], score_level(result.probs.max(0)))


def cut(array: NDArray[Any], block: Block, window: Window) -> NDArray[Any]:
    """A window of the scene out of an array that covers ``block.read``."""
    rows, cols = window.relative_to(block.read).slices
    return array[..., rows, cols]


def read_block(
    job: Job, block: Block, clock: Clock
) -> tuple[NDArray[Any], NDArray[np.bool_], list[list[int]]]:
    """Pixels and validity of all that a block reads, and the cores that could not be read."""
    with clock.time("read"):
        try:
            pixels, valid = job.scene.read(block.read, job.plan.bands)
            return pixels, valid, []
        except BlockError:
            return _read_tiles(job, block)


def _read_tiles(job: Job, block: Block) -> tuple[NDArray[Any], NDArray[np.bool_], list[list[int]]]:
    """Tile by tile, to find the one that can't be read; raises BlockError with its window."""
    pixels = np.zeros((len(job.plan.bands), *block.read.shape), np.dtype(job.scene.dtype))
    valid = np.zeros(block.read.shape, bool)
    lost = []
    for tile in block.tiles:
        try:
            part = job.scene.read(tile.read, job.plan.bands)
        except BlockError:
            if job.on_error == "fail":
                raise
            lost.append([tile.core.row_off, tile.core.col_off, tile.core.height, tile.core.width])
            continue
        cut(pixels, block, tile.read)[...] = part[0]
        cut(valid, block, tile.read)[...] = part[1]
    for row_off, col_off, height, width in lost:
        cut(valid, block, Window(row_off, col_off, height, width))[...] = False
    return pixels, valid, lost


Batch = tuple[NDArray[Any], NDArray[np.bool_]]


def predict_tiles(
    job: Job,
    block: Block,
    tiles: Sequence[Tile],
    seen: Batch,
    clock: Clock,
) -> list[tuple[Tile, TileResult]]:
    """Each tile once, in batches of the pinned shape; the last one is filled up.

    ``seen`` are pixels and validity of all that the block reads.
    """
    size, passes = job.plan.pins.batch, job.plan.passes
    segmenter = job.segmenter
    groups = [tiles[start : start + size] for start in range(0, len(tiles), size)]
    spent: list[float] = []

    def batch(group: Sequence[Tile]) -> Batch:
        filled = [*group, *[group[-1]] * (size - len(group))]
        pixels, valid = (np.stack([cut(of, block, tile.read) for tile in filled]) for of in seen)
        return pixels, valid

    def predict(some: Sequence[Sequence[Tile]]) -> list[list[TileResult]]:
        start = time.perf_counter()
        batches = map(batch, some)
        if isinstance(segmenter, Streaming):
            found = list(segmenter.predict_batches(batches))
        else:
            found = [segmenter.predict(*one) for one in batches]
        spent.append(time.perf_counter() - start)
        return found

    if passes > 1:
        works = [partial(predict, [group]) for group in groups]
        predicted = [found for (found,) in side_by_side(works, passes)]
    else:
        predicted = in_turn(partial(predict, groups))
    clock.add("predict", sum(spent) / passes)
    results: list[tuple[Tile, TileResult]] = []
    for group, outcome in zip(groups, predicted, strict=True):
        results += zip(group, outcome[: len(group)], strict=True)
    return results


def crop(
    job: Job,
    block: Block,
    results: Sequence[tuple[Tile, TileResult]],
    valid: NDArray[np.bool_],
) -> Arrays:
    """The cores of a block's tiles as one map; nodata where nothing may be said."""
    arrays: Arrays = {
        "category_id": np.full(block.window.shape, NODATA_CATEGORY, np.uint8),
        "score": np.full(block.window.shape, 255, np.uint8),
    }
    for name in job.segmenter.card.layers:
        arrays[name] = np.full(block.window.shape, 255, np.uint8)
    for tile, result in results:
        labels = label_tile(result, job.segmenter.card.legend)
        source = tile.core.relative_to(tile.read).slices
        target = tile.core.relative_to(block.window).slices
        arrays["category_id"][target] = labels.category_id[source]
        arrays["score"][target] = labels.score[source]
        if isinstance(labels, LabelTile):
            for name, layer in labels.layers.items():
                arrays[name][target] = layer[source]
                arrays[name][~valid] = 255
    arrays["category_id"][~valid] = NODATA_CATEGORY
    arrays["score"][arrays["category_id"] == NODATA_CATEGORY] = 255
    return mask_out(job, block.window, arrays)


def mask_out(job: Job, window: Window, arrays: Arrays) -> Arrays:
    """A window's arrays with nodata wherever nothing is to be mapped."""
    outside = ~inside(job, window)
    if not outside.any():
        return arrays
    fills = {"instance_id": 0}  # all others: 255
    return {
        name: np.where(outside, np.array(fills.get(name, 255), array.dtype), array)
        for name, array in arrays.items()
    }
