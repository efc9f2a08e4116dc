"""geoseg bundle: look at, make and export models on disk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from geoseg.models.deep.architectures import Architecture
    from geoseg.models.segmenter import ModelCard

__all__ = ["command"]


@click.group()
def command() -> None:
    r"""A bundle is one folder or zip: weights.safetensors and model.json.

    \b
    geoseg bundle info model.zip
    """


@command.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print card and architecture as JSON.")
def info(path: Path, as_json: bool) -> None:
    r"""Show the card of a bundle and check its weights.

    \b
    geoseg bundle info model.zip
    """
    from geoseg.commands.models import describe
    from geoseg.models.deep.bundle import open_bundle

    bundle = open_bundle(path)
    architecture = bundle.architecture
    if as_json:
        both = {"card": bundle.card.to_dict(), "architecture": architecture.to_dict()}
        click.echo(json.dumps(both, indent=2))
        return
    click.echo(describe(bundle.card))
    encoder = f", encoder {architecture.encoder}" if architecture.encoder else ""
    click.echo(f"  {'network':<10} {architecture.name}{encoder}; weights are those of the card")


@command.command()
@click.argument("weights", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--architecture", required=True, help="unet, segformer, mask_rcnn, parcels, ...")
@click.option("--encoder", default="", help="As its library calls it, such as resnet34.")
@click.option(
    "--bands", required=True, help="Names in the network's order, such as red,green,blue."
)
@click.option("--legend", required=True, help="Name or file of a legend, or names: water,trees.")
@click.option("--things", default="", help="Which names of the legend are things, one by one.")
@click.option(
    "--option",
    "options_given",
    multiple=True,
    metavar="NAME=VALUE",
    help="An argument of the architecture, such as width=32 (JSON).",
)
@click.option("--name", help="What the model is called; the output's name by default.")
@click.option("--gsd", help="Metres it was trained on, such as 0.1 or 0.05,0.2.")
@click.option(
    "--values",
    type=click.Choice(["dn", "reflectance"]),
    default="dn",
    show_default=True,
    help="What the scaling is of: stored numbers, or reflectance.",
)
@click.option("--scale", type=float, default=1.0, help="Digital numbers are multiplied by it.")
@click.option("--mean", default="0", help="Then this is taken off: one number, or one per band.")
@click.option("--std", default="1", help="Then it is divided by this: one number, or one per band.")
@click.option(
    "--tile-size",
    type=int,
    default=512,
    show_default=True,
    help="Pixels that the network sees at once, halo included.",
)
@click.option("--halo", type=int, help="The architecture's usual one by default.")
@click.option("--licence", default="", help="Of the weights, as an SPDX name.")
@click.option("--training-data", default="", help="What it was trained on.")
@click.option("--accuracy", default="", help="What was measured, and on what.")
@click.option("--overwrite", is_flag=True, help="Replace the output if it exists.")
def make(weights: Path, out: Path, **options: Any) -> None:
    r"""Make a bundle OUT (folder or .zip) from a state dict in WEIGHTS.

    \b
    geoseg bundle make best.pt roofs.zip --architecture unet --encoder resnet34 \
        --bands red,green,blue --legend other,roof --gsd 0.1 --scale 0.00392157 \
        --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225
    geoseg bundle make plants.pt plants.zip --architecture centers \
        --bands red,green,blue --legend soil,crop,weed --things crop,weed
    """
    from geoseg.models.deep.bundle import write_bundle
    from geoseg.models.deep.foreign import from_state_dict

    card, architecture = _described(out, options)
    module, _ = from_state_dict(weights, architecture, card)
    bundle = write_bundle(
        out, card, architecture, module.state_dict(), overwrite=options["overwrite"]
    )
    click.echo(f"{bundle.path}: {card.name}, sha256 {bundle.card.sha256}")


def _described(out: Path, options: dict[str, Any]) -> tuple[ModelCard, Architecture]:
    from geoseg.models.deep.architectures import Architecture, defaults
    from geoseg.models.deep.things import outputs_for, task_for
    from geoseg.models.segmenter import ModelCard
    from geoseg.radiometry import Normalization

    default = defaults(options["architecture"])
    bands = tuple(options["bands"].split(","))
    legend = _legend(options["legend"], options["things"])
    classes, needed = outputs_for(options["architecture"], legend)
    gsd = _numbers(options["gsd"]) if options["gsd"] else ()
    card = ModelCard(
        name=options["name"] or out.stem,
        task=task_for(options["architecture"], legend),
        bands=bands,
        legend=legend,
        gsd_m=(gsd[0], gsd[-1]) if gsd else None,
        values=options["values"],
        normalization=Normalization(
            scale=(options["scale"],),
            mean=_numbers(options["mean"]),
            std=_numbers(options["std"]),
        ),
        tile_size=options["tile_size"],
        halo=default.halo if options["halo"] is None else options["halo"],
        divisor=default.divisor,
        licence=options["licence"],
        training_data=options["training_data"],
        accuracy=options["accuracy"],
    )
    architecture = Architecture(
        name=options["architecture"],
        encoder=options["encoder"] or default.encoder,
        bands=len(bands),
        classes=classes,
        options=needed | _arguments(options["options_given"]),
    )
    return card, architecture


def _arguments(given: tuple[str, ...]) -> dict[str, Any]:
    """Arguments of an architecture: NAME=VALUE, values as JSON."""
    from geoseg.errors import InputError

    out = {}
    for text in given:
        name, _, value = text.partition("=")
        try:
            out[name.strip()] = json.loads(value)
        except ValueError:
            raise InputError(f"--option {text!r}: give NAME=VALUE, such as width=32") from None
    return out


def _numbers(text: str) -> tuple[float, ...]:
    from geoseg.errors import InputError

    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise InputError(f"{text!r}: give numbers separated by commas, such as 0.1,0.2") from None


def _legend(text: str, things: str) -> Any:
    """A legend by name or file, or classes by their names; ``things`` names those that are."""
    from dataclasses import replace

    from geoseg.errors import InputError
    from geoseg.legend import Legend
    from geoseg.models.deep.foreign import plain_legend

    wanted = [part.strip() for part in things.split(",") if part.strip()]
    if "," in text or text in wanted:
        names = dict(enumerate(part.strip() for part in text.split(",")))
        legend = plain_legend(len(names), names)
    else:
        legend = Legend.open(text)
    unknown = set(wanted) - {c.name for c in legend}
    if unknown:
        raise InputError(f"--things {', '.join(sorted(unknown))}: not in the legend {text}")
    marked = (replace(c, isthing=c.isthing or c.name in wanted) for c in legend)
    return Legend(tuple(marked), legend.name)


@command.command("export-onnx")
@click.argument("model")
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--overwrite", is_flag=True, help="Replace the output if it exists.")
def export(model: str, out: Path, overwrite: bool) -> None:
    r"""Write MODEL (a name or bundle) as ONNX, also for the Deepness plugin of QGIS.

    \b
    geoseg bundle export-onnx terrain terrain.onnx
    """
    from geoseg.errors import ModelError
    from geoseg.models.catalogue import load_model
    from geoseg.models.deep.onnx import export_onnx
    from geoseg.models.deep.semantic import SemanticSegmenter

    segmenter = load_model(model)
    segmenter = getattr(segmenter, "network", segmenter) if model == "terrain" else segmenter
    if not isinstance(segmenter, SemanticSegmenter):
        raise ModelError(f"{model}: only semantic networks can be written as ONNX")
    path = export_onnx(segmenter, out, overwrite=overwrite)
    click.echo(f"{path}: {segmenter.card.name}, the same as torch within 1e-3")
