"""Corner linking: the boundary corners of a tile and which follows which.

Every lattice vertex sees four pixels, ``a b`` above ``c d``. Where they differ in a way that
bends a boundary, each of the regions bending there gets one corner record. Four line states
(the open strand above and below the current lattice row, left and right of every lattice
column) say which record to link to, so that one pass in raster order leaves ``NEXT`` a
permutation whose cycles are the rings: no label image, no walking along edges.

A strand runs along one side of a boundary and keeps its region on the right: below a
horizontal edge it runs east, above it west, left of a vertical edge south, right of it north.
Strands that cross the tile's border end in ports, which live in the same table as corners.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from geoseg.vectorize.columns import LEFT, NONE
from geoseg.vectorize.compiled import inner, kernel
from geoseg.vectorize.intrinsics import leading_zeros, trailing_zeros

__all__ = [
    "ARRIVES_HORIZONTAL",
    "ARRIVES_VERTICAL",
    "MAX_SIDE",
    "NEXT",
    "NODE",
    "OWN",
    "PAIR_FIRST",
    "PAIR_SECOND",
    "POS",
    "RING",
    "link_corners",
]

MAX_SIDE = 8191
"""Largest height and width of a tile in lattice vertices."""

# columns of the record table, int32
POS, NEXT, OWN, RING = 0, 1, 2, 3

# flags in the low five bits of POS; above them 13 bits of x, then y: POS sorts in raster order
ARRIVES_VERTICAL = 1  # the strand comes north or south: the corner counts +T in Green's sums
ARRIVES_HORIZONTAL = 2  # it comes east or west: -T
NODE = 4  # three or more edges meet here
PAIR_FIRST = 8  # one of two equal pixels that touch only here; its partner is the next record
PAIR_SECOND = 16  # its partner is the record before

_V, _H = ARRIVES_VERTICAL, ARRIVES_HORIZONTAL


@inner
def _edge_before(edges: Any, words: Any, j: int) -> int:
    """The largest index below ``j`` with a non-zero byte in ``edges``; -1 when there is none."""
    if j == 0:
        return -1
    w = (j - 1) >> 3
    kept = np.uint64(((j - 1) & 7) * 8 + 8)
    word = words[w]
    if kept < np.uint64(64):
        word = word & ((np.uint64(1) << kept) - np.uint64(1))
    while word == np.uint64(0):
        w -= 1
        if w < 0:
            return -1
        word = words[w]
    return (w << 3) + ((63 - leading_zeros(word)) >> 3)


@inner
def _classify(above: Any, below: Any, up: Any, down: Any, code: Any) -> None:
    """Fill ``down`` (vertical edges of the row below) and ``code`` per lattice vertex.

    ``code`` holds the edges that meet at a vertex as bits up 1, down 2, left 4, right 8, or 0
    where no boundary bends: plain loops that compile to vector instructions.
    """
    for j in range(down.size):
        down[j] = below[j] != below[j + 1]
    for j in range(down.size):
        u = np.uint8(up[j])
        d = np.uint8(down[j])
        left = np.uint8(above[j] != below[j])
        right = np.uint8(above[j + 1] != below[j + 1])
        bends = (u ^ d) | (left ^ right) | (u & left)
        all_four = np.uint8(u | (d << np.uint8(1)) | (left << np.uint8(2)) | (right << np.uint8(3)))
        code[j] = all_four * bends


@inner
def _add(rec: Any, k: int, pos: int, following: int, own: int) -> None:
    """Write a record; a corner whose successor isn't known yet gets it later."""
    rec[k, POS], rec[k, NEXT], rec[k, OWN], rec[k, RING] = pos, following, own, NONE


