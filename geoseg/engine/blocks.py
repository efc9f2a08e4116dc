"""What a worker does with one block: read, predict, keep; later: join and write.

Plain functions of a Job and a block's place. They read the scene and write the store
themselves; only a small record goes back. Nothing here knows about Dask.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoseg.engine.job import Clock, Job, Place, inside, peak_bytes, record_of
from geoseg.engine.predicting import crop, cut, mask_out, predict_tiles, read_block
from geoseg.engine.store import checksum, open_map, writing
from geoseg.grid import Block, Window
from geoseg.heap import one_heap
from geoseg.legend import NODATA_CATEGORY, count_categories
from geoseg.models.segmenter import Arrays, Fittable, Stats
from geoseg.scene.reader import Explaining

__all__ = ["finish_block", "observe_block", "phase_name", "predict_block", "solve"]


def observe_block(job: Job, fittable: Fittable, place: Place) -> tuple[Stats, dict[str, Any]]:
    """Statistics of a block's own pixels, halo left out."""
    one_heap()
    clock = Clock()
    window = job.plan.blocks.window(*place)
    with clock.time("read"):
        pixels, valid = job.scene.read(window, job.plan.bands)
    valid = valid & inside(job, window)
    with clock.time("observe"):
        stats = fittable.observe(pixels, valid)
    return stats, record_of(place, job, clock, {"pixels": window.pixels})


def predict_block(job: Job, place: Place) -> dict[str, Any]:
    """First pass over a block: read it, predict its tiles, keep or write the labels."""
    one_heap()
    clock = Clock()
    block = job.plan.blocks.block(*place)
    pixels, valid, lost = read_block(job, block, clock)
    core = block.window.relative_to(block.read)
    core_valid = valid[core.slices]
    live = [tile for tile in block.tiles if cut(valid, block, tile.core).any()]
    results = predict_tiles(job, block, live, (pixels, valid), clock)
    with clock.time("stitch"):
        join = job.segmenter.join
        if join is not None:
            kept, frame = join.collect(block, results, core_valid)
            stage = 0
        else:
            kept, frame = crop(job, block, results, core_valid), {}
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
            arrays = mask_out(job, block.window, arrays)
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
    record = record_of(block.index, job, clock, extra | {"pixels": block.window.pixels})
    job.store.record(phase_name(this_pass), number, record)
    return record


def _write_map(job: Job, window: Window, arrays: Arrays) -> dict[str, int]:
    group = open_map(job.store.map_url, job.store.storage_options, read_only=False)
    with writing(job.store.url):
        for name in job.array_names:
            # set_basic_selection writes the shard as one object
            group[name][window.slices] = arrays[name]
    within = (window & job.plan.region).relative_to(window)
    counts = count_categories(arrays["category_id"][within.slices])
    return {str(key): int(counts[key]) for key in np.flatnonzero(counts)}


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
        wanted = inside(job, window)
        for reason, out in job.scene.reader.taken(window, job.plan.bands).items():
            counts[reason] = counts.get(reason, 0) + int((out & wanted).sum())
    if not counts:
        return {}
    left = int((valid & inside(job, block.window)).sum())
    return {"masked": counts, "with_data": left + sum(counts.values())}


def _neighbour_frames(job: Job, stage: int, place: Place) -> Iterator[tuple[Place, Arrays]]:
    rows, cols = job.plan.block_range
    count = job.plan.blocks.counts[1]
    for row in range(max(place[0] - 1, rows.start), min(place[0] + 2, rows.stop)):
        for col in range(max(place[1] - 1, cols.start), min(place[1] + 2, cols.stop)):
            yield (row, col), job.store.read_arrays(f"frames-{stage}/{row * count + col}")
