"""OneShotSegmenter: things out of one dense pass, by parcels or by centres."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from geoseg.errors import ModelError
from geoseg.legend import NODATA_CATEGORY, Legend
from geoseg.models.deep.backends import forward_of
from geoseg.models.deep.centers import CenterRule, Channels, decode_centers, split
from geoseg.models.deep.inputs import to_inputs
from geoseg.models.deep.network import BundleNetwork, ModuleNetwork, Network
from geoseg.models.deep.parcels import ParcelRule, decode_parcels
from geoseg.models.deep.runtime import choose
from geoseg.models.deep.symmetry import SYMMETRIES, apply, undo
from geoseg.models.fit import fit_scene
from geoseg.models.segmenter import InstanceTile, Join, ModelCard, Runtime, TileResult
from geoseg.radiometry import score_level

if TYPE_CHECKING:
    from geoseg.models.deep.bundle import Bundle
    from geoseg.scene.reader import Scene

__all__ = [
    "OneShotSegmenter",
    "centers_tile",
    "load_oneshot",
    "mean_outputs",
    "parcels_tile",
    "rule_of",
]

NO_SCORE = 255
Decoder = Literal["parcels", "centers"]
Rule = TypeVar("Rule")

_FP32 = Runtime(device="cpu", backend="torch", precision="fp32", threads=1, batch=1)


@dataclass(frozen=True)
class OneShotSegmenter:
    """A network whose dense outputs hold the things, and its card.

    Attributes:
        card: its ``parameters`` are the fields of ParcelRule or CenterRule.
        network: where its weights come from.
        decoder: what its outputs are.
        runtime: where it runs; every choice is made by ``pinned``.
        join: how its tiles become one map.
    """

    card: ModelCard
    network: Network
    decoder: Decoder
    runtime: Runtime = _FP32
    join: Join | None = None

    @classmethod
    def from_module(cls, module: nn.Module, card: ModelCard, decoder: Decoder) -> OneShotSegmenter:
        """A module of your own: (tile, band, row, col) float32 to (tile, output, row, col)."""
        network = ModuleNetwork.of(module)
        return cls(replace(card, sha256=card.sha256 or network.key), network, decoder)

    def with_parameters(self, **parameters: Any) -> OneShotSegmenter:
        """Other parameters of the card; raises ModelError on what is unknown."""
        merged = dict(self.card.parameters) | parameters
        changed = replace(self, card=replace(self.card, parameters=merged))
        changed._rule()
        return changed

    def for_scene(self, scene: Scene) -> tuple[OneShotSegmenter, list[str]]:
        """Adapted to the scene's bands, scale and offset; raises ModelError."""
        self._rule()
        fit = fit_scene(self.card, scene)
        card = replace(self.card, normalization=fit.compose(self.card.normalization))
        return replace(self, card=card), list(fit.warnings)

    def pinned(self, runtime: Runtime) -> tuple[OneShotSegmenter, Runtime]:
        """On a runtime, every choice made; raises ModelError where it can't be had here."""
        chosen = choose(self.card, runtime, self.network.backends)
        return replace(self, runtime=chosen), chosen

    def predict(self, pixels: NDArray[Any], valid: NDArray[np.bool_]) -> list[TileResult]:
        """An InstanceTile for each of (tile, band, row, col); see Segmenter."""
        rule = self._rule()
        with torch.inference_mode():
            x = to_inputs(pixels, valid, self.card.normalization, self.runtime.device)
            forward = forward_of(self.network, self.runtime, tuple(x.shape))
            if isinstance(rule, ParcelRule):
                probs = mean_outputs(forward, x, rule.symmetries).cpu().numpy()
                return [
                    parcels_tile(*tile, self.card.legend, rule)
                    for tile in zip(probs, valid, strict=True)
                ]
            return self._by_centers(forward(x).float(), valid, rule)

    def _by_centers(
        self, out: Tensor, valid: NDArray[np.bool_], rule: CenterRule
    ) -> list[TileResult]:
        channels = Channels.of(self.card.legend)
        if out.shape[1] != len(channels) + 3:
            raise ModelError(
                f"{self.card.name}: its network gives {out.shape[1]} outputs, its legend asks for "
                f"{len(channels)} channels and 3"
            )
        return [
            centers_tile(tile, mask, channels, rule)
            for tile, mask in zip(out.split(1), valid, strict=True)
        ]

    def _rule(self) -> ParcelRule | CenterRule:
        if self.decoder == "parcels":
            rule = rule_of(ParcelRule, self.card)
            if rule.symmetries not in (1, 2, 4, 8):
                raise ModelError(
                    f"{self.card.name}: symmetries {rule.symmetries}: use 1, 2, 4 or 8"
                )
            return rule
        return rule_of(CenterRule, self.card)


def load_oneshot(bundle: Bundle) -> OneShotSegmenter:
    """The model of an opened bundle."""
    decoder: Decoder = "parcels" if bundle.architecture.name == "parcels" else "centers"
    network = BundleNetwork(bundle.path.resolve(), bundle.card.sha256)
    return OneShotSegmenter(bundle.card, network, decoder)


def rule_of(kind: type[Rule], card: ModelCard) -> Rule:
    """The card's parameters as a rule; raises ModelError on names or values that it has not."""
    known: Mapping[str, Any] = {f.name: f.default for f in fields(kind)}  # type: ignore[arg-type]
    unknown = sorted(set(card.parameters) - set(known))
    if unknown:
        raise ModelError(f"{card.name}: no parameter {unknown[0]!r}: it has {', '.join(known)}")
    for name, value in card.parameters.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
            raise ModelError(f"{card.name}: {name}={value!r}: use a number of at least 0")
    whole = {n: int(v) if isinstance(known[n], int) else v for n, v in card.parameters.items()}
    return kind(**whole)


def mean_outputs(forward: Callable[[Tensor], Tensor], x: Tensor, symmetries: int) -> Tensor:
    """Extent, boundary and distance (tile, 3, row, col), 0 to 1: the mean over symmetries, in
    fixed order. Tiles (tile, band, row, col) are square where more than four are asked for.
    """
    names = SYMMETRIES[:symmetries]
    turned = [undo(forward(apply(x, name).contiguous()).float(), name) for name in names]
    return torch.stack(turned).sigmoid().mean(0)


def parcels_tile(
    probs: NDArray[np.float32], valid: NDArray[np.bool_], legend: Legend, rule: ParcelRule
) -> InstanceTile:
    """Parcels of the legend's first thing category; where it has stuff, the first of it
    elsewhere. Scores are the extent's probability, of stuff its complement.
    """
    ids = decode_parcels(probs, valid, rule)
    thing = next(c.id for c in legend if c.isthing)
    stuff = next((c.id for c in legend if not c.isthing), NODATA_CATEGORY)
    category = np.where(ids > 0, thing, stuff).astype(np.uint8)
    category[~valid] = NODATA_CATEGORY
    score = score_level(np.where(ids > 0, probs[0], 1 - probs[0]))
    score[category == NODATA_CATEGORY] = NO_SCORE
    return InstanceTile(ids, category, score)


def centers_tile(
    out: Tensor, valid: NDArray[np.bool_], channels: Channels, rule: CenterRule
) -> InstanceTile:
    """One tile's raw outputs (1, channel + 3, row, col), decoded."""
    named = split(out)
    probs = named.semantic.softmax(1)[0].cpu().numpy()
    heat, offset = named.center[0].sigmoid().cpu().numpy(), named.offset[0].cpu().numpy()
    return decode_centers(probs, heat, offset, valid, channels, rule)
