"""DetectionSegmenter: things found as boxes or queries with masks, laid down by score."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from geoseg.errors import ModelError
from geoseg.legend import NODATA_CATEGORY, Legend
from geoseg.models.deep.inputs import to_inputs
from geoseg.models.deep.instance import Detections, detect
from geoseg.models.deep.network import BundleNetwork, ModuleNetwork, Network
from geoseg.models.deep.oneshot import rule_of
from geoseg.models.deep.runtime import choose, configure, dtype_of
from geoseg.models.fit import fit_scene
from geoseg.models.segmenter import InstanceTile, Join, LabelTile, ModelCard, Runtime, TileResult
from geoseg.radiometry import score_level
from geoseg.stitch.panoptic import Fusion, Masks, flatten_masks, fuse, nms

if TYPE_CHECKING:
    from geoseg.models.deep.bundle import Bundle
    from geoseg.scene.reader import Scene

__all__ = [
    "DetectionRule",
    "DetectionSegmenter",
    "Masks",
    "lay_down",
    "load_detector",
    "masked",
    "masks_from_heads",
    "paste",
    "suppress",
]

Kind = Literal["mask_rcnn", "panoptic_fpn", "mask2former", "maskformer"]
_FP32 = Runtime(device="cpu", backend="torch", precision="fp32", threads=1, batch=1)


@dataclass(frozen=True, kw_only=True)
class DetectionRule:
    """How objects become labels.

    Attributes:
        min_score: objects below are left out.
        min_free: an object is left out unless more than this share of it is still free.
        min_stuff_px: stuff below in a tile is left out. 0: which stuff is too small is better
            said of the whole map (``--min-area``) than of a tile.
        mask: probability from which a pixel belongs to a mask.
        iou: boxes of one category that overlap more are one object.
    """

    min_score: float = 0.5
    min_free: float = 0.5
    min_stuff_px: int = 0
    mask: float = 0.5
    iou: float = 0.5

    @property
    def fusion(self) -> Fusion:
        """The part that laying down needs."""
        return Fusion(
            min_score=self.min_score, min_free=self.min_free, min_stuff_px=self.min_stuff_px
        )


def paste(
    probs: NDArray[np.float32], box: NDArray[np.floating[Any]], threshold: float
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """A head's small mask (side, side) at the size of its box (x0, y0, x1, y1).

    Gives the box in whole pixels (row, col, row end, col end) and the mask in it: torchvision's
    way of a border of one cell around the mask and bilinear interpolation.
    """
    side = probs.shape[-1]
    padded = functional.pad(torch.as_tensor(probs)[None, None], (1, 1, 1, 1))
    half = np.array([box[2] - box[0], box[3] - box[1]]) * 0.5 * (side + 2) / side
    middle = np.array([box[0] + box[2], box[1] + box[3]]) * 0.5
    x0, y0 = np.trunc(middle - half).astype(np.int64)
    x1, y1 = np.trunc(middle + half).astype(np.int64)
    size = (max(int(y1 - y0) + 1, 1), max(int(x1 - x0) + 1, 1))
    large = functional.interpolate(padded, size=size, mode="bilinear", align_corners=False)[0, 0]
    return np.array([y0, x0, y0 + size[0], x0 + size[1]]), (large > threshold).numpy()


def suppress(
    boxes: NDArray[Any], scores: NDArray[Any], label: NDArray[Any], iou: float
) -> NDArray[np.int64]:
    """Indices of the boxes kept, best first: greedy, within each label, near linear time."""
    return nms(boxes, scores, iou, label)


def lay_down(masks: Masks, shape: tuple[int, int], rule: DetectionRule) -> InstanceTile:
    """Masks that may overlap as one label per pixel, the highest score on top."""
    return flatten_masks(masks, shape, rule.fusion)


def masks_from_heads(found: Detections, things: tuple[int, ...], rule: DetectionRule) -> Masks:
    """Mask R-CNN's detections of a tile as masks in their boxes; ``things``: category ids."""
    scores = found["scores"].float().cpu().numpy()
    order = np.flatnonzero(scores >= rule.min_score)
    boxes = found["boxes"].float().cpu().numpy()[order]
    probs = found["masks"].float().cpu().numpy()[order, 0]
    pasted = [paste(p, box, rule.mask) for p, box in zip(probs, boxes, strict=True)]
    labels = found["labels"].cpu().numpy()[order]
    return Masks(
        scores=scores[order],
        category_id=np.asarray(things, np.uint8)[labels - 1],
        boxes=np.array([box for box, _ in pasted], np.int64).reshape(-1, 4),
        masks=[mask for _, mask in pasted],
    )


