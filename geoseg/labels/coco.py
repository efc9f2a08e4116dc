"""COCO files: instances (JSON) and panoptic (PNG and JSON), with the georeference kept.

Format: cocodataset.org, "Data format". Masks are written as uncompressed run lengths, which
keep every pixel, holes too; polygons and compressed run lengths are read as well. What COCO
has no place for is kept under "geoseg" in images and annotations, which other tools pass over.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoseg.errors import InputError
from geoseg.labels.idpng import read_png, write_png
from geoseg.labels.runlengths import mask_of, run_lengths
from geoseg.legend import NODATA_CATEGORY, Category, Legend

__all__ = ["LabelImage", "check_size", "read_coco", "write_coco_instances", "write_coco_panoptic"]

NO_SCORE = 255
MOST_PX = 1 << 28
"""Pixels of an image that is read or written: COCO's files are held in memory whole."""
_ODD = (ValueError, KeyError, TypeError, IndexError, OverflowError, AttributeError)
"""What comes of JSON that is not as the format has it."""
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442", "#999999")


@dataclass(frozen=True, kw_only=True)
class LabelImage:
    """Labels of one image, in memory.

    ``category_id`` uint8 (255: none), ``instance_id`` uint32 (0: none), ``score`` uint8
    levels of 254 (255: none), each (row, col), one score per object; ``transform`` pixel to
    CRS (a, b, c, d, e, f) and ``crs`` as WKT, None where there is none.
    """

    file_name: str
    category_id: NDArray[np.uint8]
    instance_id: NDArray[np.uint32]
    score: NDArray[np.uint8] | None = None
    transform: tuple[float, ...] | None = None
    crs: str | None = None


def write_coco_instances(path: Path, images: Sequence[LabelImage], legend: Legend) -> None:
    """Things of some images as COCO instances. Stuff has no place there and is left out."""
    annotations: list[dict[str, Any]] = []
    for number, image in enumerate(images, 1):
        for segment in _segments(image):
            if not legend.by_id(segment["category_id"]).isthing:
                continue
            counts = run_lengths(segment.pop("pixels"), image.category_id.size)
            size = list(image.category_id.shape)
            segment["segmentation"] = {"size": size, "counts": counts}
            annotations.append({"id": len(annotations) + 1, "image_id": number} | segment)
    _write_json(path, _document(images, legend) | {"annotations": annotations})


def write_coco_panoptic(path: Path, images: Sequence[LabelImage], legend: Legend) -> None:
    """Images as COCO panoptic: ``path`` (JSON), and one PNG each in a folder beside it that is
    called like ``path`` without its suffix.
    """
    folder = path.with_suffix("")
    folder.mkdir(exist_ok=True)
    annotations = []
    for number, image in enumerate(images, 1):
        segments = list(_segments(image))
        if len(segments) >= 1 << 24:
            raise InputError(f"{path}: {len(segments)} segments: COCO's PNGs hold 16,777,215")
        # (col, row) flat, as _segments counts
        ids = np.zeros(image.category_id.size, np.uint32)
        for k, segment in enumerate(segments, 1):
            ids[segment.pop("pixels")] = k
            segment["id"] = k
        name = f"{Path(image.file_name).stem}.png"
        write_png(folder / name, ids.reshape(image.category_id.shape[::-1]).T)
        annotations.append({"image_id": number, "file_name": name, "segments_info": segments})
    _write_json(path, _document(images, legend) | {"annotations": annotations})


