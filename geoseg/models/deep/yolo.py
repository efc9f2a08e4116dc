"""Instance networks in ONNX files with the outputs of YOLOv8-seg and YOLO11-seg.

Two outputs: ``(tile, 4 + classes + masks, anchor)``, per anchor a box (centre x, centre y,
width, height in pixels of the input), a probability per class and the coefficients of its
mask; and ``(tile, masks, row / 4, col / 4)``, the prototypes. A mask is the sigmoid of the
prototypes weighted by the coefficients, cut to its box (Bolya et al., "YOLACT", ICCV 2019).
Exports that end in their own suppression (one row per object) are refused.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from geoseg.errors import ModelError
from geoseg.legend import Category, Legend
from geoseg.models.deep.detections import DetectionRule, Masks, lay_down, masked, suppress
from geoseg.models.deep.foreign import plain_legend
from geoseg.models.deep.inputs import to_inputs
from geoseg.models.deep.network import OnnxNetwork
from geoseg.models.deep.oneshot import rule_of
from geoseg.models.deep.runtime import choose
from geoseg.models.fit import fit_scene
from geoseg.models.segmenter import InstanceTile, Join, ModelCard, Runtime, TileResult
from geoseg.radiometry import Normalization

if TYPE_CHECKING:
    from geoseg.scene.reader import Scene

__all__ = ["YoloOutput", "YoloSegmenter", "decode_yolo", "is_yolo", "yolo_card"]

Shape = list[int | None]
_FP32 = Runtime(device="cpu", backend="onnxruntime", precision="fp32", threads=1, batch=1)


@dataclass(frozen=True)
class YoloOutput:
    """Of one tile: ``rows`` (4 + classes + masks, anchor) and ``prototypes`` (mask, row, col)."""

    rows: NDArray[np.float32]
    prototypes: NDArray[np.float32]


def is_yolo(outputs: list[Shape]) -> bool:
    """Whether these shapes of a file's outputs are this layout's."""
    return len(outputs) == 2 and len(outputs[0]) == 3 and len(outputs[1]) == 4


def yolo_card(
    path: Path, metadata: Mapping[str, str], shapes: tuple[Shape, Shape, Shape], sha256: str
) -> ModelCard:
    """The card that a file's metadata and the shapes of its input and outputs give.

    Names of classes are read from ``names`` as such exports write them. Raises ModelError
    where the outputs are not of this layout.
    """
    (_, bands, rows, cols), (_, length, anchors), (_, masks, *_) = shapes
    if None in (bands, length, masks):
        raise ModelError(f"{path}: its bands and outputs have no fixed size: {shapes}")
    assert bands is not None and length is not None and masks is not None
    classes = length - 4 - masks
    if classes < 1 or (anchors is not None and anchors < length):
        raise ModelError(
            f"{path}: its first output is (tile, {length}, {anchors}); (tile, 4 + classes + "
            f"{masks}, anchors) is wanted: export it without suppression (nms=False)"
        )
    if rows != cols:
        raise ModelError(f"{path}: its input is {rows} x {cols} px: tiles are square")
    names = _names(path, metadata.get("names", "{}"))
    rgb = ("red", "green", "blue")
    size = rows or 640
    return ModelCard(
        name=path.stem,
        task="instance",
        bands=rgb if bands == 3 else tuple(f"band_{i + 1}" for i in range(bands)),
        legend=_things(plain_legend(classes, names)),
        normalization=Normalization(scale=(1 / 255,)),
        value_range=(0.0, 255.0),
        tile_size=size,
        halo=size // 8 // 32 * 32 or 32,
        divisor=32,
        runtimes=("onnxruntime-fp32",),
        parameters={"min_score": 0.25, "iou": 0.7},
        summary="instance network in an ONNX file, YOLO-seg outputs; scaling 0 to 1 is assumed",
        sha256=sha256,
    )


def _names(path: Path, text: str) -> dict[int, str]:
    try:
        found = ast.literal_eval(text)
        return {int(k): str(v) for k, v in dict(found).items()}
    except (ValueError, SyntaxError, TypeError) as error:
        raise ModelError(f"{path}: its names of classes can't be read: {text[:80]}") from error


def _things(legend: Legend) -> Legend:
    return Legend(tuple(Category(c.id, c.name, c.colour, True) for c in legend), legend.name)


def decode_yolo(
    output: YoloOutput, shape: tuple[int, int], legend: Legend, rule: DetectionRule
) -> InstanceTile:
    """One tile's objects as labels, the highest score on top."""
    masks = len(output.prototypes)
    probs = output.rows[4 : len(output.rows) - masks]
    scores, label = probs.max(0), probs.argmax(0)
    sure = np.flatnonzero(scores >= rule.min_score)
    x, y, width, height = output.rows[:4, sure]
    boxes = np.stack([x - width / 2, y - height / 2, x + width / 2, y + height / 2], 1)
    kept = suppress(boxes, scores[sure], label[sure], rule.iou)
    coefficients = output.rows[len(output.rows) - masks :, sure[kept]].T
    places, cut = _cut_masks(coefficients, output.prototypes, boxes[kept], shape, rule.mask)
    ids = np.array([c.id for c in legend], np.uint8)
    found = Masks(
        scores=scores[sure][kept].astype(np.float32),
        category_id=ids[label[sure][kept]],
        boxes=places,
        masks=cut,
    )
    return lay_down(found, shape, rule)


