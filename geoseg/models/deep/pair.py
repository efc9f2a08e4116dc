"""An instance and a semantic model as one panoptic model: things on top, stuff where none is.

Fusion: Kirillov et al., "Panoptic Segmentation" (CVPR 2019): things in the order of their
scores, as the instance model lays them down, then stuff that covers enough of the tile.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from geoseg.errors import ModelError
from geoseg.legend import NODATA_CATEGORY, Category, Legend
from geoseg.models.segmenter import (
    InstanceTile,
    Join,
    LabelTile,
    ModelCard,
    Runtime,
    Segmenter,
    SemanticTile,
    TileResult,
)
from geoseg.radiometry import score_level
from geoseg.stitch.panoptic import Fusion, fuse

if TYPE_CHECKING:
    from geoseg.scene.reader import Scene

__all__ = ["PanopticPair", "pair_up"]

MOST_CATEGORIES = NODATA_CATEGORY


@dataclass(frozen=True)
class PanopticPair:
    """Things of one model, stuff of another; each sees its own bands, scaled its own way.

    Attributes:
        card: of both; its legend is that of ``stuff`` and the things.
        things, stuff: the models, both of them pinnable networks.
        ids: category_id of things in the card's legend, by that in their own (256,).
        join: how its tiles become one map.
    """

    card: ModelCard
    things: Any
    stuff: Any
    ids: tuple[int, ...]
    join: Join | None = None

    def with_parameters(self, **parameters: Any) -> PanopticPair:
        """``min_stuff_px`` is the fusion's; all others are those of the instance model."""
        area = parameters.pop("min_stuff_px", self.card.parameters["min_stuff_px"])
        if isinstance(area, bool) or not isinstance(area, int) or area < 0:
            raise ModelError(f"{self.card.name}: min_stuff_px={area!r}: use a number of pixels")
        things = self.things.with_parameters(**parameters) if parameters else self.things
        own = {"min_stuff_px": area, "things": dict(things.card.parameters)}
        merged = dict(self.card.parameters) | own
        return replace(self, things=things, card=replace(self.card, parameters=merged))

    def for_scene(self, scene: Scene) -> tuple[PanopticPair, list[str]]:
        """Both adapted to the scene; raises ModelError."""
        things, said = self.things.for_scene(scene)
        stuff, also = self.stuff.for_scene(scene)
        return replace(self, things=things, stuff=stuff), list(dict.fromkeys([*said, *also]))

    def pinned(self, runtime: Runtime) -> tuple[PanopticPair, Runtime]:
        """Both on the runtime that the instance model chooses."""
        things, chosen = self.things.pinned(runtime)
        return replace(self, things=things, stuff=self.stuff.pinned(chosen)[0]), chosen

    def predict(self, pixels: NDArray[Any], valid: NDArray[np.bool_]) -> list[TileResult]:
        """An InstanceTile for each of (tile, band, row, col); see Segmenter."""
        limits = Fusion(min_stuff_px=self.card.parameters["min_stuff_px"])
        ids = np.array(self.ids, np.uint8)
        out: list[TileResult] = []
        found = self._of(self.things, pixels, valid)
        around = self._of(self.stuff, pixels, valid)
        for things, stuff in zip(found, around, strict=True):
            known = InstanceTile(things.instance_id, ids[things.category_id], things.score)
            out.append(fuse(known, self._labels(stuff), self.card.legend, limits))
        return out

    def _of(self, model: Any, pixels: NDArray[Any], valid: NDArray[np.bool_]) -> list[Any]:
        index = [self.card.bands.index(band) for band in model.card.bands]
        results: list[Any] = model.predict(pixels[:, index] if index else pixels, valid)
        return results

    def _labels(self, result: LabelTile | SemanticTile) -> LabelTile:
        if isinstance(result, LabelTile):
            return result
        ids = np.array([category.id for category in self.stuff.card.legend], np.uint8)
        return LabelTile(ids[result.probs.argmax(0)], score_level(result.probs.max(0)))


