"""geoseg map FOLDER: scenes one by one, with a table of what became of each."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from geoseg.errors import InputError

if TYPE_CHECKING:
    from geoseg.folder import FolderReport, Row
    from geoseg.requests import MapRequest, RunOptions

__all__ = ["is_folder", "map_many", "table"]

_ALONE = ("explain", "samples", "seeds", "store", "part", "join")
"""Options that are about one scene."""

_SCENE = ("combine", "nodata", "assume_crs", "mask", "gsd", "allow_vrt", "allow_network", "bands")


def is_folder(scenes: Sequence[str], outputs: Sequence[str], options: Mapping[str, Any]) -> bool:
    """Whether scenes are to be mapped one by one: no --stack or --mosaic joins them, and they
    are in a folder (other than a Sentinel-2 product), or their outputs hold ``{scene}``.
    """
    from geoseg.scene.sentinel2 import is_safe

    if options.get("combine"):
        return False
    folders = any(Path(scene).is_dir() and not is_safe(Path(scene)) for scene in scenes)
    return folders or any("{scene}" in output for output in outputs)


def map_many(
    scenes: Sequence[str],
    model: str,
    request: MapRequest,
    run: RunOptions,
    options: Mapping[str, Any],
) -> None:
    """Map each, print the table (or JSON), and leave with an exit code where one failed."""
    from geoseg.commands.map import interruptible
    from geoseg.commands.options import open_scene_as
    from geoseg.commands.progress import progress_for
    from geoseg.folder import map_folder
    from geoseg.models.catalogue import load_model, parse_parameters

    alone = [name for name in _ALONE if options.get(name)]
    if alone:
        raise InputError(f"--{alone[0]} is for one scene, not for a folder: map that one alone")
    chosen: Any = model
    if options["settings"]:
        chosen = load_model(model, parse_parameters(options["settings"]))

    def on_row(row: Row, number: int, count: int) -> None:
        if not options["quiet"]:
            said = row.error or row.state
            click.echo(f"geoseg: {number} of {count}: {row.scene}: {said}", err=True)

    with interruptible(), progress_for(options["quiet"]) as progress:
        report = map_folder(
            scenes,
            chosen,
            request,
            run,
            progress,
            opener=lambda path: open_scene_as([path], options, model),
            how={name: options.get(name) for name in _SCENE},
            on_row=on_row,
        )
    if options["as_json"]:
        click.echo(json.dumps(report.to_dict(), indent=2))
    elif not options["quiet"]:
        click.echo(table(report))
    if report.exit_code:
        sys.exit(report.exit_code)


def table(report: FolderReport) -> str:
    """A line per scene: its state, size, seconds and largest classes; then what failed."""
    width = max([len(Path(row.scene).name) for row in report.rows] + [5])
    lines = [f"{'scene':{width}}  state      Mpx        s  classes"]
    for row in report.rows:
        name = f"{Path(row.scene).name:{width}}"
        if row.state == "failed":
            lines.append(f"{name}  failed")
            continue
        said = row.summary
        shares = list(said["shares"].items())
        classes = ", ".join(f"{key} {100 * share:.1f} %" for key, share in shares[:3])
        more = f", {len(shares) - 3} more" if len(shares) > 3 else ""
        lines.append(
            f"{name}  {row.state:6} {said['pixels'] / 1e6:7.2f} {said['wall_seconds']:8.1f}  "
            f"{classes or 'no valid pixel'}{more}"
        )
    done = len(report.rows) - len(report.failed)
    lines += ["", f"{done} of {len(report.rows)} scenes have a map"]
    lines += [f"failed   {row.error}" for row in report.failed]
    return "\n".join(lines)
