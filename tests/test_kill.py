"""Law 11: killed at any moment and run again, a job ends with the same bytes."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from clusters import Cluster, cluster_in

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
PROGRAM = [sys.executable, str(HERE / "slow_job.py")]
RUNS = int(os.environ.get("GEOSEG_KILLS", "10"))
WORKERS = 2
SLOTS = 3


def finish(folder: Path, *more: str) -> dict:
    done = subprocess.run(
        [*PROGRAM, str(folder), str(WORKERS), *more], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    report: dict = json.loads((folder / "report.json").read_text())
    return report


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    finish(folder)
    return folder


def blocks_done(folder: Path) -> int:
    ledger = folder / "map.gpkg.geoseg-job" / "ledger"
    return len(list(ledger.glob("pass-*/*.json")))


def wait_for_blocks(running: subprocess.Popen, folder: Path, count: int) -> None:
    deadline = time.time() + 60
    while blocks_done(folder) < count and running.poll() is None and time.time() < deadline:
        time.sleep(0.01)


def check(folder: Path, undisturbed: Path, report: dict, done_before: int) -> None:
    for name in ("map.gpkg", "map.tif"):
        assert (folder / name).read_bytes() == (undisturbed / name).read_bytes(), name
    # two passes over the blocks: what was in the ledger is not done again
    redone = report["blocks_in_this_run"] - (report["blocks"] - done_before)
    assert 0 <= redone <= WORKERS * SLOTS + WORKERS
    left = sorted(p.name for p in folder.iterdir())
    assert left == sorted(p.name for p in undisturbed.iterdir())


@pytest.mark.parametrize("seed", range(RUNS))
def test_killed_and_run_again(seed: int, undisturbed: Path, tmp_path: Path) -> None:
    rng = random.Random(seed)
    whole = json.loads((undisturbed / "report.json").read_text())["blocks"]
    said = (tmp_path.parent / f"{tmp_path.name}.log").open("w+")
    running = subprocess.Popen([*PROGRAM, str(tmp_path), str(WORKERS)], stderr=said)
    wait_for_blocks(running, tmp_path, rng.randrange(whole))
    time.sleep(rng.random() * 0.2)
    victim = rng.choice(["client", "worker"])
    if victim == "worker" and running.poll() is None:
        children = psutil.Process(running.pid).children(recursive=True)
        workers = [c for c in children if "spawn_main" in " ".join(c.cmdline())]
        if workers:
            rng.choice(workers).kill()
        # a dead worker is replaced and its blocks are run again
        assert running.wait(120) == 0, Path(said.name).read_text()
        done_before = 0
        report = json.loads((tmp_path / "report.json").read_text())
        check(tmp_path, undisturbed, report, done_before)
        return
    running.send_signal(signal.SIGKILL)
    running.wait()
    if (tmp_path / "report.json").exists():
        return  # it was already done
    time.sleep(0.5)  # workers notice that their parent is gone
    done_before = blocks_done(tmp_path)
    check(tmp_path, undisturbed, finish(tmp_path), done_before)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """A scheduler and two workers as processes of their own."""
    with cluster_in(tmp_path) as found:
        yield found


def test_the_scheduler_is_killed(undisturbed: Path, cluster: Cluster, tmp_path: Path) -> None:
    folder = tmp_path / "job"
    folder.mkdir()
    running = subprocess.Popen(
        [*PROGRAM, str(folder), "0", cluster.address], stderr=subprocess.PIPE, text=True
    )
    wait_for_blocks(running, folder, 20)
    cluster.processes[0].kill()
    _, stderr = running.communicate(timeout=120)
    assert running.returncode == 4, stderr
    assert re.fullmatch(r"[^\n]*scheduler[^\n]*what is done is kept[^\n]*\n", stderr), stderr
    for process in cluster.processes[1:]:
        process.kill()
        process.wait()
    done_before = blocks_done(folder)
    check(folder, undisturbed, finish(folder), done_before)
