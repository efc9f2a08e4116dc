"""geoseg coco: a map as COCO instance or panoptic labels."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

    from geoseg.labels.coco import LabelImage
    from geoseg.labels.sources import LabelSource
    from geoseg.legend import Legend

__all__ = ["command"]

JSON = (".json",)


@click.command(name="coco")
@click.argument("map_path", metavar="MAP")
@click.option("-o", "--output", required=True, metavar="FILE.json", help="The file to write.")
@click.option(
    "--task",
    type=click.Choice(["instance", "panoptic"]),
    help="Things alone in JSON, or every pixel in JSON and a PNG. By default what the map has.",
)
@click.option("--like", metavar="RASTER", help="The grid, where MAP is polygons.")
@click.option("--legend", metavar="NAME|FILE", help="What the numbers of a raster mean.")
@click.option("--column", metavar="NAME", help="Column of polygons with the category.")
@click.option("--image", metavar="NAME", help="Name of the image that the labels are of.")
@click.option("--overwrite", is_flag=True, help="Replace the output if it exists.")
def command(map_path: str, output: str, **options: Any) -> None:
    r"""Write MAP as a COCO file: labels for other tools, of one image.

    MAP is a map that geoseg kept, a GeoTIFF of categories or instances, polygons, or a COCO file.
    CRS and transform are kept in a field that other tools pass over: read back, the labels are the
    same map. Panoptic labels are FILE.json and one PNG in a folder FILE beside it.

    \b
    geoseg map field.tif --model fields -o fields.zarr
    geoseg coco fields.zarr -o fields.json
    geoseg coco fields.gpkg --like field.tif --image field.tif -o fields.json
    """
    from geoseg.commands.evaluate import open_grid, open_side
    from geoseg.export.target import check_file, check_output
    from geoseg.labels.coco import LabelImage, check_size
    from geoseg.legend import Legend

    target = check_file(output, JSON, options["overwrite"])
    legend = Legend.open(options["legend"]) if options["legend"] else None
    grid = open_grid(options["like"], map_path)
    source = open_side(map_path, grid, legend, options["column"])
    task = options["task"] or _task(source.legend)
    check_size(Path(map_path), source.shape)
    category, instance, score = _labels(source)
    name = Path(options["image"] or options["like"] or map_path.rstrip("/")).name
    image = LabelImage(
        file_name=name,
        category_id=category,
        instance_id=instance,
        score=score,
        **_place(grid, source),
    )
    image = _checked(map_path, image, source.legend, task)
    png = target.with_suffix("") / f"{Path(name).stem}.png"
    if task == "panoptic" and target.with_suffix("").exists():
        check_output(png, options["overwrite"], kinds=("picture",))
    _write(target, png, image, source.legend, task)
    objects = len(np.unique(_keys(image)))
    click.echo(f"{objects:,} segments in {output}" + (f" and {png}" if task == "panoptic" else ""))


def _task(legend: Legend) -> str:
    return "instance" if all(category.isthing for category in legend) else "panoptic"


def _labels(source: LabelSource) -> tuple[Any, Any, Any]:
    """(category_id, instance_id, score or None) of the whole map."""
    from geoseg.grid import Window

    whole = Window(0, 0, *source.shape)
    category, instance = source.read(whole)
    score = getattr(source, "score", None)
    return category, instance.astype(np.uint32), score(whole) if callable(score) else score


def _place(grid: GeoBox | None, source: LabelSource) -> dict[str, Any]:
    """Where the image lies, as a LabelImage keeps it."""
    from geoseg.labels.sources import ArrayLabels

    if isinstance(source, ArrayLabels):
        return {"transform": source.transform, "crs": source.crs}
    if grid is None:
        return {}
    crs = None if grid.crs is None else grid.crs.to_wkt()
    return {"transform": tuple(grid.affine)[:6], "crs": crs}


def _checked(path: str, image: LabelImage, legend: Legend, task: str) -> LabelImage:
    """The part of the labels that the format has a place for; raises InputError."""
    from dataclasses import replace

    from geoseg.errors import InputError
    from geoseg.legend import NODATA_CATEGORY

    known = [category.id for category in legend]
    unknown = np.setdiff1d(np.unique(image.category_id), [*known, NODATA_CATEGORY])
    if len(unknown):
        raise InputError(f"{path}: category {unknown[0]} is not in its legend: give a --legend")
    if task == "panoptic":
        return image
    things = [category.id for category in legend if category.isthing]
    if not things:
        named = ", ".join(category.name for category in legend)
        raise InputError(f"{path}: has no things ({named} are stuff): use --task panoptic")
    stuff = ~np.isin(image.category_id, things)
    return replace(
        image,
        category_id=np.where(stuff, np.uint8(NODATA_CATEGORY), image.category_id),
        instance_id=np.where(stuff, np.uint32(0), image.instance_id),
    )


def _write(target: Path, png: Path, image: LabelImage, legend: Legend, task: str) -> None:
    """Written beside, read back and compared, then moved into place: the JSON last."""
    from geoseg.errors import OutputError
    from geoseg.labels.coco import read_coco, write_coco_instances, write_coco_panoptic

    folder = target.with_name(f".{target.stem}.geoseg-part")
    part = folder / target.name
    try:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        write = write_coco_panoptic if task == "panoptic" else write_coco_instances
        write(part, [image], legend)
        back = next(read_coco(part)[1])
        if not (_keys(back, all_pixels=True) == _keys(image, all_pixels=True)).all():
            raise OutputError(f"{target}: what was written is not what is read: disk full?")
        if task == "panoptic":
            png.parent.mkdir(exist_ok=True)
            (part.with_suffix("") / png.name).replace(png)
        part.replace(target)
    except OSError as error:
        raise OutputError(f"{target}: could not be written: {error}") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _keys(image: LabelImage, *, all_pixels: bool = False) -> Any:
    """Category and instance of each pixel in one number."""
    from geoseg.legend import NODATA_CATEGORY

    keys = image.category_id.astype(np.int64) << 32 | image.instance_id
    return keys if all_pixels else keys[image.category_id != NODATA_CATEGORY]
