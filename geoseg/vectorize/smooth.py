"""Smoothed outlines: corners cut within half a pixel, the same for both neighbours.

On boundaries with shared vertices the corner of every bend is cut once (Chaikin 1974), from a
point on the edge before it to a point on the edge behind it. Both lie half a pixel from the bend.
Where one of the edges is a step, a single pixel between two opposite bends, the point on the other
lies in that edge's middle: cuts then join the middles of the steps, and a staircase of any slope
becomes a straight line. Points in which the cuts before and behind are in line are left out.
Nodes, where three or more edges meet, and all vertices on the raster's edge are not cut.

Why nothing can go wrong: let E be the edge of a bend on which the cut ends farther off. What is
cut off, a triangle, lies on the inner side of the bend, within half a pixel of E, on the bend's
half of E (and of its other edge). No boundary is inside it: the pixels along E on that side are of
one region, as a boundary between two of them would end on E in a node. Nor do two triangles share
more than a point in which two cuts meet. Where both reach into a pixel, with E and F the edges, E
and F are either the same, then each triangle keeps to its half; or opposite sides of the pixel,
then each keeps to its half of the pixel; or they meet in a corner of the pixel. If that is the bend
of one triangle, the other keeps to the far half of an edge of which the first has the near half; if
of none, one keeps to within half a pixel of an edge, where the other is at least half a pixel off.
So all boundaries move through places where no other is: they meet where they met before and
nowhere else, polygons stay valid and holes within, borders match vertex by vertex.

No outline moves by more than half a pixel. No centre of a pixel changes sides, as triangles reach
the middle between E and the next row of the lattice only where they lean on the other edge:
rasterizing at centres gives the raster back. Of the two cuts of an edge none takes more than an
eighth of its length, in square pixels, so areas change by a quarter of the outline at most.

What becomes of a bend depends on three vertices before and three behind it along the boundary: how
the raster was cut into tiles or blocks makes no difference.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from geoseg.vectorize.compiled import inner, kernel
from geoseg.vectorize.intrinsics import load_i64
from geoseg.vectorize.rings import Polygons, Rings

__all__ = ["PARTS", "smoothed"]

PARTS = 2
"""Smoothed outlines count in half pixels."""


@inner
def _vertex(address: int, n: int, v: int, shape: Any) -> Any:
    """(x, y, flags, fixed) of vertex ``v`` of a ring, counted on beyond its end."""
    both = load_i64(address + 8 * (v % n))
    x, y = both & 0xFFFFFFFF, both >> 34
    flags = (both >> 32) & 3
    fixed = (flags & 1) != 0 or x == 0 or y == 0 or x == shape[1] or y == shape[0]
    return x, y, flags, fixed


@inner
def _step(one: Any, other: Any) -> Any:
    """(dx, dy, length) of the lattice edge between two vertices: a unit step and how many."""
    dx, dy = other[0] - one[0], other[1] - one[1]
    return (dx > 0) - (dx < 0), (dy > 0) - (dy < 0), abs(dx) + abs(dy)


@inner
def _turn(before: Any, behind: Any) -> int:
    """The turn between two edges: 1 or -1."""
    return int(before[0] * behind[1] - before[1] * behind[0])


@inner
def _is_step(before: Any, edge: Any, behind: Any, ends: Any) -> bool:
    """Whether an edge is a single pixel between two opposite bends."""
    one, other = ends
    return edge[2] == 1 and not (one[3] or other[3]) and _turn(before, edge) == -_turn(edge, behind)


@inner
def _put(xy: Any, at: int, x: int, y: int, flags: int) -> int:
    """Write a vertex where there is room; returns the place behind it."""
    if xy.shape[0]:
        xy[at, 0], xy[at, 1] = x, (y << 2) | flags
    return at + 1


@inner
def _write_edge(around: Any, xy: Any, at: int) -> int:
    """Write where the cuts at both ends of an edge end: the edge between the middle two of six
    vertices of a ring.
    """
    a, b, v, w, c, d = around
    far, before, edge = _step(a, b), _step(b, v), _step(v, w)
    behind, away = _step(w, c), _step(c, d)
    stepped = _is_step(before, edge, behind, (v, w))
    # how far cuts reach along the edge from both ends, in half pixels
    near = edge[2] if _is_step(far, before, edge, (b, v)) else 1
    rest = edge[2] if _is_step(edge, behind, away, (w, c)) else 1
    if not (v[3] or w[3]) and near + rest == 2 * edge[2]:
        # one point: how far the cuts that meet here reach along the edges before and behind
        back = before[2] if stepped else 1
        on = behind[2] if stepped else 1
        if _turn(before, edge) * back * rest + _turn(edge, behind) * near * on == 0:
            return at
        rest = 0
    if not v[3]:
        x, y = PARTS * v[0] + near * edge[0], PARTS * v[1] + near * edge[1]
        at = _put(xy, at, x, y, 0)
    if not w[3] and rest:
        x, y = PARTS * w[0] - rest * edge[0], PARTS * w[1] - rest * edge[1]
        at = _put(xy, at, x, y, 0)
    return at


@kernel
def _smooth(rings: Any, shape: Any, start: Any, count: Any, xy: Any) -> int:
    """Fill ``start`` and ``count`` of smoothed rings, and ``xy`` unless it is empty.

    Args:
        rings: (address, count) of rings with shared vertices.
        shape: rows and cols of the raster.
        start: where each ring begins in ``xy``.
        count: its number of vertices.
        xy: int32 (n, 2), in half pixels, flags as before.

    Returns:
        The number of vertices.

    """
    at = 0
    for r in range(rings[0].size):
        address, n = rings[0][r], rings[1][r]
        start[r] = at
        a, b = _vertex(address, n, n - 2, shape), _vertex(address, n, n - 1, shape)
        v, w = _vertex(address, n, 0, shape), _vertex(address, n, 1, shape)
        c = _vertex(address, n, 2, shape)
        for k in range(n):
            d = _vertex(address, n, k + 3, shape)
            if v[3]:
                at = _put(xy, at, PARTS * v[0], PARTS * v[1], v[2])
            at = _write_edge((a, b, v, w, c, d), xy, at)
            a, b, v, w, c = b, v, w, c, d
        count[r] = at - start[r]
    return at


def smoothed(rings: Rings, shape: tuple[int, int]) -> Rings:
    """Polygons with shared vertices, their outlines smoothed, in units of 1 / PARTS pixel.

    What the table says (pixels, corners, sums) stays as it was, in pixels.
    """
    start, count = np.empty_like(rings.count), np.empty_like(rings.count)
    old = (rings.address, rings.count)
    n = _smooth(old, shape, start, count, np.empty((0, 2), np.int32))
    xy = np.empty((n, 2), np.int32)
    if n:
        _smooth(old, shape, start, count, xy)
    rings.release()
    return replace(Rings.of(Polygons(xy, start, count, rings.table)), release=rings.release)
