"""Simplifying shared arcs without a crossing, deciding from one polygon at a time.

An arc is the boundary between two nodes (vertices where three or more edges meet). It is
simplified by Douglas and Peucker (1973), always in the same direction, so both neighbours get
the same vertices. A chord is taken only when its lobes, the area between chord and boundary,
hold no vertex of any other boundary: then no two simplified boundaries can cross, whatever
the others do (de Berg, van Kreveld and Schirra 1998). A lobe on the side of a polygon that
holds any vertex holds one of that polygon, so each polygon can look for itself: chords that
must not be are listed, and both neighbours split there.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from geoseg.vectorize.columns import PIECE_HEAD, PIECE_TAIL
from geoseg.vectorize.compiled import inner, kernel

__all__ = ["build_set", "keep_vertices"]

_BRUTE = 24
"""Rings of polygons up to this many vertices are searched without an index."""


@inner
def _mix(value: Any) -> Any:
    """A well-spread hash of an int64 (the finalizer of SplitMix64)."""
    z = np.uint64(value) + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.int64(z ^ (z >> np.uint64(31)))


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
def _in_lobe(ax: Any, ay: Any, i: int, j: int, x: int, y: int) -> bool:
    """Whether (x, y) is inside the closed figure of arc vertices i to j and their chord."""
    inside = False
    px, py = np.int64(ax[j]), np.int64(ay[j])
    for k in range(i, j + 1):
        qx, qy = np.int64(ax[k]), np.int64(ay[k])
        cross = (qx - px) * (y - py) - (qy - py) * (x - px)
        if cross == 0:
            if min(px, qx) <= x <= max(px, qx) and min(py, qy) <= y <= max(py, qy):
                return True
        elif (py > y) != (qy > y) and (cross > 0) == (qy > py):
            inside = not inside
        px, py = qx, qy
    return inside


@inner
def _index(xs: Any, ys: Any, n: int, cell: int) -> Any:
    """Vertices bucketed by square cells; cell 0 stands for a polygon that needs none."""
    if cell == 0:
        none = np.empty(0, np.int32)
        zero = np.int64(0)
        return none, none, (zero, zero, zero, zero, zero)
    x0, y0 = xs[:n].min(), ys[:n].min()
    wide, high = np.int64(xs[:n].max() - x0) + 1, np.int64(ys[:n].max() - y0) + 1
    while (wide // cell + 1) * (high // cell + 1) > 4 * n + 16:
        cell *= 2
    cols, rows = wide // cell + 1, high // cell + 1
    start = np.zeros(cols * rows + 1, np.int32)
    for v in range(n):
        start[(ys[v] - y0) // cell * cols + (xs[v] - x0) // cell + 1] += 1
    for c in range(cols * rows):
        start[c + 1] += start[c]
    fill, members = start[:-1].copy(), np.empty(n, np.int32)
    for v in range(n):
        c = (ys[v] - y0) // cell * cols + (xs[v] - x0) // cell
        members[fill[c]] = v
        fill[c] += 1
    return start, members, (np.int64(x0), np.int64(y0), np.int64(cell), cols, rows)


@inner
def _squared_distance(ax: Any, ay: Any, ends: Any, point: Any) -> float:
    """Squared distance of a point to the chord between two arc vertices, in tolerances."""
    i, j, sx, sy = ends
    x0, y0 = ax[i] * sx, ay[i] * sy
    dx, dy = ax[j] * sx - x0, ay[j] * sy - y0
    x, y = point[0] * sx - x0, point[1] * sy - y0
    length, t = dx * dx + dy * dy, 0.0
    if length > 0:
        t = min(max((x * dx + y * dy) / length, 0.0), 1.0)
    ex, ey = x - t * dx, y - t * dy
    return ex * ex + ey * ey


@inner
def _is_in_way(arc: Any, chord: Any, vertices: Any, v: int) -> bool:
    """Whether vertex ``v`` of the polygon lies in the lobe of a chord of the arc."""
    ax, ay = arc
    i, j, sx, sy, reach = chord
    xs, ys, place = vertices
    x, y = xs[v], ys[v]
    if i <= place[v] <= j:
        return False
    if (x == ax[i] and y == ay[i]) or (x == ax[j] and y == ay[j]):
        return False
    if _squared_distance(ax, ay, (i, j, sx, sy), (x, y)) > reach:
        return False
    return _in_lobe(ax, ay, i, j, x, y)


@inner
def _lobe_is_free(arc: Any, chord: Any, vertices: Any, index: Any) -> bool:
    """Whether no other vertex of the polygon lies in the lobe of a chord.

    Args:
        arc: x, y of its vertices.
        chord: (first, last vertex, scale in x and y, squared distance of the farthest).
        vertices: (x, y, place in the arc or -1) per vertex of the polygon.
        index: of _index; without members the polygon is small.

    """
    ax, ay = arc
    i, j = chord[0], chord[1]
    xs, ys, _ = vertices
    start, members, (x0, y0, cell, cols, _rows) = index
    low_x, high_x = ax[i : j + 1].min(), ax[i : j + 1].max()
    low_y, high_y = ay[i : j + 1].min(), ay[i : j + 1].max()
    if members.size == 0:
        for v in range(xs.size):
            if low_x <= xs[v] <= high_x and low_y <= ys[v] <= high_y:  # noqa: SIM102
                if _is_in_way(arc, chord, vertices, v):
                    return False
        return True
    for r in range((low_y - y0) // cell, (high_y - y0) // cell + 1):
        first = r * cols + (low_x - x0) // cell
        last = r * cols + (high_x - x0) // cell
        for m in range(start[first], start[last + 1]):
            v = members[m]
            if low_x <= xs[v] <= high_x and low_y <= ys[v] <= high_y:  # noqa: SIM102
                if _is_in_way(arc, chord, vertices, v):
                    return False
    return True


@inner
def _farthest(ax: Any, ay: Any, chord: Any, among: Any) -> tuple[int, float]:
    """The first vertex inside ``among`` farthest from a chord, and its squared distance."""
    best, at = -1.0, among[0]
    for k in range(among[0] + 1, among[1]):
        d = _squared_distance(ax, ay, chord, (ax[k], ay[k]))
        if d > best:
            best, at = d, k
    return at, best


@inner
def _chord_key(ax: Any, ay: Any, i: int, j: int) -> int:
    key = _mix((np.int64(ay[i]) << 32) | ax[i])
    key = _mix(key ^ ((np.int64(ay[j]) << 32) | ax[j]))
    key = _mix(key ^ ((np.int64(ay[i + 1]) << 32) | ax[i + 1]))
    return key if key != 0 else 1


@inner
def _simplify_arc(ax: Any, ay: Any, inner: bool, how: Any, work: Any) -> None:
    """Mark the vertices of an arc to keep; list chords that must not be.

    Args:
        ax: x of its vertices in canonical order, those of a loop with the first repeated.
        ay: y.
        inner: the chord between its ends must not be: the ring has but two arcs.
        how: (scale in x, in y, chords that must not be, those new in the last round, first
            round, vertices, index).
        work: (keep per vertex, stack, found: keys of chords found wrong from place 1 on, and
            their number at place 0).

    """
    sx, sy, known, fresh, first_round, vertices, index = how
    keep, stack, found = work
    n = ax.size
    keep[:n] = 0
    keep[0] = keep[n - 1] = 1
    if ax[0] == ax[n - 1] and ay[0] == ay[n - 1]:
        # a loop is a ring, which needs three vertices
        k, _ = _farthest(ax, ay, (0, n - 1, sx, sy), (0, n - 1))
        a, before = _farthest(ax, ay, (0, k, sx, sy), (0, k))
        b, behind = _farthest(ax, ay, (0, k, sx, sy), (k, n - 1))
        keep[k] = keep[a if before >= behind else b] = 1
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
        k, squared = _farthest(ax, ay, (i, j, sx, sy), (i, j))
        split = squared > 1.0
        if not split:
            key = _chord_key(ax, ay, i, j)
            if _contains(known, key):
                split = True
                look |= _contains(fresh, key)
            elif look and (
                (inner and j - i == n - 1)
                or not _lobe_is_free((ax, ay), (i, j, sx, sy, squared), vertices, index)
            ):
                split = True
                found[0] += 1
                if found[0] < found.size:
                    found[found[0]] = key
        if split:
            keep[k] = 1
            stack[depth, 0], stack[depth, 1], stack[depth, 2] = i, k, look
            stack[depth + 1, 0], stack[depth + 1, 1], stack[depth + 1, 2] = k, j, look
            depth += 2


@inner
def _is_forward(xs: Any, ys: Any, s: int, n: int, a: int, m: int) -> bool:
    """Whether the canonical order of the arc of m vertices from vertex a of a ring is the ring's.

    The ring's vertices are s to s + n; canonical is the smaller end first, of loops the
    smaller second vertex.
    """
    first, last = s + a % n, s + (a + m - 1) % n
    if first == last:
        first, last = s + (a + 1) % n, s + (a + m - 2) % n
    if ys[first] != ys[last]:
        return bool(ys[first] < ys[last])
    return bool(xs[first] <= xs[last])


@kernel
def keep_vertices(xy: Any, rings: Any, polygons: Any, how: Any, keep: Any) -> Any:
    """Mark which vertices of polygons to keep.

    Args:
        xy: int32 vertices with flags.
        rings: (start, count).
        polygons: their table.
        how: (shape of the raster, 1 / tolerance in x and in y, sets of chords that must not
            be, of those new in the last round, 1 in the first round).
        keep: uint8 per vertex of xy, filled for these polygons.

    Returns:
        Keys of chords that must not be.

    """
    start, count = rings
    shape, sx, sy, known, fresh, first_round = how
    total = 1
    largest = 0
    for q in range(polygons.shape[0]):
        n_all = 0
        for r in range(polygons[q, PIECE_HEAD], polygons[q, PIECE_HEAD] + polygons[q, PIECE_TAIL]):
            n_all += count[r]
        total += n_all
        largest = max(largest, n_all)
    found = np.zeros(max(total, 2), np.int64)
    xs, ys = np.empty(largest, np.int32), np.empty(largest, np.int32)
    place, node = np.full(largest, -1, np.int32), np.empty(largest, np.uint8)
    kept = np.empty(largest, np.uint8)
    ax, ay = np.empty(largest + 1, np.int32), np.empty(largest + 1, np.int32)
    arc_keep, stack = np.empty(largest + 1, np.uint8), np.empty((largest + 2, 3), np.int64)
    for q in range(polygons.shape[0]):
        first = polygons[q, PIECE_HEAD]
        n_all = 0
        for r in range(first, first + polygons[q, PIECE_TAIL]):
            for v in range(start[r], start[r] + count[r]):
                x, y = xy[v, 0], xy[v, 1] >> 2
                xs[n_all], ys[n_all] = x, y
                corner = (x == 0 or x == shape[1]) and (y == 0 or y == shape[0])
                node[n_all] = (xy[v, 1] & 1) or corner
                n_all += 1
        index = _index(xs, ys, n_all, 8 if n_all > _BRUTE else 0)
        vertices = (xs[:n_all], ys[:n_all], place[:n_all])
        kept[:n_all] = 0
        s = 0
        for r in range(first, first + polygons[q, PIECE_TAIL]):
            n = count[r]
            # begin at a node; a ring without nodes is a loop from its upper left vertex
            begin, n_nodes = -1, 0
            for v in range(n):
                if node[s + v]:
                    n_nodes += 1
                    begin = v if begin < 0 else begin
            if begin < 0:
                begin = 0
                for v in range(1, n):
                    u, w = s + v, s + begin
                    if ys[u] < ys[w] or (ys[u] == ys[w] and xs[u] < xs[w]):
                        begin = v
            a, end = begin, begin + n
            while a < end:
                b = a + 1
                while b < end and not node[s + b % n]:
                    b += 1
                m = b - a + 1
                forward = _is_forward(xs, ys, s, n, a, m)
                for t in range(m):
                    v = s + ((a + t) % n if forward else (b - t) % n)
                    ax[t], ay[t] = xs[v], ys[v]
                    place[v] = t
                if m > 2:
                    _simplify_arc(
                        ax[:m],
                        ay[:m],
                        n_nodes <= 2,
                        (sx, sy, known, fresh, first_round, vertices, index),
                        (arc_keep, stack, found),
                    )
                else:
                    arc_keep[:m] = 1
                for t in range(m):
                    v = s + ((a + t) % n if forward else (b - t) % n)
                    place[v] = -1
                    if arc_keep[t]:
                        kept[v] = 1
                a = b
            s += n
        s = 0
        for r in range(first, first + polygons[q, PIECE_TAIL]):
            keep[start[r] : start[r] + count[r]] = kept[s : s + count[r]]
            s += count[r]
    return found[1 : found[0] + 1]
