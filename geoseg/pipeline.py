r"""The stages joined: from a scene and a model to files that open in a GIS.

::

    open_scene -> load_model -> plan -> segment -> to_polygons -> write_vector
                                               \-> write_raster

Each is a function that can be called alone; ``map_scene`` calls them all.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from geoseg import __version__
from geoseg.engine.cluster import ClusterExecutor
from geoseg.engine.hold import check_same_job, hold
from geoseg.engine.job import Job
from geoseg.engine.plan import Plan
from geoseg.engine.report import NoProgress, Progress, RunReport
from geoseg.engine.run import Executor, SerialExecutor, ThreadExecutor, fit, run_job
from geoseg.engine.segmentmap import SegmentMap
from geoseg.engine.store import JobStore
from geoseg.errors import GeosegError, InputError
from geoseg.heap import give_back, one_heap
from geoseg.models.segmenter import Fittable, ModelCard, Segmenter
from geoseg.places import check_request, is_whole, store_for
from geoseg.preparing import Prepared, joins_of, prepare, with_join
from geoseg.requests import MapRequest, RunOptions

if TYPE_CHECKING:
    from geoseg.engine.halo import HaloMeasure
    from geoseg.scene.reader import Scene

__all__ = [
    "MapRequest",
    "Prepared",
    "RunOptions",
    "halo_of",
    "map_scene",
    "measure_halo",
    "plan",
    "prepare",
    "run",
    "segment",
]

_VECTOR_THREADS = 4
"""Threads that trace polygons when the map is done: one of them writes meanwhile."""


def plan(scene: Scene, model: Segmenter | Fittable | str, **options: Any) -> Plan:
    """What ``segment`` would do, without doing it; options are those of RunOptions."""
    return prepare(scene, model, RunOptions(**options)).plan


def measure_halo(
    scene: Scene,
    model: Segmenter | Fittable | str,
    *,
    places: int = 16,
    progress: Progress | None = None,
    **options: Any,
) -> HaloMeasure:
    """How much halo a model needs on this scene; options are those of RunOptions.

    See ``geoseg.engine.halo``. Raises InputError for methods that are fitted to a scene.
    """
    return halo_of(prepare(scene, model, RunOptions(**options)), places, progress)


def halo_of(prepared: Prepared, places: int, progress: Progress | None = None) -> HaloMeasure:
    """``measure_halo`` of a prepared job."""
    from geoseg.engine import halo

    if not isinstance(prepared.segmenter, Segmenter):
        raise InputError(
            f"{prepared.card.name}: a method that is fitted to the scene has the halo that it "
            "needs: there is nothing to measure"
        )
    return halo.measure_halo(
        prepared.scene, prepared.segmenter, prepared.plan, places=places, progress=progress
    )


def segment(
    scene: Scene,
    model: Segmenter | Fittable | str,
    *,
    store: str | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> SegmentMap:
    """Map a scene; options are those of RunOptions.

    ``store`` is a folder or URL that keeps the map; by default it lives in a temporary
    folder, as long as the SegmentMap does. Raises GeosegError's children.
    """
    prepared = prepare(scene, model, RunOptions(**options))
    holder = None if store else tempfile.TemporaryDirectory(prefix="geoseg-")
    url = store or f"{holder.name}/job"  # type: ignore[union-attr]
    result, _ = run(prepared, JobStore(url), progress or NoProgress())
    return replace(result, _holder=holder)


def run(
    prepared: Prepared,
    store: JobStore,
    progress: Progress,
    *,
    part: tuple[int, int] | None = None,
) -> tuple[SegmentMap, RunReport]:
    """Run, or go on with, a prepared job in its store; the map stays there."""
    one_heap()
    identity = prepared.identity()
    if part is not None and prepared.mask is not None:
        raise InputError(
            "--part: a job that --mask-with begins can't be shared out: make the mask first, "
            "as a .tif, and give it with --mask"
        )
    before = store.read_json("job.json")
    if before is not None:
        if prepared.options.batch is None:
            # what fits a GPU's free memory may be another number today
            identity["plan"]["pins"]["batch"] = before["identity"]["plan"]["pins"]["batch"]
        check_same_job(before["identity"], identity, store.url)
        # the blocks of the first run stay, whatever memory this one may use
        prepared = replace(prepared, plan=Plan.from_dict(before["plan"]))
    else:
        store.write_json("job.json", {"identity": identity, "plan": prepared.plan.to_dict()})
    if prepared.mask is not None:
        scene, mask_seconds = _masked(prepared, prepared.mask, store, progress)
        prepared = replace(prepared, scene=scene)
    with executor_for(prepared.options) as executor:
        job = _job(prepared, store, executor, progress)
        report = run_job(job, executor, progress, part=part)
    give_back()  # outputs begin with the memory of a process that has mapped nothing
    if prepared.mask is not None:
        report.add_seconds({f"mask: {stage}": s for stage, s in mask_seconds.items()})
    report.warnings += prepared.warnings
    card = job.segmenter.card
    report.class_names = {category.id: category.name for category in card.legend}
    result = SegmentMap(
        url=store.map_url,
        geobox=prepared.scene.geobox[prepared.plan.region.slices],
        region=prepared.plan.region,
        legend=card.legend,
        task=card.task,
        georeferenced=prepared.scene.georeferenced,
        provenance=_provenance(prepared, card, identity["options"]),
        counts=dict(report.counts),
        storage_options=store.storage_options,
    )
    if part is None:
        result.save_header()
    return result, report.finish()


def _masked(
    prepared: Prepared, mask: Prepared, store: JobStore, progress: Progress
) -> tuple[Scene, dict[str, float]]:
    """The scene without what the mask's model gives certain classes; seconds that it took."""
    from geoseg.modelmask import masked_by

    inner = JobStore(f"{store.url}/mask", store.storage_options)
    found, report = run(mask, inner, progress)
    scene = masked_by(prepared.scene, found, prepared.options.mask_classes)
    return scene, report.stage_seconds


