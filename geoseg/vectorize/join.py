"""Joining open arcs at ports: the same for two tiles, a row of tiles, a frontier and a strip.

An arc that goes out through an edge of the lattice continues in the arc that comes in through
the same edge on the same side. Chains that close become rings; where two arcs touch at a
vertex and turn out to lie on one chain, their successors are swapped (see trace.py).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from geoseg.vectorize.columns import (
    HOLE_HEAD,
    HOLE_TAIL,
    IN,
    LABEL,
    LEFT,
    LEFT_HEAD,
    LEFT_SUMS,
    LEFT_TAIL,
    LEFT_WIDTH,
    MAXKEY,
    MINKEY,
    NEXT_ARC,
    NEXT_HOLE,
    NEXT_PIECE,
    NO_KEY,
    NONE,
    OFFSET,
    OUT,
    OWNER,
    PIECE_HEAD,
    PIECE_TAIL,
    PIXELS,
    ROW,
    WIDTH,
    XMAX,
    XMIN,
)
from geoseg.vectorize.compiled import inner, kernel
from geoseg.vectorize.trace import ARC

__all__ = ["adopt_left", "give_holes", "join_arcs", "shift"]


@kernel
def shift(arcs: Any, pairs: Any, pieces: Any, holes: Any, rest: Any) -> None:
    """Renumber one part's tables in place for a place behind others.

    ``rest``: (rows, left, bases of arcs, pieces, holes and coordinates).
    """
    rows, left, bases = rest
    arc, piece, hole, xy = bases
    for a in range(arcs.shape[0]):
        for column, base in (
            (PIECE_HEAD, piece),
            (PIECE_TAIL, piece),
            (OWNER, arc),
            (NEXT_ARC, arc),
            (HOLE_HEAD, hole),
            (HOLE_TAIL, hole),
        ):
            if arcs[a, column] >= 0:
                arcs[a, column] += base
    for i in range(pairs.shape[0]):
        pairs[i, 0] += arc
        pairs[i, 1] += arc
    for i in range(pieces.shape[0]):
        pieces[i, OFFSET] += xy
        if pieces[i, NEXT_PIECE] >= 0:
            pieces[i, NEXT_PIECE] += piece
    for i in range(holes.shape[0]):
        holes[i, OFFSET] += xy
        if holes[i, NEXT_HOLE] >= 0:
            holes[i, NEXT_HOLE] += hole
    for i in range(rows.size):
        if rows[i] >= 0:
            rows[i] += arc
    for i in range(left.shape[0]):
        if left[i, LEFT_HEAD] >= 0:
            left[i, LEFT_HEAD] += hole
            left[i, LEFT_TAIL] += hole


@inner
def give_holes(arc: Any, head: int, tail: int, holes: Any) -> None:
    """Put the list of holes ``head`` to ``tail`` in front of an arc's or ring's."""
    if head == NONE:
        return
    holes[tail, NEXT_HOLE] = arc[HOLE_HEAD]
    if arc[HOLE_HEAD] == NONE:
        arc[HOLE_TAIL] = tail
    arc[HOLE_HEAD] = head


@kernel
def adopt_left(arcs: Any, first: int, last: int, left: Any, rest: Any) -> Any:
    """Resolve what a part left to the owners of its left neighbour's rows.

    Args:
        arcs: of all parts.
        first: the part's first arc.
        last: one behind its last.
        left: what it leaves, (n, LEFT_WIDTH).
        rest: (owner per row of the neighbour, first row, owner per row of the part, holes).

    Returns:
        What goes on to the left of the neighbour; the part's own rows are resolved in place.

    """
    neighbour, row0, rows, holes = rest
    for a in range(first, last):
        if arcs[a, OWNER] <= LEFT:
            arcs[a, OWNER] = neighbour[LEFT - arcs[a, OWNER] - row0]
    for i in range(rows.size):
        if rows[i] <= LEFT:
            rows[i] = neighbour[LEFT - rows[i] - row0]
    kept = np.empty((left.shape[0], LEFT_WIDTH), np.int64)
    n = 0
    for i in range(left.shape[0]):
        owner = neighbour[left[i, ROW] - row0]
        if owner >= 0:
            for c in range(3):
                arcs[owner, PIXELS + c] += left[i, LEFT_SUMS + c]
            give_holes(arcs[owner], left[i, LEFT_HEAD], left[i, LEFT_TAIL], holes)
        elif owner <= LEFT:
            # the neighbour's run may itself belong to a region that comes in at another row
            for c in range(LEFT_WIDTH):
                kept[n, c] = left[i, c]
            kept[n, ROW] = LEFT - owner
            n += 1
    return kept[:n]


@inner
def _successors(arcs: Any) -> Any:
    """The arc that follows each arc; NONE where its continuation isn't here."""
    n = arcs.shape[0]
    bits = 4
    while (1 << bits) < 2 * n:
        bits += 1
    mask, down = (1 << bits) - 1, np.uint64(64 - bits)
    slots = np.empty(1 << bits, np.int64)
    for i in range(slots.size):
        slots[i] = NONE
    spread = np.uint64(0x9E3779B97F4A7C15)
    for a in range(n):
        if arcs[a, IN] != NONE:
            s = np.int64((np.uint64(arcs[a, IN]) * spread) >> down)
            while slots[s] != NONE:
                s = (s + 1) & mask
            slots[s] = a
    following = np.empty(n, np.int64)
    for a in range(n):
        following[a] = arcs[a, NEXT_ARC]
        if arcs[a, OUT] != NONE:
            s = np.int64((np.uint64(arcs[a, OUT]) * spread) >> down)
            while slots[s] != NONE and arcs[slots[s], IN] != arcs[a, OUT]:
                s = (s + 1) & mask
            following[a] = slots[s]
    return following


