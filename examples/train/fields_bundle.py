"""Make the fields model's bundle from what fields.py left.

python examples/train/fields_bundle.py TRAINED DATA BUNDLE --steps 1000 --strips 1200 --accuracy "..."

How parcels are read off the network's outputs is chosen on the training side: six places with small
or many fields, and the scene and the two pictures that were not trained on; the highest PQ among
the grids below. Three places alone were too few to choose on: they show large fields only.
Weights are kept in half precision; they are used in single precision.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from itertools import product
from pathlib import Path

import torch
from fields import parts, read
from weeds import RGB

from geoseg.learn.goal import Goal
from geoseg.learn.samples import Labelled
from geoseg.learn.things import ThingValidation
from geoseg.legend import Category, Legend
from geoseg.models.deep.architectures import build
from geoseg.models.deep.bundle import Bundle, open_bundle, write_bundle
from geoseg.models.deep.oneshot import mean_outputs, parcels_tile
from geoseg.models.deep.parcels import ParcelRule
from geoseg.models.segmenter import ModelCard

LEGEND = Legend((Category(1, "field", "#e69f00", isthing=True),), "fields")
EXTENT = (0.6,)
DYNAMICS = (0.1, 0.2)
WEAK = (0.0, 0.3, 0.4, 0.5)
MIN_PX = (200, 400)
MANY = ("40.2497", "41.1864", "41.3315", "41.4814", "38.8381", "40.7993")


def judge(grounds: tuple[Labelled, ...]) -> ThingValidation:
    """What knows PQ and F1 of fields on some ground."""
    goal = Goal(task="instance", classes=("background", "field"), things=frozenset({"field"}))
    made = goal.validation(grounds, RGB)
    assert isinstance(made, ThingValidation)
    return made


def chosen_on(data: Path) -> list[Path]:
    """Scenes and pictures that settings are chosen on."""
    learnt, kept, _ = parts(data)
    return [*(path for path in learnt if path.stem.removeprefix("naip_").startswith(MANY)), *kept]


class Turned(torch.nn.Module):
    """A network whose outputs are averaged over symmetries, as logits."""

    def __init__(self, network: torch.nn.Module, symmetries: int) -> None:
        super().__init__()
        self.network, self.symmetries = network, symmetries

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return mean_outputs(self.network, x, self.symmetries).logit(eps=1e-6)


def choose(bundle: Bundle, grounds: tuple[Labelled, ...], symmetries: int) -> ParcelRule:
    """The rule with the highest PQ on ``grounds``."""
    network = build(bundle.architecture)
    network.load_state_dict(bundle.read_weights())
    validation = judge(grounds)
    turned = Turned(network.eval(), symmetries).eval()
    outputs = [validation.outputs(turned, ground) for ground in grounds]
    best, highest = ParcelRule(), -1.0
    for extent, dynamics, weak, least in product(EXTENT, DYNAMICS, WEAK, MIN_PX):
        rule = ParcelRule(
            extent=extent, dynamics=dynamics, weak=weak, min_px=least, symmetries=symmetries
        )
        places = []
        for k, (ground, (logits, seen)) in enumerate(zip(grounds, outputs)):
            tile = parcels_tile(logits.sigmoid().numpy(), seen, LEGEND, rule)
            places += validation.judged(ground, k, tile)
        figures = validation.figures(places)
        if figures["PQ"] > highest:
            best, highest = rule, figures["PQ"]
            print(rule, {name: round(value, 4) for name, value in figures.items()}, flush=True)
    return best


def card(rule: ParcelRule, steps: int, strips: int, accuracy: str) -> ModelCard:
    return ModelCard(
        name="fields",
        task="instance",
        legend=LEGEND,
        bands=("red", "green", "blue"),
        gsd_m=(1.6, 2.5),
        normalization=RGB,
        value_range=(0, 255),
        tile_size=512,
        halo=64,
        divisor=32,
        parameters=asdict(rule),
        summary="fields, one by one, in aerial images at about 2 m",
        accuracy=accuracy,
        training_data=(
            "6 aerial scenes of about 1 km2 at twice their pixel size and 18 pictures at about "
            "2 m (USDA NAIP, public domain; fields drawn by Radix, MIT), Midwest of the USA, "
            f"summer; encoder from ImageNet (timm, Apache-2.0); {steps} steps of 4 windows of "
            f"256 px, and {strips} in which four of ten windows show the same places with strips "
            "laid into their fields. Elsewhere expect less, and train on a few scenes of your own"
        ),
        licence="Apache-2.0",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("trained", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--strips", type=int, default=0, help="further steps")
    parser.add_argument("--symmetries", type=int, default=1)
    parser.add_argument("--accuracy", default="")
    args = parser.parse_args()
    torch.set_num_threads(1)
    trained = open_bundle(args.trained)
    rule = choose(trained, read(chosen_on(args.data)), args.symmetries)
    weights = trained.read_weights()
    halves = {k: v.half() if v.is_floating_point() else v for k, v in weights.items()}
    made = write_bundle(
        args.bundle,
        card(rule, args.steps, args.strips, args.accuracy),
        trained.architecture,
        halves,
        overwrite=True,
    )
    print(made.path, made.card.sha256)


if __name__ == "__main__":
    main()
