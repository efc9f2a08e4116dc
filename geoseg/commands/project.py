"""geoseg project: files to a QGIS project."""

from __future__ import annotations

from pathlib import Path

import click

from geoseg.commands.view import BANDS_HELP, product_file, shown_bands
from geoseg.errors import InputError

_NAMES = {"polygons": "Polygons", "category": "Classes", "score": "Confidence"}
_ORDER = (*_NAMES, "scene")
"""From the top of the map to its ground."""


@click.command(name="project")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="A .qgz.")
@click.option("--title", default="", help="Of the project and its page to print.")
@click.option("--note", default="", help="Line below the printed map; by default the model.")
@click.option("--bands", help=f"Of the scene. {BANDS_HELP}")
@click.option("--legend", help="Legend name or file; by default the one that the files carry.")
@click.option("--overwrite", is_flag=True, help="Replace the output if it exists.")
def command(
    files: tuple[Path, ...],
    output: Path,
    title: str,
    note: str,
    bands: str | None,
    legend: str,
    overwrite: bool,
) -> None:
    r"""Write a QGIS project with scene, map, confidence and polygons, styled and grouped.

    FILES are what geoseg wrote and the scene: a raster with a legend is the map, one of
    scores is the confidence, any other is the scene; so is a product folder (SAFE) or a STAC
    item. Paths in the project are relative.

    \b
    geoseg project map.gpkg map.tif scene.tif --bands 4,3,2 -o map.qgz
    """
    from geoseg.export.facts import legend_of, read_facts
    from geoseg.export.project import Project, write_project
    from geoseg.export.projectlayer import ProjectLayer, hectares_of, role_of
    from geoseg.export.target import check_companion, check_output
    from geoseg.legend import Legend
    from geoseg.scenefiles import is_product
    from geoseg.sharing import SCENE_BESIDE, credit_line

    check_output(output, overwrite, kinds=("project",))
    roles = ["scene" if is_product(path) else role_of(path) for path in files]
    layers = []
    for path, role in zip(files, roles, strict=True):
        shown = shown_bands(bands, path if role == "scene" else None)
        # one of a kind is called by it, as in the project that 'geoseg map' writes
        name = (_NAMES.get(role, "") if roles.count(role) == 1 else "") or path.stem
        source = path
        if is_product(path):
            beside = output.with_name(output.stem + SCENE_BESIDE)
            check_companion(beside, overwrite)
            source, shown = product_file(path, beside, shown)
        layers.append(ProjectLayer(path=source, role=role, name=name, bands=shown))
    layers.sort(key=lambda layer: _ORDER.index(layer.role))
    maps = [layer.path for layer in layers if layer.role in {"polygons", "category"}]
    if not maps:
        raise InputError(f"{files[0]}: there is no map among the files: give one geoseg wrote")
    known = Legend.open(legend) if legend else legend_of(maps[0])
    project = Project(
        layers=layers,
        legend=known,
        title=title or output.stem,
        note=note or credit_line(read_facts(maps[0])),
        hectares=hectares_of(layers[0]),
    )
    write_project(project, output, overwrite=overwrite)
    click.echo(str(output))