def _cut_masks(
    coefficients: NDArray[np.float32],
    prototypes: NDArray[np.float32],
    boxes: NDArray[np.float32],
    shape: tuple[int, int],
    threshold: float,
) -> tuple[NDArray[np.int64], list[NDArray[np.bool_]]]:
    """Whole-pixel boxes (row, col, row end, col end) and the masks in them."""
    level = float(np.log(threshold / (1 - threshold)))
    rows, cols = shape
    low = np.floor(boxes[:, [1, 0]] + 0.5).astype(np.int64).clip(0, [rows, cols])
    high = np.floor(boxes[:, [3, 2]] + 0.5).astype(np.int64).clip(0, [rows, cols])
    flat = torch.as_tensor(prototypes).reshape(len(prototypes), -1)
    cut = []
    for weights, (top, left), (bottom, right) in zip(coefficients, low, high, strict=True):
        logits = (torch.as_tensor(weights) @ flat).reshape(1, 1, *prototypes.shape[1:])
        large = functional.interpolate(logits, size=shape, mode="bilinear", align_corners=False)
        cut.append((large[0, 0, top:bottom, left:right] > level).numpy())
    return np.concatenate([low, high], 1).reshape(-1, 4), cut


@dataclass(frozen=True)
class YoloSegmenter:
    """An ONNX file of this layout and its card, whose parameters are DetectionRule's fields."""

    card: ModelCard
    network: OnnxNetwork
    runtime: Runtime = _FP32
    join: Join | None = None

    def with_parameters(self, **parameters: Any) -> YoloSegmenter:
        """Other parameters of the card; raises ModelError on what is unknown."""
        merged = dict(self.card.parameters) | parameters
        changed = replace(self, card=replace(self.card, parameters=merged))
        rule_of(DetectionRule, changed.card)
        return changed

    def for_scene(self, scene: Scene) -> tuple[YoloSegmenter, list[str]]:
        """Adapted to the scene's bands, scale and offset; raises ModelError."""
        fit = fit_scene(self.card, scene)
        card = replace(self.card, normalization=fit.compose(self.card.normalization))
        return replace(self, card=card), list(fit.warnings)

    def pinned(self, runtime: Runtime) -> tuple[YoloSegmenter, Runtime]:
        """On a runtime, every choice made; ONNX Runtime alone runs these files."""
        chosen = choose(self.card, runtime, ("onnxruntime",))
        return replace(self, runtime=chosen), chosen

    def predict(self, pixels: NDArray[Any], valid: NDArray[np.bool_]) -> list[TileResult]:
        """An InstanceTile for each of (tile, band, row, col); see Segmenter."""
        rule = rule_of(DetectionRule, self.card)
        shape = pixels.shape[-2], pixels.shape[-1]
        x = to_inputs(pixels, valid, self.card.normalization, "cpu").contiguous().numpy()
        session, fixed = _session(self.network.path, self.network.key, self.runtime.threads or 1)
        name, step = session.get_inputs()[0].name, fixed or len(x)
        out: list[TileResult] = []
        for start in range(0, len(x), step):
            part = x[start : start + step]
            full = np.zeros((step, *part.shape[1:]), np.float32)
            full[: len(part)] = part  # a file with a fixed batch wants all of it
            rows, prototypes = session.run(None, {name: full if fixed else part})
            for k, mask in enumerate(valid[start : start + step]):
                found = decode_yolo(
                    YoloOutput(rows[k], prototypes[k]), shape, self.card.legend, rule
                )
                out.append(masked(found, mask))
        return out


@lru_cache(maxsize=4)
def _session(path: Path, key: str, threads: int) -> tuple[Any, int | None]:
    """(the session, its fixed batch or None), once per process; ``key`` tells files apart."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        path.read_bytes(), options, providers=["CPUExecutionProvider"]
    )
    batch = session.get_inputs()[0].shape[0]
    return session, batch if isinstance(batch, int) else None
