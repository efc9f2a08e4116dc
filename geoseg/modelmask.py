"""Another model's classes as a mask: clouds, shadows, whatever is not to be mapped.

The mask's model maps the same scene first, as a job of its own inside the job's store, so
that it is resumed with it. Its tiles are its own: what it masks does not depend on how the
scene is tiled for the model that is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from geoseg.engine.segmentmap import SegmentMap
from geoseg.errors import ModelError
from geoseg.grid import Window
from geoseg.legend import NODATA_CATEGORY
from geoseg.requests import RunOptions
from geoseg.scene.masked import masked
from geoseg.scene.masking import LabelMask
from geoseg.scene.reader import Band, Scene
from geoseg.scene.region import Region
from geoseg.scene.regrid import gsd_for, on_grid, resampled

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

    from geoseg.engine.plan import Plan
    from geoseg.models.segmenter import ModelCard

__all__ = ["check_classes", "mask_options", "mask_scene", "masked_by"]


def check_classes(card: ModelCard, classes: Sequence[str]) -> None:
    """Raises ModelError where the mask's model has no class of a name, or none is named."""
    have = [category.name for category in card.legend]
    wrong = [name for name in classes if name not in have]
    if wrong or not classes:
        said = f"no class {', '.join(wrong)}" if wrong else "no class named"
        raise ModelError(
            f"--mask-with {card.name}: {said}: give some of {', '.join(have)} to --mask-classes"
        )


def mask_scene(scene: Scene, card: ModelCard) -> Scene:
    """The scene at a GSD that the mask's model was made for; itself where that is unknown."""
    gsd = None if scene.gsd_m is None else gsd_for(scene, card.gsd_m)
    return scene if gsd is None else resampled(scene, gsd)


def mask_options(options: RunOptions, plan: Plan, geobox: GeoBox) -> RunOptions:
    """How the mask's model is run: where and with what as the other, the rest as it likes.

    It maps all that tiles of the region may read, so that a mapped area stays the crop of
    the mapped scene.
    """
    needed = plan.region.grow(plan.tile_size) & Window(0, 0, *plan.shape)
    whole = needed.shape == plan.shape
    area = None if whole else Region.box(tuple(geobox[needed.slices].boundingbox.bbox))
    return RunOptions(
        area=area,
        device=options.device,
        threads=options.threads,
        workers=options.workers,
        scheduler=options.scheduler,
        client=options.client,
        security=options.security,
        resources=options.resources,
        dashboard=options.dashboard,
        memory=options.memory,
        on_error=options.on_error,
    )


def masked_by(scene: Scene, found: SegmentMap, classes: Sequence[str]) -> Scene:
    """The scene without what a map of it, on any grid, gives these classes."""
    reader = _MapReader(found.url, found.region, dict(found.storage_options))
    labels = Scene(
        name=str(found.provenance["model"]),
        geobox=found.geobox,
        bands=(Band("category_id"),),
        dtype="uint8",
        nodata=float(NODATA_CATEGORY),
        reader=reader,
        georeferenced=found.georeferenced,
    )
    ids = {category.name: category.id for category in found.legend}
    there = on_grid(labels, scene.geobox, method="nearest").reader
    return masked(
        scene, *(LabelMask(there, labels.name, (ids[name],), reason=name) for name in classes)
    )


@dataclass(frozen=True, slots=True)
class _MapReader:
    """Categories of a finished map, read where they are asked for."""

    url: str
    region: Window
    storage_options: Mapping[str, Any]

    def read(
        self, window: Window, bands: Sequence[int]
    ) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        from geoseg.engine.store import open_map

        rows, cols = replace(
            window,
            row_off=window.row_off + self.region.row_off,
            col_off=window.col_off + self.region.col_off,
        ).slices
        group = open_map(self.url, self.storage_options)
        labels = np.asarray(group["category_id"][rows, cols])
        return labels[None], labels != NODATA_CATEGORY

    def fingerprint(self) -> Mapping[str, Any]:
        """Where it is: what it was made from is in the job that made it."""
        return {"map": self.url}
