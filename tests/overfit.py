"""One real crop learnt by heart: can a network, its loss and its decoding do it at all?"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import torch
from numpy.typing import NDArray

from geoseg.assess.instances import average_precision
from geoseg.assess.overlap import BACKGROUND, OverlapTable, segment_key
from geoseg.models.segmenter import InstanceTile

CROPS = Path(__file__).parent / "data" / "instances"
WEED_CATEGORIES = (1, 3)
SWIN = {  # a quarter of Swin-T's width
    "depths": [1, 1, 1, 1],
    "embed_dim": 24,
    "num_heads": [2, 2, 4, 8],
    "window_size": 8,
}
QUERIES: dict[str, dict[str, Any]] = {
    "mask2former": {
        "backbone": SWIN,
        "feature_size": 64,
        "mask_feature_size": 64,
        "hidden_dim": 64,
        "encoder_feedforward_dim": 128,
        "encoder_layers": 2,
        "decoder_layers": 3,
        "num_attention_heads": 4,
        "dim_feedforward": 128,
        "num_queries": 10,
        "train_num_points": 2048,
    },
    "maskformer": {
        "backbone": SWIN,
        "fpn_feature_size": 64,
        "mask_feature_size": 64,
        "decoder": {
            "d_model": 64,
            "encoder_layers": 1,
            "decoder_layers": 3,
            "encoder_attention_heads": 4,
            "decoder_attention_heads": 4,
            "encoder_ffn_dim": 128,
            "decoder_ffn_dim": 128,
            "num_queries": 10,
        },
    },
}


def read(name: str) -> NDArray[np.uint8]:
    with rasterio.open(CROPS / f"{name}.png") as source:
        return source.read()


def crop(name: str) -> tuple[torch.Tensor, NDArray[np.int32], NDArray[np.uint8]]:
    """(1, band, row, col) inputs, instance_id and category_id (255: none), all of 256 px."""
    x = torch.from_numpy(read(name)).float()[None] / 64 - 2
    if name == "trees":
        return x, np.zeros(x.shape[-2:], np.int32), np.full(x.shape[-2:], 255, np.uint8)
    ids = read(f"{name}_ids")[0].astype(np.int32)
    category = read("weeds_category")[0] if name == "weeds" else np.ones_like(ids, np.uint8)
    return x, ids, np.where(ids > 0, category, 255).astype(np.uint8)


def boxes() -> NDArray[np.float32]:
    found = json.loads((CROPS / "trees_boxes.json").read_text())
    return np.array(found["boxes_xyxy_px"], np.float32)


def learn(
    module: torch.nn.Module, loss: Callable[[], torch.Tensor], steps: int, rate: float
) -> list[float]:
    """The loss of each step."""
    module.train()
    optimizer = torch.optim.AdamW(module.parameters(), rate, weight_decay=0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, steps, pct_start=0.2)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        value = loss()
        value.backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), 5.0)
        optimizer.step()
        schedule.step()
        losses.append(value.item())
    module.eval()
    return losses


def ap50(found: InstanceTile, ids: NDArray[Any], category: NDArray[Any]) -> float:
    """Mean over the categories of the truth."""
    thing = found.instance_id > 0
    truth = segment_key(np.where(ids > 0, category, 255), ids, none=BACKGROUND)
    keys = segment_key(np.where(thing, found.category_id, 255), found.instance_id, none=BACKGROUND)
    scores = {int(key): float(found.score[keys == key][0]) for key in np.unique(keys[thing])}
    categories = np.unique(category[ids > 0]).tolist()
    return average_precision(OverlapTable.of(truth, keys), scores, categories).mean[1]


def box_ap50(found: NDArray[Any], scores: NDArray[Any], truth: NDArray[Any]) -> float:
    """COCO's AP at IoU 0.5 by torchmetrics' independent code."""
    from torchmetrics.detection import MeanAveragePrecision

    metric = MeanAveragePrecision(iou_thresholds=[0.5], backend="faster_coco_eval")
    label = np.zeros(len(found), int), np.zeros(len(truth), int)
    metric.update(
        [
            {
                "boxes": torch.as_tensor(found),
                "scores": torch.as_tensor(scores),
                "labels": torch.as_tensor(label[0]),
            }
        ],
        [{"boxes": torch.as_tensor(truth), "labels": torch.as_tensor(label[1])}],
    )
    return float(metric.compute()["map_50"])
