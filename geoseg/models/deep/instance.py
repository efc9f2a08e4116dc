"""Mask R-CNN of torchvision, for any number of bands.

Source: He et al., "Mask R-CNN", ICCV 2017. Nothing is resized and nothing is normalized
here: tiles come as the card asks for.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from geoseg.errors import ModelError

__all__ = ["Detected", "Detections", "box_targets", "detect", "detection_targets", "mask_rcnn"]

Detections = dict[str, Tensor]
"""Of one tile: ``boxes`` (n, 4) x0, y0, x1, y1 pixels, ``labels`` (n,) from 1, ``scores`` (n,)
and ``masks`` (n, 1, 28, 28) probabilities inside the boxes.
"""

ANCHOR_PX = (16, 32, 64, 128, 256)
"""Side of the anchors at each pyramid level: half of torchvision's, seen from above things are
small.
"""


class _Pyramid(nn.Module):
    """Any encoder of segmentation-models-pytorch under torchvision's feature pyramid."""

    def __init__(self, encoder: str, bands: int, width: int) -> None:
        super().__init__()
        from segmentation_models_pytorch.encoders import get_encoder
        from torchvision.ops.feature_pyramid_network import (
            FeaturePyramidNetwork,
            LastLevelMaxPool,
        )

        self.body = get_encoder(encoder, in_channels=bands, weights=None)
        self.fpn = FeaturePyramidNetwork(
            list(self.body.out_channels[2:6]), width, extra_blocks=LastLevelMaxPool()
        )
        self.out_channels = width

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Levels 0 to 3 at strides 4 to 32, and ``pool`` at 64."""
        levels = self.body(x)[2:6]
        pyramid: dict[str, Tensor] = self.fpn(
            OrderedDict((str(k), x) for k, x in enumerate(levels))
        )
        return pyramid


def _resnet_pyramid(encoder: str, bands: int) -> nn.Module:
    """Torchvision's own, with its names of weights."""
    from torchvision.models.detection.backbone_utils import resnet_fpn_backbone

    backbone: Any = resnet_fpn_backbone(
        backbone_name=encoder, weights=None, norm_layer=nn.BatchNorm2d, trainable_layers=5
    )
    first = backbone.body.conv1
    backbone.body.conv1 = nn.Conv2d(bands, first.out_channels, 7, 2, 3, bias=False)
    made: nn.Module = backbone
    return made


def mask_rcnn(
    encoder: str = "resnet50",
    bands: int = 3,
    things: int = 1,
    *,
    width: int = 128,
    most: int = 300,
) -> Any:
    """Torchvision's MaskRCNN with random weights.

    ``resnet50`` and ``resnet101`` are torchvision's own backbones of 256 channels; any other
    encoder is segmentation-models-pytorch's (the light ones) under a pyramid of ``width``
    channels, with heads of that width. ``things`` classes are numbered from 1; at most
    ``most`` objects are found per tile.
    """
    from torchvision.models.detection import MaskRCNN
    from torchvision.models.detection.faster_rcnn import TwoMLPHead
    from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
    from torchvision.models.detection.rpn import AnchorGenerator

    options: dict[str, Any] = {}
    if encoder in ("resnet50", "resnet101"):
        backbone = _resnet_pyramid(encoder, bands)
        options["num_classes"] = things + 1
    else:
        from torchvision.models.detection.faster_rcnn import FastRCNNPredictor

        backbone = _Pyramid(encoder, bands, width)
        options |= {
            "box_head": TwoMLPHead(width * 7 * 7, 2 * width),
            "box_predictor": FastRCNNPredictor(2 * width, things + 1),
            "mask_head": MaskRCNNHeads(width, (width, width), 1),
            "mask_predictor": MaskRCNNPredictor(width, width, things + 1),
        }
    ratios = ((0.5, 1.0, 2.0),) * len(ANCHOR_PX)
    return MaskRCNN(
        backbone,
        rpn_anchor_generator=AnchorGenerator(tuple((side,) for side in ANCHOR_PX), ratios),
        box_detections_per_img=most,
        **options,
    )


class Detected(NamedTuple):
    """``detections`` per tile (empty in training), ``losses`` (empty else), ``features``."""

    detections: list[Detections]
    losses: dict[str, Tensor]
    features: dict[str, Tensor]


def detect(
    model: Any, images: Sequence[Tensor], targets: Sequence[Mapping[str, Tensor]] | None = None
) -> Detected:
    """Torchvision's forward pass, with masks left as they come out of the heads, 28 x 28.

    ``images`` (band, row, col) each, of one size. ``targets`` as ``detection_targets`` gives
    them, in training.
    """
    from torchvision.models.detection.image_list import ImageList

    given = None if targets is None else [dict(target) for target in targets]
    tensors = torch.stack(list(images))
    batch = ImageList(tensors, [(tensors.shape[-2], tensors.shape[-1])] * len(tensors))
    features = model.backbone(tensors)
    proposals, first = model.rpn(batch, features, given)
    detections, second = model.roi_heads(features, proposals, batch.image_sizes, given)
    return Detected(detections, first | second, features)


def detection_targets(
    instance_id: NDArray[np.integer[Any]], label: NDArray[np.integer[Any]], *, min_px: int = 1
) -> dict[str, Tensor]:
    """Boxes, labels and masks of a tile, as torchvision's detectors are trained with.

    ``instance_id`` (row, col), 0 = none; ``label`` (row, col): class of each pixel's object,
    from 1. Objects of fewer than ``min_px`` pixels are left out. A tile without any object
    is right too.
    """
    ids, pixels = np.unique(instance_id[instance_id > 0], return_counts=True)
    masks, boxes, labels = [], [], []
    for number in ids[pixels >= min_px]:
        mask = instance_id == number
        rows, cols = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        masks.append(mask)
        boxes.append([cols[0], rows[0], cols[-1] + 1, rows[-1] + 1])
        labels.append(np.bincount(label[mask]).argmax())
    shape = instance_id.shape
    return {
        "boxes": torch.as_tensor(np.array(boxes, np.float32).reshape(-1, 4)),
        "labels": torch.as_tensor(np.array(labels, np.int64)),
        "masks": torch.as_tensor(np.array(masks, np.uint8).reshape(-1, *shape)),
    }


def box_targets(
    boxes: NDArray[Any], label: NDArray[np.integer[Any]], shape: tuple[int, int]
) -> dict[str, Tensor]:
    """Targets where only boxes (n, 4) x0, y0, x1, y1 are known: masks are the boxes' areas.

    Raises ModelError on a box without an area.
    """
    boxes = np.asarray(boxes, np.float32).reshape(-1, 4)
    if (boxes[:, 2:] <= boxes[:, :2]).any():
        raise ModelError(f"a box has no area: {boxes[(boxes[:, 2:] <= boxes[:, :2]).any(1)][0]}")
    masks = np.zeros((len(boxes), *shape), np.uint8)
    for mask, (x0, y0, x1, y1) in zip(masks, np.round(boxes).astype(int), strict=True):
        mask[max(y0, 0) : y1, max(x0, 0) : x1] = 1
    return {
        "boxes": torch.as_tensor(boxes),
        "labels": torch.as_tensor(np.asarray(label, np.int64)),
        "masks": torch.as_tensor(masks),
    }
