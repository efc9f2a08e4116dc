"""The int64 tables of vectorizing: one row per ring or open arc, columns by these names."""

from __future__ import annotations

import numpy as np

__all__ = [
    "COUNT",
    "HOLE_HEAD",
    "HOLE_KEY",
    "HOLE_TAIL",
    "HOLE_WIDTH",
    "IN",
    "LABEL",
    "LEFT",
    "LEFT_HEAD",
    "LEFT_SUMS",
    "LEFT_TAIL",
    "LEFT_WIDTH",
    "MAXKEY",
    "MINKEY",
    "NEXT_ARC",
    "NEXT_HOLE",
    "NEXT_PIECE",
    "NONE",
    "NO_KEY",
    "OFFSET",
    "OUT",
    "OWNER",
    "PIECE_HEAD",
    "PIECE_TAIL",
    "PIXELS",
    "POLYGON_WIDTH",
    "RING_WIDTH",
    "ROW",
    "SCORED",
    "SCORES",
    "WIDTH",
    "XMAX",
    "XMIN",
]

PIECE_HEAD, PIECE_TAIL = 0, 1
"""An arc's coordinates as a list of pieces; of a ring, where they start and their number; of
a finished polygon, where its rings start in the list of rings and their number."""
PIXELS, SCORES, SCORED = 2, 3, 4
"""Its part of Green's sums: of 1, of the score, of has-a-score over the region's pixels."""
MINKEY, MAXKEY = 5, 6
"""Upper left and lower right vertex as ``y << 32 | x``; NO_KEY and NONE without a vertex."""
LABEL = 7
"""Pixel at the upper left vertex: the region's, if the ring turns out to be an outer one."""
XMIN, XMAX = 8, 9
POLYGON_WIDTH = 10
"""A finished polygon has the columns so far."""
OWNER = 10
"""Who owns the run left of the upper left vertex: an arc, ``LEFT - row`` or NONE."""
RING_WIDTH = 11
"""A closed ring of a tile has the columns so far."""
IN, OUT = 11, 12
"""Keys of the lattice edge and side where an arc comes in and goes out; NONE at a cut."""
NEXT_ARC = 13
"""The arc that follows after a cut; NONE otherwise."""
HOLE_HEAD, HOLE_TAIL = 14, 15
"""Finished holes of its region, as a list."""
WIDTH = 16

OFFSET, COUNT, NEXT_PIECE = 0, 1, 2
"""Columns of a piece: vertices ``OFFSET`` to ``OFFSET + COUNT`` of the coordinates."""
HOLE_KEY, NEXT_HOLE = 2, 3
"""Columns of a hole besides OFFSET and COUNT: its lower right vertex, the next in the list."""
HOLE_WIDTH = 4

ROW, LEFT_HEAD, LEFT_TAIL = 0, 1, 2
"""Columns of what belongs to the owner of a row's run left of the block; sums follow."""
LEFT_SUMS = 3
LEFT_WIDTH = 6

NONE = -1
LEFT = -2
"""``LEFT - row``: the run comes in over the left border."""
NO_KEY = np.int64(2**62)