@kernel
def link_corners(p: Any, part: Any, straight: bool, rec: Any, row_owner: Any) -> int:
    """Link the corners of one tile.

    Args:
        p: pixels (h + 1, any), unsigned: the tile and one row above it, and more columns.
        part: (value of pixels that belong to no region, the column left of the tile, w).
        straight: also record vertices where a neighbour's boundaries meet a straight side.
        rec: int32 (4 * (h + w) + 4 * h * w, 4), filled: ports first, corners after them.
        row_owner: int64 (h,), filled: the record on whose ring the run at the right border
            lies, ``LEFT - i``, or NONE for nodata.

    Returns:
        The number of records, ports included.

    """
    nodata, c0, w = part
    h = p.shape[0] - 1
    left_in, left_out = 4 * w, 4 * w + h
    right_out, right_in = 4 * w + 2 * h, 4 * w + 3 * h
    k = 4 * (w + h)
    for i in range(k):
        rec[i, POS] = 0
        rec[i, NEXT] = NONE
        rec[i, RING] = NONE
    to_south, to_north = np.empty(w, np.int32), np.empty(w, np.int32)  # per lattice column
    for j in range(w):
        to_south[j] = j
        to_north[j] = w + j
    padded = (w + 7) // 8 * 8
    edge_bytes = np.zeros((2, padded), np.uint8)
    code_bytes = np.zeros(padded, np.uint8)
    codes = code_bytes.view(np.uint64)
    edge_words = edge_bytes.view(np.uint64)
    for j in range(w):
        edge_bytes[1, j] = p[0, c0 + j] != p[0, c0 + j + 1]

    for i in range(h):
        down, words = edge_bytes[i & 1], edge_words[i & 1]
        above, below = p[i, c0 : c0 + w + 1], p[i + 1, c0 : c0 + w + 1]
        _classify(above, below, edge_bytes[1 - (i & 1)][:w], down[:w], code_bytes)
        to_west, to_east = np.int32(left_out + i), np.int32(left_in + i)
        row = np.int32(i << 18)
        for n in range(codes.size):
            word = codes[n]
            while word != np.uint64(0):
                shift = trailing_zeros(word) & ~7
                j = (n << 3) + (shift >> 3)
                code = (word >> np.uint64(shift)) & np.uint64(15)
                word &= ~(np.uint64(255) << np.uint64(shift))
                pos = row | np.int32(j << 5)
                old_west, old_east = to_west, to_east
                old_south, old_north = to_south[j], to_north[j]
                if code == 10:  # d alone
                    if above[j] != nodata:
                        q = _edge_before(down, words, j)
                        _add(rec, k, pos | _H, NONE, to_north[q] if q >= 0 else LEFT - i)
                        to_west = to_south[j] = k
                        k += 1
                    if below[j + 1] != nodata:
                        _add(rec, k, pos | _V, NONE, NONE)
                        to_east = to_north[j] = k
                        k += 1
                elif code == 6:  # c alone
                    if above[j] != nodata:
                        _add(rec, k, pos | _V, old_west, NONE)
                        to_north[j] = k
                        k += 1
                    if below[j] != nodata:
                        _add(rec, k, pos | _H, NONE, NONE)
                        rec[old_east, NEXT] = k
                        to_south[j] = k
                        k += 1
                elif code == 9:  # b alone
                    if above[j] != nodata:
                        _add(rec, k, pos | _V, NONE, NONE)
                        rec[old_south, NEXT] = k
                        to_east = k
                        k += 1
                    if above[j + 1] != nodata:
                        _add(rec, k, pos | _H, old_north, NONE)
                        to_west = k
                        k += 1
                elif code == 5:  # a alone
                    if above[j] != nodata:
                        _add(rec, k, pos | _V, old_west, NONE)
                        rec[old_south, NEXT] = k
                        k += 1
                    if above[j + 1] != nodata:
                        _add(rec, k, pos | _H, old_north, NONE)
                        rec[old_east, NEXT] = k
                        k += 1
                else:
                    # three or four edges: convex corners, and a straight side where there is one
                    a, b, c, d = above[j], above[j + 1], below[j], below[j + 1]
                    pos |= NODE
                    same_ad, same_bc = False, False
                    if code == 15:
                        same_ad, same_bc = a == d, b == c
                    if (code & np.uint64(5)) == np.uint64(5) and a != nodata:
                        _add(rec, k, pos | _V | (PAIR_FIRST if same_ad else 0), old_west, NONE)
                        rec[old_south, NEXT] = k
                        k += 1
                    if (code & np.uint64(10)) == np.uint64(10) and d != nodata:
                        _add(rec, k, pos | _V | (PAIR_SECOND if same_ad else 0), NONE, NONE)
                        to_east = to_north[j] = k
                        k += 1
                    if (code & np.uint64(9)) == np.uint64(9) and b != nodata:
                        rec[k, POS] = pos | _H | (PAIR_FIRST if same_bc else 0)
                        rec[k, NEXT] = old_north
                        rec[k, OWN] = NONE
                        if same_bc:
                            q = _edge_before(down, words, j)
                            rec[k, OWN] = to_north[q] if q >= 0 else LEFT - i
                        rec[k, RING] = NONE
                        to_west = k
                        k += 1
                    if (code & np.uint64(6)) == np.uint64(6) and c != nodata:
                        _add(rec, k, pos | _H | (PAIR_SECOND if same_bc else 0), NONE, NONE)
                        rec[old_east, NEXT] = k
                        to_south[j] = k
                        k += 1
                    if straight and code != 15:
                        side = d
                        if code in {14, 11}:
                            side = a
                        if side != nodata:
                            _add(rec, k, pos, NONE, NONE)
                            if code == 14:  # a and b are one
                                rec[k, NEXT] = old_west
                                to_west = k
                            elif code == 13:  # c and d
                                rec[old_east, NEXT] = k
                                to_east = k
                            elif code == 11:  # a and c
                                rec[old_south, NEXT] = k
                                to_south[j] = k
                            else:  # b and d
                                rec[k, NEXT] = old_north
                                to_north[j] = k
                            k += 1
        if above[w] != below[w]:
            if above[w] != nodata:
                rec[right_in + i, NEXT] = to_west
            if below[w] != nodata:
                rec[to_east, NEXT] = right_out + i
        if below[w] == nodata:
            row_owner[i] = NONE
        else:
            q = _edge_before(down, words, w)
            row_owner[i] = to_north[q] if q >= 0 else LEFT - i

    for j in range(w):
        if p[h, c0 + j] != p[h, c0 + j + 1]:
            if p[h, c0 + j] != nodata:
                rec[to_south[j], NEXT] = 2 * w + j
            if p[h, c0 + j + 1] != nodata:
                rec[3 * w + j, NEXT] = to_north[j]
    return k
