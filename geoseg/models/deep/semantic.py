"""SemanticSegmenter: any network that gives a class per pixel, as geoseg runs it.

On the device: normalize, forward, softmax, best class, score. Only uint8 labels and scores
leave it, unless probabilities are asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from geoseg.errors import ModelError
from geoseg.legend import Legend
from geoseg.models.deep.backends import Halving, forward_of
from geoseg.models.deep.inputs import to_inputs
from geoseg.models.deep.network import BundleNetwork, ModuleNetwork, Network
from geoseg.models.deep.runtime import choose
from geoseg.models.deep.symmetry import SYMMETRIES, apply, undo
from geoseg.models.fit import fit_scene
from geoseg.models.names import check_parameter_names
from geoseg.models.segmenter import LabelTile, ModelCard, Runtime, SemanticTile, TileResult

if TYPE_CHECKING:
    from geoseg.models.deep.bundle import Bundle
    from geoseg.scene.reader import Scene

__all__ = ["ScoreKind", "SemanticSegmenter", "read_labels", "score_of", "to_tiles"]

ScoreKind = Literal["confidence", "margin", "entropy"]
SCORES = ("confidence", "margin", "entropy")

_FP32 = Runtime(device="cpu", backend="torch", precision="fp32", threads=1, batch=1)


@dataclass(frozen=True)
class SemanticSegmenter:
    """A network and its card.

    Attributes:
        card: its ``parameters`` may hold ``temperature`` (logits are divided by it),
            ``symmetries`` (1, 2, 4 or 8 flips and turns are averaged), ``score`` (what the
            score layer holds), ``thresholds`` (least probability of a class, by name) and
            ``layers`` (of ``probs``, ``confidence``, ``margin``, ``entropy``: kept beside).
        network: where its weights come from.
        runtime: where it runs; every choice is made by ``pinned``.
        with_probs: give probabilities instead of labels.
        held: leave them on the device, for a join that adds them up there.
    """

    card: ModelCard
    network: Network
    runtime: Runtime = _FP32
    with_probs: bool = False
    held: bool = False
    join: None = None

    @classmethod
    def from_bundle(cls, bundle: Bundle) -> SemanticSegmenter:
        """The model of an opened bundle."""
        return cls(bundle.card, BundleNetwork(bundle.path.resolve(), bundle.card.sha256))

    @classmethod
    def from_module(cls, module: nn.Module, card: ModelCard) -> SemanticSegmenter:
        """A module of your own: (tile, band, row, col) float32 to logits, one per class."""
        network = ModuleNetwork.of(module)
        return cls(replace(card, sha256=card.sha256 or network.key), network)

    def with_parameters(self, **parameters: Any) -> SemanticSegmenter:
        """Other parameters of the card; ``legend`` names its classes (a name or a file), in the
        order of the network's. Raises ModelError on what they can't be.
        """
        if "legend" in parameters:
            return self._with_legend(str(parameters.pop("legend"))).with_parameters(**parameters)
        check_parameter_names(self.card, parameters)
        merged = dict(self.card.parameters) | parameters
        check_parameters(self.card, merged)
        card = replace(self.card, parameters=merged)
        return replace(self, card=replace(card, layers=layer_names(card)))

    def _with_legend(self, name: str) -> SemanticSegmenter:
        legend = Legend.open(name)
        if len(legend) != len(self.card.legend):
            raise ModelError(
                f"{self.card.name} gives {len(self.card.legend)} classes, legend {name} has "
                f"{len(legend)}: name the legend that it was trained on"
            )
        return replace(self, card=replace(self.card, legend=legend))

    def for_scene(self, scene: Scene) -> tuple[SemanticSegmenter, list[str]]:
        """Adapted to the scene's bands, scale and offset; raises ModelError."""
        check_parameters(self.card, self.card.parameters)
        fit = fit_scene(self.card, scene)
        card = replace(self.card, normalization=fit.compose(self.card.normalization))
        return replace(self, card=card), list(fit.warnings)

    def pinned(self, runtime: Runtime) -> tuple[SemanticSegmenter, Runtime]:
        """On a runtime, every choice made; raises ModelError where it can't be had here."""
        chosen = choose(self.card, runtime, self.network.backends)
        return replace(self, runtime=chosen), chosen

    def predict(self, pixels: NDArray[Any], valid: NDArray[np.bool_]) -> list[TileResult]:
        """Labels and scores, or probabilities, of (tile, band, row, col); see Segmenter."""
        with torch.inference_mode():
            x = to_inputs(pixels, valid, self.card.normalization, self.runtime.device)
            if self.with_probs:
                probs = self.probabilities_of(x).contiguous().cpu().numpy()
                return [SemanticTile(tile) for tile in probs]
            layers = self.labels_of(x).cpu().numpy()  # one download
        return to_tiles(layers, self.card)

    def predict_batches(
        self, batches: Iterable[tuple[NDArray[Any], NDArray[np.bool_]]]
    ) -> Iterator[list[TileResult]]:
        """``predict`` over a stream of batches, with copies and computing overlapped."""
        from geoseg.models.deep.overlap import predict_batches

        return predict_batches(self, batches)

    def probabilities_of(self, x: Tensor) -> Tensor:
        """Of normalized inputs on the device: the mean over the symmetries, in fixed order."""
        return self._in_parts(self._probabilities, x)

    def labels_of(self, x: Tensor) -> Tensor:
        """Labels, score levels and further layers of normalized inputs on the device: uint8
        (tile, layer, row, col).
        """
        return self._in_parts(lambda part: read_labels(self._probabilities(part), self.card), x)

    def _in_parts(self, step: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        """A step on a batch, or on its parts where memory is short for all that it needs."""
        forward = forward_of(self.network, self.runtime, tuple(x.shape))
        return Halving(step, forward.limit)(x) if isinstance(forward, Halving) else step(x)

    def _probabilities(self, x: Tensor) -> Tensor:
        forward = forward_of(self.network, self.runtime, tuple(x.shape))
        names = SYMMETRIES[: int(self.card.parameters.get("symmetries", 1))]
        total: Tensor | None = None
        for name in names:
            probs = undo(self._softmax(forward(apply(x, name))), name)
            total = probs if total is None else total + probs
        assert total is not None
        return total / len(names) if len(names) > 1 else total

    def _softmax(self, logits: Tensor) -> Tensor:
        temperature = float(self.card.parameters.get("temperature", 1.0))
        if temperature != 1.0:
            logits = logits / temperature
        classes = len(self.card.legend)
        if logits.shape[1] == classes:
            # some ONNX files end in a softmax of their own
            return logits if self.card.parameters.get("activated") else logits.softmax(1)
        if logits.shape[1] == 1 and classes == 2:
            positive = logits if self.card.parameters.get("activated") else logits.sigmoid()
            return torch.cat([1 - positive, positive], dim=1)
        raise ModelError(
            f"{self.card.name}: its network gives {logits.shape[1]} classes, its legend has "
            f"{classes}: {', '.join(category.name for category in self.card.legend)}"
        )

    def _inputs(self, pixels: NDArray[Any], valid: NDArray[np.bool_]) -> NDArray[np.float32]:
        """What the network sees, as an array."""
        seen: NDArray[np.float32] = (
            to_inputs(pixels, valid, self.card.normalization, "cpu").contiguous().numpy()
        )
        return seen


def check_parameters(card: ModelCard, parameters: Mapping[str, Any]) -> None:
    """Raises ModelError on a parameter that is out of range."""
    symmetries = parameters.get("symmetries", 1)
    if symmetries not in (1, 2, 4, 8):
        raise ModelError(f"{card.name}: symmetries {symmetries}: use 1, 2, 4 or 8")
    if parameters.get("score", "confidence") not in SCORES:
        raise ModelError(f"{card.name}: score {parameters['score']!r}: use {', '.join(SCORES)}")
    if not float(parameters.get("temperature", 1.0)) > 0:
        raise ModelError(f"{card.name}: temperature {parameters['temperature']}: more than 0")
    thresholds_of(replace(card, parameters=parameters))


def thresholds_of(card: ModelCard) -> tuple[float, ...]:
    """Least probability per class in the legend's order; empty where there are none."""
    given = card.parameters.get("thresholds") or {}
    for name in given:
        card.legend.by_name(name)
    if not given:
        return ()
    return tuple(float(given.get(category.name, 0.0)) for category in card.legend)


def read_labels(probs: Tensor, card: ModelCard) -> Tensor:
    """Category ids, score levels and the card's further layers, uint8 (tile, layer, row, col),
    on the device of ``probs`` (tile, class, row, col).
    """
    thresholds = thresholds_of(card)
    # one pass for both where the score is that of the best class: on a processor a second one
    # takes longer than the softmax
    confidence, best = probs.max(1)
    if thresholds:
        best = best_class(probs, thresholds)
    ids = (*(category.id for category in card.legend), 255)
    kinds = [card.parameters.get("score", "confidence"), *_layer_kinds(card)]
    out = [_ids_of(best, ids, has_none=bool(thresholds))]
    for kind in kinds:
        planes = probs.unbind(1) if kind == "probs" else [confidence]
        if kind not in ("probs", "confidence"):
            planes = [score_of(probs, kind)]
        out += [torch.floor(plane * 254 + 0.5).to(torch.uint8) for plane in planes]
    return torch.stack(out, 1)


def _ids_of(best: Tensor, ids: tuple[int, ...], *, has_none: bool) -> Tensor:
    """Category ids (uint8) of class indices; the last of ``ids`` stands for no class."""
    if not has_none and ids[:-1] == tuple(range(len(ids) - 1)):
        return best.to(torch.uint8)
    return _numbers(ids, torch.uint8, best.device)[best]


@lru_cache(maxsize=64)
def _numbers(values: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """A few numbers on a device, uploaded once: an upload makes the host wait for its stream."""
    with torch.inference_mode(False):
        return torch.tensor(values, dtype=dtype, device=device)


def to_tiles(layers: NDArray[np.uint8], card: ModelCard) -> list[TileResult]:
    """What ``read_labels`` gives (tile, layer, row, col), as one result per tile."""
    return [
        LabelTile(tile[0], tile[1], dict(zip(card.layers, tile[2:], strict=True)))
        for tile in layers
    ]


def _layer_kinds(card: ModelCard) -> list[str]:
    given = card.parameters.get("layers") or []
    return given.split(",") if isinstance(given, str) else list(given)


def layer_names(card: ModelCard) -> tuple[str, ...]:
    """Names of the layers that the card's parameters ask for: a class's is ``prob_ID``."""
    names: list[str] = []
    for kind in _layer_kinds(card):
        if kind not in (*SCORES, "probs"):
            raise ModelError(f"{card.name}: layer {kind!r}: use probs, {', '.join(SCORES)}")
        names += [f"prob_{c.id}" for c in card.legend] if kind == "probs" else [kind]
    return tuple(names)


def best_class(probs: Tensor, thresholds: tuple[float, ...] = ()) -> Tensor:
    """Index (tile, row, col) of the most probable class, ties to the first.

    With thresholds, of those that reach theirs; ``class count`` where none does.
    """
    if not thresholds:
        return probs.max(1).indices
    least = _numbers(thresholds, probs.dtype, probs.device)
    held = torch.where(probs >= least.view(1, -1, 1, 1), probs, -1.0)
    best, labels = held.max(1)
    return torch.where(best < 0, probs.shape[1], labels)


def score_of(probs: Tensor, kind: ScoreKind) -> Tensor:
    """(tile, row, col), 0 to 1. Confidence: the best probability. Margin: the best less the
    second. Entropy: of the distribution, as a share of the largest it can be.
    """
    if kind == "confidence":
        return probs.amax(1)
    if kind == "margin":
        first, second = probs.topk(2, dim=1).values.unbind(1)
        return first - second
    entropy = -(probs * probs.clamp_min(1e-12).log()).sum(1)
    return (entropy / float(np.log(probs.shape[1]))).clamp(0, 1)
