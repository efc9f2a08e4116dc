"""Panoptic networks: Panoptic-DeepLab and Panoptic FPN, for any number of bands.

Sources: Cheng et al., "Panoptic-DeepLab", CVPR 2020; Kirillov et al., "Panoptic feature
pyramid networks", CVPR 2019. What is ours in the first: both decoders are
segmentation-models-pytorch's of DeepLabV3+, with one skip connection instead of two, and
group norm after the pooling of the whole tile, so that a batch of one tile can be learnt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from geoseg.models.deep.instance import detect, mask_rcnn

__all__ = ["PanopticDeepLab", "PanopticFpn", "SemanticBranch"]


class PanopticDeepLab(nn.Module):
    """One encoder, a decoder for categories and a smaller one for centres and offsets.

    ``forward``: (tile, band, row, col) to (tile, channels + 3, row, col), as
    ``centers.split`` reads it. Rows and columns are multiples of 16.
    """

    def __init__(self, encoder: str, bands: int, channels: int) -> None:
        super().__init__()
        from segmentation_models_pytorch.decoders.deeplabv3.decoder import DeepLabV3PlusDecoder
        from segmentation_models_pytorch.encoders import get_encoder

        self.encoder = get_encoder(encoder, in_channels=bands, weights=None, output_stride=16)

        def decoder_of(width: int) -> nn.Module:
            made: Any = DeepLabV3PlusDecoder(
                encoder_channels=self.encoder.out_channels,
                encoder_depth=5,
                out_channels=width,
                atrous_rates=(3, 6, 9),  # the paper's, for tiles smaller than a street scene
                output_stride=16,
                aspp_separable=True,
                aspp_dropout=0.1,
            )
            made.aspp[0].convs[-1][2] = nn.GroupNorm(width // 16, width)
            decoder: nn.Module = made
            return decoder

        self.semantic_decoder, self.thing_decoder = decoder_of(256), decoder_of(128)
        self.semantic_head = _head(256, 256, channels)
        self.center_head = _head(128, 32, 1)
        self.offset_head = _head(128, 32, 2)

    def forward(self, x: Tensor) -> Tensor:
        """All outputs in one tensor."""
        features = self.encoder(x)
        wide, slim = self.semantic_decoder(features), self.thing_decoder(features)
        outputs = [self.semantic_head(wide), self.center_head(slim), self.offset_head(slim)]
        coarse = torch.cat(outputs, 1)  # (tile, channels + 3, row / 4, col / 4)
        return functional.interpolate(coarse, size=x.shape[-2:], mode="bilinear")


def _head(features: int, width: int, outputs: int) -> nn.Sequential:
    """A separable 5 x 5 convolution and the output's."""
    return nn.Sequential(
        nn.Conv2d(features, features, 5, padding=2, groups=features, bias=False),
        nn.Conv2d(features, width, 1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.Conv2d(width, outputs, 1),
    )


class SemanticBranch(nn.Module):
    """Panoptic FPN's: pyramid levels at strides 4 to 32 brought to 4, summed, classified.

    Per doubling of the resolution a 3 x 3 convolution, group norm, ReLU, bilinear upsampling.
    """

    def __init__(self, features: int, width: int, channels: int, levels: int = 4) -> None:
        super().__init__()
        self.levels = nn.ModuleList(self._level(features, width, k) for k in range(levels))
        self.classify = nn.Conv2d(width, channels, 1)

    @staticmethod
    def _level(features: int, width: int, doublings: int) -> nn.Sequential:
        layers: list[nn.Module] = []
        for k in range(max(doublings, 1)):
            entering = features if k == 0 else width
            layers += [nn.Conv2d(entering, width, 3, padding=1, bias=False)]
            layers += [nn.GroupNorm(min(32, width // 4), width), nn.ReLU()]
            if doublings:
                layers += [nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)]
        return nn.Sequential(*layers)

    def forward(self, pyramid: Sequence[Tensor]) -> Tensor:
        """Levels, finest first, to logits (tile, channel, row, col) at four times its size."""
        total = self.levels[0](pyramid[0])
        for level, x in zip(self.levels[1:], pyramid[1:], strict=True):
            total = total + level(x)[..., : total.shape[-2], : total.shape[-1]]
        logits = self.classify(total)
        return functional.interpolate(logits, scale_factor=4, mode="bilinear")


class PanopticFpn(nn.Module):
    """Mask R-CNN and a semantic branch on one pyramid.

    ``channels``: of the semantic branch, as the paper has it stuff and one for all things;
    things are numbered from 1 in ``things`` classes. ``forward`` gives losses in training,
    else (detections per tile, semantic logits (tile, channel, row, col)).
    """

    def __init__(
        self, encoder: str, bands: int, things: int, channels: int, width: int = 128
    ) -> None:
        super().__init__()
        self.detector = mask_rcnn(encoder, bands, things, width=width)
        features = self.detector.backbone.out_channels
        self.semantic = SemanticBranch(features, features // 2, channels)

    def forward(
        self,
        images: Sequence[Tensor],
        targets: Sequence[Mapping[str, Tensor]] | None = None,
    ) -> Any:
        """``targets`` as torchvision's, with ``semantic`` (row, col) int64, -1 not labelled."""
        found = detect(self.detector, images, targets)
        pyramid = [found.features[name] for name in ("0", "1", "2", "3")]
        logits = self.semantic(pyramid)[..., : images[0].shape[-2], : images[0].shape[-1]]
        if not self.training:
            return found.detections, logits
        assert targets is not None
        truth = torch.stack([target["semantic"] for target in targets])
        known = (truth >= 0).sum().clamp(min=1)
        entropy = functional.cross_entropy(logits, truth, ignore_index=-1, reduction="sum")
        return found.losses | {"loss_semantic": 0.5 * entropy / known}
