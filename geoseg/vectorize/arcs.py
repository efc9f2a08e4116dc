"""Simplifying shared arcs without a crossing, deciding from one polygon at a time.

An arc is the boundary between two nodes (vertices where three or more edges meet). It is
simplified by Douglas and Peucker (1973), always in the same direction, so both neighbours get
the same vertices. A chord is taken only when its lobes hold no other vertex (see ``lobes``);
chords that must not be are listed, and both neighbours split there.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from geoseg.vectorize.columns import PIECE_HEAD, PIECE_TAIL
from geoseg.vectorize.compiled import inlined, inner, kernel
from geoseg.vectorize.lobes import chord_distance, lobe_is_free, no_index

__all__ = ["build_set", "keep_vertices"]


@inner
def _mix(value: Any) -> Any:
    """A well-spread hash of an int64 (the finalizer of SplitMix64)."""
    z = np.uint64(value) + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.int64(z ^ (z >> np.uint64(31)))


@inner
def _point(x: Any, y: Any) -> Any:
    return (np.int64(y) << 32) | np.int64(x)


@kernel
def build_set(keys: Any) -> Any:
    """Hash set of non-zero int64: a table whose size is a power of two, 0 where empty."""
    size = 16
    while size < 2 * keys.size:
        size *= 2
    table = np.zeros(size, np.int64)
    for key in keys:
        s = key & (size - 1)
        while table[s] != 0 and table[s] != key:
            s = (s + 1) & (size - 1)
        table[s] = key
    return table


@inner
def _contains(table: Any, key: int) -> bool:
    s = key & (table.size - 1)
    while table[s] != 0:
        if table[s] == key:
            return True
        s = (s + 1) & (table.size - 1)
    return False


@inner
def _chord_key(ax: Any, ay: Any, i: int, j: int) -> int:
    """Of the chord from vertex i to j and the way that it takes."""
    key = _mix(_point(ax[i], ay[i]))
    key = _mix(key ^ _point(ax[j], ay[j]))
    key = _mix(key ^ _point(ax[i + 1], ay[i + 1]))
    return key if key != 0 else 1


@inner
def _pair_key(one: int, other: int) -> int:
    """Of two ends, in any order, given by _mix of their points."""
    key = one + other
    return key if key != 0 else 1


@inlined
def _farthest(ax: Any, ay: Any, chord: Any, among: Any) -> tuple[int, float, float]:
    """The first vertex inside ``among`` farthest from a chord, its chord_distance, and squared."""
    i, j, sx, sy = chord
    dx, dy = (ax[j] - ax[i]) * sx, (ay[j] - ay[i]) * sy
    best, at = -1.0, among[0]
    for k in range(among[0] + 1, among[1]):
        d = chord_distance(dx, dy, (ax[k] - ax[i]) * sx, (ay[k] - ay[i]) * sy)
        if d > best:
            best, at = d, k
    length = dx * dx + dy * dy
    return at, best, best / length if length > 0.0 else best


@inlined
def _ends(ax: Any, ay: Any, n: int, scale: Any, keep: Any) -> None:
    """Mark the vertices of an arc that are kept in any case."""
    sx, sy = scale
    keep[:n] = 0
    keep[0] = keep[n - 1] = 1
    if ax[0] == ax[n - 1] and ay[0] == ay[n - 1]:
        # a loop is a ring, which needs three vertices
        k, _, _ = _farthest(ax, ay, (0, n - 1, sx, sy), (0, n - 1))
        a, _, before = _farthest(ax, ay, (0, k, sx, sy), (0, k))
        b, _, behind = _farthest(ax, ay, (0, k, sx, sy), (k, n - 1))
        keep[k] = keep[a if before >= behind else b] = 1


@inlined
def _simplify_arc(arc: Any, inner: bool, how: Any, polygon: Any, work: Any) -> Any:
    """Mark the vertices of an arc to keep; list chords that must not be.

    Args:
        arc: (x, y of its vertices in canonical order, how many, the first one's number in the
            polygon, the last one's); those of a loop have the first repeated.
        inner: the chord between its ends must not be: the ring has but two arcs.
        how: (scale in x, in y, chords that must not be, those new in the last round, 1 in the
            first round).
        polygon: (x, y of its vertices, how many, index).
        work: (keep per vertex, stack, found: keys of chords found wrong and of their ends, from
            row 1 on, and their number in row 0).

    Returns:
        The index.

    """
    ax, ay, n, head, tail = arc
    sx, sy, known, fresh, first_round = how
    xs, ys, n_all, index = polygon
    keep, stack, found = work
    _ends(ax, ay, n, (sx, sy), keep)
    depth, i = 0, 0
    for j in range(1, n):
        if keep[j]:
            stack[depth, 0], stack[depth, 1], stack[depth, 2] = i, j, first_round
            depth += 1
            i = j
    while depth:
        depth -= 1
        i, j, look = stack[depth, 0], stack[depth, 1], stack[depth, 2]
        if j - i < 2:
            continue
        k, reach, squared = _farthest(ax, ay, (i, j, sx, sy), (i, j))
        split = squared > 1.0
        if not split:
            key = _chord_key(ax, ay, i, j)
            if _contains(known, key):
                split = True
                look |= _contains(fresh, key)
            elif look:
                if inner and j - i == n - 1:
                    split = True
                else:
                    first, last = (head + i, head + j) if head <= tail else (head - j, head - i)
                    free, index = lobe_is_free(
                        (ax, ay), (i, j, sx, sy, reach), (xs, ys, n_all, first, last), index
                    )
                    split = not free
                if split:
                    found[0, 0] += 1
                    row = found[0, 0]
                    found[row, 0] = key
                    ends = _mix(_point(ax[i], ay[i])), _mix(_point(ax[j], ay[j]))
                    found[row, 1] = _pair_key(ends[0], ends[1])
        if split:
            keep[k] = 1
            stack[depth, 0], stack[depth, 1], stack[depth, 2] = i, k, look
            stack[depth + 1, 0], stack[depth + 1, 1], stack[depth + 1, 2] = k, j, look
            depth += 2
    return index


@inlined
def _is_forward(xs: Any, ys: Any, a: int, b: int) -> bool:
    """Whether the canonical order of the arc from vertex a to b is the ring's.

    Canonical is the smaller end first, of loops the smaller second vertex.
    """
    if xs[a] == xs[b] and ys[a] == ys[b]:
        a, b = a + 1, b - 1
    if ys[a] != ys[b]:
        return bool(ys[a] < ys[b])
    return bool(xs[a] <= xs[b])


@inlined
def _is_touched(xy: Any, ring: Any, keep: Any, touched: Any) -> bool:
    """Whether two kept vertices in a row are ends of a chord that must not be."""
    start, count = ring
    before, first = np.int64(0), np.int64(0)
    for v in range(start, start + count):
        if keep[v]:
            here = _mix(_point(xy[v, 0], xy[v, 1] >> 2))
            if before == 0:
                first = here
            elif _contains(touched, _pair_key(before, here)):
                return True
            before = here
    return _contains(touched, _pair_key(before, first))


@inlined
def _begin(xy: Any, ring: Any, shape: Any) -> int:
    """Where a ring's first arc begins: at a node, else, in a loop, at the upper left vertex."""
    start, count = ring
    least = start
    for v in range(start, start + count):
        if _is_node(xy, v, shape):
            return v
        below = (xy[v, 1] >> 2) - (xy[least, 1] >> 2)
        if below < 0 or (below == 0 and xy[v, 0] < xy[least, 0]):
            least = v
    return least


@inlined
def _is_node(xy: Any, v: int, shape: Any) -> bool:
    """Whether three or more edges meet in a vertex, or two of the raster's."""
    if xy[v, 1] & 1:
        return True
    x, y = xy[v, 0], xy[v, 1] >> 2
    return bool((x == 0 or x == shape[1]) and (y == 0 or y == shape[0]))


@inlined
def _gather(xy: Any, ring: Any, shape: Any, place: int, into: Any) -> None:
    """Write a ring, closed and from a node on, behind ``place``."""
    start, count = ring
    xs, ys, node = into
    v = _begin(xy, ring, shape)
    for t in range(place, place + count):
        xs[t], ys[t] = xy[v, 0], xy[v, 1] >> 2
        node[t] = _is_node(xy, v, shape)
        v = v + 1 if v + 1 < start + count else start
    xs[place + count], ys[place + count] = xs[place], ys[place]
    node[place + count] = 1


@inlined
def _keep_back(xy: Any, ring: Any, shape: Any, kept: Any, keep: Any) -> None:
    """Bring what is kept of a ring back into the ring's own order."""
    start, count = ring
    v = _begin(xy, ring, shape)
    for t in range(count):
        keep[v] = kept[t]
        v = v + 1 if v + 1 < start + count else start


@kernel
def keep_vertices(xy: Any, rings: Any, polygons: Any, how: Any, keep: Any) -> Any:
    """Mark which vertices of polygons to keep.

    Args:
        xy: int32 vertices with flags.
        rings: (start, count).
        polygons: their table.
        how: (shape of the raster, 1 / tolerance in x and in y, set of chords that must not be;
            of those new in the last round the set and that of their ends; 1 in the first round).
        keep: uint8 per vertex of xy, filled for these polygons. After the first round only
            polygons in which a new chord stands are looked at again.

    Returns:
        (chord, 2) keys of chords that must not be, and of their ends.

    """
    start, count = rings
    shape, sx, sy, known, fresh, touched, first_round = how
    total = largest = 1
    for q in range(polygons.shape[0]):
        n_all = 0
        for r in range(polygons[q, PIECE_HEAD], polygons[q, PIECE_HEAD] + polygons[q, PIECE_TAIL]):
            n_all += count[r] + 1
        total += n_all
        largest = max(largest, n_all)
    found = np.zeros((total, 2), np.int64)
    xs, ys = np.empty(largest, np.int32), np.empty(largest, np.int32)
    node, kept = np.empty(largest, np.uint8), np.empty(largest, np.uint8)
    ax, ay = np.empty(largest, np.int32), np.empty(largest, np.int32)
    arc_keep, stack = np.empty(largest, np.uint8), np.empty((largest + 2, 3), np.int64)
    for q in range(polygons.shape[0]):
        own = range(polygons[q, PIECE_HEAD], polygons[q, PIECE_HEAD] + polygons[q, PIECE_TAIL])
        again = first_round == 1
        for r in own:
            again = again or _is_touched(xy, (start[r], count[r]), keep, touched)
        if not again:
            continue
        n_all = 0
        for r in own:
            _gather(xy, (start[r], count[r]), shape, n_all, (xs, ys, node))
            n_all += count[r] + 1
        kept[:n_all] = 0
        index = no_index()
        a = 0
        for r in own:
            end = a + count[r]
            nodes = 0
            for v in range(a, end):
                nodes += node[v]
            while a < end:
                b = a + 1
                while not node[b]:
                    b += 1
                if b - a == 1:
                    kept[a] = kept[b] = 1
                    a = b
                    continue
                forward = _is_forward(xs, ys, a, b)
                for t in range(b - a + 1):
                    v = a + t if forward else b - t
                    ax[t], ay[t] = xs[v], ys[v]
                ends = (a, b) if forward else (b, a)
                index = _simplify_arc(
                    (ax, ay, b - a + 1, ends[0], ends[1]),
                    nodes <= 2,
                    (sx, sy, known, fresh, first_round),
                    (xs, ys, n_all, index),
                    (arc_keep, stack, found),
                )
                for t in range(b - a + 1):
                    if arc_keep[t]:
                        kept[ends[0] + t if forward else ends[0] - t] = 1
                a = b
            _keep_back(xy, (start[r], count[r]), shape, kept[end - count[r] : end], keep)
            a = end + 1
    return found[1 : found[0, 0] + 1]
