"""geoseg view: maps as one web page."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from geoseg.export.web import Page, PageMap

__all__ = [
    "BANDS_HELP",
    "command",
    "distinct_names",
    "page_from",
    "page_options",
    "product_file",
    "shown_bands",
]


BANDS_HELP = "Shown as red, green, blue: 3,2,1. By default those of these names, or the first."


def page_options(function: Any) -> Any:
    """What view and serve share."""
    for option in (
        click.option("--scene", type=click.Path(path_type=Path), help="The image under the maps."),
        click.option("--bands", help=BANDS_HELP),
        click.option("--title", default="", help="Of the page."),
        click.option("--note", default="", help="Line below it: sources, licences."),
        click.option(
            "--legend",
            "legends",
            multiple=True,
            help="Legend name or file, for all maps or one for each; by default the maps' own.",
        ),
    ):
        function = option(function)
    return function


def page_from(files: Sequence[Path], options: dict[str, Any]) -> Page:
    """The page of maps, the first on top; raises InputError."""
    from geoseg.errors import InputError
    from geoseg.export.web import Page
    from geoseg.scenefiles import is_product
    from geoseg.sharing import credit_line, licence_line

    scene, bands = options["scene"], shown_bands(options["bands"], options["scene"])
    if scene is not None and is_product(scene):
        folder = click.get_current_context().with_resource(tempfile.TemporaryDirectory())
        scene, bands = product_file(scene, Path(folder) / "scene.vrt", bands)
    legends = options["legends"] or [None]
    if len(legends) not in (1, len(files)):
        raise InputError(f"--legend is given {len(legends)} times for {len(files)} maps")
    if len(legends) == 1:
        legends = [*legends] * len(files)
    names = distinct_names(files)
    maps = [_read_map(*given) for given in zip(files, names, legends, strict=True)]
    credits = [credit_line(one.report) or licence_line(one.report) for one in maps]
    return Page(
        maps=maps,
        title=options["title"] or _title(names),
        note=options["note"] or " · ".join(dict.fromkeys(filter(None, credits))),
        scene=scene,
        bands=bands,
    )


def _title(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= 3 else f"{names[0]} and {len(names) - 1} more"


def distinct_names(files: Sequence[Path]) -> list[str]:
    """A short name for each file: as much of its path as tells it from the others.

    >>> distinct_names([Path("2020/map.gpkg"), Path("2021/map.gpkg"), Path("fields.gpkg")])
    ['2020/map', '2021/map', 'fields']
    >>> distinct_names([Path("map.gpkg"), Path("map.parquet"), Path("map.gpkg")])
    ['map.gpkg', 'map.parquet', 'map.gpkg (2)']
    """
    paths = [file.resolve() for file in files]
    names = []
    for path in paths:
        others = {other for other in paths if other != path and other.stem == path.stem}
        beside = any(other.parent == path.parent for other in others)
        tails = [_parts(other, suffix=beside) for other in others]
        own, size = _parts(path, suffix=beside), 1
        while size < len(own) and any(tail[-size:] == own[-size:] for tail in tails):
            size += 1
        names.append("/".join(own[-size:]))
    seen: dict[str, int] = {}
    for number, name in enumerate(names):
        seen[name] = seen.get(name, 0) + 1
        if seen[name] > 1:
            names[number] = f"{name} ({seen[name]})"
    return names


def _parts(path: Path, *, suffix: bool) -> tuple[str, ...]:
    return (*path.parts[:-1], path.name if suffix else path.stem)


def _read_map(file: Path, name: str, legend: str | None) -> PageMap:
    """Polygons, legend and provenance of a file or a kept map; raises InputError."""
    from geoseg.errors import InputError
    from geoseg.export.facts import legend_of, read_facts
    from geoseg.export.target import RASTERS
    from geoseg.export.web import PageMap
    from geoseg.legend import Legend
    from geoseg.shapes import read_shapes

    if file.suffix.lower() in RASTERS:
        raise InputError(
            f"{file}: a raster, the page shows polygons: make them with 'geoseg polygonize'"
        )
    if file.suffix.lower() == ".pmtiles":
        raise InputError(f"{file}: tiles hold polygons in pieces: give the map as .gpkg, say")
    given = None if legend is None else Legend.open(legend)
    if file.suffix == ".zarr":
        from geoseg.engine.segmentmap import SegmentMap
        from geoseg.outputs import provenance_of, to_polygons

        kept = SegmentMap.open(str(file))
        polygons, own, facts = to_polygons(kept), kept.legend, provenance_of(kept)
    else:
        facts = read_facts(file)
        polygons = read_shapes(file).drop(columns="bbox", errors="ignore")
        own = given or legend_of(file)
    report = {key: value for key, value in facts.items() if key != "legend"}
    return PageMap(polygons=polygons, legend=given or own, name=name, report=report)


def shown_bands(text: str | None, scene: Path | None) -> tuple[int, int, int]:
    """Numbers from 1 of what is shown as red, green and blue; by default by the bands' names.

    Raises InputError for text that is none, and for a scene that is no local image; a VRT is
    one if it is called so.
    """
    from geoseg.errors import InputError, SceneError
    from geoseg.scenefiles import file_bands

    numbers = (1, 2, 3)
    if scene is not None:
        try:
            numbers = file_bands(scene)
        except SceneError as error:
            reason = str(error).partition(": pass --allow")[0]
            raise InputError(reason) from error
    if text is None:
        return numbers
    parts = [part.strip() for part in text.split(",")]
    if len(parts) != 3 or not all(n.isdecimal() and int(n) > 0 for n in parts):
        raise InputError(f"--bands {text!r}: give three numbers from 1: 3,2,1")
    red, green, blue = map(int, parts)
    return red, green, blue


def product_file(
    scene: Path, beside: Path, bands: tuple[int, int, int]
) -> tuple[Path, tuple[int, int, int]]:
    """A product folder or STAC item as one file and its bands; raises InputError."""
    from geoseg.errors import InputError
    from geoseg.scene.opening import open_scene
    from geoseg.sharing import scene_file

    found = scene_file(open_scene(scene), beside, bands)
    if found is None:
        raise InputError(f"{scene}: its bands can't be laid over each other: give one image")
    return found


@click.command(name="view")
@click.argument("files", metavar="MAP...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="A .html.")
@page_options
@click.option("--overwrite", is_flag=True, help="Replace the output if it exists.")
def command(files: tuple[Path, ...], output: Path, overwrite: bool, **options: Any) -> None:
    r"""Write MAPs, polygons or kept maps, as one web page that works offline.

    Each map has its own legend and can be switched off; two can be compared by a swipe.

    \b
    geoseg view map.gpkg --scene scene.tif --bands 4,3,2 -o report.html
    geoseg view 2020.gpkg 2025.gpkg --scene scene.tif -o changes.html
    """
    from geoseg.export.target import check_output
    from geoseg.export.web import write_page

    check_output(output, overwrite, kinds=("page",))
    size = write_page(page_from(files, options), output, overwrite=overwrite)
    click.echo(f"{output}  {size / 1e6:.1f} MB")
