"""A job, its clock and its records: what all that happens to a block has in common."""

from __future__ import annotations

import os
import resource
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from geoseg.engine.plan import Plan
from geoseg.engine.store import JobStore
from geoseg.grid import Window
from geoseg.models.segmenter import ArrayJoin, Join, Segmenter

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

    from geoseg.scene.reader import Scene

__all__ = ["Clock", "Job", "Mask", "Place", "inside", "peak_bytes", "record_of"]

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
            self.add(stage, time.perf_counter() - start)

    def add(self, stage: str, spent: float) -> None:
        """Add seconds to ``stage``."""
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


def inside(job: Job, window: Window) -> NDArray[np.bool_]:
    """Pixels of a window that are to be mapped: inside the region and the area."""
    within = np.zeros(window.shape, bool)
    within[(window & job.plan.region).relative_to(window).slices] = True
    if job.area is not None and within.any():
        within &= job.area.mask(window, job.scene.geobox)
    return within


def record_of(place: Place, job: Job, clock: Clock, details: Mapping[str, Any]) -> dict[str, Any]:
    """What the ledger keeps of a block: who did it, how long it took, and ``details``."""
    seconds = {stage: round(spent, 6) for stage, spent in clock.seconds.items()}
    where = {"block": list(place), "pid": os.getpid(), "host": os.uname().nodename}
    return where | {"seconds": seconds, "peak_bytes": peak_bytes()} | dict(details)
