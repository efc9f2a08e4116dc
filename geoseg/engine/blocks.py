"""What a worker does with one block: read, predict, keep; later: join and write.

Plain functions of a Job and a block's place. They read the scene and write the store
themselves; only a small record goes back. Nothing here knows about Dask.
"""

from __future__ import annotations

import os
import resource
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from geoseg.engine.plan import Plan
from geoseg.engine.store import JobStore, checksum, open_map, writing
from geoseg.engine.turns import in_turn
from geoseg.errors import BlockError
from geoseg.grid import Block, Tile, Window
from geoseg.heap import one_heap
from geoseg.legend import NODATA_CATEGORY, Legend
from geoseg.models.segmenter import (
    ArrayJoin,
    Arrays,
    Fittable,
    InstanceTile,
    Join,
    LabelTile,
    Segmenter,
    SemanticTile,
    Stats,
    Streaming,
    TileResult,
)
from geoseg.radiometry import score_level
from geoseg.scene.reader import Explaining

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

    from geoseg.scene.reader import Scene

__all__ = ["Clock", "Job", "Place", "finish_block", "label_tile", "observe_block", "predict_block"]

Place = tuple[int, int]
"""Block row and block column."""


class Mask(Protocol):
    """The area of interest: pixels outside are read as context but not written."""

    def mask(self, window: Window, geobox: GeoBox) -> NDArray[np.bool_]:
        """True inside, (row, col) of a window of the scene."""
        ...


@dataclass(frozen=True, kw_only=True)
class Job:
    """All that a worker needs. Picklable.

    ``joins`` are run in order after predicting: the segmenter's own, if it has one, first.
    ``on_error`` says what becomes of a tile that can't be read: the job fails with its
    window, or its core is nodata and counted.
    """

    scene: Scene
    segmenter: Segmenter
    plan: Plan
    store: JobStore
    joins: tuple[Join | ArrayJoin, ...] = ()
    area: Mask | None = None
    on_error: Literal["fail", "nodata"] = "fail"

    @property
    def array_names(self) -> tuple[str, ...]:
        """Arrays of the final map."""
        card = self.segmenter.card
        things = ("instance_id",) if card.task != "semantic" else ()
        return ("category_id", "score", *things, *card.layers)


@dataclass
class Clock:
    """Seconds per stage of one block."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def time(self, stage: str) -> Iterator[None]:
        """Add the time spent inside to ``stage``."""
        start = time.perf_counter()
        try:
            yield
        finally:
            spent = time.perf_counter() - start
            self.seconds[stage] = self.seconds.get(stage, 0.0) + spent


def peak_bytes() -> int:
    """Largest resident size of this process so far."""
    status = Path("/proc/self/status")
    if status.exists():
        # Linux lets a process inherit the ru_maxrss of the one that started it
        (line,) = (x for x in status.read_text().splitlines() if x.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def label_tile(result: TileResult, legend: Legend) -> LabelTile | InstanceTile:
    """Probabilities to labels: the best class, ties to the first, and its score level."""
    if isinstance(result, LabelTile | InstanceTile):
        return result
    assert isinstance(result, SemanticTile), "held tiles go to a join"
    ids = np.array([category.id for category in legend], np.uint8)
    return LabelTile(ids[result.probs.argmax(0)], score_level(result.probs.max(0)))


def observe_block(job: Job, fittable: Fittable, place: Place) -> tuple[Stats, dict[str, Any]]:
    """Statistics of a block's own pixels, halo left out."""
    one_heap()
    clock = Clock()
    window = job.plan.blocks.window(*place)
    with clock.time("read"):
        pixels, valid = job.scene.read(window, job.plan.bands)
    valid = valid & _inside(job, window)
    with clock.time("observe"):
        stats = fittable.observe(pixels, valid)
    return stats, _record(place, job, clock, {"pixels": window.pixels})