def read_coco(path: Path, name: str | None = None) -> tuple[Legend, Iterator[LabelImage]]:
    """(legend, images one by one) of a COCO instances or panoptic file.

    In instances files the annotation that comes later lies on top. Crowds count as one
    object. With ``name``, the file of a scene, only the image of that name is read, unless it
    is the only one. Raises InputError on what is not COCO, or where no image has the name.
    """
    try:
        document = _parsed(path, path.stat().st_mtime_ns)
        legend = _read_legend(document["categories"])
        annotations, images = list(document["annotations"]), list(document["images"])
        by_image: dict[int, list[dict[str, Any]]] = {}
        for annotation in annotations:
            by_image.setdefault(annotation["image_id"], []).append(annotation)
        panoptic = any("segments_info" in annotation for annotation in annotations)
    except (OSError, RecursionError, *_ODD) as error:
        raise InputError(f"{path}: not a COCO file: {error!r}") from error

    chosen = images if name is None or len(images) == 1 else _named(path, images, name)

    def read() -> Iterator[LabelImage]:
        for image in chosen:
            try:
                own = by_image.get(image["id"], [])
                png = panoptic and own
                painted = _painted_png(path, image, own[0]) if png else _painted(image, own)
                made = _label_image(image, *painted)
                _check_categories(made.category_id, legend)
            except _ODD as error:
                raise InputError(
                    f"{path}: not as COCO has it: {error!r}, in {str(image)[:80]}"
                ) from error
            yield made

    return legend, read()


@lru_cache(maxsize=1)
def _parsed(path: Path, _: int) -> Any:
    """A file of many images is asked for each of them."""
    return json.loads(path.read_text(encoding="utf-8"))


def _named(path: Path, images: Sequence[Mapping[str, Any]], name: str) -> list[Mapping[str, Any]]:
    """The image of a scene: of its file name, else of its name without folder or suffix."""
    names = [str(image.get("file_name", "")).replace("\\", "/") for image in images]
    for alike in (lambda n: n, lambda n: Path(n).name, lambda n: Path(n).stem):
        found = [image for image, n in zip(images, names, strict=True) if alike(n) == alike(name)]
        if len(found) == 1:
            return found
        if found:
            raise InputError(f"{path}: {len(found)} of its images are called {alike(name)!r}")
    raise InputError(
        f"{path}: none of its {len(images)} images is called {Path(name).name!r}, but "
        f"{Path(names[0]).name!r} and so on"
        if images
        else f"{path}: holds no image"
    )


def _check_categories(category_id: NDArray[np.uint8], legend: Legend) -> None:
    known = [category.id for category in legend]
    unknown = np.setdiff1d(category_id, [*known, NODATA_CATEGORY])
    if unknown.size:
        raise ValueError(f"category_id {unknown[0]} is none of the categories, {known}")


def check_size(path: Path, shape: tuple[int, int]) -> None:
    """Raises InputError where a map is too large for one image of a COCO file."""
    if shape[0] * shape[1] > MOST_PX:
        raise InputError(
            f"{path}: {shape[1]} x {shape[0]} px, an image of a COCO file has {MOST_PX:,} px at "
            "most here: map parts of the scene, with --aoi"
        )


def _document(images: Sequence[LabelImage], legend: Legend) -> dict[str, Any]:
    rows = []
    for number, image in enumerate(images, 1):
        height, width = image.category_id.shape
        row = {"id": number, "file_name": image.file_name, "height": height, "width": width}
        place = {"transform": image.transform, "crs_wkt": image.crs}
        rows.append(row | {"geoseg": place})
    categories = [
        {
            "id": c.id,
            "name": c.name,
            "supercategory": "",
            "isthing": int(c.isthing),
            "color": list(c.rgb),
        }
        for c in legend
    ]
    return {"info": {"description": legend.name}, "images": rows, "categories": categories}


def _segments(image: LabelImage) -> Iterator[dict[str, Any]]:
    """Each segment with its ``pixels``: sorted places, counted down the columns as COCO does."""
    category, instance = (a.T.ravel() for a in (image.category_id, image.instance_id))
    label = category.astype(np.int64) << 32 | instance.astype(np.int64)
    order = np.argsort(label, kind="stable")
    starts = np.flatnonzero(np.diff(label[order], prepend=-1))
    height = image.category_id.shape[0]
    for pixels in np.split(order, starts[1:]) if len(order) else []:
        if category[pixels[0]] == NODATA_CATEGORY:
            continue
        cols, rows = np.divmod(pixels, height)
        top, left = int(rows.min()), int(cols.min())
        yield {
            "pixels": pixels,
            "category_id": int(category[pixels[0]]),
            "area": len(pixels),
            "bbox": [left, top, int(cols.max()) - left + 1, int(rows.max()) - top + 1],
            "iscrowd": 0,
            "geoseg": {"instance_id": int(instance[pixels[0]])},
        } | _score(image, pixels)


