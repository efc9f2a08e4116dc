"""geoseg info: what a scene is, before anything is run on it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from geoseg.commands.options import open_scene_as, parse_bands

if TYPE_CHECKING:
    from geoseg.scene.reader import Scene

__all__ = ["command"]


@click.command()
@click.argument("scenes", metavar="SCENE...", nargs=-1, required=True)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--bands", help="Bands to use, by name or number from 1: 4,3,2 or red=4,green=3.")
@click.option("--nodata", help="Value that replaces the declared one; none: every value counts.")
@click.option("--assume-crs", metavar="CRS", help="CRS of a scene that has none.")
@click.option("--mask", multiple=True, help="Leave out: SCL, QA_PIXEL, a raster or polygons.")
@click.option("--stack", "combine", flag_value="stack", help="Bands of several files as one scene.")
@click.option("--mosaic", "combine", flag_value="mosaic", help="Files side by side as one scene.")
@click.option("--gsd", default="scene", metavar="METRES", help="Resample to this GSD.")
@click.option("--allow-vrt", is_flag=True, help="Follow a VRT, which may read any other file.")
@click.option("--allow-network", is_flag=True, help="Read URLs and /vsi paths.")
def command(scenes: tuple[str, ...], as_json: bool, bands: str | None, **options: Any) -> None:
    r"""Print size, CRS, GSD, bands, nodata and valid share of SCENE, and which models fit it.

    \b
    geoseg info scene.tif
    geoseg info B02.tif B03.tif B04.tif --stack --json
    """
    from geoseg.scene.summary import summarize, to_text

    opened = open_scene_as(scenes, options)
    chosen = parse_bands(bands)
    opened = opened if chosen is None else opened.select(chosen)
    summary = summarize(opened)
    summary["models"] = _models(opened)
    if as_json:
        click.echo(json.dumps(summary, indent=2))
        return
    click.echo(to_text(summary))
    for model in summary["models"]:
        said = "; ".join(model["warnings"]) if model["fits"] else model["reason"]
        verdict = "fits" if model["fits"] else "does not fit"
        click.echo(f"  {'model':<8}{model['name']} {verdict}{': ' if said else ''}{said}")


def _models(scene: Scene) -> list[dict[str, Any]]:
    """Whether each model that comes with geoseg fits, and why not."""
    from geoseg.errors import ModelError
    from geoseg.models.catalogue import bundled_cards
    from geoseg.models.fit import fit_scene

    out: list[dict[str, Any]] = []
    for card in bundled_cards():
        try:
            fit = fit_scene(card, scene)
        except ModelError as error:
            out.append({"name": card.name, "fits": False, "reason": str(error), "warnings": []})
        else:
            warnings = list(fit.warnings)
            out.append({"name": card.name, "fits": True, "reason": "", "warnings": warnings})
    return out
