"""Where a job works and where it writes: checked before any work."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from geoseg.engine.store import JobStore
from geoseg.errors import InputError
from geoseg.export.target import check_output
from geoseg.outputs import check_outputs, check_report
from geoseg.requests import MapRequest

if TYPE_CHECKING:
    from geoseg.scene.reader import Scene

__all__ = ["check_request", "is_whole", "store_for"]


def is_whole(request: MapRequest) -> bool:
    """Whether it does all of a job, rather than a share of it or the joining."""
    return request.part is None and not request.join


def store_for(request: MapRequest) -> JobStore:
    """Where the job works, without unfinished work that is to be dropped; raises InputError
    where there is nothing to join.
    """
    first = Path(request.outputs[0])
    store = JobStore(request.store or f"{first.resolve()}.geoseg-job")
    there = store.read_json("job.json") is not None
    others = [name for name in store.names("") if not name.startswith("lock")]
    if others and not there:
        raise InputError(
            f"--store {store.url}: holds {others[0]}, which is no job's and would be removed with "
            "it at the end: give a folder of its own"
        )
    if request.join and not there:
        raise InputError(
            f"--join: no share of a job is in {store.url}: there is nothing to join: run each "
            "share with --part I/N first, with the same output and --store, or leave --join out"
        )
    if request.overwrite and there and is_whole(request):
        store.remove()
    return store


def check_request(request: MapRequest, scene: Scene, store: JobStore) -> None:
    """Raises OutputError; what an interrupted run had begun to write is its own to replace."""
    begun = store.read_json("outputs.json")
    overwrite = request.overwrite or begun is not None
    targets = check_outputs(
        request.outputs, scene, pixel_coords=request.pixel_coords, overwrite=overwrite
    )
    for path in (begun and request.outputs) or ():
        check_output(path, overwrite=request.overwrite or path in begun)
    if request.report:
        check_report(request.report, targets, overwrite=overwrite)
