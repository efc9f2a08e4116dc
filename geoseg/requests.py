"""What a person may ask of a run: how it is done, and what is written."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from geoseg.errors import InputError
from geoseg.models.names import check_runtime_names
from geoseg.models.segmenter import Runtime
from geoseg.outlines import Geometry

if TYPE_CHECKING:
    from geoseg.models.segmenter import Fittable, Segmenter

__all__ = ["MapRequest", "RunOptions"]


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How a job is run. None leaves the choice to geoseg. Raises InputError for numbers that
    no job can be run with, and for a device, backend or precision that there is nowhere.

    Attributes:
        bands: scene bands in the model's order, by name or number from 1.
        area: the area of interest (``scene.region.Region``); the whole scene by default.
        tile_size, halo, batch: pixels and tiles; the model's own by default.
        device, backend, precision, threads: pinned for the whole job.
        workers: worker processes; 0: threads of this process; -1: this thread alone.
        scheduler, client: a Dask scheduler's address, or a connected Client, to use instead.
        resources: what a worker must offer, such as ``{"GPU": 1}``.
        memory: bytes that each process may use; half of the machine's by default.
        min_area_m2: segments below it are merged into a neighbour (or dropped).
        on_error: ``fail``, or ``nodata`` for tiles that can't be read.
        blend: feathered blending of probabilities instead of cropping to the core.
        mask_with: another model (as ``load_model`` takes it) that maps the scene first.
        mask_classes: names of its classes; their pixels are not valid for the model.
    """

    bands: Sequence[str] | None = None
    area: Any = None
    tile_size: int | None = None
    halo: int | None = None
    batch: int | None = None
    block_tiles: int | None = None
    device: str = "auto"
    backend: str = "auto"
    precision: str = "auto"
    threads: int | None = None
    workers: int = 0
    scheduler: str | None = None
    client: Any = None
    security: Any = None
    resources: Mapping[str, float] = field(default_factory=dict)
    dashboard: str | None = None
    memory: int | None = None
    min_area_m2: float = 0.0
    fill_holes_m2: float = 0.0
    drop_small: bool = False
    on_error: Literal["fail", "nodata"] = "fail"
    blend: bool = False
    mask_with: Segmenter | Fittable | str | None = None
    mask_classes: Sequence[str] = ()

    def __post_init__(self) -> None:
        counts = ("tile_size", "batch", "block_tiles", "threads", "memory")
        _check_least({name: getattr(self, name) for name in counts}, 1)
        _check_least({"workers": self.workers}, -1)
        _check_least({"halo": self.halo}, 0)
        _check_least({"min_area": self.min_area_m2, "fill_holes": self.fill_holes_m2}, 0)
        check_runtime_names(
            Runtime(device=self.device, backend=self.backend, precision=self.precision)
        )


@dataclass(frozen=True, kw_only=True)
class MapRequest:
    """What ``map_scene`` writes, and how. Raises InputError for a negative tolerance.

    Attributes:
        outputs: files to write; the extension is the format.
        overwrite: replace outputs that exist, and drop unfinished work.
        pixel_coords: polygons in pixels where there is no CRS.
        simplify_m: tolerance of outlines in metres.
        smooth: round the corners of pixels in outlines, before simplifying.
        geometry: what stands for a segment in vector files: polygon, box or point.
        store: folder or URL where the job works; ``OUT.geoseg-job`` by default.
        keep: leave that folder.
        part: (i, n) to do only the i-th of n shares of the predicting.
        join: finish a job whose shares were done elsewhere.
        report: file for the run report as JSON.
    """

    outputs: Sequence[str]
    overwrite: bool = False
    pixel_coords: bool = False
    simplify_m: float = 0.0
    smooth: bool = False
    geometry: Geometry = "polygon"
    store: str | None = None
    keep: bool = False
    part: tuple[int, int] | None = None
    join: bool = False
    report: str | None = None

    def __post_init__(self) -> None:
        # paths of pathlib are as good as their names
        object.__setattr__(self, "outputs", tuple(os.fspath(path) for path in self.outputs))
        _check_least({"simplify": self.simplify_m}, 0)
        if self.join and self.part is not None:
            raise InputError(
                "--join and --part: join when all shares are done, in a run of its own"
            )


def _check_least(given: Mapping[str, float | None], least: int) -> None:
    """Raises InputError for a number below ``least``, or that is none."""
    for name, value in given.items():
        if value is not None and not (math.isfinite(value) and value >= least):
            option = name.replace("_", "-")
            raise InputError(f"--{option} {value:g}: give {least} or more")
