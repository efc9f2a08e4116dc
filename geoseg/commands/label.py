"""geoseg label: a QGIS project to draw labels in, or to correct those of a map."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from geoseg.errors import GeosegError, InputError, OutputError
from geoseg.shapes import moved, read_shapes

if TYPE_CHECKING:
    import geopandas as gpd
    from numpy.typing import NDArray

    from geoseg.legend import Legend
    from geoseg.scene.reader import Scene

MARKED = 20
"""Hardest places that are bookmarked."""


@click.command(name="label")
@click.argument("scene_path", metavar="SCENE")
@click.option("--classes", metavar="A,B,...", help="Names of the classes.")
@click.option("--legend", metavar="NAME|FILE", help="Instead of --classes: names and colours.")
@click.option("-o", "--output", metavar="LABELS.gpkg", help="By default SCENE_labels.gpkg.")
@click.option("--from", "map_path", metavar="MAP", help="Polygons of a map to correct.")
@click.option(
    "--entropy",
    metavar="RASTER",
    help="Order the map's polygons by it, hardest first; by default by their scores.",
)
@click.option("--overwrite", is_flag=True, help="Replace outputs that exist.")
def command(scene_path: str, **options: Any) -> None:
    r"""Make a label layer for SCENE and a QGIS project to draw in it.

    Draw polygons in "labels" and choose their class from the list. Where everything is
    labelled, draw an outline in "extent": inside it, what has no label is background. With
    --from, the map's polygons are there already, hardest places first: correcting beats
    drawing. Then 'geoseg train SCENE --labels LABELS.gpkg --out model.zip'.

    \b
    geoseg label field.tif --classes soil,crop,weed
    geoseg label field.tif --classes soil,crop,weed --from map.gpkg -o correct.gpkg
    """
    from geoseg.export.target import check_output
    from geoseg.scene.opening import open_scene

    scene = open_scene(scene_path)
    legend = _legend(options["classes"], options["legend"])
    output = Path(options["output"] or f"{Path(scene_path).stem}_labels.gpkg")
    if output.suffix.lower() != ".gpkg":
        raise InputError(f"{output}: labels are written as .gpkg")
    for path in (output, output.with_suffix(".qgz")):
        check_output(path, options["overwrite"])
    frame = _empty(scene)
    if options["map_path"]:
        frame = _of_map(scene, Path(options["map_path"]), legend, options["entropy"])
    fresh = not output.exists()
    _write(scene, frame, legend, output, options["overwrite"])
    try:
        _project(scene_path, frame, legend, output, options["overwrite"])
    except GeosegError:
        if fresh:
            output.unlink()  # both or none
        raise
    filled = f"{len(frame)} polygons, hardest first" if len(frame) else "nothing drawn yet"
    click.echo(f"{output}: {filled}, to label in {output.with_suffix('.qgz')}")


def _legend(classes: str | None, name: str | None) -> Legend:
    from geoseg.commands.options import parse_bands
    from geoseg.legend import Category, Legend
    from geoseg.models.classic.palette import distinct

    if (classes is None) == (name is None):
        raise InputError("give the classes: either --classes soil,crop,weed or --legend FILE")
    if name is not None:
        return Legend.open(name)
    names = parse_bands(classes) or []
    twice = sorted({n for n in names if names.count(n) > 1})
    if not names or twice:
        raise InputError(f"--classes {classes!r}: give different names, such as soil,crop,weed")
    return Legend(tuple(Category(k, n, distinct(k)) for k, n in enumerate(names)), "labels")


def _empty(scene: Scene) -> gpd.GeoDataFrame:
    import geopandas as gpd

    columns = {"category": np.array([], object), "note": np.array([], object)}
    return gpd.GeoDataFrame(columns, geometry=[], crs=_crs(scene))


def _crs(scene: Scene) -> str | None:
    return None if scene.geobox.crs is None else scene.geobox.crs.to_wkt()


def _of_map(scene: Scene, path: Path, legend: Legend, entropy: str | None) -> gpd.GeoDataFrame:
    """The map's polygons with ``rank`` from 1, the least sure first."""
    import geopandas as gpd

    frame = read_shapes(path)
    if "category" not in frame.columns:
        raise InputError(f"{path}: no column 'category': give the polygons of a map")
    unknown = sorted(set(frame["category"]) - {category.name for category in legend})
    if unknown:
        raise InputError(
            f"{path}: holds {', '.join(map(repr, unknown))}, which is not among the classes: add "
            "it to --classes"
        )
    if frame.crs is not None and scene.geobox.crs is not None:
        frame = moved(frame, _crs(scene), path)
    if not frame.intersects(_outline(scene)).any():
        raise InputError(f"{path}: none of its polygons lies on {scene.name}: give a map of it")
    if entropy is not None:
        hardness = _means(frame, Path(entropy))
    elif "score" in frame.columns:
        hardness = 1 - frame["score"].fillna(1.0).to_numpy(np.float64)
    else:
        raise InputError(f"{path}: no column 'score' to order by: give --entropy RASTER")
    out = gpd.GeoDataFrame(
        {
            "category": frame["category"].astype(object),
            "note": np.array([""] * len(frame), object),
            "hardness": np.round(hardness, 4),
        },
        geometry=frame.geometry.to_numpy(),
        crs=frame.crs,
    ).sort_values("hardness", ascending=False, kind="stable", ignore_index=True)
    out.insert(2, "rank", np.arange(1, len(out) + 1, dtype=np.int32))
    return out


