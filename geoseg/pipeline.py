r"""The stages joined: from a scene and a model to files that open in a GIS.

::

    open_scene -> load_model -> plan -> segment -> to_polygons -> write_vector
                                               \-> write_raster

Each is a function that can be called alone; ``map_scene`` calls them all.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from geoseg import __version__
from geoseg.engine.blocks import Job, Mask
from geoseg.engine.hold import check_same_job, describe_job, hold
from geoseg.engine.plan import Pins, Plan, PlanRequest, make_plan
from geoseg.engine.report import NoProgress, Progress, RunReport
from geoseg.engine.run import ClusterExecutor, Executor, SerialExecutor, fit, run_job
from geoseg.engine.segmentmap import SegmentMap
from geoseg.engine.store import JobStore
from geoseg.errors import InputError, ModelError
from geoseg.models.segmenter import (
    ArrayJoin,
    Fittable,
    Join,
    ModelCard,
    Pinnable,
    Runtime,
    Segmenter,
)
from geoseg.outlines import Geometry

if TYPE_CHECKING:
    from geoseg.scene.reader import Scene

__all__ = ["MapRequest", "Prepared", "RunOptions", "map_scene", "plan", "prepare", "run", "segment"]


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How a job is run. None leaves the choice to geoseg.

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


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A scene and a model that fit each other, and the plan. Nothing has been read but
    headers and a sample.
    """

    scene: Scene
    segmenter: Segmenter | Fittable
    plan: Plan
    area: Mask | None
    joins: tuple[Join | ArrayJoin, ...]
    warnings: tuple[str, ...]
    options: RunOptions

    @property
    def card(self) -> ModelCard:
        """The model's card, adapted to the scene."""
        return self.segmenter.card

    def identity(self) -> dict[str, Any]:
        """What the result depends on; a resumed job must have the same."""
        chosen = self.options
        options = {
            "area": None if chosen.area is None else repr(chosen.area),
            "min_area_m2": chosen.min_area_m2,
            "fill_holes_m2": chosen.fill_holes_m2,
            "drop_small": chosen.drop_small,
            "on_error": chosen.on_error,
            "blend": chosen.blend,
        }
        fingerprint = self.scene.reader.fingerprint()
        return describe_job(
            __version__, fingerprint, self.card.to_dict(), self.plan.to_dict(), options
        )


def prepare(scene: Scene, model: Segmenter | Fittable | str, options: RunOptions) -> Prepared:
    """Check that model and scene fit, and plan. Raises InputError's children."""
    from geoseg.models.catalogue import card_of, choose_bands, load_model, match_bands

    card = card_of(model) if isinstance(model, str) else None
    if card is not None:
        # what can't fit is said before a network is loaded
        match_bands(card, choose_bands(card, scene, options.bands) if options.bands else scene)
    segmenter = load_model(model) if isinstance(model, str) else model
    if options.bands is not None:
        scene = choose_bands(segmenter.card, scene, options.bands)
    segmenter, warnings = segmenter.for_scene(scene)
    indices, band_warnings = match_bands(segmenter.card, scene)
    segmenter, pins = _pin(segmenter, options)
    if isinstance(segmenter, Segmenter):
        segmenter = _with_join(segmenter, options)
    region, area = scene.window, None
    if options.area is not None:
        region, area = options.area.window(scene.geobox), options.area
    request = PlanRequest(
        tile_size=options.tile_size,
        halo=options.halo,
        batch=options.batch,
        block_tiles=options.block_tiles,
        memory=options.memory,
        region=region,
        pins=pins,
    )
    planned = make_plan(scene, segmenter.card, indices, request)
    joins = () if isinstance(segmenter, Fittable) else _joins(segmenter, scene, options)
    return Prepared(
        scene=scene,
        segmenter=segmenter,
        plan=planned,
        area=area,
        joins=joins,
        warnings=(*warnings, *band_warnings),
        options=options,
    )


def _pin(segmenter: Segmenter | Fittable, options: RunOptions) -> tuple[Segmenter | Fittable, Pins]:
    """What could change a bit of the result, fixed; threads share the machine's cores."""
    import os

    if not isinstance(segmenter, Pinnable):
        pins = Pins(backend="numpy", precision="exact", batch=options.batch or 4)
        return segmenter, pins
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    wanted = Runtime(
        device=options.device,
        backend=options.backend,
        precision=options.precision,
        threads=options.threads or max((cores or 1) // max(options.workers, 1), 1),
        batch=options.batch,
    )
    segmenter, chosen = segmenter.pinned(wanted)
    pins = Pins(
        device=chosen.device,
        backend=chosen.backend,
        precision=chosen.precision,
        threads=chosen.threads or 1,
        batch=chosen.batch or 4,
    )
    return segmenter, pins


def plan(scene: Scene, model: Segmenter | Fittable | str, **options: Any) -> Plan:
    """What ``segment`` would do, without doing it; options are those of RunOptions."""
    return prepare(scene, model, RunOptions(**options)).plan


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
    identity = prepared.identity()
    before = store.read_json("job.json")
    if before is not None:
        check_same_job(before["identity"], identity, store.url)
        # the blocks of the first run stay, whatever memory this one may use
        prepared = replace(prepared, plan=Plan.from_dict(before["plan"]))
    else:
        store.write_json("job.json", {"identity": identity, "plan": prepared.plan.to_dict()})
    with executor_for(prepared.options) as executor:
        job = _job(prepared, store, executor, progress)
        report = run_job(job, executor, progress, part=part)
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
        provenance=_provenance(prepared, card),
        counts=dict(report.counts),
        storage_options=store.storage_options,
    )
    if part is None:
        result.save_header()
    return result, report.finish()


