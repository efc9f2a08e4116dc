"""Corner linking: the boundary corners of a tile and which follows which.

Every lattice vertex sees four pixels, ``a b`` above ``c d``. Where they differ in a way that
bends a boundary, each of the regions bending there gets one corner record. Four line states
(the open strand above and below the current lattice row, left and right of every lattice
column) say which record to link to, so that one pass in raster order leaves what follows a
permutation whose cycles are the rings: no label image, no walking along edges.

A strand runs along one side of a boundary and keeps its region on the right: below a
horizontal edge it runs east, above it west, left of a vertical edge south, right of it north.
Strands that cross the tile's border end in ports, which live in the same table as corners.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from geoseg.vectorize.columns import LEFT, NONE
from geoseg.vectorize.compiled import inlined, kernel
from geoseg.vectorize.intrinsics import leading_zeros, nonzero_bytes, trailing_zeros

__all__ = [
    "ARRIVES_HORIZONTAL",
    "ARRIVES_VERTICAL",
    "MAX_SIDE",
    "NODE",
    "PAIR_FIRST",
    "PAIR_SECOND",
    "Records",
    "link_corners",
]

MAX_SIDE = 8191
"""Largest height and width of a tile in lattice vertices."""

# flags in the low five bits of a position; above them 13 bits of x, then y: positions sort in
# raster order
ARRIVES_VERTICAL = 1  # the strand comes north or south: the corner counts +T in Green's sums
ARRIVES_HORIZONTAL = 2  # it comes east or west: -T
NODE = 4  # three or more edges meet here
PAIR_FIRST = 8  # one of two equal pixels that touch only here; its partner is the next record
PAIR_SECOND = 16  # its partner is the record before

_V, _H = ARRIVES_VERTICAL, ARRIVES_HORIZONTAL
_TWO_EDGES = 1 << 5 | 1 << 6 | 1 << 9 | 1 << 10  # a bit per code where one boundary bends


_SPARE = 2  # one that is overwritten by the next, one for links that lead nowhere


class Records(NamedTuple):
    """The corners of a tile, ports first. What a walk follows lies close together.

    Attributes:
        words: int64 per record: its position, and in the high half the record that follows.
        halves: the same memory as int32.
        own: int32, of upper left vertices of rings: the record on the ring of the run beside it.
        ring: int32, the record's ring, filled by the walk.
        last: int32, where strands have one edge above and one on the left: each ring's last
            record in raster order is one of these or the next of one.

    """

    words: NDArray[np.int64]
    halves: NDArray[np.int32]
    own: NDArray[np.int32]
    ring: NDArray[np.int32]
    last: NDArray[np.int32]

    @classmethod
    def empty(cls, size: int) -> Records:
        """Room for so many."""
        size += _SPARE
        words = np.empty(size, np.int64)
        own, ring, last = (np.empty(size, np.int32) for _ in range(3))
        return cls(words, words.view(np.int32), own, ring, last)

    def hold(self, size: int) -> bool:
        """Whether there is room for so many."""
        return len(self.words) >= size + _SPARE


@inlined
def _edge_before(edges: Any, j: int) -> int:
    """The largest index below ``j`` of a set bit in ``edges``; -1 when there is none."""
    w = j >> 6
    word = edges[np.uint64(w)] & ((np.uint64(1) << np.uint64(j & 63)) - np.uint64(1))
    while word == np.uint64(0) and w > 0:
        w -= 1
        word = edges[np.uint64(w)]
    return -1 if word == np.uint64(0) else (w << 6) + 63 - leading_zeros(word)


@inlined
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


@inlined
def _word(position: Any, following: Any) -> Any:
    """What Records.words holds."""
    return np.int64(position) | (np.int64(following) << 32)


@kernel
def link_corners(p: Any, part: Any, straight: bool, rec: Any, row_owner: Any) -> Any:
    """Link the corners of one tile.

    Args:
        p: pixels (h + 1, any), unsigned: the tile and one row above it, and more columns.
        part: (value of pixels that belong to no region, the column left of the tile, w).
        straight: also record vertices where a neighbour's boundaries meet a straight side.
        rec: of 4 * (h + w) + 4 * h * w records, filled.
        row_owner: int64 (h,), filled: the record on whose ring the run at the right border
            lies, ``LEFT - i``, or NONE for nodata.

    Returns:
        The number of records, ports included, and of the last ones.

    """
    nodata, c0, w = part
    h = p.shape[0] - 1
    left_in, left_out = 4 * w, 4 * w + h
    right_out, right_in = 4 * w + 2 * h, 4 * w + 3 * h
    k = 4 * (w + h)
    words, halves, own, ring, last = rec.words, rec.halves, rec.own, rec.ring, rec.last
    n_last = 0
    for i in range(k):
        words[i] = _word(0, NONE)
        ring[i] = NONE
    to_south, to_north = np.empty(w, np.int32), np.empty(w, np.int32)  # per lattice column
    for j in range(w):
        to_south[j] = j
        to_north[j] = w + j
    groups = (w >> 6) + 1
    edge_bytes = np.zeros((2, 64 * groups), np.uint8)
    code_bytes = np.zeros(64 * groups, np.uint8)
    edges = np.empty(groups, np.uint64)  # a bit per vertical edge below the lattice row
    for j in range(w):
        edge_bytes[1, j] = p[0, c0 + j] != p[0, c0 + j + 1]
    own_record, own_column = np.empty(w, np.int32), np.empty(w, np.int32)
    nowhere = words.size - 1  # links of strands that don't end here go there

    for i in range(h):
        down = edge_bytes[i & 1]
        above, below = p[i, c0 : c0 + w + 1], p[i + 1, c0 : c0 + w + 1]
        _classify(above, below, edge_bytes[1 - (i & 1)][:w], down[:w], code_bytes)
        for g in range(groups):
            edges[g] = nonzero_bytes(down.ctypes.data + 64 * g)
        to_west, to_east = left_out + i, left_in + i
        row, n_own, row_start = i << 18, 0, k
        for g in range(groups):
            bends = nonzero_bytes(code_bytes.ctypes.data + 64 * g)
            while bends != np.uint64(0):
                j = (g << 6) + trailing_zeros(bends)
                bends &= bends - np.uint64(1)
                code = np.int64(code_bytes[np.uint64(j)])
                pos = row | (j << 5)
                this, following = np.uint64(j), np.uint64(j + 1)
                a, b, c, d = above[this], above[following], below[this], below[following]
                old_south, old_north = np.int64(to_south[this]), np.int64(to_north[this])
                if (_TWO_EDGES >> code) & 1:
                    # One strand turns from or to the vertical on its right, one on its left. No
                    # branches: where boundaries bend is what a processor can't foresee.
                    up, down_, left, right = code & 1, code >> 1 & 1, code >> 2 & 1, code >> 3
                    inside, outside = a, b if up else c
                    if down_ & right:
                        inside, outside = d, a
                    there, here = np.int64(inside != nodata), np.int64(outside != nodata)
                    first = k
                    second = first + there
                    k = second + here
                    words[np.uint64(first)] = _word(pos | _V, to_west if left else NONE)
                    words[np.uint64(second)] = _word(pos | _H, old_north if up else NONE)
                    source = old_south if up & there else nowhere
                    halves[np.uint64(2 * source + 1)] = first
                    source = to_east if left & here else nowhere
                    halves[np.uint64(2 * source + 1)] = second
                    last[np.uint64(n_last)] = first
                    n_last += up & left
                    own_record[np.uint64(n_own)], own_column[np.uint64(n_own)] = second, j
                    n_own += down_ & right & here
                    to_east = to_north[this] = first
                    to_west = to_south[this] = second
                    continue
                # three or four edges: convex corners, and a straight side where there is one
                old_west, old_east = to_west, to_east
                pos |= NODE
                same_ad, same_bc = False, False
                if code == 15:
                    same_ad, same_bc = a == d, b == c
                if (code & 5) == 5 and a != nodata:
                    words[np.uint64(k)] = _word(pos | _V | (PAIR_FIRST if same_ad else 0), old_west)
                    halves[np.uint64(2 * old_south + 1)] = k
                    last[np.uint64(n_last)] = k
                    n_last += 1
                    k += 1
                if (code & 10) == 10 and d != nodata:
                    words[np.uint64(k)] = _word(pos | _V | (PAIR_SECOND if same_ad else 0), NONE)
                    to_east = to_north[j] = k
                    k += 1
                if (code & 9) == 9 and b != nodata:
                    words[np.uint64(k)] = _word(
                        pos | _H | (PAIR_FIRST if same_bc else 0), old_north
                    )
                    last[np.uint64(n_last)] = k
                    n_last += np.int64(same_bc)
                    own_record[np.uint64(n_own)], own_column[np.uint64(n_own)] = k, j
                    n_own += np.int64(same_bc)
                    to_west = k
                    k += 1
                if (code & 6) == 6 and c != nodata:
                    words[np.uint64(k)] = _word(pos | _H | (PAIR_SECOND if same_bc else 0), NONE)
                    halves[np.uint64(2 * old_east + 1)] = k
                    to_south[j] = k
                    k += 1
                if straight and code != 15:
                    side = d
                    if code in {14, 11}:
                        side = a
                    if side != nodata:
                        words[np.uint64(k)] = _word(pos, NONE)
                        if code == 14:  # a and b are one
                            halves[np.uint64(2 * k + 1)] = old_west
                            to_west = k
                        elif code == 13:  # c and d
                            halves[np.uint64(2 * old_east + 1)] = k
                            to_east = k
                        elif code == 11:  # a and c
                            halves[np.uint64(2 * old_south + 1)] = k
                            to_south[j] = k
                        else:  # b and d
                            halves[np.uint64(2 * k + 1)] = old_north
                            to_north[j] = k
                        k += 1
        for t in range(row_start, k):
            own[t] = ring[t] = NONE
        for t in range(n_own):
            q = _edge_before(edges, np.int64(own_column[t]))
            own[own_record[t]] = to_north[q] if q >= 0 else LEFT - i
        if above[w] != below[w]:
            if above[w] != nodata:
                halves[2 * (right_in + i) + 1] = to_west
            if below[w] != nodata:
                halves[2 * to_east + 1] = right_out + i
        if below[w] == nodata:
            row_owner[i] = NONE
        else:
            q = _edge_before(edges, w)
            row_owner[i] = to_north[q] if q >= 0 else LEFT - i

    for j in range(w):
        if p[h, c0 + j] != p[h, c0 + j + 1]:
            if p[h, c0 + j] != nodata:
                halves[2 * to_south[j] + 1] = 2 * w + j
            if p[h, c0 + j + 1] != nodata:
                halves[2 * (3 * w + j) + 1] = to_north[j]
    ring[k] = 0  # no corner behind the last one
    return k, n_last