def executor_for(options: RunOptions) -> AbstractContextManager[Executor]:
    """The executor that the options ask for."""
    if options.workers < 0:
        return nullcontext(SerialExecutor())
    asks = (options.scheduler, options.client, options.resources, options.dashboard)
    if options.workers == 0 and not any(asks):
        return nullcontext(ThreadExecutor())
    executor = ClusterExecutor(
        options.workers,
        address=options.scheduler,
        client=options.client,
        security=options.security,
        resources=options.resources,
        dashboard=options.dashboard,
    )
    # a GPU that was named is the one that is used
    executor.share_gpus = options.device in ("auto", "cuda")
    return executor


def _job(prepared: Prepared, store: JobStore, executor: Executor, progress: Progress) -> Job:
    segmenter = prepared.segmenter
    job = Job(
        scene=prepared.scene,
        segmenter=segmenter,  # type: ignore[arg-type]
        plan=prepared.plan,
        store=store,
        joins=prepared.joins,
        area=prepared.area,
        on_error=prepared.options.on_error,
    )
    if isinstance(segmenter, Segmenter):
        return job
    fitted, _ = fit(segmenter, job, executor, progress)
    fitted = with_join(fitted, prepared.options)
    joins = joins_of(fitted, prepared.scene, prepared.options)
    return replace(job, segmenter=fitted, joins=joins)


def map_scene(
    scene: Scene | str | os.PathLike[str],
    model: Segmenter | Fittable | str,
    request: MapRequest | Sequence[str | os.PathLike[str]],
    options: RunOptions | None = None,
    progress: Progress | None = None,
) -> RunReport:
    """A scene and a model to files, in bounded memory; the same call goes on where it stopped.

    ``request`` is a MapRequest or simply the outputs. Outputs are checked before any work
    and appear under their names only when they are whole. Raises GeosegError's children.
    """
    from geoseg.scene.opening import open_scene

    if not isinstance(request, MapRequest):
        request = MapRequest(outputs=[os.fspath(path) for path in request])
    progress = progress or NoProgress()
    scene = open_scene(os.fspath(scene)) if isinstance(scene, str | os.PathLike) else scene
    store = store_for(request)
    check_request(request, scene, store)
    prepared = prepare(scene, model, options or RunOptions())
    with hold(store, "lock" if request.part is None else f"lock-{request.part[0]}"):
        if request.overwrite and is_whole(request):
            # so that the run goes on without --overwrite, which would drop what is done
            store.write_json("outputs.json", list(request.outputs))
        result, report = _run_or_leave_nothing(prepared, store, progress, request)
        if request.part is not None:
            return report
        store.write_json("outputs.json", list(request.outputs))
        threads = prepared.options.threads or os.cpu_count() or 1
        _write(result, scene, (request, threads), report, progress)
    if not request.keep:
        store.remove()
    return report


def _run_or_leave_nothing(
    prepared: Prepared, store: JobStore, progress: Progress, request: MapRequest
) -> tuple[SegmentMap, RunReport]:
    """``run``; a job that fails with nothing done leaves no folder."""
    fresh = store.read_json("job.json") is None
    try:
        return run(prepared, store, progress, part=request.part)
    except GeosegError:
        unshared = request.part is None or store.read_json("job.json") is None
        if fresh and unshared and not store.has_records():
            store.remove()  # nothing to go on with
        raise


def _write(
    result: SegmentMap,
    scene: Scene,
    how: tuple[MapRequest, int],
    report: RunReport,
    progress: Progress,
) -> None:
    """The outputs, then the report of them all. ``how``: the request, and threads to trace by."""
    from geoseg.outputs import PolygonOptions, write_map, write_report

    request, threads = how

    polygons = PolygonOptions(
        simplify_m=request.simplify_m,
        smooth=request.smooth,
        pixel_coords=request.pixel_coords,
        geometry=request.geometry,
        threads=min(threads, _VECTOR_THREADS),
    )
    write_map(result, scene, request.outputs, polygons, report, progress)
    report.finish()
    if request.report:
        write_report(report.to_dict(), request.report)


def _provenance(prepared: Prepared, card: ModelCard, options: dict[str, Any]) -> dict[str, Any]:
    return {
        "geoseg": __version__,
        "scene": prepared.scene.name,
        "model": card.name,
        "model_sha256": card.sha256,
        "model_licence": card.licence,
        "pins": json.loads(json.dumps(prepared.plan.to_dict()["pins"])),
        "options": options,
    }
