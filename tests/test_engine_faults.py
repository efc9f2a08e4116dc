"""What goes wrong while a job runs: laws 11 and 14, with real worker processes."""

from __future__ import annotations

import os
import signal
import threading
import time
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from distributed import Client, LocalCluster, default_client
from toys import BrokenReader, MeanSegmenter, PoisonSegmenter, array_scene

from geoseg.engine.cluster import ClusterExecutor
from geoseg.engine.hold import check_same_job, hold
from geoseg.engine.job import Job
from geoseg.engine.plan import SLOTS, PlanRequest, make_plan
from geoseg.engine.report import NoProgress
from geoseg.engine.run import SerialExecutor, ThreadExecutor, run_job
from geoseg.engine.store import JobStore, open_map
from geoseg.errors import (
    BlockError,
    InputError,
    LockedError,
    OutputError,
    ResumeError,
    WorkerError,
)
from geoseg.grid import Window
from geoseg.pipeline import RunOptions, map_scene


def job_over(pixels, segmenter, folder: Path, **changes) -> Job:
    scene = array_scene(pixels)
    plan = make_plan(scene, segmenter.card, (0,), PlanRequest(block_tiles=1, batch=1))
    return Job(scene=scene, segmenter=segmenter, plan=plan, store=JobStore(str(folder)), **changes)


def category_id(job: Job) -> np.ndarray:
    return np.asarray(open_map(job.store.map_url)["category_id"])


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    pixels = np.random.default_rng(5).integers(0, 250, (1, 110, 110), dtype=np.uint8)
    pixels[0, 40, 40] = 255
    return pixels


@pytest.fixture(scope="module")
def expected(pixels, tmp_path_factory) -> np.ndarray:
    job = job_over(pixels, MeanSegmenter(), tmp_path_factory.mktemp("whole"))
    run_job(job, SerialExecutor(), NoProgress())
    return category_id(job)


def test_a_worker_killed_once_is_retried(pixels, expected, tmp_path: Path) -> None:
    segmenter = PoisonSegmenter(once=str(tmp_path / "died"))
    job = job_over(pixels, segmenter, tmp_path / "job")
    with ClusterExecutor(2) as executor:
        run_job(job, executor, NoProgress())
    assert (tmp_path / "died").exists()
    assert (category_id(job) == expected).all()


def test_only_the_tile_that_kills_workers_is_blamed(pixels, expected, tmp_path: Path) -> None:
    job = job_over(pixels, PoisonSegmenter(), tmp_path / "job")
    poisoned = {
        block.number for block in job.plan.iter_blocks() if Window(40, 40, 1, 1) in block.read
    }
    with ClusterExecutor(2) as executor, pytest.raises(WorkerError, match="kills the worker"):
        run_job(job, executor, NoProgress())
    everything = {block.number for block in job.plan.iter_blocks()}
    assert job.store.done("pass-0") == everything - poisoned
    sane = replace(job, segmenter=MeanSegmenter())
    report = run_job(sane, SerialExecutor(), NoProgress())
    assert report.blocks_now == len(poisoned)
    assert (category_id(sane) == expected).all()


@pytest.mark.parametrize("executor", [SerialExecutor(), ThreadExecutor()])
def test_a_tile_that_cannot_be_read_fails_the_job_after_the_others(
    pixels, tmp_path: Path, executor
) -> None:
    bad = Window(60, 60, 5, 5)
    job = job_over(pixels, MeanSegmenter(), tmp_path / "job")
    reader = BrokenReader(pixels, np.ones(pixels.shape[1:], bool), bad)
    broken = replace(job, scene=replace(job.scene, reader=reader))
    with pytest.raises(BlockError, match=r"broken\.tif: Window"):
        run_job(broken, executor, NoProgress())
    met = {b.number for b in job.plan.iter_blocks() if (b.read & bad).pixels}
    assert job.store.done("pass-0") == {b.number for b in job.plan.iter_blocks()} - met


