"""A small picture of a map as text, for notebooks."""

from __future__ import annotations

import base64
import zlib
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from geoseg.grid import Window
from geoseg.legend import NODATA_CATEGORY, Legend

if TYPE_CHECKING:
    from geoseg.engine.segmentmap import SegmentMap

__all__ = ["picture_of", "png_of"]

_SIDE_PX = 360
_MOST_PX = 100_000_000
"""Of larger maps every pixel would have to be unpacked for a picture: seconds, in a notebook."""


def picture_of(result: SegmentMap) -> str:
    """An ``<img>`` of the map in its colours, objects apart; empty for very large maps."""
    rows, cols = result.shape
    if rows * cols > _MOST_PX:
        return ""
    step = max(1, -(-max(rows, cols) // _SIDE_PX))
    names = [name for name in ("category_id", "instance_id") if name in result.names]
    strips: dict[str, list[NDArray[np.generic]]] = {name: [] for name in names}
    high = -(-512 // step) * step  # whole rows of chunks, and the same rows of pixels in each
    for row in range(0, rows, high):
        window = Window(row, 0, min(high, rows - row), cols)
        for name, array in result.read(window, names).items():
            strips[name].append(array[::step, ::step])
    ids = np.concatenate(strips["category_id"])
    if "instance_id" in strips:
        ids = _apart(ids, np.concatenate(strips["instance_id"]))
    png = base64.b64encode(png_of(ids, result.legend)).decode()
    return f"<img alt='the map' src='data:image/png;base64,{png}'>"


def _apart(ids: NDArray[np.uint8], objects: NDArray[np.generic]) -> NDArray[np.uint8]:
    """``ids`` without the pixels where an object ends and another one begins."""
    edge = np.zeros(ids.shape, bool)
    for here, there in ((np.s_[:-1], np.s_[1:]), (np.s_[:, :-1], np.s_[:, 1:])):
        both = (objects[here] != 0) & (objects[there] != 0)
        edge[here] |= both & (objects[here] != objects[there])
    return np.where(edge, np.uint8(NODATA_CATEGORY), ids)


def png_of(ids: NDArray[np.uint8], legend: Legend) -> bytes:
    """category_id (row, col) as an indexed PNG; what has no category is see-through."""
    palette, alpha = np.zeros((256, 3), np.uint8), np.zeros(256, np.uint8)
    for category in legend:
        palette[category.id], alpha[category.id] = category.rgb, 255
    high, wide = ids.shape
    lines = np.pad(ids, ((0, 0), (1, 0)))  # each begins with its filter: none
    header = wide.to_bytes(4, "big") + high.to_bytes(4, "big") + bytes([8, 3, 0, 0, 0])
    parts = (
        (b"IHDR", header),
        (b"PLTE", palette.tobytes()),
        (b"tRNS", alpha.tobytes()),
        (b"IDAT", zlib.compress(lines.tobytes(), 9)),
        (b"IEND", b""),
    )
    chunks = (
        len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")
        for kind, body in parts
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)
