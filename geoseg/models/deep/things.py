"""Networks that tell one thing from the next, by name, for any number of bands.

| name | paper | ``classes`` counts |
|---|---|---|
| parcels | Waldner and Diakogiannis 2020, Deep learning on edge | its outputs: 3 |
| centers | Cheng et al. 2020, Panoptic-DeepLab; one decoder | semantic channels |
| panoptic_deeplab | Cheng et al. 2020, Panoptic-DeepLab | semantic channels |
| mask_rcnn | He et al. 2017, Mask R-CNN | things |
| panoptic_fpn | Kirillov et al. 2019, Panoptic feature pyramid networks | categories |
| mask2former | Cheng et al. 2022, Mask2Former | categories |
| maskformer | Cheng et al. 2021, MaskFormer | categories |

Semantic channels are those of ``centers.Channels``: the categories, and one for nothing where
all are things. ``panoptic_fpn`` has the option ``things``: how many of the categories are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from geoseg.errors import ModelError
from geoseg.legend import Legend
from geoseg.models.deep.architectures import Architecture, Default
from geoseg.models.segmenter import Task

__all__ = ["THING_NETWORKS", "outputs_for", "task_for"]

_LITE = "tu-tf_efficientnet_lite0"


def _unet(given: Architecture, outputs: int) -> nn.Module:
    import segmentation_models_pytorch as smp

    made: nn.Module = smp.Unet(
        given.encoder,
        encoder_weights=None,
        in_channels=given.bands,
        classes=outputs,
        **dict(given.options),
    )
    return made


def _parcels(given: Architecture) -> nn.Module:
    if given.classes != 3:
        raise ModelError(f"parcels has 3 outputs (extent, boundary, distance), not {given.classes}")
    return _unet(given, 3)


def _centers(given: Architecture) -> nn.Module:
    return _unet(given, given.classes + 3)


def _panoptic_deeplab(given: Architecture) -> nn.Module:
    from geoseg.models.deep.panoptic import PanopticDeepLab

    return PanopticDeepLab(given.encoder, given.bands, given.classes)


def _mask_rcnn(given: Architecture) -> nn.Module:
    from geoseg.models.deep.instance import mask_rcnn

    made: nn.Module = mask_rcnn(given.encoder, given.bands, given.classes, **dict(given.options))
    return made


def _panoptic_fpn(given: Architecture) -> nn.Module:
    from geoseg.models.deep.panoptic import PanopticFpn

    options = dict(given.options)
    things = int(options.pop("things"))
    channels = given.classes - things + 1
    return PanopticFpn(given.encoder, given.bands, things, channels, **options)


def _queries(given: Architecture) -> nn.Module:
    from geoseg.models.deep.transformer import build_queries

    return build_queries(given.name, given.bands, given.classes, dict(given.options))


THING_NETWORKS: Mapping[str, Default] = {
    "parcels": Default(build=_parcels, encoder=_LITE, divisor=32, halo=64),
    "centers": Default(build=_centers, encoder=_LITE, divisor=32, halo=64),
    "panoptic_deeplab": Default(
        build=_panoptic_deeplab, encoder=_LITE, divisor=16, halo=64, whole=True
    ),
    "mask_rcnn": Default(build=_mask_rcnn, encoder="resnet50", divisor=32, halo=64, whole=True),
    "panoptic_fpn": Default(
        build=_panoptic_fpn, encoder="resnet50", divisor=32, halo=64, whole=True
    ),
    "mask2former": Default(build=_queries, encoder="", divisor=32, halo=64, whole=True),
    "maskformer": Default(build=_queries, encoder="", divisor=32, halo=64, whole=True),
}
"""Architectures by name, with their defaults."""


def task_for(name: str, legend: Legend) -> Task:
    """What a network of this name does with these categories; raises ModelError."""
    if name not in THING_NETWORKS:
        return "semantic"
    things = [c.name for c in legend if c.isthing]
    stuff = [c.name for c in legend if not c.isthing]
    if not things:
        raise ModelError(f"{name} tells things apart: say which of {', '.join(stuff)} are things")
    if name == "mask_rcnn" and stuff:
        raise ModelError(f"mask_rcnn gives things alone: {', '.join(stuff)} are none")
    if name == "panoptic_fpn" and not stuff:
        raise ModelError("panoptic_fpn gives stuff too: the legend has none")
    return "panoptic" if stuff else "instance"


def outputs_for(name: str, legend: Legend) -> tuple[int, dict[str, Any]]:
    """(``classes``, options) that an architecture needs for these categories."""
    from geoseg.models.deep.centers import Channels

    things = sum(c.isthing for c in legend)
    if name == "parcels":
        return 3, {}
    if name in ("centers", "panoptic_deeplab"):
        return len(Channels.of(legend)), {}
    if name == "mask_rcnn":
        return things, {}
    return len(legend), {"things": things} if name == "panoptic_fpn" else {}
