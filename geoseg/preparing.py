"""A scene and a model held against each other, and the plan: before a pixel is predicted."""

from __future__ import annotations

import os
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any

from geoseg import __version__
from geoseg.engine.hold import describe_job
from geoseg.engine.job import Mask
from geoseg.engine.plan import Pins, Plan, PlanRequest, make_plan, passes_that_fit
from geoseg.errors import InputError, ModelError
from geoseg.grid import TileGrid
from geoseg.models.segmenter import (
    ArrayJoin,
    Fittable,
    Join,
    ModelCard,
    Pinnable,
    Runtime,
    Segmenter,
    Streaming,
)
from geoseg.requests import RunOptions
from geoseg.sieving import Sieving

if TYPE_CHECKING:
    from geoseg.scene.reader import Scene

__all__ = ["Prepared", "joins_of", "prepare", "with_join"]


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A scene and a model that fit each other, and the plan. Nothing has been read but
    headers and a sample. ``mask`` is run first, where another model masks the scene.
    """

    scene: Scene
    segmenter: Segmenter | Fittable
    plan: Plan
    area: Mask | None
    joins: tuple[Join | ArrayJoin, ...]
    warnings: tuple[str, ...]
    options: RunOptions
    mask: Prepared | None = None

    @property
    def card(self) -> ModelCard:
        """The model's card, adapted to the scene."""
        return self.segmenter.card

    def identity(self) -> dict[str, Any]:
        """What the result depends on; a resumed job must have the same."""
        chosen = self.options
        options: dict[str, Any] = {
            "area": None if chosen.area is None else repr(chosen.area),
            "min_area_m2": chosen.min_area_m2,
            "fill_holes_m2": chosen.fill_holes_m2,
            "drop_small": chosen.drop_small,
            "on_error": chosen.on_error,
            "blend": chosen.blend,
        }
        if self.mask is not None:
            options["mask"] = [list(chosen.mask_classes), self.mask.identity()]
        fingerprint = self.scene.reader.fingerprint()
        return describe_job(
            __version__, fingerprint, self.card.to_dict(), self.plan.to_dict(), options
        )


def prepare(scene: Scene, model: Segmenter | Fittable | str, options: RunOptions) -> Prepared:
    """Check that model and scene fit, and plan. Raises InputError's children."""
    from geoseg.models.catalogue import card_of, choose_bands, load_model, match_bands
    from geoseg.scene.regrid import RESAMPLED

    whole = scene
    card = card_of(model) if isinstance(model, str) else None
    if card is not None:
        # what can't fit is said before a network is loaded
        match_bands(card, choose_bands(card, scene, options.bands) if options.bands else scene)
        _check_grid(card, scene, options)
    segmenter = load_model(model) if isinstance(model, str) else model
    if options.bands is not None:
        scene = choose_bands(segmenter.card, scene, options.bands)
    segmenter, warnings = segmenter.for_scene(scene)
    indices, band_warnings = match_bands(segmenter.card, scene)
    segmenter, pins, passes = _pin(segmenter, options)
    if isinstance(segmenter, Segmenter):
        segmenter = with_join(segmenter, options, pins.device)
    _check_halo(segmenter.card, options.halo)
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
        passes=passes,
    )
    planned = make_plan(scene, segmenter.card, indices, request)
    joins = () if isinstance(segmenter, Fittable) else joins_of(segmenter, scene, options)
    if RESAMPLED in scene.tags:
        said = f"resampled on reading from {scene.tags[RESAMPLED]}; the map has that grid"
        warnings = [*warnings, f"{scene.name}: {said}"]
    mask = _prepare_mask(whole, planned, options)
    if mask is not None:
        warnings = [*warnings, *(f"mask: {text}" for text in mask.warnings)]
    return Prepared(
        scene=scene,
        segmenter=segmenter,
        plan=planned,
        area=area,
        joins=joins,
        warnings=(*warnings, *band_warnings),
        options=options,
        mask=mask,
    )


def _check_grid(card: ModelCard, scene: Scene, options: RunOptions) -> None:
    """Tiles that the model can't have, or an area without a pixel; raises InputError."""
    halo = card.halo if options.halo is None else options.halo
    TileGrid(scene.shape, options.tile_size or card.tile_size, halo, card.divisor)
    if options.area is not None:
        options.area.window(scene.geobox)


def _check_halo(card: ModelCard, halo: int | None) -> None:
    """A network needs about as much as it was measured to; a method exactly what it says."""
    if "method" in card.parameters and halo is not None and halo < card.halo:
        raise InputError(
            f"--halo {halo}: {card.name} looks {card.halo} px around each tile, with less the map "
            "would show where tiles end: leave --halo out"
        )


