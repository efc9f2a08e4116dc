"""geoseg view: a map as one web page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from geoseg.export.web import Page

__all__ = ["command", "page_from", "page_options"]


def page_options(function: Any) -> Any:
    """What view and serve share."""
    for option in (
        click.option("--scene", type=click.Path(path_type=Path), help="The image under the map."),
        click.option("--bands", default="1,2,3", help="Shown as red, green, blue: 3,2,1."),
        click.option("--title", default="", help="Of the page."),
        click.option("--note", default="", help="Line below it: sources, licences."),
        click.option("--legend", help="Legend name or file; by default the map's own."),
    ):
        function = option(function)
    return function


def page_from(map_file: Path, options: dict[str, Any]) -> Page:
    """The page of a map; raises InputError."""
    from geoseg.errors import InputError
    from geoseg.export.facts import legend_of, read_facts
    from geoseg.export.target import RASTERS
    from geoseg.export.web import Page, read_polygons
    from geoseg.legend import Legend

    numbers = [part.strip() for part in options["bands"].split(",")]
    if len(numbers) != 3 or not all(n.isdecimal() and int(n) > 0 for n in numbers):
        raise InputError(f"--bands {options['bands']!r}: give three numbers from 1: 3,2,1")
    if options["scene"] is not None:
        _check_scene(options["scene"])
    if map_file.suffix.lower() in RASTERS:
        raise InputError(
            f"{map_file}: a raster, the page shows polygons: make them with 'geoseg polygonize'"
        )
    facts = {} if map_file.suffix == ".zarr" else read_facts(map_file)
    if map_file.suffix == ".zarr":
        from geoseg.engine.segmentmap import SegmentMap
        from geoseg.outputs import provenance_of, to_polygons

        kept = SegmentMap.open(str(map_file))
        polygons, legend, facts = to_polygons(kept), kept.legend, provenance_of(kept)
    else:
        polygons = read_polygons(map_file)
        legend = Legend.open(options["legend"]) if options["legend"] else legend_of(map_file)
    red, green, blue = (int(n) for n in numbers)
    return Page(
        polygons=polygons,
        legend=legend,
        title=options["title"] or map_file.stem,
        note=options["note"] or facts.get("model_licence", ""),
        scene=options["scene"],
        bands=(red, green, blue),
        report={name: value for name, value in facts.items() if name != "legend"},
    )


def _check_scene(path: Path) -> None:
    """Raises InputError for what is no local image; a VRT is one if it is called so."""
    from geoseg.errors import InputError, SceneError
    from geoseg.scene.formats import Access, find_source

    try:
        find_source(path, Access(vrt=path.suffix.lower() == ".vrt"))
    except SceneError as error:
        reason = str(error).partition(": pass --allow")[0]
        raise InputError(f"--scene {reason}") from error


@click.command(name="view")
@click.argument("map_file", metavar="MAP", type=click.Path(path_type=Path))
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="A .html.")
@page_options
@click.option("--overwrite", is_flag=True, help="Replace the output if it exists.")
def command(map_file: Path, output: Path, overwrite: bool, **options: Any) -> None:
    r"""Write MAP, polygons or a kept map, as one web page that works offline.

    \b
    geoseg view map.gpkg --scene scene.tif --bands 4,3,2 -o report.html
    """
    from geoseg.export.target import check_output
    from geoseg.export.web import write_page

    check_output(output, overwrite, kinds=("page",))
    size = write_page(page_from(map_file, options), output, overwrite=overwrite)
    click.echo(f"{output}  {size / 1e6:.1f} MB")
