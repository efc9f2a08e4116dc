"""Whether a chord of an arc can be taken: no vertex of a polygon lies between chord and arc.

The area between a chord and its piece of boundary, its lobes, must hold no vertex of any other
boundary: then no two simplified boundaries can cross, whatever the others do (de Berg, van Kreveld
and Schirra 1998). A lobe on the side of a polygon that holds any vertex holds one of that polygon,
so each polygon can look for itself.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from geoseg.vectorize.compiled import inner

__all__ = ["chord_distance", "index_of", "lobe_is_free", "no_index"]

_BRUTE = 24
"""Rings of polygons up to this many vertices are searched without an index."""
_CELL_BITS = 3
"""Cells of the index are 8 units wide, or twice, four times ... that where few are filled."""
_ROUNDING = 1 + 1e-9


@inner
def chord_distance(dx: float, dy: float, x: float, y: float) -> float:
    """Squared distance of (x, y) to the chord from (0, 0) to (dx, dy), times its squared length.

    Of a chord without length the squared distance alone. No division: it is worked out for every
    vertex, again and again.
    """
    length = dx * dx + dy * dy
    along = x * dx + y * dy
    if along <= 0.0:
        return (x * x + y * y) * (length if length > 0.0 else 1.0)
    if along >= length:
        return ((x - dx) * (x - dx) + (y - dy) * (y - dy)) * length
    across = x * dy - y * dx
    return across * across


@inner
def no_index() -> Any:
    """Stands for the index of a polygon that has none yet."""
    none, zero = np.empty(0, np.int32), np.int64(0)
    return none, none, (zero, zero, zero, zero)


@inner
def index_of(xs: Any, ys: Any, n: int) -> Any:
    """The first n vertices by square cells: (start per cell, vertices, (x0, y0, bits, cols))."""
    x0, y0 = xs[:n].min(), ys[:n].min()
    wide, high = np.int64(xs[:n].max() - x0) + 1, np.int64(ys[:n].max() - y0) + 1
    bits = _CELL_BITS
    while ((wide >> bits) + 1) * ((high >> bits) + 1) > 4 * n + 16:
        bits += 1
    cols, rows = (wide >> bits) + 1, (high >> bits) + 1
    start = np.zeros(cols * rows + 1, np.int32)
    for v in range(n):
        start[((ys[v] - y0) >> bits) * cols + ((xs[v] - x0) >> bits) + 1] += 1
    for c in range(cols * rows):
        start[c + 1] += start[c]
    fill, members = start[:-1].copy(), np.empty(n, np.int32)
    for v in range(n):
        c = ((ys[v] - y0) >> bits) * cols + ((xs[v] - x0) >> bits)
        members[fill[c]] = v
        fill[c] += 1
    return start, members, (np.int64(x0), np.int64(y0), np.int64(bits), cols)


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
def _is_in_way(arc: Any, chord: Any, vertices: Any, v: int) -> bool:
    """Whether vertex ``v`` of the polygon lies in the lobe of a chord of the arc."""
    ax, ay = arc
    i, j, sx, sy, reach = chord
    xs, ys = vertices
    x, y = xs[v], ys[v]
    if (x == ax[i] and y == ay[i]) or (x == ax[j] and y == ay[j]):
        return False
    dx, dy = (ax[j] - ax[i]) * sx, (ay[j] - ay[i]) * sy
    if chord_distance(dx, dy, (x - ax[i]) * sx, (y - ay[i]) * sy) > reach:
        return False
    return _in_lobe(ax, ay, i, j, x, y)


@inner
def _box(ax: Any, ay: Any, i: int, j: int) -> Any:
    """Smallest and largest x and y of arc vertices i to j."""
    low_x = high_x = ax[i]
    low_y = high_y = ay[i]
    for k in range(i + 1, j + 1):
        low_x, high_x = min(low_x, ax[k]), max(high_x, ax[k])
        low_y, high_y = min(low_y, ay[k]), max(high_y, ay[k])
    return low_x, high_x, low_y, high_y


@inner
def _holds_nothing(ax: Any, ay: Any, i: int, j: int, box: Any) -> bool:
    """Whether a lobe is too thin to hold any vertex.

    Vertices have whole coordinates. In a lobe one unit wide they can only be on its two sides:
    there on the arc, where no other boundary may be, or on the chord if it is a side itself.
    """
    low_x, high_x, low_y, high_y = box
    if high_x - low_x > 1 and high_y - low_y > 1:
        return False
    dx, dy = abs(ax[j] - ax[i]), abs(ay[j] - ay[i])
    return (dx > 0 and dy > 0) or dx + dy == 1


@inner
def lobe_is_free(arc: Any, chord: Any, vertices: Any, index: Any) -> Any:
    """Whether no other vertex of the polygon lies in the lobe of a chord, and the index.

    Args:
        arc: x, y of its vertices.
        chord: (first, last vertex, scale in x and y, chord_distance of the farthest).
        vertices: (x, y, their number, first and last that belong to this piece of the arc).
        index: of index_of, or no_index: it is made when it is needed first.

    """
    ax, ay = arc
    i, j, sx, sy, reach = chord
    box = _box(ax, ay, i, j)
    if _holds_nothing(ax, ay, i, j, box):
        return True, index
    low_x, high_x, low_y, high_y = box
    chord = i, j, sx, sy, reach * _ROUNDING
    xs, ys, n, own, own_end = vertices
    if n > _BRUTE and index[1].size == 0:
        index = index_of(xs, ys, n)
    start, members, (x0, y0, bits, cols) = index
    # most vertices in the box are the arc's own: they are left out before anything else is asked
    if members.size == 0:
        for v in range(n):
            near = low_x <= xs[v] <= high_x and low_y <= ys[v] <= high_y
            if near and not own <= v <= own_end and _is_in_way(arc, chord, (xs, ys), v):
                return False, index
        return True, index
    for r in range((low_y - y0) >> bits, ((high_y - y0) >> bits) + 1):
        first = r * cols + ((low_x - x0) >> bits)
        last = r * cols + ((high_x - x0) >> bits)
        for m in range(start[first], start[last + 1]):
            v = members[m]
            if own <= v <= own_end:
                continue
            near = low_x <= xs[v] <= high_x and low_y <= ys[v] <= high_y
            if near and _is_in_way(arc, chord, (xs, ys), v):
                return False, index
    return True, index
