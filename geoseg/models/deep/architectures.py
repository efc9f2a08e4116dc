"""Semantic networks by name, for any number of bands and classes.

| name | paper |
|---|---|
| fcn | Long et al. 2015, Fully convolutional networks for semantic segmentation |
| unet | Ronneberger et al. 2015, U-Net |
| unetplusplus | Zhou et al. 2018, UNet++ |
| deeplabv3plus | Chen et al. 2018, Encoder-decoder with atrous separable convolution |
| fpn | Kirillov et al. 2019, Panoptic feature pyramid networks |
| pspnet | Zhao et al. 2017, Pyramid scene parsing network |
| segformer | Xie et al. 2021, SegFormer |
| upernet | Xiao et al. 2018, Unified perceptual parsing |
| dpt | Ranftl et al. 2021, Vision transformers for dense prediction |
| dynamic_world | Brown et al. 2022, Dynamic World |

Networks come from segmentation-models-pytorch, encoders from it, timm (``tu-`` names) and
torchvision; nothing is downloaded unless a person asks for pretrained weights.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from geoseg.errors import ModelError

__all__ = ["ARCHITECTURES", "Architecture", "build", "defaults"]


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """What a network is made of: enough to build it again.

    ``options`` are arguments of the architecture's constructor (JSON values).
    """

    name: str
    bands: int
    classes: int
    encoder: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "name": self.name,
            "encoder": self.encoder,
            "bands": self.bands,
            "classes": self.classes,
            "options": dict(self.options),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Architecture:
        """From what ``to_dict`` gives; raises ModelError on what it can't read."""
        try:
            return cls(
                name=str(data["name"]),
                encoder=str(data.get("encoder", "")),
                bands=int(data["bands"]),
                classes=int(data["classes"]),
                options=dict(data.get("options", {})),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(f"not an architecture: {error!r} in {dict(data)}") from error


@dataclass(frozen=True, kw_only=True)
class Default:
    """What fits an architecture where nothing else is said.

    ``divisor``: sides of tiles are multiples of it (the coarsest stride). ``halo``: pixels
    at a tile's edge that are not trusted; it covers where the zero padding of the strided
    convolutions is felt. ``whole`` networks look at all of the tile (global pooling,
    attention), so no halo makes tiles exactly equal to the whole scene.
    """

    build: Callable[[Architecture], nn.Module]
    encoder: str
    divisor: int
    halo: int
    whole: bool = False


class _Fcn(nn.Module):
    """An encoder at an eighth of the resolution and torchvision's FCN head."""

    def __init__(self, given: Architecture) -> None:
        super().__init__()
        from segmentation_models_pytorch.encoders import get_encoder
        from torchvision.models.segmentation.fcn import FCNHead

        self.encoder = get_encoder(
            given.encoder, in_channels=given.bands, weights=None, output_stride=8
        )
        self.head = FCNHead(self.encoder.out_channels[-1], given.classes)

    def forward(self, x: Tensor) -> Tensor:
        """(tile, band, row, col) to logits (tile, class, row, col)."""
        coarse = self.head(self.encoder(x)[-1])  # (tile, class, row / 8, col / 8)
        return functional.interpolate(
            coarse, size=x.shape[-2:], mode="bilinear", align_corners=False
        )


class _TorchvisionFcn(nn.Module):
    """Torchvision's own ``fcn_resnet50`` or ``fcn_resnet101``, for any number of bands."""

    def __init__(self, given: Architecture) -> None:
        super().__init__()
        from torchvision.models import segmentation

        maker = getattr(segmentation, f"fcn_{given.encoder}")
        self.network = maker(weights=None, weights_backbone=None, num_classes=given.classes)
        first = self.network.backbone.conv1
        self.network.backbone.conv1 = nn.Conv2d(
            given.bands, first.out_channels, 7, stride=2, padding=3, bias=False
        )

    def forward(self, x: Tensor) -> Tensor:
        """(tile, band, row, col) to logits (tile, class, row, col)."""
        logits: Tensor = self.network(x)["out"]
        return logits


def _fcn(given: Architecture) -> nn.Module:
    if given.encoder in ("resnet50", "resnet101"):
        return _TorchvisionFcn(given)
    return _Fcn(given)


def _smp(class_name: str, **fixed: Any) -> Callable[[Architecture], nn.Module]:
    def make(given: Architecture) -> nn.Module:
        import segmentation_models_pytorch as smp

        made: nn.Module = getattr(smp, class_name)(
            encoder_name=given.encoder,
            encoder_weights=None,
            in_channels=given.bands,
            classes=given.classes,
            **(fixed | dict(given.options)),
        )
        return made

    return make


def _dynamic_world(given: Architecture) -> nn.Module:
    from geoseg.models.deep.dynamic_world import DynamicWorldNet

    if (given.bands, given.classes) != (9, 9):
        raise ModelError(f"dynamic_world has 9 bands and 9 classes, not {given.bands}")
    return DynamicWorldNet()


_LITE = "tu-tf_efficientnet_lite0"

ARCHITECTURES: Mapping[str, Default] = {
    "fcn": Default(build=_fcn, encoder="resnet50", divisor=8, halo=64),
    "unet": Default(build=_smp("Unet"), encoder=_LITE, divisor=32, halo=32),
    "unetplusplus": Default(build=_smp("UnetPlusPlus"), encoder=_LITE, divisor=32, halo=32),
    "deeplabv3plus": Default(
        build=_smp("DeepLabV3Plus"), encoder=_LITE, divisor=16, halo=64, whole=True
    ),
    "fpn": Default(build=_smp("FPN"), encoder=_LITE, divisor=32, halo=64),
    "pspnet": Default(build=_smp("PSPNet"), encoder=_LITE, divisor=32, halo=64, whole=True),
    "segformer": Default(
        build=_smp("Segformer"), encoder="mit_b0", divisor=32, halo=64, whole=True
    ),
    "upernet": Default(build=_smp("UPerNet"), encoder=_LITE, divisor=32, halo=64, whole=True),
    "dpt": Default(
        # position embeddings are interpolated to the tile, whatever its size
        build=_smp("DPT", dynamic_img_size=True),
        encoder="tu-vit_tiny_patch16_224",
        divisor=32,
        halo=64,
        whole=True,
    ),
    "dynamic_world": Default(build=_dynamic_world, encoder="", divisor=2, halo=24),
}
"""Architectures by name, with their defaults."""


def defaults(name: str) -> Default:
    """What fits an architecture; raises ModelError on an unknown name."""
    from geoseg.models.deep.things import THING_NETWORKS

    try:
        return ARCHITECTURES[name] if name in ARCHITECTURES else THING_NETWORKS[name]
    except KeyError:
        known = ", ".join([*ARCHITECTURES, *THING_NETWORKS])
        raise ModelError(f"no architecture {name!r}: use one of {known}") from None


def build(given: Architecture) -> nn.Module:
    """The network with random weights: (tile, band, row, col) to (tile, class, row, col).

    Raises ModelError on an unknown name, encoder or option.
    """
    default = defaults(given.name)
    chosen = Architecture.from_dict(given.to_dict() | {"encoder": given.encoder or default.encoder})
    try:
        return default.build(chosen)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ModelError(
            f"can't build {given.name} with encoder {chosen.encoder!r}, {given.bands} bands and "
            f"options {dict(given.options)}: {error}"
        ) from error
