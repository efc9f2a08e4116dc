"""A Dask scheduler and workers as processes, on this host or in network namespaces."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).parent
DASK = [sys.executable, "-m", "dask"]


@dataclass
class Cluster:
    """``processes`` are the scheduler and then the workers."""

    address: str
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)


@dataclass(frozen=True)
class Host:
    """Where a process listens, and what is put before its command to run it there."""

    ip: str = "127.0.0.1"
    prefix: Sequence[str] = ()


@contextmanager
def cluster_in(
    folder: Path, hosts: Sequence[Host] = (Host(), Host()), *more: str, worker: Sequence[str] = ()
) -> Iterator[Cluster]:
    """A worker on each host, the scheduler on the first; ``more`` goes to all, ``worker``
    to workers."""
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    file = folder / "scheduler.json"
    first = hosts[0]
    place = ["--host", first.ip, "--port", "0", "--dashboard-address", "127.0.0.1:0"]
    scheduler = subprocess.Popen(
        [*first.prefix, *DASK, "scheduler", *place, "--scheduler-file", str(file), *more], **quiet
    )
    cluster = Cluster("", [scheduler])
    try:
        while not file.exists() or not file.read_text():
            assert scheduler.poll() is None, "the scheduler ended"
            time.sleep(0.05)
        cluster.address = json.loads(file.read_text())["address"]
        environment = os.environ | {"PYTHONPATH": str(HERE)}
        for host in hosts:
            how = [
                "--nthreads", "2", "--no-dashboard", "--death-timeout", "20",
                "--local-directory", str(folder / "scratch"), "--host", host.ip, *more, *worker,
            ]  # fmt: skip
            command = [*host.prefix, *DASK, "worker", cluster.address, *how]
            cluster.processes.append(subprocess.Popen(command, env=environment, **quiet))
        yield cluster
    finally:
        for process in cluster.processes:
            process.kill()
            process.wait()
