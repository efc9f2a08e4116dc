"""geoseg plan: what mapping a scene would take, before anything runs."""

from __future__ import annotations

import json
from typing import Any

import click

from geoseg.commands.options import open_scene_as, plan_options, scene_options
from geoseg.commands.progress import progress_for

__all__ = ["command"]


@click.command()
@click.argument("scenes", metavar="SCENE...", nargs=-1, required=True)
@click.option("-m", "--model", required=True, help="Name or file of a model; see 'geoseg models'.")
@scene_options
@plan_options
@click.option(
    "--measure-halo",
    is_flag=True,
    help="Predict some places and say which --halo leaves no seams.",
)
@click.option(
    "--places",
    type=click.IntRange(min=1),
    default=16,
    show_default=True,
    help="Places that --measure-halo predicts.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    scenes: tuple[str, ...],
    model: str,
    measure_halo: bool,
    places: int,
    as_json: bool,
    **options: Any,
) -> None:
    r"""Print tiles, blocks, bytes to read and memory of mapping SCENE.

    Nothing is predicted, save with --measure-halo: labels near the edges of tiles are held
    against those of tiles that are shifted by half, at some places.

    \b
    geoseg plan scene.tif --model terrain
    geoseg plan scene.tif --model terrain --memory 4GB --tile-size 512 --json
    geoseg plan scene.tif --model terrain --measure-halo
    """
    from geoseg.commands.map import NOTHING_KEPT, interruptible, run_options_from
    from geoseg.pipeline import halo_of, prepare

    prepared = prepare(open_scene_as(scenes, options, model), model, run_options_from(options))
    for warning in prepared.warnings:
        click.echo(f"geoseg: warning: {warning}", err=True)
    found = prepared.plan.to_dict()
    measured = None
    if measure_halo:
        with interruptible(NOTHING_KEPT), progress_for(quiet=as_json) as progress:
            measured = halo_of(prepared, places, progress)
        found["measured_halo"] = measured.to_dict()
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    click.echo(str(prepared.plan))
    if measured is not None:
        click.echo(f"\n{measured}")