def test_threads_hold_few_blocks_and_end_at_an_error_of_the_code() -> None:
    lock, running, most, begun = threading.Lock(), [0], [0], []

    def work(item: int) -> int:
        with lock:
            begun.append(item)
            running[0] += 1
            most[0] = max(most[0], running[0])
        time.sleep(0.01)
        with lock:
            running[0] -= 1
        if item == 20:
            raise ZeroDivisionError("of the code")
        return item * item

    seen = []
    with pytest.raises(ZeroDivisionError):
        for item, found in ThreadExecutor().run(work, (), range(1000)):
            assert found == item * item
            seen.append(item)
    assert running == [0]  # nothing goes on behind one's back
    assert most[0] == SLOTS
    assert len(begun) <= len(seen) + 2 * SLOTS + 2


def test_on_error_nodata_loses_only_the_tiles_and_counts_them(
    pixels, expected, tmp_path: Path
) -> None:
    bad = Window(60, 60, 5, 5)
    segmenter = MeanSegmenter()
    scene = array_scene(pixels)
    reader = BrokenReader(pixels, np.ones(pixels.shape[1:], bool), bad)
    scene = replace(scene, reader=reader)
    plan = make_plan(scene, segmenter.card, (0,), PlanRequest(block_tiles=2, batch=1))
    store = JobStore(str(tmp_path / "job"))
    job = Job(scene=scene, segmenter=segmenter, plan=plan, store=store, on_error="nodata")
    report = run_job(job, SerialExecutor(), NoProgress())
    lost = np.zeros(scene.shape, bool)
    for tile in plan.tiles:
        if (tile.read & bad).pixels:
            lost[tile.core.slices] = True
    assert (category_id(job) == np.where(lost, 255, expected)).all()
    assert len(report.lost_tiles) == sum(bool((t.read & bad).pixels) for t in plan.tiles)


@pytest.mark.parametrize("everywhere", [True, False])
def test_a_job_with_nothing_done_leaves_no_folder(pixels, everywhere: bool, tmp_path: Path) -> None:
    bad = Window(0, 0, *pixels.shape[1:]) if everywhere else Window(60, 60, 5, 5)
    reader = BrokenReader(pixels, np.ones(pixels.shape[1:], bool), bad)
    scene = replace(array_scene(pixels), reader=reader)
    options = RunOptions(workers=-1, block_tiles=2, batch=1)
    with pytest.raises(BlockError):
        map_scene(scene, MeanSegmenter(), [str(tmp_path / "map.tif")], options)
    left = [path.name for path in tmp_path.iterdir()]
    assert left == ([] if everywhere else ["map.tif.geoseg-job"])


def test_what_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    store = JobStore(str(tmp_path / "full"))
    (tmp_path / "full" / "ledger").symlink_to("/dev/null")
    with pytest.raises(OutputError, match=r"full: could not be written: .*make room"):
        store.write("ledger/layout.json", b"{}")
    with pytest.raises(OutputError, match="could not be written"), hold(JobStore("/proc/job")):
        pass


def test_places_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="foo://x: no place for a job"):
        JobStore("foo://x").read_json("job.json")
    nowhere = ClusterExecutor(address="nonsense", wait_s=1)
    with pytest.raises(WorkerError, match="no scheduler answers at nonsense"), nowhere:
        pass
    with pytest.raises(WorkerError, match="dashboard nonsense"):
        ClusterExecutor(dashboard="nonsense").__enter__()


def _how_many_at_once(folder: str, item: int) -> int:
    """Waits until another item has begun; how many have."""
    (Path(folder) / f"begun-{item}").touch()
    deadline = time.time() + 10
    while (count := len(list(Path(folder).glob("begun-*")))) < 2 and time.time() < deadline:
        time.sleep(0.01)
    return count


def test_a_worker_with_a_resource_overlaps_blocks(tmp_path: Path) -> None:
    settings = {"n_workers": 1, "threads_per_worker": 3, "resources": {"GPU": 1}}
    with LocalCluster(**settings, dashboard_address=None) as cluster, Client(cluster) as client:
        with ClusterExecutor(client=client, resources={"GPU": 1}) as executor:
            counts = dict(executor.run(_how_many_at_once, (str(tmp_path),), range(2)))
    assert set(counts.values()) == {2}


