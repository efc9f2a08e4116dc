"""A GPU for each worker process: Dask loads this module in every worker that geoseg starts.

The worker sees its own GPU alone, under the name ``cuda``, whatever starts it again. It must
be so before torch looks for GPUs, so nothing here loads torch.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

__all__ = ["dask_setup", "gpus_here"]

_DRIVER = Path("/proc/driver/nvidia/gpus")


def gpus_here(driver: Path = _DRIVER) -> list[str]:
    """GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        return [name.strip() for name in given.split(",") if name.strip()]
    return [str(number) for number, _ in enumerate(driver.iterdir())] if driver.is_dir() else []


def dask_setup(worker: Any) -> None:
    """Leave the worker one GPU where there are several: the n-th worker the n-th, in turn."""
    gpus = gpus_here()
    if len(gpus) > 1 and str(worker.name).isdigit():
        os.environ["CUDA_VISIBLE_DEVICES"] = gpus[int(worker.name) % len(gpus)]
