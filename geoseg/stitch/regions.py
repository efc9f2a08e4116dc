"""Connected regions across blocks: each block labels its own, borders say which are one.

A frame holds the four outermost lines of pixels of a block, as numbers of its regions, and
one row of whole-number attributes per region. Attributes add up whatever the blocks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from geoseg.grid import Block
from geoseg.models.segmenter import Arrays

__all__ = [
    "Meeting",
    "border_lines",
    "connected_groups",
    "meetings",
]

Pairs = NDArray[np.int64]


def border_lines(numbers: NDArray[Any], prefix: str = "") -> Arrays:
    """The four outermost lines of an array: ``n``, ``s``, ``w``, ``e``."""
    return {
        f"{prefix}n": numbers[0].copy(),
        f"{prefix}s": numbers[-1].copy(),
        f"{prefix}w": numbers[:, 0].copy(),
        f"{prefix}e": numbers[:, -1].copy(),
    }


@dataclass(frozen=True)
class Meeting:
    """What a block brings when it comes after its western and northern neighbours.

    ``pairs`` (n, 2): regions on both sides of its borders, pixel edge by pixel edge, numbered
    over all blocks from 1, 0 for none. ``values``: the same places of other lines, by prefix.
    ``bare``: regions known to lie at the edge of all there is. ``block`` is None for the last,
    which only brings ``bare``.
    """

    block: Block | None
    frame: Arrays
    base: int
    pairs: Pairs
    values: Mapping[str, Pairs]
    bare: NDArray[np.int64]


@dataclass
class _Held:
    base: int
    frame: Arrays
    faced: set[str] = field(default_factory=set)

    def bare(self) -> NDArray[np.int64]:
        lines = [self.frame[side].astype(np.int64) for side in "nswe" if side not in self.faced]
        numbers = np.concatenate([np.zeros(0, np.int64), *lines])
        return np.unique(numbers[numbers > 0]) + self.base


SIDES = {(0, -1): ("e", "w"), (-1, 0): ("s", "n")}


def meetings(frames: Iterable[tuple[Block, Arrays]], prefixes: Sequence[str]) -> Iterator[Meeting]:
    """Goes through frames in raster order, holding two rows of blocks."""
    near: dict[tuple[int, int], _Held] = {}
    base = 0
    for block, frame in frames:
        gone = [held for index, held in near.items() if index[0] < block.index[0] - 1]
        near = {i: held for i, held in near.items() if i[0] >= block.index[0] - 1}
        own = _Held(base, frame)
        none = np.zeros((0, 2), np.int64)
        found: dict[str, list[Pairs]] = {prefix: [none] for prefix in prefixes}
        for step, (theirs, mine) in SIDES.items():
            other = near.get((block.index[0] + step[0], block.index[1] + step[1]))
            if other is None:
                continue
            other.faced.add(theirs)
            own.faced.add(mine)
            for prefix in prefixes:
                x = other.frame[prefix + theirs].astype(np.int64)
                y = frame[prefix + mine].astype(np.int64)
                if prefix == "":
                    x, y = _based(x, other.base), _based(y, base)
                found[prefix].append(np.stack([x, y], 1))
        near[block.index] = own
        values = {prefix: np.concatenate(parts) for prefix, parts in found.items()}
        yield Meeting(block, frame, base, values[""], values, _bare(gone))
        base += len(frame["first"])
    last = {prefix: np.zeros((0, 2), np.int64) for prefix in prefixes}
    yield Meeting(None, {}, base, last[""], last, _bare(near.values()))


def _based(numbers: NDArray[np.int64], base: int) -> NDArray[np.int64]:
    return np.where(numbers > 0, numbers + base, 0)


def _bare(held: Iterable[_Held]) -> NDArray[np.int64]:
    return np.concatenate([np.zeros(0, np.int64), *(one.bare() for one in held)])


def connected_groups(links: Sequence[Pairs], count: int) -> NDArray[np.int64]:
    """The group of each of ``count`` nodes; ``links`` (n, 2) number nodes from 1."""
    pairs = np.concatenate([np.zeros((0, 2), np.int64), *links]) - 1
    graph = coo_array((np.ones(len(pairs), bool), (pairs[:, 0], pairs[:, 1])), (count, count))
    groups: NDArray[np.int64] = connected_components(graph, directed=False)[1].astype(np.int64)
    return groups
