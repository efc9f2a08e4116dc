"""Make the weeds model's bundle from what weeds.py left.

python examples/train/weeds_bundle.py WEIGHTS.pt BUNDLE --steps 1500 --accuracy "..."

Weights are kept in half precision; they are used in single precision.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from weeds import DECODER, RGB

from geoseg.legend import Category, Legend
from geoseg.models.deep.architectures import Architecture
from geoseg.models.deep.bundle import write_bundle
from geoseg.models.segmenter import ModelCard

LEGEND = Legend(
    (
        Category(0, "soil", "#c8ad7f"),
        Category(1, "crop", "#2e8b57"),
        Category(2, "weed", "#d7263d"),
    ),
    "weeds",
)


def card(steps: int, accuracy: str) -> ModelCard:
    return ModelCard(
        name="weeds",
        task="semantic",
        legend=LEGEND,
        bands=("red", "green", "blue"),
        gsd_m=(0.005, 0.006),
        normalization=RGB,
        value_range=(0, 255),
        tile_size=512,
        halo=32,
        divisor=32,
        summary="soil, crop and weed in drone images of young row crops",
        accuracy=accuracy,
        training_data=(
            "northern 70 % of one orthomosaic of a potato trial (264 m2 in all; Lu et al. 2025, "
            "doi 10.1016/j.atech.2025.100966, MIT) and 105 photos over soy rows (GrowingSoy, "
            "arXiv 2406.00313, MIT), both at twice their pixel size; encoder from ImageNet (timm, "
            f"Apache-2.0); {steps} steps of 6 windows of 192 px. One potato field, one day: "
            "expect less elsewhere, and train on a few polygons of your own"
        ),
        licence="Apache-2.0",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("weights", type=Path)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--accuracy", default="")
    args = parser.parse_args()
    weights = torch.load(args.weights, weights_only=True)
    halves = {k: v.half() if v.is_floating_point() else v for k, v in weights.items()}
    architecture = Architecture(
        name="unet",
        encoder="tu-tf_efficientnet_lite0",
        bands=3,
        classes=3,
        options={"decoder_channels": list(DECODER)},
    )
    made = write_bundle(
        args.bundle, card(args.steps, args.accuracy), architecture, halves, overwrite=True
    )
    print(made.path, made.card.sha256)


if __name__ == "__main__":
    main()