def test_no_worker_is_said_not_waited_for(tmp_path: Path) -> None:
    with pytest.raises(WorkerError, match="no scheduler answers at tcp://127.0.0.1:9"):
        ClusterExecutor(address="tcp://127.0.0.1:9", wait_s=1).__enter__()
    executor = ClusterExecutor(1, resources={"GPU": 1}, wait_s=1)
    with pytest.raises(WorkerError, match="no worker with GPU=1"):
        executor.__enter__()
    executor.__exit__(None, None, None)


def test_two_runs_on_one_job(tmp_path: Path) -> None:
    store = JobStore(str(tmp_path / "job"))
    with hold(store):
        with pytest.raises(LockedError, match="has been writing it since"), hold(store):
            pass
    store.write_json(
        "lock.json",
        {
            "host": __import__("socket").gethostname(),
            "pid": 2**22 + 1,
            "born": 0.0,
            "since": "long ago",
        },
    )
    with hold(store):
        assert store.read_json("lock.json")["pid"] != 2**22 + 1
    assert store.names("") == []


def test_another_job_is_refused_with_the_difference_named() -> None:
    before = {"model": {"sha256": "a"}, "plan": {"pins": {"threads": 1}}}
    now = {"model": {"sha256": "a"}, "plan": {"pins": {"threads": 2}}}
    check_same_job(before, dict(before), "x")
    with pytest.raises(ResumeError, match=r"plan\.pins\.threads was 1, is 2"):
        check_same_job(before, now, "x")


def _square_or_kill_everyone(arguments: tuple[str, list[int]], item: int) -> int:
    """At item 5, once: takes all workers down, and what they hold with them."""
    folder, workers = arguments
    marker = Path(folder) / "killed"
    if item == 5 and not marker.exists():
        marker.touch()
        for pid in workers:
            if pid != os.getpid():
                os.kill(pid, signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)
    return item * item


def _square(item: int) -> int:
    return item * item


def _slow_square(item: int) -> int:
    time.sleep(0.2)
    return item * item


@pytest.mark.slow  # Dask takes 15 s to forget a worker
def test_workers_that_are_not_started_again_are_replaced() -> None:
    with ClusterExecutor(1) as executor:
        results = executor.run(_slow_square, (), range(20))
        first = next(results)
        cluster = default_client().cluster
        cluster.sync(cluster.workers[0].close)
        assert sorted([first, *results]) == [(n, n * n) for n in range(20)]


def test_all_workers_at_once_may_die(tmp_path: Path) -> None:
    with ClusterExecutor(2) as executor:
        workers = list(default_client().run(os.getpid).values())
        task = (_square_or_kill_everyone, ((str(tmp_path), workers),), range(20))
        assert sorted(executor.run(*task)) == [(n, n * n) for n in range(20)]
    assert (tmp_path / "killed").exists()


def test_a_scheduler_that_makes_no_copies_is_asked_for_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Dask's goes on trying to reach a worker that ended while it was given its copy, and holds
    its lock over all copies all the while.
    """
    monkeypatch.setattr("geoseg.engine.given.GIVE_S", 2)
    with ClusterExecutor(2) as executor:
        client = default_client()
        copying = client.cluster.scheduler._replica_lock(("replicate", object()))

        async def hold() -> None:
            await copying.__aenter__()

        client.sync(hold)
        assert sorted(executor.run(_square, (), range(5))) == [(n, n * n) for n in range(5)]


def test_a_place_that_is_not_reached_is_one_line() -> None:
    if find_spec("aiohttp") is None:  # then what is missing is named instead
        with pytest.raises(InputError, match="127.0.0.1:9/job: .*aiohttp"):
            JobStore("http://127.0.0.1:9/job").read_json("job.json")
        with pytest.raises(InputError, match="127.0.0.1:9/a.zarr: .*aiohttp"):
            open_map("http://127.0.0.1:9/a.zarr")
        return
    store = JobStore("http://127.0.0.1:9/job")
    with pytest.raises(InputError, match="http://127.0.0.1:9/job: could not be read"):
        store.read_json("job.json")
    with pytest.raises(InputError, match=r"127.0.0.1:9/a.zarr: (could not be read|no map there)"):
        open_map("http://127.0.0.1:9/a.zarr")
