"""Minimum spanning forests rooted in markers: floods that do not depend on tiling.

Every pixel goes to the marker to which it is joined by the minimum spanning forest of the
pixel graph (Meyer 1994; Cousty et al. 2009, "Watershed cuts: minimum spanning forests and
the drop of water principle", doi 10.1109/TPAMI.2008.173). Edges are in a total order: by
key (weight, then tie-break), then by their place in the scene (raster order of the left or
upper pixel, right before down). The forest is unique, so it can be computed in pieces: an
edge that closes a cycle within a block closes it in the scene too.

A block keeps its pieces: pixels that are certain to go together with one of its terminals
(the pixels of its border, and markers). Of the rest only the edges between pieces matter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from geoseg.grid import Block, BlockGrid
from geoseg.models.classic.links import Nodes, first_pixels, numbered_by_first, ring
from geoseg.models.segmenter import Arrays

__all__ = ["NO_EDGE", "EdgeKeys", "Forest", "find", "local_forest", "solve_forest", "weight_keys"]

NO_EDGE = np.uint64(0xFFFFFFFFFFFFFFFF)
"""Key of pixels that are not joined, whatever comes."""

EdgeKeys = Callable[[NDArray[Any], NDArray[Any]], NDArray[np.uint64]]
"""Key of edges from the values (feature, ...) of their two ends."""


def weight_keys(weight: NDArray[Any], tie: NDArray[Any]) -> NDArray[np.uint64]:
    """Keys in the order of two non-negative numbers, each rounded to float32."""
    # the bits of non-negative floats are in the order of the floats
    high = (weight.astype(np.float32) + np.float32(0)).view(np.uint32).astype(np.uint64)
    low = (tie.astype(np.float32) + np.float32(0)).view(np.uint32).astype(np.uint64)
    return (high << np.uint64(32)) | low


@dataclass(frozen=True, slots=True)
class Forest:
    """The forest of one block.

    ``piece`` (row, col) int32: terminal of each pixel, from 1; 0 where no terminal is
    reached. ``marked`` (terminal,): is a marker. ``edges`` (edge, 2) terminals from 1 that
    an edge of key ``keys`` and scene-wide number ``ids`` joins, unless the scene says no.
    """

    piece: NDArray[np.int32]
    marked: NDArray[np.bool_]
    edges: NDArray[np.int64]
    keys: NDArray[np.uint64]
    ids: NDArray[np.int64]


def local_forest(
    values: NDArray[Any],
    usable: NDArray[np.bool_],
    markers: NDArray[np.bool_],
    keys: EdgeKeys,
    place: tuple[int, int, int],
) -> Forest:
    """The forest of a block from values (feature, row, col).

    ``place`` is the block's first row and column and the width of the scene.
    """
    rows, cols = usable.shape
    key = np.full((rows, cols, 2), NO_EDGE)
    right = keys(values[..., :, :-1], values[..., :, 1:])
    down = keys(values[..., :-1, :], values[..., 1:, :])
    key[:, :-1, 0] = np.where(usable[:, :-1] & usable[:, 1:], right, NO_EDGE)
    key[:-1, :, 1] = np.where(usable[:-1] & usable[1:], down, NO_EDGE)
    flat = key.reshape(-1)
    order = np.flatnonzero(flat != NO_EDGE)
    order = order[np.argsort(flat[order], kind="stable")]
    terminal = np.zeros((rows, cols), np.int32)
    border = np.zeros((rows, cols), bool)
    border[[0, -1], :] = border[:, [0, -1]] = True
    is_terminal = usable & (border | markers)
    count = int(is_terminal.sum())
    terminal[is_terminal] = np.arange(1, count + 1)
    marked = (markers & usable).reshape(-1)
    piece, joined = _grow(order, cols, terminal.reshape(-1), marked)
    at = joined[:, 2] // 2
    ids = 2 * ((at // cols + place[0]) * place[2] + at % cols + place[1]) + joined[:, 2] % 2
    return Forest(
        piece.reshape(rows, cols),
        marked[np.flatnonzero(is_terminal.reshape(-1))],
        joined[:, :2],
        flat[joined[:, 2]],
        ids,
    )


@numba.njit(cache=True, nogil=True)
def find(parent: Any, x: Any) -> Any:
    """Root of x, its path halved on the way."""
    while parent[x] != x:
        parent[x] = parent[parent[x]]
        x = parent[x]
    return x


@numba.njit(cache=True, nogil=True)
def _grow(order: Any, cols: int, terminal: Any, marked: Any) -> Any:
    """Kruskal over a block: (terminal of each pixel, edges that the scene must decide)."""
    pixels = terminal.size
    tree = np.arange(pixels, dtype=np.int32)
    piece = np.arange(pixels, dtype=np.int32)
    owner = terminal.copy()
    holds = terminal > 0
    rooted = marked.copy()
    joined = np.empty((max(holds.sum(), 1), 3), np.int64)
    count = 0
    for e in order:
        p = e // 2
        q = p + (cols if e % 2 else 1)
        a, b = find(tree, p), find(tree, q)
        if a == b or (rooted[a] and rooted[b]):
            continue
        u, v = find(piece, p), find(piece, q)
        if holds[a] and holds[b]:
            # the scene may have cut either tree before: what counts is the pixels' own pieces
            joined[count, 0], joined[count, 1], joined[count, 2] = owner[u], owner[v], e
            count += 1
        else:
            first, last = min(u, v), max(u, v)
            piece[last] = first
            owner[first] = max(owner[u], owner[v])
        first, last = min(a, b), max(a, b)
        tree[last] = first
        holds[first] = holds[a] or holds[b]
        rooted[first] = rooted[a] or rooted[b]
    out = np.empty(pixels, np.int32)
    for p in range(pixels):
        out[p] = owner[find(piece, p)]
    return out, joined[:count]


def frame_of(forest: Forest, values: NDArray[Any], block: Block, width: int) -> Arrays:
    """What the scene must know of a block's forest."""
    size = len(forest.marked)
    return (
        ring("label", forest.piece)
        | ring("value", values)
        | {
            "first": first_pixels(forest.piece, block, width, size),
            "marked": forest.marked,
            "edges": forest.edges,
            "keys": forest.keys,
            "ids": forest.ids,
        }
    )