@dataclass(frozen=True)
class DetectionSegmenter:
    """A network that gives objects one by one, and its card.

    Attributes:
        card: its ``parameters`` are the fields of DetectionRule.
        network: where its weights come from.
        kind: what its outputs are.
        runtime: where it runs; every choice is made by ``pinned``.
        join: how its tiles become one map.
    """

    card: ModelCard
    network: Network
    kind: Kind
    runtime: Runtime = _FP32
    join: Join | None = None

    @classmethod
    def from_module(cls, module: nn.Module, card: ModelCard, kind: Kind) -> DetectionSegmenter:
        """A module in memory."""
        network = ModuleNetwork.of(module)
        return cls(replace(card, sha256=card.sha256 or network.key), network, kind)

    def with_parameters(self, **parameters: Any) -> DetectionSegmenter:
        """Other parameters of the card; raises ModelError on what is unknown."""
        merged = dict(self.card.parameters) | parameters
        changed = replace(self, card=replace(self.card, parameters=merged))
        rule_of(DetectionRule, changed.card)
        return changed

    def for_scene(self, scene: Scene) -> tuple[DetectionSegmenter, list[str]]:
        """Adapted to the scene's bands, scale and offset; raises ModelError."""
        rule_of(DetectionRule, self.card)
        fit = fit_scene(self.card, scene)
        card = replace(self.card, normalization=fit.compose(self.card.normalization))
        return replace(self, card=card), list(fit.warnings)

    def pinned(self, runtime: Runtime) -> tuple[DetectionSegmenter, Runtime]:
        """On a runtime, every choice made. Torch alone runs these networks."""
        chosen = choose(self.card, runtime, ("torch",))
        return replace(self, runtime=chosen), chosen

    def predict(self, pixels: NDArray[Any], valid: NDArray[np.bool_]) -> list[TileResult]:
        """An InstanceTile for each of (tile, band, row, col); see Segmenter."""
        rule = rule_of(DetectionRule, self.card)
        configure(threads=self.runtime.threads, device=self.runtime.device)
        # a Network is hashable by its key
        module = _ready(self.network, self.runtime.device, self.runtime.precision)  # type: ignore[arg-type]
        with torch.inference_mode():
            x = to_inputs(pixels, valid, self.card.normalization, self.runtime.device)
            x = x.to(dtype_of(self.runtime.precision)).contiguous()
            tiles = read_objects(module, self.kind, x, self.card.legend, rule)
        return [masked(tile, mask) for tile, mask in zip(tiles, valid, strict=True)]


@lru_cache(maxsize=4)
def _ready(network: Network, device: str, precision: str) -> nn.Module:
    """The module on its device, once per process."""
    return network.load().to(device=device, dtype=dtype_of(precision))


def read_objects(
    module: nn.Module, kind: Kind, x: Tensor, legend: Legend, rule: DetectionRule
) -> list[InstanceTile]:
    """Normalized inputs (tile, band, row, col) to labels, not yet masked by valid."""
    shape = (x.shape[-2], x.shape[-1])
    things = tuple(c.id for c in legend if c.isthing)
    if kind in ("mask2former", "maskformer"):
        from geoseg.models.deep.transformer import query_tiles

        return query_tiles(module, x, legend, rule)
    if kind == "mask_rcnn":
        found = detect(module, list(x)).detections
        return [lay_down(masks_from_heads(one, things, rule), shape, rule) for one in found]
    detections, logits = module(list(x))
    return [
        fuse(
            lay_down(masks_from_heads(one, things, rule), shape, rule),
            stuff_labels(semantic, legend),
            legend,
            rule.fusion,
        )
        for one, semantic in zip(detections, logits.float(), strict=True)
    ]


def stuff_labels(logits: Tensor, legend: Legend) -> LabelTile:
    """Panoptic FPN's semantic branch (1 + stuff, row, col): the best stuff of every pixel.

    Its first channel, all things together, only matters in training: a pixel that no object
    claims is stuff.
    """
    ids = np.array([c.id for c in legend if not c.isthing], np.uint8)
    if logits.shape[0] != len(ids) + 1:
        raise ModelError(
            f"the semantic branch gives {logits.shape[0]} channels; {len(ids)} of stuff and one "
            "for things are wanted"
        )
    probs = logits.softmax(0)[1:].cpu().numpy()
    best = probs.argmax(0)
    return LabelTile(ids[best], score_level(np.take_along_axis(probs, best[None], 0)[0]))


def masked(tile: InstanceTile, valid: NDArray[np.bool_]) -> InstanceTile:
    """Nothing where pixels are not valid."""
    return InstanceTile(
        np.where(valid, tile.instance_id, 0).astype(np.int32),
        np.where(valid, tile.category_id, NODATA_CATEGORY).astype(np.uint8),
        np.where(valid, tile.score, 255).astype(np.uint8),
    )


def load_detector(bundle: Bundle) -> DetectionSegmenter:
    """The model of an opened bundle."""
    kind: Any = bundle.architecture.name
    network = BundleNetwork(bundle.path.resolve(), bundle.card.sha256, ("torch",))
    return DetectionSegmenter(bundle.card, network, kind)