@inner
def _chains(following: Any) -> Any:
    """First arc of every chain and closed cycle, chain of every arc; open chains come first."""
    n = following.size
    chain, firsts = np.empty(n, np.int64), np.empty(n, np.int64)
    has_previous = np.zeros(n, np.uint8)
    for a in range(n):
        chain[a] = NONE
    for a in range(n):
        if following[a] != NONE:
            has_previous[following[a]] = 1
    m, n_open = 0, 0
    for closed in range(2):
        for start in range(n):
            if chain[start] == NONE and (closed or not has_previous[start]):
                firsts[m] = start
                a = start
                while a != NONE and chain[a] == NONE:
                    chain[a] = m
                    a = following[a]
                m += 1
        if not closed:
            n_open = m
    return firsts[:m], chain, n_open


@inner
def _append(whole: Any, arc: Any, pieces: Any, holes: Any) -> None:
    """Continue an arc or ring with the next arc."""
    if arc[PIECE_HEAD] != NONE:
        if whole[PIECE_TAIL] != NONE:
            pieces[whole[PIECE_TAIL], NEXT_PIECE] = arc[PIECE_HEAD]
        else:
            whole[PIECE_HEAD] = arc[PIECE_HEAD]
        whole[PIECE_TAIL] = arc[PIECE_TAIL]
    for c in range(3):
        whole[PIXELS + c] += arc[PIXELS + c]
    if arc[MINKEY] < whole[MINKEY]:
        whole[MINKEY], whole[OWNER], whole[LABEL] = arc[MINKEY], arc[OWNER], arc[LABEL]
    whole[MAXKEY] = max(whole[MAXKEY], arc[MAXKEY])
    whole[XMIN], whole[XMAX] = min(whole[XMIN], arc[XMIN]), max(whole[XMAX], arc[XMAX])
    give_holes(whole, arc[HOLE_HEAD], arc[HOLE_TAIL], holes)