def pair_up(members: Sequence[Any], parameters: Mapping[str, Any] | None = None) -> PanopticPair:
    """One instance and one semantic model as a panoptic one. Raises ModelError where they
    can't be: other tasks, methods that look at the whole scene, resolutions that don't meet.
    """
    names = " + ".join(member.card.name for member in members)
    things = [member for member in members if member.card.task == "instance"]
    stuff = [member for member in members if member.card.task == "semantic"]
    if len(things) != 1 or len(stuff) != 1:
        tasks = ", ".join(f"{member.card.name} is {member.card.task}" for member in members)
        raise ModelError(
            f"{names}: {tasks}: semantic models are averaged, one instance and one semantic "
            "model are fused"
        )
    for member in members:
        if not (isinstance(member, Segmenter) and hasattr(member, "pinned")) or member.join:
            raise ModelError(f"{member.card.name}: only networks can be fused")
    legend, ids = _merged(things[0].card.legend, stuff[0].card.legend, names)
    made = PanopticPair(
        _card(things[0].card, stuff[0].card, legend), things[0], stuff[0], tuple(ids)
    )
    return made.with_parameters(**parameters) if parameters else made


def _merged(things: Legend, stuff: Legend, names: str) -> tuple[Legend, list[int]]:
    """The stuff's legend with the things in it, and the id there of each id of the things. A
    category of one name on both sides is a thing; ids that are taken are replaced.
    """
    ids = [NODATA_CATEGORY] * 256
    known = {category.id: category for category in stuff}
    by_name = {category.name: category.id for category in stuff}
    for category in things:
        number = by_name.get(category.name, category.id)
        if number in known and category.name not in by_name:
            number = next(k for k in range(MOST_CATEGORIES + 1) if k not in known)
        if number >= NODATA_CATEGORY:
            raise ModelError(f"{names}: more than {MOST_CATEGORIES} categories together")
        ids[category.id] = number
        known[number] = Category(number, category.name, category.colour, isthing=True)
    if all(category.isthing for category in known.values()):
        raise ModelError(f"{names}: every category of the semantic model is a thing of the other")
    return Legend(tuple(known.values())), ids


def _card(things: ModelCard, stuff: ModelCard, legend: Legend) -> ModelCard:
    ranges = [card.gsd_m for card in (things, stuff) if card.gsd_m is not None]
    gsd_m = (max(r[0] for r in ranges), min(r[1] for r in ranges)) if ranges else None
    if gsd_m is not None and gsd_m[0] > gsd_m[1]:
        said = " and ".join(
            f"{card.name} is for {card.gsd_m[0]:g} to {card.gsd_m[1]:g} m"
            for card in (things, stuff)
            if card.gsd_m is not None
        )
        raise ModelError(f"{said}: no scene fits both")
    divisor = math.lcm(things.divisor, stuff.divisor)
    return replace(
        things,
        name=f"{things.name}+{stuff.name}",
        task="panoptic",
        legend=legend,
        bands=tuple(dict.fromkeys((*things.bands, *stuff.bands))),
        gsd_m=gsd_m,
        divisor=divisor,
        halo=_up(max(things.halo, stuff.halo), divisor),
        tile_size=_up(max(things.tile_size, stuff.tile_size), divisor),
        activation_px=max(things.activation_px, stuff.activation_px),
        work_px=things.work_px + stuff.work_px,
        runtimes=tuple(r for r in things.runtimes if r in stuff.runtimes),
        parameters={
            "things": dict(things.parameters),
            "stuff": dict(stuff.parameters),
            "min_stuff_px": 0,
        },
        layers=(),
        summary=f"things of {things.name}, stuff of {stuff.name}",
        accuracy="",
        training_data="; ".join(filter(None, (things.training_data, stuff.training_data))),
        licence="; ".join(dict.fromkeys(filter(None, (things.licence, stuff.licence)))),
        sha256=hashlib.sha256(f"{things.sha256}{stuff.sha256}".encode()).hexdigest(),
    )


def _up(value: int, step: int) -> int:
    return -(-value // step) * step
