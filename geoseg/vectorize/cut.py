"""Open arcs of a tile, cut where they touch each other."""

from __future__ import annotations

from typing import Any

import numpy as np

from geoseg.vectorize.columns import IN, NEXT_ARC, NONE, OUT, PIECE_HEAD, PIECE_TAIL, SCORES, WIDTH
from geoseg.vectorize.compiled import inner, kernel
from geoseg.vectorize.corners import PAIR_FIRST
from geoseg.vectorize.trace import ARC, PAIR, emit, unpack

__all__ = ["cut_arcs"]


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
        pos = rec.halves[2 * on_arcs[t]]
        if pos & PAIR:
            partner = on_arcs[t] + 1 if pos & PAIR_FIRST else on_arcs[t] - 1
            n_cuts += rec.ring[partner] >= ARC
    arcs = np.full((n_ends + n_cuts, WIDTH), NONE, np.int64)
    pairs = np.empty((n_cuts // 2, 2), np.int64)
    vertices = np.empty(n_open, np.int64)
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
                pos = rec.halves[2 * k]
                cut = (pos & PAIR) != 0 and rec.ring[k + 1 if pos & PAIR_FIRST else k - 1] >= ARC
                t += 1
            if at_end or cut:
                row = (arcs.reshape(-1), np.uint64(a * WIDTH))
                emit(on_arcs[start:t], ARC | a, rec, geo, vertices[start:], row)
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
        rec.ring[port_out] = ARC | (a - 1)
        if table.shape[0] > 1:
            if 3 * w <= port_in < 4 * w:
                arcs[first, SCORES] -= table[h, port_in - 3 * w]
            if 2 * w <= port_out < 3 * w:
                arcs[a - 1, SCORES] += table[h, port_out - 2 * w]
    m = 0
    for t in range(n_cuts):
        k = cuts[t]
        if rec.halves[2 * k] & PAIR_FIRST:
            pairs[m, 0], pairs[m, 1] = rec.ring[k] & ~ARC, rec.ring[k + 1] & ~ARC
            m += 1
    if table.shape[0] > 1:
        unpack(arcs, a)
    return arcs, pairs, vertices.view(np.int32).reshape((n_open, 2))
