"""geoseg plan: what mapping a scene would take, before anything runs."""

from __future__ import annotations

import json
from typing import Any

import click

from geoseg.commands.options import open_scene_as, plan_options, scene_options

__all__ = ["command"]


@click.command()
@click.argument("scenes", metavar="SCENE...", nargs=-1, required=True)
@click.option("-m", "--model", required=True, help="Name or file of a model; see 'geoseg models'.")
@scene_options
@plan_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(scenes: tuple[str, ...], model: str, as_json: bool, **options: Any) -> None:
    r"""Print tiles, blocks, bytes to read and memory of mapping SCENE. Nothing is predicted.

    \b
    geoseg plan scene.tif --model terrain
    geoseg plan scene.tif --model terrain --memory 4GB --tile-size 512 --json
    """
    from geoseg.commands.map import run_options_from
    from geoseg.pipeline import prepare

    prepared = prepare(open_scene_as(scenes, options, model), model, run_options_from(options))
    for warning in prepared.warnings:
        click.echo(f"geoseg: warning: {warning}", err=True)
    if as_json:
        click.echo(json.dumps(prepared.plan.to_dict(), indent=2))
    else:
        click.echo(str(prepared.plan))
