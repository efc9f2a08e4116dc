"""geoseg sample: stratified reference points to label, for areas with their uncertainty."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from geoseg.errors import GeosegError, InputError

if TYPE_CHECKING:
    from geoseg.commands.classmap import ClassMap


@click.command(name="sample")
@click.argument("map_path", metavar="MAP")
@click.option("-o", "--output", required=True, metavar="POINTS.gpkg", help="Points to label.")
@click.option("-n", "--number", type=click.IntRange(2), help="Points in all.")
@click.option(
    "--overall-se",
    type=float,
    default=0.01,
    show_default=True,
    help="Wanted standard error of overall accuracy, where -n is not given.",
)
@click.option(
    "--expected",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.8,
    show_default=True,
    help="User's accuracy that is expected of every class.",
)
@click.option(
    "--smallest",
    type=click.IntRange(2),
    default=50,
    show_default=True,
    help="Points in a category, at least.",
)
@click.option(
    "--seed",
    type=int,
    default=0,
    show_default=True,
    help="Of the random choice: the same gives the same points.",
)
@click.option("--legend", metavar="NAME|FILE", help="By default the one that the map carries.")
@click.option("--scene", metavar="FILE", help="Shown below the points in the QGIS project.")
@click.option("--overwrite", is_flag=True, help="Replace outputs that exist.")
def command(map_path: str, output: str, **options: Any) -> None:
    r"""Draw points in each category of MAP and make a QGIS project to label them in.

    Each point is the centre of a pixel. What the map says there is hidden from the one who
    labels: fill the column "reference" from its list. Then 'geoseg areas MAP POINTS.gpkg'.

    \b
    geoseg sample terrain.tif -o points.gpkg -n 400 --scene scene.tif
    """
    from geoseg.assess.areas import allocate, draw_sample, sample_size
    from geoseg.commands.classmap import open_class_map
    from geoseg.export.target import check_output

    if Path(output).suffix.lower() != ".gpkg":
        raise InputError(f"{output}: points are written as .gpkg")
    for path in (output, Path(output).with_suffix(".qgz")):
        check_output(path, options["overwrite"])
    opened = open_class_map(map_path, options["legend"])
    area = mapped_areas(opened)
    expected = np.full(len(area), options["expected"])
    least = options["smallest"] * int((area > 0).sum())
    number = options["number"] or max(sample_size(area, expected, options["overall_se"]), least)
    counts = allocate(number, area, options["smallest"])
    pixels = mapped_pixels(opened)
    counts = np.minimum(counts, pixels)  # a class of few pixels is labelled as a whole
    wanted = {c.id: int(n) for c, n in zip(opened.legend, counts, strict=True) if n}
    points = draw_sample(opened.strips, wanted, options["seed"])
    write_points(opened, points, Path(output), options)
    for category, count, size in zip(opened.legend, counts, area, strict=True):
        click.echo(f"{category.name:<20} {size / 1e4:>14,.2f} ha {count:>6} points")
    click.echo(f"{len(points)} points in {output}, to label in {Path(output).with_suffix('.qgz')}")


def mapped_areas(opened: ClassMap) -> Any:
    """m² of each category of the legend, in its order."""
    area = np.zeros(256)
    for window, part in opened.strips():
        area += np.bincount(part.ravel(), minlength=256) * opened.pixel_m2(window)
    return area[[category.id for category in opened.legend]]


def mapped_pixels(opened: ClassMap) -> Any:
    """Pixels of each category of the legend, in its order."""
    pixels = sum(np.bincount(part.ravel(), minlength=256) for _, part in opened.strips())
    return np.asarray(pixels)[[category.id for category in opened.legend]]


def write_points(
    opened: ClassMap, points: list[Any], output: Path, options: dict[str, Any]
) -> None:
    """The points and, beside them, the project to label them in."""
    import geopandas as gpd
    import shapely

    from geoseg.commands.view import shown_bands
    from geoseg.export.labelling import EditLayer, reference_qml, write_labelling_project
    from geoseg.export.vector import VectorOptions, write_vector

    affine = opened.geobox.affine
    names = {category.id: category.name for category in opened.legend}
    places = [affine * (point.col + 0.5, point.row + 0.5) for point in points]
    frame = gpd.GeoDataFrame(
        {
            "point": np.arange(1, len(points) + 1, dtype=np.int32),
            "stratum": [names[point.category_id] for point in points],
            "reference": np.array([""] * len(points), object),
            "note": np.array([""] * len(points), object),
        },
        geometry=shapely.points(np.array(places, np.float64).reshape(-1, 2)),
        crs=None if opened.geobox.crs is None else opened.geobox.crs.to_wkt(),
    )
    qml = reference_qml(opened.legend)
    fresh, scene = not output.exists(), options.get("scene")
    write_vector(
        frame,
        output,
        overwrite=options["overwrite"],
        provenance={"map": opened.name, "seed": str(options["seed"])},
        options=VectorOptions(qml=qml, layer=output.stem, geometry_type="Point"),
    )
    layer = EditLayer(output, output.stem, "reference points", "Point", qml)
    try:
        write_labelling_project(
            [layer],
            output.with_suffix(".qgz"),
            scene=scene,
            bands=(1, 2, 3) if scene is None else shown_bands(None, Path(scene)),
            title=f"Reference points of {Path(opened.name).stem}",
            overwrite=options["overwrite"],
        )
    except GeosegError:
        if fresh:
            output.unlink()  # both or none
        raise
