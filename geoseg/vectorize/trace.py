"""One tile: its closed rings, and the open arcs that its neighbours need.

Rings are the cycles of the linked corners (corners.py). Where two equal pixels touch only at
a vertex and both corners lie on one cycle, their successors are swapped: the ring falls into
two simple ones, as OGC validity wants. While a cycle is walked this is a stack: at the second
of two such corners the loop since the first is cut off.

A hole's region: the ring's upper left vertex always knows the vertical edge at the left end
of the run beside it (OWN). That edge's ring belongs to the same region, and when it is a hole
too, its own OWN lies further up, so following it ends at the outer ring: no point in polygon.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from geoseg.vectorize.columns import (
    HOLE_HEAD,
    HOLE_TAIL,
    IN,
    LABEL,
    MAXKEY,
    MINKEY,
    NEXT_ARC,
    NO_KEY,
    NONE,
    OUT,
    OWNER,
    PIECE_HEAD,
    PIECE_TAIL,
    PIXELS,
    SCORED,
    SCORES,
    WIDTH,
    XMAX,
    XMIN,
)
from geoseg.vectorize.compiled import inner, kernel
from geoseg.vectorize.corners import NEXT, NODE, OWN, PAIR_FIRST, POS, RING

__all__ = ["ARC", "cut_arcs", "find_root", "find_roots", "rotate", "walk"]

ARC = 1 << 30  # RING of a record on an open arc is ARC | arc, on a closed ring the ring
_PAIR = 24
_ON_PATH = -2  # RING of a record on the path that is being walked is _ON_PATH - its place


@inner
def _describe(row: Any, sums: Any, ends: Any, rec: Any, geo: Any) -> None:
    """Fill a table row.

    Args:
        row: of a ring or arc.
        sums: Green's sums of 1 and of the packed scores.
        ends: (first vertex in raster order as POS and as record, last vertex as POS, least and
            greatest x); the record is negative where there is no vertex.
        rec: the linked records.
        geo: see _emit.

    """
    y0, x0, c0, p, _ = geo
    least, first, most, xmin, xmax = ends
    row[IN] = row[OUT] = row[NEXT_ARC] = row[HOLE_HEAD] = row[HOLE_TAIL] = NONE
    row[PIXELS], row[SCORES] = sums
    row[SCORED] = 0
    if first < 0:
        row[MINKEY], row[MAXKEY], row[OWNER], row[LABEL] = NO_KEY, NONE, NONE, 0
        row[XMIN], row[XMAX] = NO_KEY, NONE
        return
    row[XMIN], row[XMAX] = xmin + x0, xmax + x0
    x, y = (least >> 5) & 8191, least >> 18
    row[MINKEY] = ((y + y0) << 32) | (x + x0)
    row[OWNER] = rec[first, OWN]
    row[LABEL] = np.int64(p[y + 1, c0 + x + 1])
    x, y = (most >> 5) & 8191, most >> 18
    row[MAXKEY] = ((y + y0) << 32) | (x + x0)


@inner
def _emit(path: Any, mark: int, rec: Any, geo: Any, xy: Any, row: Any) -> None:
    """Write the corners of ``path`` as coordinates and sum them into one table row.

    ``geo``: (row, col of the tile, column of the pixels left of it, pixels, summed scores).
    """
    y0, x0, _, _, table = geo
    scored = table.shape[0] > 1
    pixels, scores = np.int64(0), np.int64(0)
    least, most = np.int64(2**31), np.int64(-1)
    first = np.int64(-1)
    xmin, xmax = np.int64(2**30), np.int64(-1)
    for t in range(path.size):
        k = path[t]
        pos = np.int64(rec[k, POS])
        x, y = (pos >> 5) & 8191, pos >> 18
        rec[k, RING] = mark
        sign = (pos & 1) - ((pos >> 1) & 1)
        xy[t, 0] = x + x0
        xy[t, 1] = ((y + y0) << 2) | ((pos & NODE) >> 2) | (2 if pos & _PAIR else 0)
        pixels += sign * (x + x0) * (y + y0)
        if scored:
            scores += sign * table[y, x]
        if pos < least:
            least, first = pos, np.int64(k)
        most = max(most, pos)
        xmin, xmax = min(xmin, x), max(xmax, x)
    _describe(row, (pixels, scores), (least, first, most, xmin, xmax), rec, geo)


@inner
def _walk_ring(start: int, mark: int, rec: Any, geo: Any, xy: Any, row: Any) -> int:
    """As _emit, of the cycle of a record that no other of it follows in raster order.

    Nearly all rings are simple ones: these are written while they are walked. Returns the
    number of corners; 0 for a cycle that touches itself, which is left as it was.
    """
    y0, x0, _, _, table = geo
    scored = table.shape[0] > 1
    pixels, scores = np.int64(0), np.int64(0)
    most = np.int64(rec[start, POS])
    least, first = most, np.int64(start)
    xmin, xmax = np.int64(2**30), np.int64(-1)
    k, n = np.int64(start), 0
    while n == 0 or k != start:
        pos = np.int64(rec[k, POS])
        touching = 0
        if pos & _PAIR:
            touching = 2
            if rec[k + 1 if pos & PAIR_FIRST else k - 1, RING] == mark:
                undone = np.int64(start)
                while undone != k:
                    rec[undone, RING] = NONE
                    undone = np.int64(rec[undone, NEXT])
                return 0
        x, y = (pos >> 5) & 8191, pos >> 18
        rec[k, RING] = mark
        sign = (pos & 1) - ((pos >> 1) & 1)
        xy[n, 0] = x + x0
        xy[n, 1] = ((y + y0) << 2) | ((pos & NODE) >> 2) | touching
        pixels += sign * (x + x0) * (y + y0)
        if scored:
            scores += sign * table[y, x]
        if pos < least:
            least, first = pos, k
        xmin, xmax = min(xmin, x), max(xmax, x)
        n += 1
        k = np.int64(rec[k, NEXT])
    _describe(row, (pixels, scores), (least, first, most, xmin, xmax), rec, geo)
    return n


@inner
def rotate(xy: Any, key: int) -> None:
    """Make a ring start at the vertex with ``key`` (y << 32 | x)."""
    at = 0
    while (np.int64(xy[at, 1] >> 2) << 32 | xy[at, 0]) != key:
        at += 1
    if at == 0:
        return
    # three reversals turn it in place
    n = xy.shape[0]
    for first, last in ((0, at - 1), (at, n - 1), (0, n - 1)):
        low, high = first, last
        while low < high:
            xy[low, 0], xy[high, 0] = xy[high, 0], xy[low, 0]
            xy[low, 1], xy[high, 1] = xy[high, 1], xy[low, 1]
            low += 1
            high -= 1


@inner
def _unpack(table: Any, n: int) -> None:
    """Split packed score sums (count << 32 + sum, both signed) into their two columns."""
    for i in range(n):
        packed = table[i, SCORES]
        total = np.int64(np.int32(packed & 0xFFFFFFFF))
        table[i, SCORES] = total
        table[i, SCORED] = (packed - total) >> 32


@inner
def _port_key(port: int, geo: Any, h: int, w: int) -> Any:
    """Lattice edge and side of a port, the same seen from both tiles."""
    y0, x0 = np.int64(geo[0]), np.int64(geo[1])
    if port < 4 * w:
        j, which = port % w, port // w  # south in, north out, south out, north in
        return ((y0 + (0 if which < 2 else h)) << 34) | ((x0 + j + 1) << 2) | (which & 1)
    i, which = (port - 4 * w) % h, (port - 4 * w) // h  # east in, west out, east out, west in
    return ((y0 + i + 1) << 34) | ((x0 + (0 if which < 2 else w)) << 2) | (2 + (which & 1))


@kernel
def walk(p: Any, table: Any, origin: Any, rec: Any, n_rec: int) -> Any:
    """Closed rings of a tile with linked corners, and the paths of its open arcs.

    Args:
        p: pixels (h + 1, any).
        table: packed summed scores (h + 1, w + 1), or (1, 1) without scores.
        origin: (row, col) of the tile, the column of p left of it, w.
        rec: the linked records; RING is filled.
        n_rec: their number.

    Returns:
        Rings (n, WIDTH) with OWNER still a record; their coordinates (m, 2) int32 as x and
        ``y << 2 | touching << 1 | node``, each ring from its lower right vertex; ends
        (arcs, 3): in port, out port, end in the last array, the records on the arcs.

    """
    h, w = p.shape[0] - 1, origin[3]
    ports = 4 * (h + w)
    geo = (origin[0], origin[1], origin[2], p, table)
    size = max(n_rec - ports, 1)
    n_in = 0
    for i in range(ports):
        n_in += rec[i, NEXT] != NONE
    xy = np.empty((size, 2), np.int32)
    path = np.empty(size, np.int32)
    rings = np.empty((size // 4 + 1, WIDTH), np.int64)
    n_rings, used = 0, 0
    on_arcs = np.empty(size if n_in else 1, np.int32)
    ends = np.empty((n_in, 3), np.int64)
    n_arcs, n_open = 0, 0
    for step in range(n_rec):
        # ports that lead in first, then what corners are left, the last one first
        if step < ports:
            if rec[step, NEXT] == NONE:
                continue
            k = np.int64(rec[step, NEXT])
        else:
            k = n_rec - 1 - (step - ports)
            if rec[k, RING] != NONE:
                continue
            n = _walk_ring(k, n_rings, rec, geo, xy[used:], rings[n_rings])
            if n > 0:
                rings[n_rings, PIECE_HEAD], rings[n_rings, PIECE_TAIL] = used, n
                used += n
                n_rings += 1
                continue
        n = 0
        while k >= ports and rec[k, RING] == NONE:
            rec[k, RING] = _ON_PATH - n
            path[n] = k
            n += 1
            pos = rec[k, POS]
            if pos & _PAIR:
                place = rec[k + 1 if pos & PAIR_FIRST else k - 1, RING]
                if place <= _ON_PATH:
                    at = _ON_PATH - place + 1
                    ring = rings[n_rings]
                    _emit(path[at:n], n_rings, rec, geo, xy[used:], ring)
                    rotate(xy[used : used + n - at], ring[MAXKEY])
                    ring[PIECE_HEAD], ring[PIECE_TAIL] = used, n - at
                    used += n - at
                    n_rings += 1
                    n = at
            k = np.int64(rec[k, NEXT])
        if step < ports:
            for t in range(n):
                on_arcs[n_open + t] = path[t]
                rec[path[t], RING] = ARC
            n_open += n
            ends[n_arcs, 0], ends[n_arcs, 1], ends[n_arcs, 2] = step, k, n_open
            n_arcs += 1
        else:
            ring = rings[n_rings]
            _emit(path[:n], n_rings, rec, geo, xy[used:], ring)
            ring[PIECE_HEAD], ring[PIECE_TAIL] = used, n
            used += n
            n_rings += 1
    if table.shape[0] > 1:
        _unpack(rings, n_rings)
    return rings[:n_rings], xy, ends, on_arcs


@kernel
def cut_arcs(p: Any, table: Any, origin: Any, rec: Any, ends: Any, on_arcs: Any) -> Any:
    """Arcs cut where they touch another arc at a vertex: whether to swap there, the merge knows.

    Returns arcs (n, WIDTH), pairs (m, 2) of arcs that end in one vertex, coordinates.
    """
    h, w = p.shape[0] - 1, origin[3]
    geo = (origin[0], origin[1], origin[2], p, table)
    n_ends = ends.shape[0]
    n_open = ends[n_ends - 1, 2] if n_ends else 0
    n_cuts = 0
    for t in range(n_open):
        pos = rec[on_arcs[t], POS]
        if pos & _PAIR:
            partner = on_arcs[t] + 1 if pos & PAIR_FIRST else on_arcs[t] - 1
            n_cuts += rec[partner, RING] >= ARC
    arcs = np.empty((n_ends + n_cuts, WIDTH), np.int64)
    pairs = np.empty((n_cuts // 2, 2), np.int64)
    xy = np.empty((n_open, 2), np.int32)
    cuts = np.empty(n_cuts, np.int64)
    a, start, n_cuts = 0, 0, 0
    for e in range(n_ends):
        first = a
        t = start
        while True:
            at_end = t == ends[e, 2]
            cut = False
            if not at_end:
                k = on_arcs[t]
                pos = rec[k, POS]
                cut = (pos & _PAIR) != 0 and rec[k + 1 if pos & PAIR_FIRST else k - 1, RING] >= ARC
                t += 1
            if at_end or cut:
                _emit(on_arcs[start:t], ARC | a, rec, geo, xy[start:], arcs[a])
                arcs[a, PIECE_HEAD], arcs[a, PIECE_TAIL] = start, t - start
                start = t
                if cut:
                    arcs[a, NEXT_ARC] = a + 1
                    cuts[n_cuts] = k
                    n_cuts += 1
                a += 1
                if at_end:
                    break
        port_in, port_out = ends[e, 0], ends[e, 1]
        arcs[first, IN] = _port_key(port_in, geo, h, w)
        arcs[a - 1, OUT] = _port_key(port_out, geo, h, w)
        rec[port_out, RING] = ARC | (a - 1)
        if table.shape[0] > 1:
            if 3 * w <= port_in < 4 * w:
                arcs[first, SCORES] -= table[h, port_in - 3 * w]
            if 2 * w <= port_out < 3 * w:
                arcs[a - 1, SCORES] += table[h, port_out - 2 * w]
    m = 0
    for t in range(n_cuts):
        k = cuts[t]
        if rec[k, POS] & PAIR_FIRST:
            pairs[m, 0], pairs[m, 1] = rec[k, RING] & ~ARC, rec[k + 1, RING] & ~ARC
            m += 1
    if table.shape[0] > 1:
        _unpack(arcs, a)
    return arcs, pairs, xy


@inner
def find_root(code: Any, rec: Any, rings: Any, roots: Any) -> int:
    """Whose region the ring of a record bounds: outer ring, ``ARC | arc``, LEFT or NONE."""
    start = code
    while code >= 0:
        mark = np.int64(rec[code, RING])
        if mark >= ARC or roots[mark] != NO_KEY:
            code = mark if mark >= ARC else roots[mark]
            break
        code = rings[mark, OWNER]
    # the same answer for every hole on the way
    while start >= 0:
        mark = np.int64(rec[start, RING])
        if mark >= ARC or roots[mark] != NO_KEY:
            break
        roots[mark] = code
        start = rings[mark, OWNER]
    return code


@kernel
def find_roots(rec: Any, rings: Any) -> Any:
    """Per closed ring: itself if it is an outer one, else the region that it is a hole of."""
    roots = np.empty(rings.shape[0], np.int64)
    for r in range(rings.shape[0]):
        roots[r] = r if rings[r, PIXELS] > 0 else NO_KEY
    for r in range(rings.shape[0]):
        if roots[r] == NO_KEY:
            roots[r] = find_root(rings[r, OWNER], rec, rings, roots)
    return roots