def _outline(scene: Scene) -> Any:
    import shapely

    rows, cols = scene.shape
    corners = ((0, 0), (cols, 0), (cols, rows), (0, rows))
    return shapely.Polygon([scene.geobox.affine @ corner for corner in corners])


def _means(frame: gpd.GeoDataFrame, path: Path) -> NDArray[np.float64]:
    """Mean of a raster in each polygon; 0 where it shows nothing."""
    import rasterio
    from rasterio.features import rasterize

    try:
        with rasterio.open(path, driver="GTiff") as file:
            # geoseg's layers are levels of 254 with a scale
            values = file.read(1).astype(np.float64) * file.scales[0] + file.offsets[0]
            known = file.read_masks(1) > 0
            places = frame
            if frame.crs is not None and file.crs is not None:
                places = moved(frame, file.crs.to_wkt(), path)
            shapes = ((shape, k) for k, shape in enumerate(places.geometry, 1))
            place = rasterize(shapes, file.shape, transform=file.transform, dtype="int32")
    except rasterio.errors.RasterioIOError as error:
        raise InputError(f"{path}: can't be read: {error}") from error
    place = np.where(known & np.isfinite(values), place, 0)
    if not place.any():
        raise InputError(f"{path}: shows none of the map's polygons: give the entropy of this map")
    count = np.bincount(place.ravel(), minlength=len(frame) + 1)[1:]
    total = np.bincount(place.ravel(), np.nan_to_num(values).ravel(), len(frame) + 1)[1:]
    means: NDArray[np.float64] = total / np.maximum(count, 1)
    return means


def _write(
    scene: Scene, frame: gpd.GeoDataFrame, legend: Legend, output: Path, overwrite: bool
) -> None:
    """Two layers: the labels, and the outlines of what is labelled all over."""
    import geopandas as gpd
    import pyogrio

    from geoseg.export.target import written_beside

    extent = gpd.GeoDataFrame({"note": np.array([], object)}, geometry=[], crs=_crs(scene))
    errors = pyogrio.errors
    with written_beside(output, overwrite, kinds=("vector",)) as part:
        try:
            for name, layer in (("labels", frame), ("extent", extent)):
                pyogrio.write_dataframe(
                    layer,
                    part,
                    layer=name,
                    driver="GPKG",
                    append=name == "extent",
                    geometry_type="MultiPolygon",
                    promote_to_multi=True,
                    dataset_options={"VERSION": "1.3"} if name == "labels" else None,
                )
        except (errors.DataSourceError, errors.DataLayerError, errors.FeatureError) as error:
            raise OutputError(f"{output}: could not be written: {error}") from error


def _project(
    scene_path: str, frame: gpd.GeoDataFrame, legend: Legend, output: Path, overwrite: bool
) -> None:
    from geoseg.commands.view import shown_bands
    from geoseg.export.labelling import EditLayer, extent_qml, label_qml, write_labelling_project

    layers = [
        EditLayer(output, "labels", "labels", "Polygon", label_qml(legend)),
        EditLayer(output, "extent", "extent: all labelled inside", "Polygon", extent_qml()),
    ]
    hardest = frame.head(MARKED) if "rank" in frame.columns else frame.head(0)
    marks = {f"{row.rank}. {row.category}": _around(row.geometry) for row in hardest.itertuples()}
    write_labelling_project(
        layers,
        output.with_suffix(".qgz"),
        title=f"Labels of {Path(scene_path).stem}",
        scene=scene_path,
        bands=shown_bands(None, Path(scene_path)),
        bookmarks=marks,
        overwrite=overwrite,
    )


def _around(geometry: Any) -> tuple[float, float, float, float]:
    """Bounds of a polygon with half its size of ground around it, in units of its CRS."""
    xmin, ymin, xmax, ymax = map(float, geometry.bounds)
    room = max(xmax - xmin, ymax - ymin) / 2
    return xmin - room, ymin - room, xmax + room, ymax + room
