"""Rings that closed in a merge: gathered, given to their regions, collected as polygons."""

from __future__ import annotations

from typing import Any

import numpy as np

from geoseg.vectorize.columns import (
    COUNT,
    HOLE_HEAD,
    HOLE_KEY,
    HOLE_TAIL,
    HOLE_WIDTH,
    LEFT,
    LEFT_HEAD,
    LEFT_SUMS,
    LEFT_TAIL,
    LEFT_WIDTH,
    MAXKEY,
    NEXT_HOLE,
    NEXT_PIECE,
    NONE,
    OFFSET,
    PIECE_HEAD,
    PIECE_TAIL,
    PIXELS,
    POLYGON_WIDTH,
    ROW,
)
from geoseg.vectorize.compiled import inner, kernel
from geoseg.vectorize.join import give_holes
from geoseg.vectorize.parts import sort_holes
from geoseg.vectorize.trace import ARC, rotate

__all__ = ["close_rings", "compact", "gather_rings", "ring_vertices"]


@kernel
def ring_vertices(rings: Any, pieces: Any) -> int:
    """Number of vertices of all rings together."""
    n = 0
    for r in range(rings.shape[0]):
        i = rings[r, PIECE_HEAD]
        while i != NONE:
            n += pieces[i, COUNT]
            i = pieces[i, NEXT_PIECE]
    return n


@kernel
def gather_rings(rings: Any, pieces: Any, xy: Any, at: int) -> None:
    """Copy the pieces of rings to ``xy`` from vertex ``at`` on, one behind the other.

    PIECE_HEAD and PIECE_TAIL become start and number; rings start at their lower right vertex.
    """
    vertices = xy.reshape(-1).view(np.int64)
    for r in range(rings.shape[0]):
        start = at
        i = rings[r, PIECE_HEAD]
        while i != NONE:
            s, n = pieces[i, OFFSET], pieces[i, COUNT]
            for v in range(n):
                xy[at + v, 0], xy[at + v, 1] = xy[s + v, 0], xy[s + v, 1]
            at += n
            i = pieces[i, NEXT_PIECE]
        rings[r, PIECE_HEAD], rings[r, PIECE_TAIL] = start, at - start
        rotate(vertices[start:at], rings[r, MAXKEY])


@kernel
def close_rings(rings: Any, roots: Any, arcs: Any, holes: Any, n_holes: int) -> Any:
    """Give closed holes to their regions and collect the finished polygons.

    Args:
        rings: closed, gathered.
        roots: of the rings.
        arcs: open ones; they get the holes of their regions.
        holes: table with room for the new ones.
        n_holes: where new ones go.

    Returns:
        Start and number of coordinates per ring, polygons (m, POLYGON_WIDTH), what belongs to
        owners on the left (k, LEFT_WIDTH).

    """
    n_outer, n_left = 0, 0
    for r in range(roots.size):
        n_outer += roots[r] == r
        n_left += roots[r] <= LEFT
    left = np.empty((n_left, LEFT_WIDTH), np.int64)
    n_left = 0
    for r in range(roots.size):
        if roots[r] == r or roots[r] == NONE:
            continue
        hole = holes[n_holes]
        hole[OFFSET], hole[COUNT] = rings[r, PIECE_HEAD], rings[r, PIECE_TAIL]
        hole[HOLE_KEY], hole[NEXT_HOLE] = rings[r, MAXKEY], NONE
        give_holes(rings[r], n_holes, n_holes, holes)
        n_holes += 1
        head, tail = rings[r, HOLE_HEAD], rings[r, HOLE_TAIL]
        if roots[r] <= LEFT:
            left[n_left, ROW], left[n_left, LEFT_HEAD] = LEFT - roots[r], head
            left[n_left, LEFT_TAIL] = tail
            for c in range(3):
                left[n_left, LEFT_SUMS + c] = rings[r, PIXELS + c]
            n_left += 1
        elif roots[r] >= ARC:
            arc = arcs[roots[r] & ~ARC]
            for c in range(3):
                arc[PIXELS + c] += rings[r, PIXELS + c]
            give_holes(arc, head, tail, holes)
        else:
            arc = rings[roots[r]]
            for c in range(3):
                arc[PIXELS + c] += rings[r, PIXELS + c]
            give_holes(arc, head, tail, holes)
    n_rings = 0
    for r in range(roots.size):
        if roots[r] == r:
            n_rings += 1
            i = rings[r, HOLE_HEAD]
            while i != NONE:
                n_rings += 1
                i = holes[i, NEXT_HOLE]
    start, count = np.empty(n_rings, np.int64), np.empty(n_rings, np.int64)
    keys = np.empty(n_rings, np.int64)
    polygons = np.empty((n_outer, POLYGON_WIDTH), np.int64)
    at, m = 0, 0
    for r in range(roots.size):
        if roots[r] != r:
            continue
        for c in range(POLYGON_WIDTH):
            polygons[m, c] = rings[r, c]
        polygons[m, PIECE_HEAD] = at
        start[at], count[at] = rings[r, PIECE_HEAD], rings[r, PIECE_TAIL]
        at += 1
        first = at
        i = rings[r, HOLE_HEAD]
        while i != NONE:
            start[at], count[at], keys[at] = holes[i, OFFSET], holes[i, COUNT], holes[i, HOLE_KEY]
            at += 1
            i = holes[i, NEXT_HOLE]
        sort_holes(keys, start, count, first, at)
        polygons[m, PIECE_TAIL] = at - first + 1
        m += 1
    return start, count, polygons, left


