"""geoseg demo: the bundled Sentinel-2 scene through the bundled terrain model."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import click

from geoseg.commands.progress import progress_for

__all__ = ["command"]


@click.command()
@click.option("-o", "--folder", default="demo", show_default=True, help="Where the files go.")
@click.option("--overwrite", is_flag=True, help="Replace what an earlier demo wrote.")
@click.option("-q", "--quiet", is_flag=True, help="Only the summary.")
def command(folder: str, overwrite: bool, quiet: bool) -> None:
    r"""Map the Sentinel-2 scene that comes with geoseg: polygons, raster, picture, summary.

    \b
    geoseg demo -o demo
    """
    from geoseg.commands.map import interruptible
    from geoseg.commands.summary import summary_text
    from geoseg.errors import OutputError
    from geoseg.pipeline import MapRequest, map_scene
    from geoseg.scene.opening import open_scene

    source = resources.files("geoseg") / "data" / "demo" / "java_west_s2l2a.tif"
    target = Path(folder)
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: can't be a folder: {error.strerror}") from error
    with interruptible(), resources.as_file(source) as path:
        scene = open_scene(path)
        request = MapRequest(
            outputs=tuple(str(target / f"terrain.{ending}") for ending in ("gpkg", "tif", "png")),
            overwrite=overwrite,
            report=str(target / "report.json"),
        )
        with progress_for(quiet) as progress:
            report = map_scene(scene, "terrain", request, progress=progress)
    for warning in report.warnings:
        click.echo(f"geoseg: note: {warning}", err=True)
    click.echo(summary_text(report, scene))
    click.echo(f"\nOpen {target / 'terrain.gpkg'} in QGIS: its style loads by itself.")
