"""Label rasters as their publishers number them, read as geoseg's categories.

Legends use the official ids wherever those fit into 0 to 254. Some rasters store other values
for the same classes (CORINE's codes of three digits and its grid codes, Cityscapes' train ids,
COCO-Stuff's ids less one); a scheme says which value is which category and which values mean
that nobody labelled the pixel.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoseg.errors import InputError
from geoseg.grid import Window
from geoseg.legend import NODATA_CATEGORY, Legend

__all__ = [
    "CORINE_CODES",
    "Scheme",
    "legend_or_scheme",
    "read_labels",
    "scheme",
    "scheme_names",
    "to_categories",
]

CORINE_CODES = (
    111, 112, 121, 122, 123, 124, 131, 132, 133, 141, 142,
    211, 212, 213, 221, 222, 223, 231, 241, 242, 243, 244,
    311, 312, 313, 321, 322, 323, 324, 331, 332, 333, 334, 335,
    411, 412, 421, 422, 423, 511, 512, 521, 522, 523,
)  # fmt: skip
"""The 44 classes of level 3; the raster stores their place in this list, from 1."""

_LUT_SIZE = 1 << 16


@dataclass(frozen=True)
class Scheme:
    """``values``: what a raster stores to category_id; ``unlabelled``: values of no label.

    Any other value is an error, so that a raster of another scheme isn't read as this one.
    """

    name: str
    legend_name: str
    values: Mapping[int, int]
    unlabelled: frozenset[int] = field(default_factory=frozenset)

    @cached_property
    def legend(self) -> Legend:
        """The categories that the values become."""
        return Legend.open(self.legend_name)


def _same(legend_name: str, unlabelled: tuple[int, ...]) -> Scheme:
    ids = [category.id for category in Legend.open(legend_name)]
    return Scheme(legend_name, legend_name, {i: i for i in ids}, frozenset(unlabelled))


def _shifted(name: str, legend_name: str, shift: int, unlabelled: tuple[int, ...]) -> Scheme:
    values = {category.id + shift: category.id for category in Legend.open(legend_name)}
    return Scheme(name, legend_name, values, frozenset(unlabelled))


def _corine(level: int, *, grid: bool) -> Scheme:
    """Codes of level 3, or the raster's grid codes, as classes of level 1 or 2."""
    keys = range(1, len(CORINE_CODES) + 1) if grid else CORINE_CODES
    values = {key: code // 10 ** (3 - level) for key, code in zip(keys, CORINE_CODES, strict=True)}
    # 48 and 999: no data; 49 and 990: outside the area
    unlabelled = frozenset((0, 48, 49, 255, -128) if grid else (0, 990, 995, 999))
    name = f"corine_{level}_from_{'grid' if grid else 'codes'}"
    return Scheme(name, f"corine_{level}", values, unlabelled)


def _train_ids(name: str, legend_name: str) -> Scheme:
    values = {number: category.id for number, category in enumerate(Legend.open(legend_name))}
    return Scheme(name, legend_name, values, frozenset((255,)))


_SCHEMES: dict[str, Any] = {
    # a pixel's value is the category's id
    "dynamic_world": lambda: _same("dynamic_world", (255,)),
    "worldcover": lambda: _same("worldcover", (0, 255)),
    "corine_1": lambda: _same("corine_1", (0, 255)),
    "corine_2": lambda: _same("corine_2", (0, 255)),
    "landcover_ai": lambda: _same("landcover_ai", (255,)),
    "coco_things": lambda: _same("coco_things", (0, 255)),
    "coco_panoptic": lambda: _same("coco_panoptic", (0, 255)),
    "ade20k": lambda: _same("ade20k", (0,)),
    # the classes that the evaluation leaves out (static, parking ...) are no labels
    "cityscapes": lambda: _same("cityscapes", (*range(7), 9, 10, 14, 15, 16, 18, 29, 30, 255, -1)),
    # the same classes under other values
    "dynamic_world_experts": lambda: _shifted(
        "dynamic_world_experts",
        "dynamic_world",
        1,
        (0, 10),  # 10 is cloud
    ),
    "coco_stuff": lambda: _shifted("coco_stuff", "coco_stuff", -1, (255,)),
    "cityscapes_train_ids": lambda: _train_ids("cityscapes_train_ids", "cityscapes"),
    "corine_1_from_grid": lambda: _corine(1, grid=True),
    "corine_2_from_grid": lambda: _corine(2, grid=True),
    "corine_1_from_codes": lambda: _corine(1, grid=False),
    "corine_2_from_codes": lambda: _corine(2, grid=False),
}


def scheme_names() -> list[str]:
    """Names of all schemes."""
    return list(_SCHEMES)


def scheme(name: str) -> Scheme:
    """The scheme with this name; raises InputError."""
    if name not in _SCHEMES:
        raise InputError(f"no label scheme {name!r}: use one of {', '.join(_SCHEMES)}")
    found: Scheme = _SCHEMES[name]()
    return found


def legend_or_scheme(name: str | None) -> tuple[Legend | None, Scheme | None]:
    """What a person gives as legend: a scheme's name comes with its legend, else a legend's name
    or file; raises InputError.
    """
    if name is None:
        return None, None
    if name in _SCHEMES:
        return scheme(name).legend, scheme(name)
    return Legend.open(name), None


def to_categories(labels: NDArray[Any], how: Scheme) -> NDArray[np.uint8]:
    """Stored values (row, col), integers, as category_id uint8; 255 where there is no label.

    Raises InputError when a value belongs neither to a class nor to the unlabelled ones.
    """
    if labels.dtype.kind not in "iub":
        raise InputError(f"labels are {labels.dtype}, not integers: give class numbers")
    present = [int(value) for value in np.unique(labels)]
    unknown = [v for v in present if v not in how.values and v not in how.unlabelled]
    if unknown:
        some = ", ".join(str(value) for value in unknown[:8])
        raise InputError(
            f"scheme {how.name}: no class has the values {some}"
            f"{' ...' if len(unknown) > 8 else ''}: choose the scheme that the raster is in"
        )
    out = np.full(labels.shape, NODATA_CATEGORY, np.uint8)
    if labels.dtype.itemsize <= 2:
        # negative values count from the end of the table, as they do in numpy
        table = np.full(_LUT_SIZE, NODATA_CATEGORY, np.uint8)
        for value, category in how.values.items():
            table[value] = category
        return table[labels.astype(np.intp)]
    for value in present:
        if value in how.values:
            out[labels == value] = how.values[value]
    return out


def read_labels(path: str | Path, how: Scheme, window: Window | None = None) -> NDArray[np.uint8]:
    """Band 1 of a label raster as category_id (row, col) uint8, 255 where there is no label.

    The raster's nodata value and mask count as unlabelled. Raises InputError when it can't be
    read or is of another scheme.
    """
    from rasterio.windows import Window as RasterioWindow

    where = None
    if window is not None:
        where = RasterioWindow(window.col_off, window.row_off, window.width, window.height)
    labels, valid = _read(Path(path), where)
    out = np.full(labels.shape, NODATA_CATEGORY, np.uint8)
    try:
        out[valid] = to_categories(labels[valid], how)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    return out


def _read(path: Path, where: Any) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    import rasterio

    problem: Exception | None = None
    # two drivers and no other: a VRT reads whatever it names
    for driver in ("GTiff", "PNG"):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
                with rasterio.open(path, driver=driver) as dataset:
                    labels = dataset.read(1, window=where)
                    return labels, dataset.read_masks(1, window=where) > 0
        except rasterio.errors.RasterioError as error:
            problem = problem or error
    cause = problem.__cause__ or problem if problem else None
    raise InputError(f"{path}: labels can't be read: {cause}: give a GeoTIFF or PNG") from problem
