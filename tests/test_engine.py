"""The engine against the whole scene at once: laws 1 to 4, 12 and 13."""

from __future__ import annotations

import random
from contextlib import nullcontext
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import label, uniform_filter
from toys import MeanSegmenter, array_scene, mean_labels

from geoseg.engine.blocks import Job
from geoseg.engine.cluster import ClusterExecutor
from geoseg.engine.plan import PlanRequest, make_plan
from geoseg.engine.report import NoProgress
from geoseg.engine.run import Executor, SerialExecutor, ThreadExecutor, run_job
from geoseg.engine.store import JobStore, open_map
from geoseg.grid import Window
from geoseg.models.segmenter import InstanceTile, SemanticTile
from geoseg.pipeline import prepare
from geoseg.requests import RunOptions


def random_scene(seed: int, shape: tuple[int, int]):
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (2, *shape), dtype=np.uint8)
    valid = rng.random(shape) > 0.1
    return array_scene(pixels, valid), pixels, valid


def run(scene, segmenter, folder: Path, request: PlanRequest, executor: Executor):
    plan = make_plan(scene, segmenter.card, (0,), request)
    job = Job(scene=scene, segmenter=segmenter, plan=plan, store=JobStore(str(folder)))
    report = run_job(job, executor, NoProgress())
    group = open_map(job.store.map_url)
    return np.asarray(group["category_id"]), np.asarray(group["score"]), report, job


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 99),
    shape=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    tile=st.sampled_from([8, 13, 32]),
    side=st.integers(1, 3),
    batch=st.integers(1, 5),
)
def test_tiled_equals_whole_at_any_tile_and_block_size(
    tmp_path_factory, seed, shape, tile, side, batch
) -> None:
    scene, pixels, valid = random_scene(seed, shape)
    segmenter = MeanSegmenter(reach=3)
    request = PlanRequest(tile_size=tile, block_tiles=side, batch=batch)
    folder = tmp_path_factory.mktemp("job")
    labels, score, report, _ = run(scene, segmenter, folder, request, SerialExecutor())
    padded = np.pad(pixels, ((0, 0), (3, 3), (3, 3)), mode="reflect" if min(shape) > 1 else "edge")
    if min(shape) > 3:  # numpy and scipy reflect narrower arrays differently
        expected = np.where(valid, mean_labels(padded, 7)[3:-3, 3:-3], 255)
        assert (labels == expected).all()
    assert (score == np.where(valid, pixels[0] // 2, 255)).all()
    assert sum(report.counts.values()) == pixels[0].size
    assert report.counts[255] == (~valid).sum()


@pytest.mark.parametrize("workers", [None, 0, 1, 2])
def test_any_executor_gives_the_bytes_of_the_serial_one(
    tmp_path: Path, workers: int | None
) -> None:
    scene, _, _ = random_scene(1, (150, 130))
    segmenter = MeanSegmenter()
    request = PlanRequest(block_tiles=2)
    expected = run(scene, segmenter, tmp_path / "serial", request, SerialExecutor())
    with nullcontext(ThreadExecutor()) if workers is None else ClusterExecutor(workers) as executor:
        got = run(scene, segmenter, tmp_path / "cluster", request, executor)
    assert (got[0] == expected[0]).all()
    assert (got[1] == expected[1]).all()
    stored = sorted(p.name for p in (tmp_path / "serial/map.zarr").rglob("c/*/*"))
    assert stored
    for file in (tmp_path / "serial/map.zarr").rglob("*"):
        if file.is_file():
            twin = tmp_path / "cluster/map.zarr" / file.relative_to(tmp_path / "serial/map.zarr")
            assert twin.read_bytes() == file.read_bytes()


@dataclass
class ShuffledExecutor:
    """Blocks of a window run, and come back, in an order that a seed gives."""

    seed: int
    window: int
    workers: int = 1

    def run(self, task, arguments, items):
        rng = random.Random(self.seed)
        items, waiting = iter(items), []
        while True:
            waiting += islice(items, self.window - len(waiting))
            if not waiting:
                return
            item = waiting.pop(rng.randrange(len(waiting)))
            yield item, task(*arguments, item)


@dataclass(frozen=True)
class MeanProbs(MeanSegmenter):
    """Probabilities instead of labels, for blending."""

    with_probs: bool = False

    def predict(self, pixels, valid):
        high = [uniform_filter(tile[0] / 255.0, 7, mode="mirror") for tile in pixels]
        return [SemanticTile(np.stack([1 - p, p]).astype(np.float32)) for p in high]


@dataclass(frozen=True)
class MeanThings(MeanSegmenter):
    """Each component above the mean is a thing."""

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "card", replace(self.card, task="panoptic"))

    def predict(self, pixels, valid):
        tiles = super().predict(pixels, valid)
        return [
            InstanceTile(label(tile.category_id)[0].astype(np.int32), tile.category_id, tile.score)
            for tile in tiles
        ]


@settings(max_examples=9, deadline=None)
@given(
    seed=st.integers(0, 999),
    window=st.integers(2, 30),
    side=st.integers(1, 3),
    model=st.sampled_from([MeanSegmenter, MeanProbs, MeanThings]),
)
def test_the_order_in_which_blocks_are_done_changes_no_byte(
    tmp_path_factory, seed, window, side, model
) -> None:
    scene, _, _ = random_scene(seed % 3, (130, 110))
    options = RunOptions(
        block_tiles=side,
        blend=model is MeanProbs,
        min_area_m2=900.0,
        fill_holes_m2=0.0 if model is MeanThings else 500.0,
    )
    prepared = prepare(scene, model(), options)
    assert len(prepared.joins) == 1 + (model is not MeanSegmenter) + (model is not MeanThings)
    folder = tmp_path_factory.mktemp("order")
    for name, executor in (
        ("serial", SerialExecutor()),
        ("shuffled", ShuffledExecutor(seed, window)),
    ):
        job = Job(
            scene=prepared.scene,
            segmenter=prepared.segmenter,
            plan=prepared.plan,
            joins=prepared.joins,
            store=JobStore(str(folder / name)),
        )
        run_job(job, executor, NoProgress())
    compared = 0
    for file in (folder / "serial").rglob("*"):
        path = file.relative_to(folder / "serial")
        if file.is_file() and path.parts[0] != "ledger":  # that one holds times
            assert (folder / "shuffled" / path).read_bytes() == file.read_bytes(), path
            compared += 1
    assert compared > prepared.plan.block_count


def test_a_region_is_a_crop_of_the_whole_map(tmp_path: Path) -> None:
    scene, _, _ = random_scene(2, (120, 100))
    segmenter = MeanSegmenter()
    whole = run(scene, segmenter, tmp_path / "a", PlanRequest(block_tiles=1), SerialExecutor())
    region = Window(33, 20, 50, 61)
    request = PlanRequest(block_tiles=2, region=region)
    part = run(scene, segmenter, tmp_path / "b", request, SerialExecutor())
    assert (part[0][region.slices] == whole[0][region.slices]).all()
    outside = np.ones(scene.shape, bool)
    outside[region.slices] = False
    assert (part[0][outside] == 255).all()


def test_a_run_that_was_cut_short_goes_on(tmp_path: Path) -> None:
    scene, _, _ = random_scene(3, (150, 130))
    segmenter = MeanSegmenter()
    request = PlanRequest(block_tiles=1)
    whole = run(scene, segmenter, tmp_path / "whole", request, SerialExecutor())
    plan = make_plan(scene, segmenter.card, (0,), request)
    job = Job(scene=scene, segmenter=segmenter, plan=plan, store=JobStore(str(tmp_path / "cut")))
    run_job(job, SerialExecutor(), NoProgress(), part=(1, 3))
    done = job.store.done("pass-0")
    assert 0 < len(done) < plan.block_count
    report = run_job(job, SerialExecutor(), NoProgress())
    assert report.blocks_now == plan.block_count - len(done)
    again = np.asarray(open_map(job.store.map_url)["category_id"])
    assert (again == whole[0]).all()


def test_planning_a_million_by_a_million_is_arithmetic() -> None:
    scene = array_scene(np.zeros((1, 4, 4), np.uint8))

    from odc.geo.geobox import GeoBox

    geobox = GeoBox((1_000_000, 1_000_000), scene.geobox.affine, scene.geobox.crs)
    plan = make_plan(replace(scene, geobox=geobox), MeanSegmenter(tile_size=512).card, (0,))
    assert plan.block_count == len(plan.blocks) > 100_000
    assert "blocks" in str(plan)
    assert type(plan).from_dict(plan.to_dict()) == plan
