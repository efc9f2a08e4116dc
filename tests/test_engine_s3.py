"""The store on a real S3-compatible server, run as a process on loopback."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_engine_faults import job_over
from toys import MeanSegmenter

from geoseg.engine.cluster import ClusterExecutor
from geoseg.engine.hold import hold
from geoseg.engine.job import Job
from geoseg.engine.report import NoProgress
from geoseg.engine.run import SerialExecutor, run_job
from geoseg.engine.segmentmap import SegmentMap
from geoseg.engine.store import JobStore, open_map
from geoseg.errors import LockedError

pytestmark = pytest.mark.slow


def server_command() -> list[str]:
    found = os.environ.get("GEOSEG_S3RVER") or shutil.which("s3rver")
    if found is None:
        if os.environ.get("GEOSEG_NO_SKIP"):
            pytest.fail("s3rver is not installed, and nothing may be skipped here")
        pytest.skip("s3rver is not installed: npm install s3rver, GEOSEG_S3RVER=its path")
    return [found]


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    pytest.importorskip("s3fs")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = tmp_path_factory.mktemp("s3")
    arguments = ["-d", str(folder), "-a", "127.0.0.1", "-p", str(port), "--silent"]
    server = subprocess.Popen([*server_command(), *arguments, "--configure-bucket", "maps"])
    try:
        for _ in range(100):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        yield {
            "key": "S3RVER",
            "secret": "S3RVER",
            "client_kwargs": {
                "endpoint_url": f"http://127.0.0.1:{port}",
                "region_name": "us-east-1",
            },
            "config_kwargs": {
                "request_checksum_calculation": "when_required",
                "response_checksum_validation": "when_required",
            },
        }
    finally:
        server.terminate()
        server.wait(10)


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return np.random.default_rng(6).integers(0, 250, (1, 110, 110), dtype=np.uint8)


def test_a_job_on_s3_is_the_job_on_disk(pixels, storage, tmp_path: Path) -> None:
    on_disk = job_over(pixels, MeanSegmenter(), tmp_path / "job")
    run_job(on_disk, SerialExecutor(), NoProgress())
    expected = np.asarray(open_map(on_disk.store.map_url)["category_id"])

    store = JobStore("s3://maps/job", storage)
    job = Job(scene=on_disk.scene, segmenter=on_disk.segmenter, plan=on_disk.plan, store=store)
    with hold(store):
        with pytest.raises(LockedError):
            with hold(store):
                pass
        run_job(job, SerialExecutor(), NoProgress(), part=(1, 2))
        done = store.done("pass-0")
        assert 0 < len(done) < job.plan.block_count
        with ClusterExecutor(2) as executor:
            report = run_job(job, executor, NoProgress())
    assert report.blocks_now == job.plan.block_count - len(done)
    group = open_map(store.map_url, storage)
    assert (np.asarray(group["category_id"]) == expected).all()

    kept = SegmentMap(
        url=store.map_url,
        geobox=job.scene.geobox,
        region=job.plan.region,
        legend=job.segmenter.card.legend,
        task="semantic",
        storage_options=storage,
    )
    kept.save_header()
    again = SegmentMap.open(store.map_url, storage)
    assert (again.category_id == expected).all()
    store.remove()
    assert store.names("") == []