def solve_forest(
    frames: Iterable[tuple[Block, Arrays]], grid: BlockGrid, keys: EdgeKeys
) -> Mapping[int, Arrays]:
    """Instance id of each terminal: 0 where no marker is reached."""
    nodes = Nodes.of(frames, grid)
    pairs = [nodes.inner("edges")]
    key = [nodes.gather("keys").astype(np.uint64)]
    ids = [nodes.gather("ids").astype(np.int64)]
    width = grid.tiles.shape[1]
    for crossing in nodes.crossings():
        assert crossing.value_a is not None and crossing.value_b is not None
        pairs.append(np.stack([crossing.a, crossing.b], 1))
        key.append(keys(crossing.value_a, crossing.value_b))
        ids.append(2 * (crossing.row * width + crossing.col) + int(crossing.down))
    all_pairs, all_keys = np.concatenate(pairs), np.concatenate(key)
    order = np.lexsort([np.concatenate(ids), all_keys])
    order = order[all_keys[order] != NO_EDGE]
    marked = nodes.gather("marked").astype(bool)
    tree, rooted = _join(all_pairs[order], marked)
    instance = np.zeros(nodes.count, np.uint32)
    first = nodes.gather("first")
    instance[rooted] = numbered_by_first(tree[rooted], first[rooted])
    return nodes.scatter(instance, "instance")


@numba.njit(cache=True, nogil=True)
def _join(pairs: Any, marked: Any) -> Any:
    """Kruskal over the terminals: (tree, whether it holds a marker) of each."""
    count = marked.size
    tree = np.arange(count)
    rooted = marked.copy()
    for e in range(len(pairs)):
        a, b = find(tree, pairs[e, 0]), find(tree, pairs[e, 1])
        if a == b or (rooted[a] and rooted[b]):
            continue
        tree[max(a, b)] = min(a, b)
        rooted[min(a, b)] = rooted[a] or rooted[b]
    for i in range(count):
        tree[i] = find(tree, i)
    return tree, rooted[tree]
