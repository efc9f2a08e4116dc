"""One row of whole numbers per object of a block, and the scene's objects made of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from geoseg.grid import Block
from geoseg.legend import NODATA_CATEGORY
from geoseg.models.segmenter import Arrays
from geoseg.stitch.extend import chosen
from geoseg.stitch.overlap import overlaps

__all__ = ["NO_SCORE", "based", "groups", "object_rows", "tables"]

NO_SCORE = 255
Pairs = NDArray[np.int64]


def groups(links: Sequence[Pairs], count: int) -> NDArray[np.int64]:
    """The connected component of each of ``count`` nodes, numbered by their first nodes."""
    pairs = np.concatenate([*links, np.zeros((0, 2), np.int64)])
    graph = coo_array((np.ones(len(pairs), bool), (pairs[:, 0], pairs[:, 1])), (count, count))
    labels = connected_components(graph, directed=False)[1]
    return labels.astype(np.int64)


def object_rows(block: Block, kept: Arrays, count: int) -> Arrays:
    """Of each object: first pixel (row, col) in the scene, scores, pixels per category."""
    ids = kept["instance_id"]
    flat, scores, scored = _sums(ids, kept["score"], count)
    table = overlaps(ids, kept["category_id"])
    own = (table.a > 0) & (table.b != NODATA_CATEGORY)
    first = np.stack(np.divmod(flat, max(ids.shape[1], 1)), 1)
    first += np.array([block.window.row_off, block.window.col_off])
    first[flat < 0] = -1
    return {
        "first": first,
        "score_sum": scores,
        "score_pixels": scored,
        "votes": np.stack([table.a[own] - 1, table.b[own], table.pixels[own]], 1),
    }


@njit(cache=True, nogil=True)
def _sums(ids: Any, score: Any, count: int) -> Any:  # pragma: no cover - compiled
    first = np.full(count, -1, np.int64)
    total = np.zeros(count, np.int64)
    pixels = np.zeros(count, np.int64)
    rows, cols = ids.shape
    for row in range(rows):
        for col in range(cols):
            k = ids[row, col] - 1
            if k < 0:
                continue
            if first[k] < 0:
                first[k] = row * cols + col
            if score[row, col] != NO_SCORE:
                total[k] += score[row, col]
                pixels[k] += 1
    return first, total, pixels


def based(frame: Arrays, base: int, width: int) -> Arrays:
    """A block's objects, numbered from ``base``; first pixels as places in raster order."""
    row, col = frame["first"].T
    place = np.where(row < 0, np.iinfo(np.int64).max, row * width + col)
    votes = frame["votes"] + np.array([base, 0, 0])
    names = ("score_sum", "score_pixels")
    return {"place": place, "votes": votes} | {name: frame[name] for name in names}


def tables(
    spans: Sequence[tuple[Block, int, int]],
    rows: Sequence[Arrays],
    group: NDArray[np.int64],
    reaches: Sequence[NDArray[np.int64]],
) -> dict[int, Arrays]:
    """Each block's table: id, category and score by its own object number; 0 stays 0.

    ``reaches``: pixels near blocks' edges that things of other tiles may take (``extend``), of
    those that a core keeps; ``reached`` are their places in the block,
    ``reached_instance_id`` ... what they become.
    """
    if not spans:
        return {}
    merged = {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}
    count = int(group.max(initial=-1)) + 1
    place = np.full(count, np.iinfo(np.int64).max)
    np.minimum.at(place, group, merged["place"])
    width = max(block.window.col_end for block, _, _ in spans)
    kept = place[group] < np.iinfo(np.int64).max
    reach = chosen([pixels[kept[pixels[:, 3]]] for pixels in reaches])
    taken = group[reach[:, 3]]
    np.minimum.at(place, taken, reach[:, 0] * width + reach[:, 1])
    ids = np.zeros(count, np.uint32)
    order = np.argsort(place, kind="stable")
    order = order[place[order] < np.iinfo(np.int64).max]
    ids[order] = np.arange(1, len(order) + 1)
    whole: Arrays = {
        "instance_id": ids,
        "category_id": _majority(merged["votes"], group, count),
        "score": _mean(merged["score_sum"], merged["score_pixels"], group, count),
    }
    out = {}
    for block, base, objects in spans:
        own = group[base : base + objects]
        table = {
            name: np.concatenate([np.zeros(1, values.dtype), values[own]])
            for name, values in whole.items()
        }
        here = slice(*np.searchsorted(reach[:, 4], [block.number, block.number + 1]))
        window, pixels = block.window, reach[here]
        row, col = pixels[:, 0] - window.row_off, pixels[:, 1] - window.col_off
        table["reached"] = row * window.width + col
        table |= {f"reached_{name}": values[taken[here]] for name, values in whole.items()}
        out[block.number] = table
    return out


def _majority(votes: Pairs, group: NDArray[np.int64], count: int) -> NDArray[np.uint8]:
    keys, inverse = np.unique(group[votes[:, 0]] * 256 + votes[:, 1], return_inverse=True)
    pixels = np.zeros(len(keys), np.int64)
    np.add.at(pixels, inverse, votes[:, 2])
    # the last one written wins: most pixels, then the lower category
    order = np.lexsort((-(keys % 256), pixels))
    out = np.full(count, NODATA_CATEGORY, np.uint8)
    out[keys[order] // 256] = keys[order] % 256
    return out


def _mean(
    sums: NDArray[np.int64], pixels: NDArray[np.int64], group: NDArray[np.int64], count: int
) -> NDArray[np.uint8]:
    """Mean level, halves up; 255 where no pixel has a score."""
    total, number = np.zeros(count, np.int64), np.zeros(count, np.int64)
    np.add.at(total, group, sums)
    np.add.at(number, group, pixels)
    mean = (2 * total + number) // np.maximum(2 * number, 1)
    return np.where(number > 0, mean, NO_SCORE).astype(np.uint8)