def _score(image: LabelImage, pixels: NDArray[np.int64]) -> dict[str, float]:
    """The score of a segment; nothing where it has none."""
    if image.score is None:
        return {}
    levels = image.score.T.ravel()[pixels]
    levels = levels[levels != NO_SCORE].astype(np.int64)
    if not len(levels):
        return {}
    return {"score": (2 * int(levels.sum()) + len(levels)) // (2 * len(levels)) / 254}


def _painted(
    image: Mapping[str, Any], annotations: Sequence[Mapping[str, Any]]
) -> tuple[NDArray[np.uint8], NDArray[np.uint32], NDArray[np.uint8]]:
    shape = _shape_of(image)
    category = np.full(shape, NODATA_CATEGORY, np.uint8)
    instance, score = np.zeros(shape, np.uint32), np.full(shape, NO_SCORE, np.uint8)
    for number, annotation in enumerate(annotations, 1):
        mask = mask_of(annotation["segmentation"], shape)
        category[mask] = annotation["category_id"]
        instance[mask] = annotation.get("geoseg", {}).get("instance_id", number)
        score[mask] = _level(annotation)
    return category, instance, score


def _shape_of(image: Mapping[str, Any]) -> tuple[int, int]:
    shape = int(image["height"]), int(image["width"])
    if shape[0] * shape[1] > MOST_PX:
        raise ValueError(f"{shape[1]} x {shape[0]} px: an image has {MOST_PX:,} px at most here")
    return shape


def _painted_png(
    path: Path, image: Mapping[str, Any], annotation: Mapping[str, Any]
) -> tuple[NDArray[np.uint8], NDArray[np.uint32], NDArray[np.uint8]]:
    name = str(annotation["file_name"])
    if Path(name).name != name:
        raise ValueError(f"file_name {name!r}: a name is wanted, of a PNG in the folder beside")
    ids = read_png(path.with_suffix("") / name, _shape_of(image))
    segments = annotation["segments_info"]
    keys = np.array([s["id"] for s in segments], np.int64)
    order = np.argsort(keys)
    place = np.searchsorted(keys[order], ids)
    known = np.isin(ids, keys)
    at = np.where(known, order[np.minimum(place, max(len(keys) - 1, 0))] if len(keys) else 0, -1)
    category = np.array([*(s["category_id"] for s in segments), NODATA_CATEGORY], np.uint8)
    numbers = [s.get("geoseg", {}).get("instance_id", s["id"]) for s in segments]
    score = np.array([*(_level(s) for s in segments), NO_SCORE], np.uint8)
    return category[at], np.array([*numbers, 0], np.uint32)[at], score[at]


def _label_image(
    image: Mapping[str, Any],
    category: NDArray[np.uint8],
    instance: NDArray[np.uint32],
    score: NDArray[np.uint8],
) -> LabelImage:
    place = image.get("geoseg", {})
    transform = place.get("transform")
    return LabelImage(
        file_name=str(image["file_name"]),
        category_id=category,
        instance_id=instance,
        score=score,
        transform=None if transform is None else tuple(transform),
        crs=place.get("crs_wkt"),
    )


def _level(annotation: Mapping[str, Any]) -> int:
    score = annotation.get("score")
    if score is None:
        return NO_SCORE
    if not 0 <= float(score) <= 1:
        raise ValueError(f"score {score}: from 0 to 1 is wanted")
    return int(np.floor(float(score) * 254 + 0.5))


def _read_legend(rows: Sequence[Mapping[str, Any]]) -> Legend:
    categories = []
    for k, row in enumerate(rows):
        rgb = row.get("color")
        colour = "#%02x%02x%02x" % tuple(rgb) if rgb else COLOURS[k % len(COLOURS)]  # noqa: UP031
        name, thing = str(row["name"]), bool(row.get("isthing", 1))
        categories.append(Category(int(row["id"]), name, colour, thing))
    return Legend(tuple(categories))


def _write_json(path: Path, document: Mapping[str, Any]) -> None:
    part = path.with_name(f"{path.name}.part")
    try:
        part.write_text(json.dumps(document))
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
