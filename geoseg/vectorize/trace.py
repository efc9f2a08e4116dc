"""One tile: its closed rings, and the open arcs that its neighbours need.

Rings are the cycles of the linked corners (corners.py). Where two equal pixels touch only at
a vertex and both corners lie on one cycle, their successors are swapped: the ring falls into
two simple ones, as OGC validity wants. While a cycle is walked this is a stack: at the second
of two such corners the loop since the first is cut off.

A hole's region: the ring's upper left vertex always knows the vertical edge at the left end
of the run beside it (Records.own). That edge's ring belongs to the same region, and when it is
a hole too, what it knows lies further up, so following it ends at the outer ring: no point in
polygon.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from geoseg.vectorize.columns import (
    LABEL,
    MAXKEY,
    MINKEY,
    NO_KEY,
    NONE,
    OWNER,
    PIECE_HEAD,
    PIECE_TAIL,
    PIXELS,
    RING_WIDTH,
    SCORED,
    SCORES,
    XMAX,
    XMIN,
)
from geoseg.vectorize.compiled import inlined, inner, kernel
from geoseg.vectorize.corners import NODE, PAIR_FIRST

__all__ = ["ARC", "PAIR", "emit", "rotate", "unpack", "walk"]

ARC = 1 << 30  # Records.ring is ARC | arc on an open arc, the ring on a closed one
PAIR = 24
_ON_PATH = -2  # and _ON_PATH - its place on a path that is being walked to a port


@inlined
def _write_row(row: Any, sums: Any, ends: Any, rec: Any, geo: Any) -> None:
    """Fill the row of a ring or arc, save the place of its coordinates.

    Args:
        row: (the table as one vector, where the row begins in it as uint64).
        sums: Green's sums of 1 and of the packed scores.
        ends: (first vertex in raster order as ``position << 32 | record``, position of the last
            one, least and greatest x).
        rec: the linked records.
        geo: see emit.

    """
    y0, x0, c0, p, _ = geo
    least, last, xmin, xmax = ends
    flat, at = row
    x, y = (least >> 37) & 8191, least >> 50
    flat[at + np.uint64(PIXELS)] = sums[0]
    flat[at + np.uint64(SCORES)] = sums[1]
    flat[at + np.uint64(SCORED)] = 0
    flat[at + np.uint64(MINKEY)] = ((y + y0) << 32) | (x + x0)
    flat[at + np.uint64(MAXKEY)] = (((last >> 18) + y0) << 32) | (((last >> 5) & 8191) + x0)
    flat[at + np.uint64(LABEL)] = np.int64(p[y + 1, c0 + x + 1])
    flat[at + np.uint64(XMIN)] = xmin + x0
    flat[at + np.uint64(XMAX)] = xmax + x0
    flat[at + np.uint64(OWNER)] = rec.own[np.uint64(least & 0xFFFFFFFF)]


@inner
def emit(path: Any, mark: int, rec: Any, geo: Any, vertices: Any, row: Any) -> int:
    """Write the corners of ``path`` as coordinates and sum them into one table row, see _write_row.

    ``geo``: (row, col of the tile, column of the pixels left of it, pixels, summed scores).
    Returns the last record in raster order; NONE without corners.
    """
    y0, x0, _, _, table = geo
    scored = table.shape[0] > 1
    words, ring_of = rec.words, rec.ring
    pixels, scores = np.int64(0), np.int64(0)
    least, most = np.int64(2**63 - 1), np.int64(-1)
    xmin, xmax = np.int64(2**30), np.int64(-1)
    for t in range(path.size):
        k = np.int64(path[np.uint64(t)])
        word = words[np.uint64(k)]
        pos = word & 0x7FFFFFFF
        x, y = (pos >> 5) & 8191, pos >> 18
        ring_of[np.uint64(k)] = mark
        sign = (pos & 1) - ((pos >> 1) & 1)
        vertices[np.uint64(t)] = _vertex(word, x0, y0)
        pixels += sign * (x + x0) * (y + y0)
        if scored:
            scores += sign * table[y, x]
        least = min(least, (pos << 32) | k)
        most = max(most, (pos << 32) | k)
        xmin, xmax = min(xmin, x), max(xmax, x)
    if most >= 0:
        _write_row(row, (pixels, scores), (least, most >> 32, xmin, xmax), rec, geo)
        return int(most & 0xFFFFFFFF)
    flat, at = row
    for column in (PIXELS, SCORES, SCORED, LABEL):
        flat[at + np.uint64(column)] = 0
    for column in (MAXKEY, OWNER, XMAX):
        flat[at + np.uint64(column)] = NONE
    flat[at + np.uint64(MINKEY)] = flat[at + np.uint64(XMIN)] = NO_KEY
    return NONE


@inner
def rotate(vertices: Any, key: int) -> None:
    """Make a ring, coordinates as words, start at the vertex with ``key`` (y << 32 | x)."""
    at = 0
    while ((vertices[at] >> 34) << 32) | (vertices[at] & 0xFFFFFFFF) != key:
        at += 1
    if at == 0:
        return
    # three reversals turn it in place
    n = vertices.size
    for first, last in ((0, at - 1), (at, n - 1), (0, n - 1)):
        low, high = first, last
        while low < high:
            vertices[low], vertices[high] = vertices[high], vertices[low]
            low += 1
            high -= 1


@inner
def unpack(table: Any, n: int) -> None:
    """Split packed score sums (count << 32 + sum, both signed) into their two columns."""
    for i in range(n):
        packed = table[i, SCORES]
        total = np.int64(np.int32(packed & 0xFFFFFFFF))
        table[i, SCORES] = total
        table[i, SCORED] = (packed - total) >> 32


@inlined
def _vertex(word: Any, x0: Any, y0: Any) -> Any:
    """Coordinates of a record as one word: x, and ``y << 2 | touching << 1 | node``."""
    pos = word & 0x7FFFFFFF
    touching = 2 if pos & PAIR else 0
    y = (((pos >> 18) + y0) << 2) | ((pos & NODE) >> 2) | touching
    return (y << 32) | (((pos >> 5) & 8191) + x0)


@inner
def _walk_path(k: int, mark: int, ports: int, rec: Any, geo: Any, path: Any, out: Any) -> Any:
    """Walk from a record to a port or to where it began, cutting off loops.

    ``out`` is (coordinates as words, how many there are, rings, their last records, how many there
    are), to which loops are added. Returns the number of records left on the path, the end, and
    the two numbers.
    """
    vertices, used, rings, final, n_rings = out
    n = 0
    while k >= ports and rec.ring[k] == NONE:
        rec.ring[k] = _ON_PATH - n
        path[n] = k
        n += 1
        pos = rec.halves[2 * k]
        if pos & PAIR:
            place = rec.ring[k + 1 if pos & PAIR_FIRST else k - 1]
            if place <= _ON_PATH:
                at = _ON_PATH - place + 1
                ring = rings[n_rings]
                row = (rings.reshape(-1), np.uint64(n_rings * RING_WIDTH))
                final[n_rings] = emit(path[at:n], n_rings, rec, geo, vertices[used:], row)
                rotate(vertices[used : used + n - at], ring[MAXKEY])
                ring[PIECE_HEAD], ring[PIECE_TAIL] = used, n - at
                used += n - at
                n_rings += 1
                n = at
        k = rec.words[k] >> 32
    return n, k, used, n_rings


@kernel
def walk(p: Any, table: Any, origin: Any, rec: Any, n: Any) -> Any:
    """Closed rings of a tile with linked corners, and the paths of its open arcs.

    Args:
        p: pixels (h + 1, any).
        table: packed summed scores (h + 1, w + 1), or (1, 1) without scores.
        origin: (row, col) of the tile, the column of p left of it, w.
        rec: the linked records; ``ring`` is filled.
        n: how many there are, and how many of the last ones.

    Returns:
        Rings (n, RING_WIDTH) with OWNER still a record; their order by lower right vertex; their
        coordinates (m, 2) int32 as x and ``y << 2 | touching << 1 | node``, each ring from its
        lower right vertex; ends (arcs, 3): in port, out port, end in the last array, the
        records on the arcs.

    """
    h, w = p.shape[0] - 1, origin[3]
    n_rec, n_last = n
    ports = 4 * (h + w)
    y0, x0 = origin[0], origin[1]
    geo = (y0, x0, origin[2], p, table)
    scored = table.shape[0] > 1
    size = max(n_rec - ports, 1)
    n_in = 0
    for i in range(ports):
        n_in += rec.halves[2 * i + 1] != NONE
    vertices = np.empty(size, np.int64)
    path = np.empty(size, np.int32)
    rings = np.empty((size // 4 + 1, RING_WIDTH), np.int64)
    final = np.empty(size // 4 + 1, np.int32)  # per ring its last record in raster order
    n_rings, used = 0, 0
    on_arcs = np.empty(size if n_in else 1, np.int32)
    ends = np.empty((n_in, 3), np.int64)
    n_arcs, n_open = 0, 0
    for port in range(ports):
        k = rec.words[port] >> 32
        if k == NONE:
            continue
        out = (vertices, used, rings, final, n_rings)
        m, k, used, n_rings = _walk_path(k, n_rings, ports, rec, geo, path, out)
        for t in range(m):
            on_arcs[n_open + t] = path[t]
            rec.ring[path[t]] = ARC
        n_open += m
        ends[n_arcs, 0], ends[n_arcs, 1], ends[n_arcs, 2] = port, k, n_open
        n_arcs += 1
    n_cut = n_rings
    # what corners are left lie on cycles; the last one of each in raster order comes first
    behind = size
    words, ring_of, flat = rec.words, rec.ring, rings.reshape(-1)
    for step in range(2 * n_last):
        start = np.int64(rec.last[np.uint64(n_last - 1 - (step >> 1))]) + 1 - (step & 1)
        if ring_of[np.uint64(start)] != NONE:
            continue
        word = words[np.uint64(start)]
        last = word & 0xFFFFFFFF
        x, y = (last >> 5) & 8191, last >> 18
        xmin = xmax = x
        m, pixels, scores = 0, np.int64(0), np.int64(0)
        mark = n_rings
        n_rings += 1
        final[np.uint64(mark)] = start
        k1 = word >> 32
        word1 = words[np.uint64(k1)]
        k2 = word1 >> 32
        word2 = words[np.uint64(k2)]
        k3 = word2 >> 32
        word3 = words[np.uint64(k3)]
        if word3 >> 32 == start and (word | word1 | word2 | word3) & PAIR == 0:
            # a rectangle: nearly all rings of noise are; no loop to leave, so that the processor
            # runs ahead into the next ring
            ring_of[np.uint64(start)] = mark
            ring_of[np.uint64(k1)] = mark
            ring_of[np.uint64(k2)] = mark
            ring_of[np.uint64(k3)] = mark
            vertices[np.uint64(used)] = _vertex(word, x0, y0)
            vertices[np.uint64(used + 1)] = _vertex(word1, x0, y0)
            vertices[np.uint64(used + 2)] = _vertex(word2, x0, y0)
            vertices[np.uint64(used + 3)] = _vertex(word3, x0, y0)
            least = (word2 << 32) | k2
            xmin = (word2 >> 5) & 8191
            pixels = (x - xmin) * (y - ((word2 & 0xFFFFFFFF) >> 18))
            if (word1 & 0xFFFFFFFF) >> 18 != y:
                pixels = -pixels
            m = 4
            if scored:
                path[0], path[1], path[2], path[3] = start, k1, k2, k3
        else:
            least = (last << 32) | start
            k, above, whole = start, y, True
            while True:
                pos = word & 0xFFFFFFFF
                ring_of[np.uint64(k)] = mark
                path[np.uint64(m)] = k
                x, y = (pos >> 5) & 8191, pos >> 18
                vertices[np.uint64(used + m)] = _vertex(word, x0, y0)
                # Green's sum, in the tile's own coordinates, as the cycle is closed
                pixels += x * (y - above)
                above = y
                least = min(least, (pos << 32) | k)
                xmin, xmax = min(xmin, x), max(xmax, x)
                m += 1
                if pos & PAIR:
                    partner = k + 1 if pos & PAIR_FIRST else k - 1
                    if ring_of[np.uint64(partner)] == mark:
                        # the cycle touches itself: a loop goes to the end of the coordinates
                        at = m - 1
                        while path[at - 1] != partner:
                            at -= 1
                        behind -= m - at
                        loop, place = rings[n_rings], vertices[behind : behind + m - at]
                        row = (flat, np.uint64(n_rings * RING_WIDTH))
                        final[n_rings] = emit(path[at:m], n_rings, rec, geo, place, row)
                        rotate(place, loop[MAXKEY])
                        loop[PIECE_HEAD], loop[PIECE_TAIL] = behind, m - at
                        n_rings += 1
                        n_cut += 1
                        m = at
                        pixels -= loop[PIXELS]
                        outermost = loop[XMIN] - x0 == xmin or loop[XMAX] - x0 == xmax
                        if outermost or ring_of[np.uint64(least & 0xFFFFFFFF)] != mark:
                            whole = False
                k = word >> 32
                if k == start:
                    break
                word = words[np.uint64(k)]
            pixels += ((last >> 5) & 8191) * ((last >> 18) - above)
            if not whole:  # what bounded it went with a loop
                least = (last << 32) | start
                xmin = xmax = (last >> 5) & 8191
                for t in range(m):
                    k = np.int64(path[t])
                    pos = words[np.uint64(k)] & 0xFFFFFFFF
                    x = (pos >> 5) & 8191
                    least = min(least, (pos << 32) | k)
                    xmin, xmax = min(xmin, x), max(xmax, x)
        if scored:
            for t in range(m):
                pos = words[path[t]] & 0xFFFFFFFF
                scores += ((pos & 1) - ((pos >> 1) & 1)) * table[pos >> 18, (pos >> 5) & 8191]
        row = (flat, np.uint64(mark * RING_WIDTH))
        _write_row(row, (pixels, scores), (least, last, xmin, xmax), rec, geo)
        flat[row[1] + np.uint64(PIECE_HEAD)], flat[row[1] + np.uint64(PIECE_TAIL)] = used, m
        used += m
    if scored:
        unpack(rings, n_rings)
    order = _in_order(rec, n_last, final[:n_rings], n_cut)
    return rings[:n_rings], order, vertices.view(np.int32).reshape((size, 2)), ends, on_arcs


@inner
def _in_order(rec: Any, n_last: int, final: Any, n_cut: int) -> Any:
    """Rings by their last records ``final``, which is used up; ``n_cut`` of them are loops."""
    n = final.size
    order = np.empty(n, np.int32)
    if n_cut == 0:  # they were closed from the last corner to the first
        for r in range(n):
            order[r] = n - 1 - r
        return order
    m = 0
    for step in range(2 * n_last):
        k = np.int64(rec.last[np.uint64(step >> 1)]) + (step & 1)
        r = np.int64(rec.ring[np.uint64(k)])
        if 0 <= r < ARC and final[np.uint64(r)] == k:
            order[m] = r
            m += 1
            final[np.uint64(r)] = NONE
    return order
