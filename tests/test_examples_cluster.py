"""The examples for clusters: scripts run as far as that goes without the clusters."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import yaml
from clusters import cluster_in

EXAMPLES = Path(__file__).parent.parent / "examples" / "cluster"
PROGRAMS = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(4).integers(0, 256, (1, 2300, 1200), np.uint8)
    place = {"crs": "EPSG:32633", "transform": rasterio.Affine(1, 0, 5e5, 0, -1, 5e6)}
    shape = {"width": 1200, "height": 2300, "count": 1, "dtype": "uint8"}
    with rasterio.open(tmp_path / "scene.tif", "w", driver="GTiff", **shape, **place) as out:
        out.write(pixels)
    return tmp_path / "scene.tif"


def mapped(command: list[str], **environment: str) -> None:
    done = subprocess.run(
        command, env=PROGRAMS | environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_a_job_array(scene: Path, tmp_path: Path) -> None:
    model = "sauvola:b1"
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    mapped(["geoseg", "map", str(scene), "-m", model, "-o", str(tmp_path / "a/map.gpkg")])
    array = ["bash", str(EXAMPLES / "array.sh")]
    given = [str(scene), model, str(tmp_path / "b/map.gpkg"), str(tmp_path / "job")]
    for part in ("2", "1"):
        mapped([*array, *given], SLURM_ARRAY_TASK_ID=part, SLURM_ARRAY_TASK_COUNT="2")
    mapped([*array, "--join", *given])
    assert (tmp_path / "a/map.gpkg").read_bytes() == (tmp_path / "b/map.gpkg").read_bytes()


@pytest.mark.parametrize(
    ("index", "count"),
    [
        ("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT"),
        ("PBS_ARRAY_INDEX", "PARTS"),
        ("LSB_JOBINDEX", "LSB_JOBINDEX_END"),
    ],
)
def test_what_a_queue_tells_becomes_the_part(index: str, count: str, tmp_path: Path) -> None:
    program = tmp_path / "geoseg"
    program.write_text('#!/bin/sh\nprintf "%s " "$@"\n')
    program.chmod(0o755)
    path = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", str(EXAMPLES / "array.sh"), "a.tif", "terrain", "a b.gpkg", "/shared/job"],
        env=os.environ | path | {index: "3", count: "7"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.strip() == "map a.tif -m terrain -o a b.gpkg --store /shared/job --part 3/7"


def test_outside_an_array_it_says_so() -> None:
    done = subprocess.run(
        ["bash", str(EXAMPLES / "array.sh"), "a", "b", "c", "d"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode != 0 and "not in a job array" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("system", "gpu"),
    [("slurm", "#SBATCH --gres=gpu:1"), ("pbs", "#PBS -l ngpus=1"), ("lsf", "#BSUB -gpu num=1")],
)
def test_the_script_of_a_queue(system: str, gpu: str) -> None:
    pytest.importorskip("dask_jobqueue")
    call = [sys.executable, str(EXAMPLES / "jobqueue.py"), system, "a.tif", "terrain", "a.gpkg"]
    done = subprocess.run([*call, "--gpu", "--print"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert gpu in done.stdout.splitlines() and "--resources GPU=1" in done.stdout
    checked = subprocess.run(["bash", "-n"], input=done.stdout, text=True, check=False)
    assert checked.returncode == 0


def kubernetes() -> dict[tuple[str, str], Any]:
    documents = yaml.safe_load_all((EXAMPLES / "kubernetes.yaml").read_text())
    return {(d["kind"], d["metadata"]["name"]): d for d in documents}


def command_of(document: dict[str, Any]) -> list[str]:
    (container,) = document["spec"]["template"]["spec"]["containers"]
    assert all(isinstance(word, str) for word in container["command"])
    command: list[str] = container["command"]
    return command


def test_kubernetes_names_fit_together() -> None:
    found = kubernetes()
    service = found["Service", "geoseg-scheduler"]["spec"]
    for name in ("geoseg-scheduler", "geoseg-worker"):
        spec = found["Deployment", name]["spec"]
        assert spec["selector"]["matchLabels"] == spec["template"]["metadata"]["labels"]
    labels = found["Deployment", "geoseg-scheduler"]["spec"]["template"]["metadata"]["labels"]
    assert service["selector"] == labels
    address = f"tcp://geoseg-scheduler:{service['ports'][0]['port']}"
    worker, job = found["Deployment", "geoseg-worker"], found["Job", "geoseg-map"]
    assert address in command_of(worker) and address in command_of(job)
    for document in (worker, job):
        spec = document["spec"]["template"]["spec"]
        mounts = {mount["name"] for mount in spec["containers"][0]["volumeMounts"]}
        assert mounts == {volume["name"] for volume in spec["volumes"]}


@pytest.mark.slow
def test_the_commands_of_kubernetes_run(scene: Path, tmp_path: Path) -> None:
    found = kubernetes()
    worker = command_of(found["Deployment", "geoseg-worker"])
    job = command_of(found["Job", "geoseg-map"])
    more = worker[worker.index("--resources") : worker.index("--no-dashboard")]
    scheduler = command_of(found["Deployment", "geoseg-scheduler"])
    assert scheduler[:2] == ["dask", "scheduler"]
    with cluster_in(tmp_path, worker=more) as cluster:
        here = {
            "tcp://geoseg-scheduler:8786": cluster.address,
            "/shared/scene.tif": str(scene),
            "/shared/map.gpkg": str(tmp_path / "map.gpkg"),
            "terrain": "sauvola:b1",
            "cuda": "cpu",
        }
        mapped([here.get(word, word) for word in job])
    assert (tmp_path / "map.gpkg").exists()