def predict_block(job: Job, place: Place) -> dict[str, Any]:
    """First pass over a block: read it, predict its tiles, keep or write the labels."""
    one_heap()
    clock = Clock()
    block = job.plan.blocks.block(*place)
    pixels, valid, lost = _read_block(job, block, clock)
    core = block.window.relative_to(block.read)
    core_valid = valid[core.slices]
    live = [tile for tile in block.tiles if _slice(valid, block, tile.core).any()]
    results = _predict_tiles(job, block, live, pixels, valid, clock)
    with clock.time("stitch"):
        join = job.segmenter.join
        if join is not None:
            kept, frame = join.collect(block, results, core_valid)
            stage = 0
        else:
            kept, frame = _crop(job, block, results, core_valid), {}
            stage = -1
    details: dict[str, Any] = {"lost_tiles": lost, "tiles": len(live)}
    with clock.time("read"):
        details |= _masked_pixels(job, block, lost, core_valid)
    return _keep(job, block, stage, (kept, frame), clock, details)


def finish_block(job: Job, stage: int, place: Place) -> dict[str, Any]:
    """A later pass: apply a join to what the block kept, with its table and neighbours."""
    one_heap()
    clock = Clock()
    block = job.plan.blocks.block(*place)
    with clock.time("read"):
        kept = job.store.read_arrays(f"kept-{stage}/{block.number}")
        table = job.store.read_arrays(f"tables-{stage}/{block.number}")
        frames = dict(_neighbour_frames(job, stage, place))
    with clock.time("stitch"):
        arrays = job.joins[stage].apply(block, kept, table, frames)
        if job.joins[stage] is job.segmenter.join:
            arrays = _mask_out(job, block.window, arrays)
    return _keep(job, block, stage, (arrays, {}), clock, {}, applied=True)


def solve(job: Job, stage: int, _: Place = (0, 0)) -> dict[str, Any]:
    """Between two passes: all frames to one small table per block."""
    clock = Clock()
    with clock.time("join"):
        frames = (
            (block, job.store.read_arrays(f"frames-{stage}/{block.number}"))
            for block in job.plan.iter_blocks()
        )
        tables = job.joins[stage].solve(frames, job.plan.blocks)
        for block in job.plan.iter_blocks():
            job.store.write_arrays(
                f"tables-{stage}/{block.number}", dict(tables.get(block.number, {}))
            )
    record = {"seconds": clock.seconds, "peak_bytes": peak_bytes(), "pid": os.getpid()}
    job.store.write_json(f"ledger/solve-{stage}.json", record)
    return record


def phase_name(stage: int) -> str:
    """Folder of a pass in the ledger: 0 predicts, n applies the n-th join."""
    return f"pass-{stage}"


def _keep(
    job: Job,
    block: Block,
    stage: int,
    outcome: tuple[Arrays, Arrays],
    clock: Clock,
    details: Mapping[str, Any],
    *,
    applied: bool = False,
) -> dict[str, Any]:
    """Hand a block's arrays to the next join, or write the final map; then the record."""
    arrays, frame = outcome
    number = block.number
    this_pass = stage + 1 if applied else 0
    waiting = stage if stage >= 0 and not applied else -1
    if waiting < 0 and stage + 1 < len(job.joins):
        waiting = stage + 1
        with clock.time("stitch"):
            valid = arrays["category_id"] != NODATA_CATEGORY
            # later joins take whole arrays where the segmenter's own takes tiles
            arrays, frame = job.joins[waiting].collect(block, arrays, valid)  # type: ignore[arg-type]
    extra = dict(details)
    with clock.time("write"):
        if waiting >= 0:
            job.store.write_arrays(f"kept-{waiting}/{number}", arrays)
            job.store.write_arrays(f"frames-{waiting}/{number}", frame)
        else:
            extra["counts"] = _write_map(job, block.window, arrays)
            extra["pixel_m2"] = job.scene.pixel_area_m2(block.window)
        extra["checksum"] = checksum(arrays)
    record = _record(block.index, job, clock, extra | {"pixels": block.window.pixels})
    job.store.record(phase_name(this_pass), number, record)
    return record


def _write_map(job: Job, window: Window, arrays: Arrays) -> dict[str, int]:
    group = open_map(job.store.map_url, job.store.storage_options, read_only=False)
    with writing(job.store.url):
        for name in job.array_names:
            # set_basic_selection writes the shard as one object
            group[name][window.slices] = arrays[name]
    inside = (window & job.plan.region).relative_to(window)
    counts = np.bincount(arrays["category_id"][inside.slices].ravel(), minlength=256)
    return {str(key): int(counts[key]) for key in np.flatnonzero(counts)}


