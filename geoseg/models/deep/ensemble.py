"""Several semantic models as one: their probabilities are averaged, in order."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from geoseg.errors import ModelError
from geoseg.models.deep.inputs import to_inputs
from geoseg.models.deep.semantic import read_labels, to_tiles
from geoseg.models.segmenter import (
    Fittable,
    ModelCard,
    Runtime,
    Segmenter,
    SemanticTile,
    TileResult,
)

if TYPE_CHECKING:
    from geoseg.scene.reader import Scene

__all__ = ["Ensemble", "ensemble"]


@dataclass(frozen=True)
class Ensemble:
    """Models of one legend; each sees its own bands, scaled its own way."""

    card: ModelCard
    members: tuple[Any, ...]
    with_probs: bool = False
    join: None = None

    def for_scene(self, scene: Scene) -> tuple[Ensemble, list[str]]:
        """Each member adapted to the scene; raises ModelError."""
        adapted = [member.for_scene(scene) for member in self.members]
        warnings = list(dict.fromkeys(text for _, said in adapted for text in said))
        return replace(self, members=tuple(member for member, _ in adapted)), warnings

    def pinned(self, runtime: Runtime) -> tuple[Ensemble, Runtime]:
        """All members on the runtime that the first one chooses."""
        _, chosen = self.members[0].pinned(runtime)
        members = tuple(member.pinned(chosen)[0] for member in self.members)
        return replace(self, members=members), chosen

    def probabilities(self, pixels: NDArray[Any], valid: NDArray[np.bool_]) -> Tensor:
        """(tile, class, row, col) float32: the members' mean."""
        total: Tensor | None = None
        for member in self.members:
            index = [self.card.bands.index(band) for band in member.card.bands]
            own = pixels[:, index] if index else pixels
            x = to_inputs(own, valid, member.card.normalization, member.runtime.device)
            probs = member.probabilities_of(x)
            total = probs if total is None else total + probs
        assert total is not None
        return total / len(self.members)

    def predict(self, pixels: NDArray[Any], valid: NDArray[np.bool_]) -> list[TileResult]:
        """Labels and scores of (tile, band, row, col); see Segmenter."""
        with torch.inference_mode():
            probs = self.probabilities(pixels, valid)
            if self.with_probs:
                return [SemanticTile(tile) for tile in probs.contiguous().cpu().numpy()]
            layers = read_labels(probs, self.card).cpu().numpy()
        return to_tiles(layers, self.card)


def ensemble(members: Sequence[Segmenter | Fittable]) -> Ensemble:
    """The mean of several semantic models. Raises ModelError where legends differ."""
    cards = [member.card for member in members]
    first = cards[0]
    for member in members:
        if not hasattr(member, "probabilities_of") and not hasattr(member, "network"):
            raise ModelError(f"{member.card.name}: only semantic networks can be averaged")
        names = [category.name for category in member.card.legend]
        if names != [category.name for category in first.legend]:
            raise ModelError(
                f"{first.name} and {member.card.name} have different classes: "
                f"{', '.join(c.name for c in first.legend)} and {', '.join(names)}"
            )
    bands = tuple(dict.fromkeys(band for card in cards for band in card.bands))
    divisor = math.lcm(*(card.divisor for card in cards))
    ranges = [card.gsd_m for card in cards if card.gsd_m is not None]
    digest = hashlib.sha256("".join(card.sha256 for card in cards).encode())
    card = replace(
        first,
        name="+".join(card.name for card in cards),
        bands=bands,
        divisor=divisor,
        halo=_up(max(card.halo for card in cards), divisor),
        tile_size=_up(max(card.tile_size for card in cards), divisor),
        activation_px=max(card.activation_px for card in cards),
        gsd_m=(max(r[0] for r in ranges), min(r[1] for r in ranges)) if ranges else None,
        runtimes=tuple(r for r in first.runtimes if all(r in c.runtimes for c in cards)),
        summary=f"the mean of {len(cards)} models",
        sha256=digest.hexdigest(),
    )
    return Ensemble(card, tuple(members))


def _up(value: int, step: int) -> int:
    return -(-value // step) * step
