"""What a traced tile gives: finished polygons, and the open part that merging needs."""

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
    OWNER,
    PIECE_HEAD,
    PIECE_TAIL,
    PIXELS,
    POLYGON_WIDTH,
    ROW,
    SCORED,
    SCORES,
)
from geoseg.vectorize.compiled import inner, kernel
from geoseg.vectorize.roots import find_root
from geoseg.vectorize.trace import ARC

__all__ = ["collect_polygons", "open_part", "sort_holes"]


@inner
def _swap(keys: Any, start: Any, count: Any, i: int, j: int) -> None:
    keys[i], keys[j] = keys[j], keys[i]
    start[i], start[j] = start[j], start[i]
    count[i], count[j] = count[j], count[i]


@inner
def sort_holes(keys: Any, start: Any, count: Any, first: int, last: int) -> None:
    """Sort the holes ``first`` to ``last`` of one polygon by key, nearly sorted ones quickly."""
    steps = 0
    for i in range(first + 1, last):
        j = i
        while j > first and keys[j - 1] > keys[j]:
            _swap(keys, start, count, j - 1, j)
            j -= 1
            steps += 1
        if steps > 16 * (last - first):
            break
    else:
        return
    # heap sort: no order is slow
    n = last - first
    for step in range(n + n // 2):
        top, end = n // 2 - 1 - step, n
        if top < 0:
            end = n + n // 2 - 1 - step
            top = 0
            _swap(keys, start, count, first, first + end)
        while 2 * top + 1 < end:
            child = 2 * top + 1
            if child + 1 < end and keys[first + child + 1] > keys[first + child]:
                child += 1
            if keys[first + top] >= keys[first + child]:
                break
            _swap(keys, start, count, first + top, first + child)
            top = child


@kernel
def collect_polygons(rings: Any, roots: Any, order: Any) -> Any:
    """Outer rings with their holes behind them, all by lower right vertex.

    Args:
        rings: (n, RING_WIDTH), PIECE_HEAD and PIECE_TAIL start and number of the coordinates.
        roots: per ring the outer ring that it belongs to; others are left out.
        order: of the rings by lower right vertex.

    Returns:
        Start and number of coordinates per ring, polygons (m, POLYGON_WIDTH).

    """
    n = rings.shape[0]
    place = np.zeros(n, np.int64)  # number of rings, then where the next one goes
    n_kept, n_outer = 0, 0
    for r in range(n):
        root = roots[r]
        if 0 <= root < ARC:
            place[root] += 1
            n_kept += 1
            n_outer += root == r
    start, count = np.empty(n_kept, np.int64), np.empty(n_kept, np.int64)
    polygons = np.empty((n_outer, POLYGON_WIDTH), np.int64)
    m, at = 0, 0
    for i in range(n):
        r = np.int64(order[i])
        if roots[r] == r:
            for c in range(POLYGON_WIDTH):
                polygons[m, c] = rings[r, c]
            start[at], count[at] = rings[r, PIECE_HEAD], rings[r, PIECE_TAIL]
            polygons[m, PIECE_HEAD], polygons[m, PIECE_TAIL] = at, place[r]
            at += place[r]
            place[r] = (m << 32) | (at - place[r] + 1)
            m += 1
    if n_kept == n_outer:
        return start, count, polygons
    for i in range(n):
        r = np.int64(order[i])
        root = roots[r]
        if root != r and 0 <= root < ARC:
            t = place[root] & 0xFFFFFFFF
            place[root] += 1
            start[t], count[t] = rings[r, PIECE_HEAD], rings[r, PIECE_TAIL]
            outer = polygons[place[root] >> 32]
            outer[PIXELS] += rings[r, PIXELS]
            outer[SCORES] += rings[r, SCORES]
            outer[SCORED] += rings[r, SCORED]
    return start, count, polygons


@inner
def _to_arc(code: int, y0: int) -> int:
    """An owner as the open part knows it: an arc, ``LEFT - row`` of the scene, or NONE."""
    if code >= ARC:
        return code & ~ARC
    if code <= LEFT:
        return code - y0
    return NONE


@kernel
def open_part(rings: Any, roots: Any, xy: Any, arcs: Any, arc_xy: Any, rest: Any) -> Any:
    """Finish the tables of the open part.

    Args:
        rings: closed rings; those whose root is not an outer ring go with their region.
        roots: of the rings.
        xy: the rings' coordinates.
        arcs: as cut; OWNER, piece and hole columns and scores are completed in place.
        arc_xy: the arcs' coordinates.
        rest: (rec, row owners as records, row of the tile's origin, packed summed scores).

    Returns:
        Pieces (n, 3), holes (m, HOLE_WIDTH), coordinates of both, owner per row of the right
        border, what belongs to owners left of the tile (k, LEFT_WIDTH).

    """
    rec, row_owner, y0, table = rest
    n_arcs, h = arcs.shape[0], row_owner.size
    n_holes, n_xy = 0, arc_xy.shape[0]
    for r in range(roots.size):
        if roots[r] < 0 or roots[r] >= ARC:
            n_holes += 1
            n_xy += rings[r, PIECE_TAIL]
    open_xy = np.empty((n_xy, 2), np.int32)
    for v in range(arc_xy.shape[0]):
        open_xy[v, 0], open_xy[v, 1] = arc_xy[v, 0], arc_xy[v, 1]
    pieces = np.empty((n_arcs, 3), np.int64)
    for a in range(n_arcs):
        pieces[a, OFFSET], pieces[a, COUNT] = arcs[a, PIECE_HEAD], arcs[a, PIECE_TAIL]
        pieces[a, NEXT_PIECE] = NONE
        arcs[a, PIECE_HEAD] = arcs[a, PIECE_TAIL] = a if pieces[a, COUNT] else NONE
        if arcs[a, OWNER] >= 0:
            arcs[a, OWNER] = find_root(arcs[a, OWNER], rec.ring, rings, roots)
        arcs[a, OWNER] = _to_arc(arcs[a, OWNER], y0)
    holes = np.empty((n_holes, HOLE_WIDTH), np.int64)
    left = np.empty((n_holes + (h if table.shape[0] > 1 else 0), LEFT_WIDTH), np.int64)
    n_left, m, at = 0, 0, arc_xy.shape[0]
    for r in range(roots.size):
        if 0 <= roots[r] < ARC:
            continue
        s, n = rings[r, PIECE_HEAD], rings[r, PIECE_TAIL]
        for v in range(n):
            open_xy[at + v, 0], open_xy[at + v, 1] = xy[s + v, 0], xy[s + v, 1]
        holes[m, OFFSET], holes[m, COUNT], holes[m, HOLE_KEY] = at, n, rings[r, MAXKEY]
        holes[m, NEXT_HOLE] = NONE
        at += n
        owner = _to_arc(roots[r], y0)
        if owner >= 0:
            arc = arcs[owner]
            holes[m, NEXT_HOLE] = arc[HOLE_HEAD]
            if arc[HOLE_HEAD] == NONE:
                arc[HOLE_TAIL] = m
            arc[HOLE_HEAD] = m
            for c in range(3):
                arc[PIXELS + c] += rings[r, PIXELS + c]
        else:
            left[n_left, ROW], left[n_left, LEFT_HEAD], left[n_left, LEFT_TAIL] = LEFT - owner, m, m
            for c in range(3):
                left[n_left, LEFT_SUMS + c] = rings[r, PIXELS + c]
            n_left += 1
        m += 1
    rows = np.empty(h, np.int64)
    for i in range(h):
        code = row_owner[i]
        if code >= 0:
            code = find_root(code, rec.ring, rings, roots)
        rows[i] = _to_arc(code, y0)
        if table.shape[0] > 1 and code != NONE:
            packed = table[i + 1, -1] - table[i, -1]
            total, scored = packed & 0xFFFFFFFF, packed >> 32
            if rows[i] >= 0:
                arcs[rows[i], SCORES] += total
                arcs[rows[i], SCORED] += scored
            else:
                left[n_left, ROW] = LEFT - rows[i]
                left[n_left, LEFT_HEAD] = left[n_left, LEFT_TAIL] = NONE
                left[n_left, LEFT_SUMS] = 0
                left[n_left, LEFT_SUMS + 1], left[n_left, LEFT_SUMS + 2] = total, scored
                n_left += 1
    return pieces, holes, open_xy, rows, left[:n_left]