def _prepare_mask(scene: Scene, planned: Plan, options: RunOptions) -> Prepared | None:
    """The job that maps what is to be left out; None where no model masks the scene."""
    if options.mask_with is None:
        if options.mask_classes:
            raise InputError("--mask-classes: name the model that gives them with --mask-with")
        return None
    from geoseg.modelmask import check_classes, mask_options, mask_scene
    from geoseg.models.catalogue import load_model

    model = options.mask_with
    model = load_model(model) if isinstance(model, str) else model
    check_classes(model.card, options.mask_classes)
    return prepare(
        mask_scene(scene, model.card), model, mask_options(options, planned, scene.geobox)
    )


def _pin(
    segmenter: Segmenter | Fittable, options: RunOptions
) -> tuple[Segmenter | Fittable, Pins, int]:
    """What could change a bit of the result, fixed, and the forward passes side by side.

    All share the machine's cores.
    """
    if not isinstance(segmenter, Pinnable):
        return segmenter, Pins(backend="numpy", precision="exact", batch=options.batch or 4), 1
    found = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    cores = options.threads or max((found or 1) // max(options.workers, 1), 1)
    wanted = Runtime(
        device=options.device,
        backend=options.backend,
        precision=options.precision,
        threads=cores,
        batch=options.batch,
    )
    pinned, chosen = segmenter.pinned(wanted)
    batch, passes = chosen.batch or 4, 1
    if isinstance(pinned, Streaming) and (chosen.device, chosen.backend) == ("cpu", "torch"):
        passes = passes_that_fit(pinned.card, cores, options.tile_size, batch, options.memory)
        pinned, chosen = segmenter.pinned(replace(chosen, threads=max(cores // passes, 1)))
    pins = Pins(
        device=chosen.device,
        backend=chosen.backend,
        precision=chosen.precision,
        threads=chosen.threads or 1,
        batch=batch,
    )
    return pinned, pins, passes


def joins_of(
    segmenter: Segmenter, scene: Scene, options: RunOptions
) -> tuple[Join | ArrayJoin, ...]:
    """The segmenter's own join, then the merging of small segments where it is wanted."""
    joins: list[Join | ArrayJoin] = [] if segmenter.join is None else [segmenter.join]
    sieving = Sieving(
        min_area_m2=options.min_area_m2,
        fill_holes_m2=options.fill_holes_m2,
        drop_small=options.drop_small,
    )
    if sieving:
        joins += sieving.joins(_pixel_m2(scene, sieving))
    return tuple(joins)


def _pixel_m2(scene: Scene, sieving: Sieving) -> float:
    """The size of the pixel at the scene's centre."""
    pixel = scene.pixel_area_m2(scene.window)
    if pixel is None:
        area_m2 = sieving.min_area_m2 or sieving.fill_holes_m2
        raise InputError(
            f"{scene.name}: has no CRS, so {area_m2:g} m2 are no number of pixels: "
            "give the CRS with --assume-crs"
        )
    return pixel


def with_join(segmenter: Segmenter, options: RunOptions, device: str = "cpu") -> Segmenter:
    """Things are joined by overlap, blended classes by their probabilities."""
    if segmenter.join is None and segmenter.card.task != "semantic":
        from geoseg.stitch.labels import OverlapJoin

        return _changed(segmenter, "join", OverlapJoin())
    if options.blend:
        return _blending(segmenter, device)
    return segmenter


def _blending(segmenter: Segmenter, device: str) -> Segmenter:
    """Probabilities added up where they are worked out: on the device, or on the host."""
    from geoseg.stitch.blend import FeatherJoin
    from geoseg.stitch.sums import Reading

    card = segmenter.card
    least = card.parameters.get("thresholds") or {}
    reading = Reading(
        category_ids=tuple(category.id for category in card.legend),
        thresholds=tuple(float(least.get(c.name, 0.0)) for c in card.legend) if least else (),
        score=card.parameters.get("score", "confidence"),
        layers=card.layers,
    )
    join = FeatherJoin(reading)
    segmenter = _changed(segmenter, "with_probs", True)
    if device != "cpu" and any(field.name == "held" for field in fields(segmenter)):  # type: ignore[arg-type]
        from geoseg.models.deep.blending import OpenDeviceSums

        segmenter = _changed(segmenter, "held", True)
        join = FeatherJoin(reading, OpenDeviceSums(device))
    return _changed(segmenter, "join", join)


def _changed(segmenter: Segmenter, name: str, value: Any) -> Segmenter:
    """The segmenter with one field replaced; raises ModelError where it has no such field."""
    if not (is_dataclass(segmenter) and any(f.name == name for f in fields(segmenter))):
        asked = "--blend" if name == "with_probs" else name
        raise ModelError(
            f"{segmenter.card.name} gives no probabilities per tile, {asked} can't be used with it"
        )
    changed: Segmenter = replace(segmenter, **{name: value})  # type: ignore[type-var]
    return changed