def _record(place: Place, job: Job, clock: Clock, details: Mapping[str, Any]) -> dict[str, Any]:
    seconds = {stage: round(spent, 6) for stage, spent in clock.seconds.items()}
    where = {"block": list(place), "pid": os.getpid(), "host": os.uname().nodename}
    return where | {"seconds": seconds, "peak_bytes": peak_bytes()} | dict(details)


def _inside(job: Job, window: Window) -> NDArray[np.bool_]:
    """Pixels of a window that are to be mapped: inside the region and the area."""
    inside = np.zeros(window.shape, bool)
    inside[(window & job.plan.region).relative_to(window).slices] = True
    if job.area is not None and inside.any():
        inside &= job.area.mask(window, job.scene.geobox)
    return inside


def _masked_pixels(
    job: Job, block: Block, lost: Sequence[Sequence[int]], valid: NDArray[np.bool_]
) -> dict[str, Any]:
    """Pixels of a block that masks took, by reason, and those with data before they did."""
    if not isinstance(job.scene.reader, Explaining):
        return {}
    windows = [block.window]
    if lost:
        gone = [Window(*place) for place in lost]
        windows = [tile.core for tile in block.tiles if tile.core not in gone]
    counts: dict[str, int] = {}
    for window in windows:
        inside = _inside(job, window)
        for reason, out in job.scene.reader.taken(window, job.plan.bands).items():
            counts[reason] = counts.get(reason, 0) + int((out & inside).sum())
    if not counts:
        return {}
    left = int((valid & _inside(job, block.window)).sum())
    return {"masked": counts, "with_data": left + sum(counts.values())}


def _mask_out(job: Job, window: Window, arrays: Arrays) -> Arrays:
    outside = ~_inside(job, window)
    if not outside.any():
        return arrays
    fills = {"instance_id": 0}  # all others: 255
    return {
        name: np.where(outside, np.array(fills.get(name, 255), array.dtype), array)
        for name, array in arrays.items()
    }


def _slice(array: NDArray[Any], block: Block, window: Window) -> NDArray[Any]:
    """A window of the scene out of an array that covers ``block.read``."""
    rows, cols = window.relative_to(block.read).slices
    return array[..., rows, cols]


def _read_block(
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
        _slice(pixels, block, tile.read)[...] = part[0]
        _slice(valid, block, tile.read)[...] = part[1]
    for row_off, col_off, height, width in lost:
        _slice(valid, block, Window(row_off, col_off, height, width))[...] = False
    return pixels, valid, lost


def _predict_tiles(
    job: Job,
    block: Block,
    tiles: Sequence[Tile],
    pixels: NDArray[Any],
    valid: NDArray[np.bool_],
    clock: Clock,
) -> list[tuple[Tile, TileResult]]:
    """Each tile once, in batches of the pinned shape; the last one is filled up."""
    size = job.plan.pins.batch
    groups = [tiles[start : start + size] for start in range(0, len(tiles), size)]

    def batches() -> Iterator[tuple[NDArray[Any], NDArray[np.bool_]]]:
        for group in groups:
            filled = [*group, *[group[-1]] * (size - len(group))]
            yield (
                np.stack([_slice(pixels, block, tile.read) for tile in filled]),
                np.stack([_slice(valid, block, tile.read) for tile in filled]),
            )

    segmenter = job.segmenter

    def predict() -> list[list[TileResult]]:
        with clock.time("predict"):
            if isinstance(segmenter, Streaming):
                return list(segmenter.predict_batches(batches()))
            return [segmenter.predict(*batch) for batch in batches()]

    predicted = in_turn(predict)
    results: list[tuple[Tile, TileResult]] = []
    for group, outcome in zip(groups, predicted, strict=True):
        results += zip(group, outcome[: len(group)], strict=True)
    return results


def _crop(
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
    return _mask_out(job, block.window, arrays)


def _neighbour_frames(job: Job, stage: int, place: Place) -> Iterator[tuple[Place, Arrays]]:
    rows, cols = job.plan.block_range
    count = job.plan.blocks.counts[1]
    for row in range(max(place[0] - 1, rows.start), min(place[0] + 2, rows.stop)):
        for col in range(max(place[1] - 1, cols.start), min(place[1] + 2, cols.stop)):
            yield (row, col), job.store.read_arrays(f"frames-{stage}/{row * count + col}")
