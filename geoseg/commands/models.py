"""geoseg models: what can be run, with bands, GSD, classes, licence and accuracy."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from geoseg.models.segmenter import ModelCard

__all__ = ["command", "describe"]


@click.command()
@click.argument("names", nargs=-1)
@click.option("--json", "as_json", is_flag=True, help="Print the cards as JSON on stdout.")
def command(names: tuple[str, ...], as_json: bool) -> None:
    r"""List what --model accepts, or describe the NAMES (also files).

    \b
    geoseg models
    geoseg models terrain
    geoseg models my_bundle.zip --json
    """
    from geoseg.models.catalogue import BUNDLED, bundled_cards, load_model

    inside = dict(zip(BUNDLED, bundled_cards(), strict=True))
    cards = [inside[n] if n in inside else load_model(n).card for n in names or inside]
    if as_json:
        click.echo(json.dumps([card.to_dict() for card in cards], indent=2))
        return
    click.echo("\n\n".join(describe(card) for card in cards))
    if not names:
        click.echo("\n" + _methods())


def describe(card: ModelCard) -> str:
    """A card as lines for people."""
    classes = ", ".join(category.name for category in card.legend)
    gsd = "any"
    if card.gsd_m is not None:
        low, high = card.gsd_m
        gsd = f"{low:g} m" if low == high else f"{low:g} to {high:g} m"
    lines = [
        ("task", card.task),
        ("bands", ", ".join(card.bands) or "any"),
        ("GSD", gsd),
        ("classes", classes),
        ("tiles", f"{card.tile_size} px, halo {card.halo} px, multiples of {card.divisor} px"),
        ("runs on", ", ".join(card.runtimes)),
        ("accuracy", card.accuracy),
        ("trained on", card.training_data),
        ("licence", card.licence),
        ("options", ", ".join(f"{k}={v}" for k, v in card.parameters.items())),
        ("sha256", card.sha256),
    ]
    head = f"{card.name}: {card.summary}" if card.summary else card.name
    return "\n".join([head, *(f"  {key:<10} {value}" for key, value in lines if value)])


def _methods() -> str:
    from geoseg.models.classic import METHODS

    return (
        f"Methods without weights: {', '.join(METHODS)}\n"
        "Your own: a bundle (folder or .zip), an .onnx file, a folder of save_pretrained. "
        "Several are averaged: first.zip+second.zip"
    )
