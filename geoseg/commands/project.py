"""geoseg project: files to a QGIS project."""

from __future__ import annotations

from pathlib import Path

import click

from geoseg.errors import InputError


@click.command(name="project")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="A .qgz.")
@click.option("--title", default="", help="Of the project and its page to print.")
@click.option("--note", default="", help="Line below the printed map: sources, licences.")
@click.option("--legend", help="Legend name or file; by default the one that the files carry.")
@click.option("--overwrite", is_flag=True, help="Replace the output if it exists.")
def command(
    files: tuple[Path, ...], output: Path, title: str, note: str, legend: str, overwrite: bool
) -> None:
    r"""Write a QGIS project with scene, map, confidence and polygons, styled and grouped.

    FILES are what geoseg wrote and the scene: a raster with a legend is the map, one of
    scores is the confidence, any other is the scene. Paths in the project are relative.

    \b
    geoseg project map.gpkg map.tif scene.tif -o map.qgz
    """
    from geoseg.export.facts import legend_of
    from geoseg.export.project import Project, write_project
    from geoseg.export.projectlayer import ProjectLayer, hectares_of, role_of
    from geoseg.export.target import check_output
    from geoseg.legend import Legend

    check_output(output, overwrite, kinds=("project",))
    order = ("polygons", "category", "score", "scene")
    layers = [ProjectLayer(path=path, role=role_of(path), name=path.stem) for path in files]
    layers.sort(key=lambda layer: order.index(layer.role))
    maps = [layer.path for layer in layers if layer.role in {"polygons", "category"}]
    if not maps:
        raise InputError(f"{files[0]}: there is no map among the files: give one geoseg wrote")
    known = Legend.open(legend) if legend else legend_of(maps[0])
    project = Project(
        layers=layers,
        legend=known,
        title=title or output.stem,
        note=note,
        hectares=hectares_of(layers[0]),
    )
    write_project(project, output, overwrite=overwrite)
    click.echo(str(output))
