"""One scene on workers that SLURM, PBS or LSF starts (dask-jobqueue).

    python jobqueue.py slurm scene.tif terrain /shared/map.gpkg --workers 8 --gpu
    python jobqueue.py slurm scene.tif terrain /shared/map.gpkg --print   # the job's script

The scene and the output lie where every node sees them. Run it on the login node, in tmux, or
as a job itself; killed and run again it goes on where it stopped.
"""

from __future__ import annotations

import argparse
from typing import Any

GPU = {"slurm": ["--gres=gpu:1"], "pbs": ["-l ngpus=1"], "lsf": ["-gpu num=1"]}


def cluster(system: str, gpu: bool) -> Any:
    """A cluster of jobs with one worker process each, and the model loaded once in it."""
    import dask_jobqueue

    kinds = {
        "slurm": dask_jobqueue.SLURMCluster,
        "pbs": dask_jobqueue.PBSCluster,
        "lsf": dask_jobqueue.LSFCluster,
    }
    how: dict[str, Any] = {
        "cores": 4,  # threads: one block is read and one written while another is predicted
        "processes": 1,
        "memory": "8GB",
        "walltime": "04:00" if system == "lsf" else "04:00:00",
        "job_extra_directives": GPU[system] if gpu else [],
        "worker_extra_args": ["--resources", "GPU=1"] if gpu else [],
        "scheduler_options": {"dashboard_address": "127.0.0.1:0"},
    }
    if system == "lsf":
        how |= {"ncpus": 4, "use_stdin": True, "lsf_units": "gb"}
    return kinds[system](**how)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("system", choices=GPU)
    parser.add_argument("scene")
    parser.add_argument("model")
    parser.add_argument("output")
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--gpu", action="store_true", help="one GPU per worker")
    parser.add_argument("--print", action="store_true", dest="show")
    given = parser.parse_args()

    with cluster(given.system, given.gpu) as jobs:
        if given.show:
            print(jobs.job_script())
            return
        from distributed import Client

        import geoseg

        jobs.scale(given.workers)
        options = geoseg.RunOptions(
            client=Client(jobs),
            resources={"GPU": 1} if given.gpu else {},
            device="cuda" if given.gpu else "cpu",
            threads=4,
        )
        report = geoseg.map_scene(given.scene, given.model, [given.output], options)
        print(report)


if __name__ == "__main__":
    main()
