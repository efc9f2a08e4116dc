"""Which region the rings of a tile bound, see trace.py."""

from __future__ import annotations

from typing import Any

import numpy as np

from geoseg.vectorize.columns import NO_KEY, OWNER, PIXELS
from geoseg.vectorize.compiled import inner, kernel
from geoseg.vectorize.trace import ARC

__all__ = ["find_root", "find_roots"]


@inner
def find_root(code: Any, ring_of: Any, rings: Any, roots: Any) -> int:
    """Whose region the ring of a record bounds: outer ring, ``ARC | arc``, LEFT or NONE."""
    start = code
    while code >= 0:
        mark = np.int64(ring_of[code])
        if mark >= ARC or roots[mark] != NO_KEY:
            code = mark if mark >= ARC else roots[mark]
            break
        code = rings[mark, OWNER]
    # the same answer for every hole on the way
    while start >= 0:
        mark = np.int64(ring_of[start])
        if mark >= ARC or roots[mark] != NO_KEY:
            break
        roots[mark] = code
        start = rings[mark, OWNER]
    return code


@kernel
def find_roots(rec: Any, rings: Any, order: Any) -> Any:
    """Per closed ring: itself if it is an outer one, else the region that it is a hole of."""
    n = rings.shape[0]
    roots = np.empty(n, np.int64)
    for r in range(n):
        roots[r] = r if rings[r, PIXELS] > 0 else NO_KEY
    ring_of = rec.ring
    for i in range(n):  # from above, where most owners are known already
        r = np.int64(order[i])
        if roots[r] != NO_KEY:
            continue
        code = rings[r, OWNER]
        mark = np.int64(ring_of[code]) if code >= 0 else np.int64(ARC)
        if mark < ARC and roots[mark] != NO_KEY:
            roots[r] = roots[mark]
        else:
            roots[r] = find_root(code, ring_of, rings, roots)
    return roots