@inner
def _move_list(head: int, holes: Any, xy: Any, moved: Any, at: Any) -> tuple[int, int]:
    """Copy a list of holes with its coordinates; ``at``: next free vertex and hole."""
    first = at[1] if head != NONE else NONE
    while head != NONE:
        new, n = moved[1][at[1]], holes[head, COUNT]
        s = holes[head, OFFSET]
        for v in range(n):
            moved[0][at[0] + v, 0], moved[0][at[0] + v, 1] = xy[s + v, 0], xy[s + v, 1]
        new[OFFSET], new[COUNT], new[HOLE_KEY] = at[0], n, holes[head, HOLE_KEY]
        at[0] += n
        at[1] += 1
        head = holes[head, NEXT_HOLE]
        new[NEXT_HOLE] = at[1] if head != NONE else NONE
    return first, at[1] - 1 if first != NONE else NONE


@kernel
def compact(arcs: Any, left: Any, pieces: Any, holes: Any, xy: Any) -> Any:
    """Copy what is still alive: one piece per arc, the holes of arcs and of ``left``.

    ``arcs`` and ``left`` are renumbered in place. Returns pieces, holes, coordinates.
    """
    n_xy, n_holes = ring_vertices(arcs, pieces), 0
    for i in range(arcs.shape[0] + left.shape[0]):
        a = i - arcs.shape[0]
        h = arcs[i, HOLE_HEAD] if a < 0 else left[a, LEFT_HEAD]
        while h != NONE:
            n_xy += holes[h, COUNT]
            n_holes += 1
            h = holes[h, NEXT_HOLE]
    new_xy = np.empty((n_xy, 2), np.int32)
    new_holes = np.empty((n_holes, HOLE_WIDTH), np.int64)
    new_pieces = np.empty((arcs.shape[0], 3), np.int64)
    at = np.zeros(2, np.int64)
    moved = (new_xy, new_holes)
    for a in range(arcs.shape[0]):
        start, i = at[0], arcs[a, PIECE_HEAD]
        while i != NONE:
            s, n = pieces[i, OFFSET], pieces[i, COUNT]
            for v in range(n):
                new_xy[at[0] + v, 0], new_xy[at[0] + v, 1] = xy[s + v, 0], xy[s + v, 1]
            at[0] += n
            i = pieces[i, NEXT_PIECE]
        new_pieces[a, OFFSET], new_pieces[a, COUNT] = start, at[0] - start
        new_pieces[a, NEXT_PIECE] = NONE
        arcs[a, PIECE_HEAD] = arcs[a, PIECE_TAIL] = a if at[0] > start else NONE
        head, tail = _move_list(arcs[a, HOLE_HEAD], holes, xy, moved, at)
        arcs[a, HOLE_HEAD], arcs[a, HOLE_TAIL] = head, tail
    for i in range(left.shape[0]):
        head, tail = _move_list(left[i, LEFT_HEAD], holes, xy, moved, at)
        left[i, LEFT_HEAD], left[i, LEFT_TAIL] = head, tail
    return new_pieces, new_holes, new_xy
