"""Mask2Former and MaskFormer through ``transformers`` (an extra), for any number of bands.

Sources: Cheng et al., "Masked-attention mask transformer for universal image segmentation",
CVPR 2022; Cheng et al., "Per-pixel classification is not all you need for semantic
segmentation", NeurIPS 2021. What is ours: pixels that no query claims go to the stuff that
the queries together give them (the papers' semantic inference), where there is any.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from geoseg.errors import ModelError
from geoseg.legend import NODATA_CATEGORY, Legend
from geoseg.models.deep.detections import DetectionRule, Masks, lay_down
from geoseg.models.segmenter import InstanceTile
from geoseg.radiometry import score_level

__all__ = ["build_queries", "decode_queries", "query_loss", "query_tiles"]

Options = Mapping[str, Any]


def build_queries(name: str, bands: int, classes: int, options: Options) -> nn.Module:
    """The network with random weights; raises ModelError without ``transformers``.

    ``options``: ``backbone`` (of transformers' SwinConfig: depths, embed_dim, num_heads,
    window_size), ``decoder`` (MaskFormer's DetrConfig), and those of Mask2FormerConfig or
    MaskFormerConfig.
    """
    try:
        import transformers
    except ModuleNotFoundError as error:
        raise ModelError(
            f"{name} needs transformers: pip install 'geoseg[transformers]'"
        ) from error
    rest = {k: v for k, v in options.items() if k not in ("backbone", "decoder")}
    stages = {"out_features": ["stage1", "stage2", "stage3", "stage4"]}
    swin = transformers.SwinConfig(num_channels=bands, **stages, **options.get("backbone", {}))
    if name == "mask2former":
        config = transformers.Mask2FormerConfig(backbone_config=swin, **rest)
        config.num_labels = classes
        made: nn.Module = transformers.Mask2FormerForUniversalSegmentation(config)
        return made
    decoder = transformers.DetrConfig(**options.get("decoder", {}))
    config = transformers.MaskFormerConfig(backbone_config=swin, decoder_config=decoder, **rest)
    config.num_labels = classes
    made = transformers.MaskFormerForInstanceSegmentation(config)
    # the paper's own code draws queries with a deviation of 1, transformers with 0.02: so alike,
    # they may all learn to find the same object
    nn.init.normal_(made.get_parameter("model.transformer_module.queries_embedder.weight"))
    return made


def query_loss(module: nn.Module, x: Tensor, targets: Sequence[Mapping[str, Tensor]]) -> Tensor:
    """The papers' loss, matching included, of (tile, band, row, col).

    ``targets``: per tile ``masks`` (n, row, col) and ``labels`` (n,), counted from 0 in the
    legend's order; a region of stuff is one mask.
    """
    out = module(
        pixel_values=x,
        mask_labels=[target["masks"].float() for target in targets],
        class_labels=[target["labels"] for target in targets],
    )
    loss: Tensor = out.loss
    return loss.reshape(())


def query_tiles(
    module: nn.Module, x: Tensor, legend: Legend, rule: DetectionRule
) -> list[InstanceTile]:
    """Normalized inputs (tile, band, row, col) to labels."""
    out = module(pixel_values=x)
    masks = functional.interpolate(
        out.masks_queries_logits.float(), size=x.shape[-2:], mode="bilinear", align_corners=False
    )
    classes = out.class_queries_logits.float().softmax(-1)
    return [
        decode_queries(probs.cpu().numpy(), mask.sigmoid().cpu().numpy(), legend, rule)
        for probs, mask in zip(classes, masks, strict=True)
    ]


def decode_queries(
    classes: NDArray[np.float32],
    masks: NDArray[np.float32],
    legend: Legend,
    rule: DetectionRule,
) -> InstanceTile:
    """One tile's labels.

    ``classes`` (query, category + 1) probabilities, the last of no object; ``masks`` (query,
    row, col) probabilities. With stuff in the legend as panoptic inference: every pixel goes
    to the query of the highest class times mask probability, and a query that keeps less
    than ``min_free`` of its mask is left out. Of things alone as instance inference: masks
    laid down by class probability times their mean probability.
    """
    ids = np.array([c.id for c in legend], np.uint8)
    label, score = classes.argmax(1), classes.max(1)
    objects = np.flatnonzero((label < len(ids)) & (score >= rule.min_score))
    if all(c.isthing for c in legend):
        return _instances(masks[objects], score[objects], ids[label[objects]], rule)
    tile = _panoptic(masks[objects], score[objects], label[objects], legend, rule)
    return _filled(tile, classes, masks, legend)


def _instances(
    masks: NDArray[np.float32],
    score: NDArray[np.float32],
    category: NDArray[np.uint8],
    rule: DetectionRule,
) -> InstanceTile:
    inside = masks >= rule.mask
    pixels = inside.sum((1, 2))
    mean = np.where(inside, masks, 0).sum((1, 2)) / np.maximum(pixels, 1)
    rows, cols = masks.shape[1:]
    found = Masks(
        scores=(score * mean).astype(np.float32),
        category_id=category,
        boxes=np.tile(np.array([0, 0, rows, cols], np.int64), (len(masks), 1)),
        masks=list(inside),
    )
    return lay_down(found, (rows, cols), rule)


def _panoptic(
    masks: NDArray[np.float32],
    score: NDArray[np.float32],
    label: NDArray[np.int64],
    legend: Legend,
    rule: DetectionRule,
) -> InstanceTile:
    shape = masks.shape[1:]
    instance, category = np.zeros(shape, np.int32), np.full(shape, NODATA_CATEGORY, np.uint8)
    level = np.full(shape, 255, np.uint8)
    if len(masks):
        owner = (masks * score[:, None, None]).argmax(0)
    number, categories = 0, tuple(legend)
    for k in range(len(masks)):
        whole = masks[k] >= rule.mask
        own = whole & (owner == k)
        if not own.any() or own.sum() <= rule.min_free * whole.sum():
            continue
        chosen = categories[label[k]]
        if chosen.isthing:
            number += 1
            instance[own] = number
        category[own] = chosen.id
        level[own] = score_level(score[k : k + 1])[0]
    return InstanceTile(instance, category, level)


def _filled(
    tile: InstanceTile, classes: NDArray[np.float32], masks: NDArray[np.float32], legend: Legend
) -> InstanceTile:
    """Pixels that no query claims, given to stuff."""
    stuff = [k for k, c in enumerate(legend) if not c.isthing]
    left = tile.category_id == NODATA_CATEGORY
    votes = classes[:, stuff].T @ masks[:, left]  # (stuff, pixel)
    best = votes.argmax(0)
    ids = np.array([c.id for c in legend], np.uint8)[stuff]
    category, level = tile.category_id.copy(), tile.score.copy()
    category[left] = ids[best]
    share = votes.max(0) / np.maximum(votes.sum(0), np.float32(1e-6))
    level[left] = score_level(share.astype(np.float32))
    return InstanceTile(tile.instance_id, category, level)