def executor_for(options: RunOptions) -> AbstractContextManager[Executor]:
    """The executor that the options ask for."""
    if options.workers < 0:
        return nullcontext(SerialExecutor())
    return ClusterExecutor(
        options.workers,
        address=options.scheduler,
        client=options.client,
        security=options.security,
        resources=options.resources,
        dashboard=options.dashboard,
    )


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
    fitted = _with_join(fitted, prepared.options)
    joins = _joins(fitted, prepared.scene, prepared.options)
    return replace(job, segmenter=fitted, joins=joins)


@dataclass(frozen=True, kw_only=True)
class MapRequest:
    """What ``map_scene`` writes, and how.

    Attributes:
        outputs: files to write; the extension is the format.
        overwrite: replace outputs that exist, and drop unfinished work.
        pixel_coords: polygons in pixels where there is no CRS.
        simplify_m: tolerance of outlines in metres.
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
    geometry: Geometry = "polygon"
    store: str | None = None
    keep: bool = False
    part: tuple[int, int] | None = None
    join: bool = False
    report: str | None = None


def map_scene(
    scene: Scene | str,
    model: Segmenter | Fittable | str,
    request: MapRequest | Sequence[str],
    options: RunOptions | None = None,
    progress: Progress | None = None,
) -> RunReport:
    """A scene and a model to files, in bounded memory; the same call goes on where it stopped.

    ``request`` is a MapRequest or simply the outputs. Outputs are checked before any work
    and appear under their names only when they are whole. Raises GeosegError's children.
    """
    from geoseg.outputs import PolygonOptions, check_outputs, write_map
    from geoseg.scene.opening import open_scene

    if not isinstance(request, MapRequest):
        request = MapRequest(outputs=tuple(request))
    progress = progress or NoProgress()
    scene = open_scene(scene) if isinstance(scene, str) else scene
    first = Path(request.outputs[0])
    store = JobStore(request.store or f"{first.resolve()}.geoseg-job")
    if request.overwrite and store.read_json("job.json") is not None and not request.join:
        store.remove()
    begun = store.read_json("outputs.json") is not None
    check_outputs(
        request.outputs,
        scene,
        pixel_coords=request.pixel_coords,
        # what an interrupted run had begun to write is its own to replace
        overwrite=request.overwrite or begun,
    )
    prepared = prepare(scene, model, options or RunOptions())
    lock = "lock" if request.part is None else f"lock-{request.part[0]}"
    with hold(store, lock):
        result, report = run(prepared, store, progress, part=request.part)
        if request.part is not None:
            return report
        store.write_json("outputs.json", list(request.outputs))
        polygons = PolygonOptions(
            simplify_m=request.simplify_m,
            pixel_coords=request.pixel_coords,
            geometry=request.geometry,
        )
        write_map(result, scene, request.outputs, polygons, report, progress)
        report.finish()
        if request.report:
            Path(request.report).write_text(json.dumps(report.to_dict(), indent=2) + "\n")
    if not request.keep:
        store.remove()
    return report


def _joins(segmenter: Segmenter, scene: Scene, options: RunOptions) -> tuple[Join | ArrayJoin, ...]:
    """The segmenter's own join, then the merging of small segments where it is wanted."""
    joins: list[Join | ArrayJoin] = [] if segmenter.join is None else [segmenter.join]
    steps: tuple[tuple[float, Literal["enclosing", "nodata", "neighbour"]], ...] = (
        (options.fill_holes_m2, "enclosing"),
        (options.min_area_m2, "nodata" if options.drop_small else "neighbour"),
    )
    for area_m2, to in steps:
        if area_m2 > 0:
            from geoseg.stitch.sieve import SieveJoin

            joins.append(SieveJoin(_area_px(scene, area_m2), to))
    return tuple(joins)


def _area_px(scene: Scene, area_m2: float) -> int:
    """An area as a number of pixels, by the size of the pixel at the scene's centre."""
    pixel = scene.pixel_area_m2(scene.window)
    if pixel is None:
        raise InputError(
            f"{scene.name}: has no CRS, so {area_m2:g} m2 are no number of pixels: "
            "give the CRS with --assume-crs"
        )
    return max(math.ceil(area_m2 / pixel), 1)


def _with_join(segmenter: Segmenter, options: RunOptions) -> Segmenter:
    """Things are joined by overlap, blended classes by their probabilities."""
    if segmenter.join is None and segmenter.card.task != "semantic":
        from geoseg.stitch.labels import OverlapJoin

        return _changed(segmenter, "join", OverlapJoin())
    if options.blend:
        from geoseg.stitch.blend import FeatherJoin

        ids = tuple(category.id for category in segmenter.card.legend)
        return _changed(_changed(segmenter, "with_probs", True), "join", FeatherJoin(ids))
    return segmenter


def _changed(segmenter: Segmenter, name: str, value: Any) -> Segmenter:
    """The segmenter with one field replaced; raises ModelError where it has no such field."""
    if not (is_dataclass(segmenter) and any(f.name == name for f in fields(segmenter))):
        asked = "--blend" if name == "with_probs" else name
        raise ModelError(
            f"{segmenter.card.name} gives no probabilities per tile, {asked} can't be used with it"
        )
    changed: Segmenter = replace(segmenter, **{name: value})  # type: ignore[type-var]
    return changed


def _provenance(prepared: Prepared, card: ModelCard) -> dict[str, Any]:
    return {
        "geoseg": __version__,
        "scene": prepared.scene.name,
        "model": card.name,
        "model_sha256": card.sha256,
        "model_licence": card.licence,
        "pins": json.loads(json.dumps(prepared.plan.to_dict()["pins"])),
        "options": prepared.identity()["options"],
    }