@inner
def _blank(row: Any) -> None:
    for c in range(WIDTH):
        row[c] = NONE
    for c in range(3):
        row[PIXELS + c] = 0
    row[MINKEY] = row[XMIN] = NO_KEY
    row[LABEL] = 0


@inner
def _owner(code: int, where: Any, rings: Any, roots: Any) -> int:
    """Whose region: an outer ring, ``ARC | arc``, ``LEFT - row`` or NONE."""
    start = code
    while code >= 0:
        r = LEFT - where[code]
        if r < 0:
            code = ARC | where[code]
            break
        if roots[r] != NO_KEY:
            code = roots[r]
            break
        code = rings[r, OWNER]
    while start >= 0:
        r = LEFT - where[start]
        if r < 0 or roots[r] != NO_KEY:
            break
        roots[r] = code
        start = rings[r, OWNER]
    return code


@kernel
def join_arcs(arcs: Any, pairs: Any, pieces: Any, holes: Any, rows: Any) -> Any:
    """Join all that can be joined.

    Args:
        arcs: (n, WIDTH) of all parts.
        pairs: (m, 2) arcs ending in one vertex.
        pieces: lists are joined in place.
        holes: lists are joined in place.
        rows: owners, renumbered in place.

    Returns:
        New arcs, new pairs, closed rings (PIECE columns still a list) and their roots.

    """
    following = _successors(arcs)
    _, chain, _ = _chains(following)
    for i in range(pairs.shape[0]):
        a, d = pairs[i, 0], pairs[i, 1]
        if chain[a] == chain[d]:
            following[a], following[d] = following[d], following[a]
    firsts, chain, n_open = _chains(following)
    # a pair stays undecided while both its corners are on open chains; none is on one chain now
    cut = np.zeros(following.size, np.uint8)
    undecided = np.empty((pairs.shape[0], 2), np.int64)
    n_pairs = 0
    for i in range(pairs.shape[0]):
        a, d = pairs[i, 0], pairs[i, 1]
        if chain[a] < n_open and chain[d] < n_open and chain[a] != chain[d]:
            undecided[n_pairs, 0], undecided[n_pairs, 1] = a, d
            n_pairs += 1
            cut[a] = cut[d] = 1
    joined = np.empty((n_open + 2 * n_pairs, WIDTH), np.int64)
    rings = np.empty((firsts.size - n_open, WIDTH), np.int64)
    where = np.empty(following.size, np.int64)  # new arc, or LEFT - ring
    m = 0
    for c in range(firsts.size):
        row = joined[m] if c < n_open else rings[c - n_open]
        _blank(row)
        a = firsts[c]
        row[IN] = arcs[a, IN]
        while True:
            _append(row, arcs[a], pieces, holes)
            where[a] = m if c < n_open else LEFT - (c - n_open)
            b = following[a]
            if c < n_open and cut[a]:
                row[NEXT_ARC] = m + 1
                m += 1
                row = joined[m]
                _blank(row)
            elif b == NONE:
                row[OUT] = arcs[a, OUT]
            if b == NONE or (c >= n_open and b == firsts[c]):
                break
            a = b
        if c < n_open:
            m += 1
    roots = np.empty(rings.shape[0], np.int64)
    for r in range(roots.size):
        roots[r] = r if rings[r, PIXELS] > 0 else NO_KEY
    for r in range(roots.size):
        if roots[r] == NO_KEY:
            roots[r] = _owner(rings[r, OWNER], where, rings, roots)
    for a in range(m):
        code = _owner(joined[a, OWNER], where, rings, roots)
        joined[a, OWNER] = code & ~ARC if code >= ARC else (NONE if code >= 0 else code)
    for i in range(rows.size):
        code = _owner(rows[i], where, rings, roots)
        rows[i] = code & ~ARC if code >= ARC else (NONE if code >= 0 else code)
    for i in range(n_pairs):
        undecided[i, 0], undecided[i, 1] = where[undecided[i, 0]], where[undecided[i, 1]]
    return joined[:m], undecided[:n_pairs], rings, roots
