"""What methods that look beyond a tile take from it: values, with their place in the scene."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoseg.grid import Block, Tile, Window
from geoseg.models.classic.indices import Features

__all__ = ["FieldTile", "as_float", "assemble", "clipped", "field_tiles"]

BoolArray = NDArray[np.bool_]
Kernel = Callable[[NDArray[Any], BoolArray], Sequence[NDArray[Any]]]


@dataclass(frozen=True, slots=True)
class FieldTile:
    """Not labels yet: ``values`` (feature, row, col), ``usable`` (row, col) of a whole tile.

    A Join turns it into labels, because it knows where the tile lies.
    """

    values: NDArray[Any]
    usable: BoolArray


def as_float(values: NDArray[Any]) -> NDArray[np.float64]:
    """Whole numbers of 8 and 16 bits scaled to 0..1 (-1..1), others as they are."""
    from skimage.util import img_as_float64

    small = values.dtype.kind in "iu" and values.dtype.itemsize <= 2
    scaled: NDArray[np.float64] = img_as_float64(values) if small else values.astype(np.float64)
    return scaled


def field_tiles(
    features: Features, pixels: NDArray[Any], valid: BoolArray, *, single: bool
) -> list[Any]:
    """Features of each tile; one alone keeps its dtype, several are scaled by ``as_float``."""
    out: list[Any] = []
    for tile, tile_valid in zip(pixels, valid, strict=True):
        if single:
            value, usable = features.value(tile, tile_valid)
            out.append(FieldTile(value[None], usable))
        else:
            values = np.stack([as_float(value) for value in features.values(tile)])
            out.append(FieldTile(values, tile_valid & np.isfinite(values).all(axis=0)))
    return out


def clipped(tile: Tile, field: FieldTile, shape: tuple[int, int]) -> tuple[Window, FieldTile]:
    """The part of a tile that lies inside the scene: what is reflected is cut off."""
    inside = tile.read & Window(0, 0, *shape)
    rows, cols = inside.relative_to(tile.read).slices
    return inside, FieldTile(field.values[:, rows, cols], field.usable[rows, cols])


def assemble(
    block: Block,
    results: Sequence[tuple[Tile, FieldTile]],
    shape: tuple[int, int],
    kernel: Kernel,
    fills: Sequence[Any],
) -> list[NDArray[Any]]:
    """Arrays of a block: the kernel's of each tile inside the scene, cut to its core.

    ``fills`` are numpy scalars: dtype and value where no tile was computed.
    """
    out = [np.full(block.window.shape, fill, fill.dtype) for fill in fills]
    for tile, field in results:
        inside, part = clipped(tile, field, shape)
        source = tile.core.relative_to(inside).slices
        target = tile.core.relative_to(block.window).slices
        for array, computed in zip(out, kernel(part.values, part.usable), strict=True):
            array[target] = computed[source]
    return out
