"""Which segment absorbs which: the rule of the sieve on a graph of segments."""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = ["Graph", "absorb"]


@dataclass(frozen=True, slots=True)
class Graph:
    """Segments and the borders of the small ones; int64 unless said otherwise.

    ``area`` in pixels, ``place`` of the first pixel, ``label``; ``firm`` (bool) False: there
    may be more of the segment elsewhere; ``bare`` (bool): it touches nodata or the scene's
    edge. ``a``, ``b``: pairs of segments, each once, that share ``edges`` pixel edges.
    """

    area: NDArray[np.int64]
    place: NDArray[np.int64]
    label: NDArray[np.int64]
    firm: NDArray[np.bool_]
    bare: NDArray[np.bool_]
    a: NDArray[np.int64]
    b: NDArray[np.int64]
    edges: NDArray[np.int64]


def absorb(
    graph: Graph, min_area_px: int, to: Literal["neighbour", "nodata", "enclosing"]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """(target, unsure): the segment that each ends in, -1 for nodata, itself if it stays.

    ``unsure``: the choice could change with what lies beyond what is firm.
    """
    count = len(graph.area)
    target = np.arange(count)
    if to == "nodata":
        return np.where(graph.area < min_area_px, -1, target), np.zeros(count, bool)
    start, other, edges = _adjacency(graph, count)
    if to == "enclosing":
        small = (graph.area < min_area_px) & ~graph.bare
        return _enclosing(small, start, other), _perhaps_enclosed(graph, start, other)
    return _absorb(
        graph.area.copy(), graph.place, graph.label, graph.firm, start, other, edges, min_area_px
    )


def _adjacency(
    graph: Graph, count: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Neighbours of segment k: ``other[start[k] : start[k + 1]]``, with their edges."""
    one = np.concatenate([graph.a, graph.b])
    two = np.concatenate([graph.b, graph.a])
    order = np.lexsort((two, one))
    start = np.concatenate([[0], np.cumsum(np.bincount(one, minlength=count))])
    return start.astype(np.int64), two[order], np.concatenate([graph.edges, graph.edges])[order]


def _enclosing(
    small: NDArray[np.bool_], start: NDArray[np.int64], other: NDArray[np.int64]
) -> NDArray[np.int64]:
    alone = small & (np.diff(start) == 1)
    target = np.arange(len(small))
    target[alone] = other[start[:-1][alone]]
    return target


def _perhaps_enclosed(
    graph: Graph, start: NDArray[np.int64], other: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Several neighbours that may all be parts of one."""
    degree = np.diff(start)
    owner = np.repeat(np.arange(len(degree)), degree)
    first = other[np.minimum(start[:-1], max(len(other) - 1, 0))] if len(other) else start[:-1]
    alike = ~graph.firm[other] & (graph.label[other] == graph.label[first[owner]])
    return (degree > 1) & (np.bincount(owner, alike, len(degree)) == degree)


@njit(cache=True, nogil=True)
def _root(parent: Any, node: int) -> int:  # pragma: no cover - compiled
    while parent[node] != node:
        parent[node] = parent[parent[node]]
        node = parent[node]
    return node


@njit(cache=True, nogil=True)
def _absorb(
    area: Any, place: Any, label: Any, firm: Any, start: Any, other: Any, edges: Any, least: int
) -> Any:  # pragma: no cover - compiled
    count = len(area)
    parent = np.arange(count)
    unsure = np.zeros(count, np.bool_)
    # segments whose borders a segment has taken over: a list from head to tail
    follows = np.full(count, -1, np.int64)
    tail = np.arange(count)
    shared = np.zeros(count, np.int64)
    near = np.zeros(count, np.int64)
    heap = [(np.int64(0), np.int64(0), np.int64(0)) for _ in range(0)]
    for k in range(count):
        if area[k] < least:
            heap.append((area[k], place[k], np.int64(k)))  # noqa: PERF401 - compiled
    heapq.heapify(heap)
    while len(heap) > 0:
        top = heapq.heappop(heap)
        k = int(top[2])
        if parent[k] != k or area[k] != top[0]:
            continue
        found = 0
        member = k
        while member >= 0:
            for at in range(start[member], start[member + 1]):
                n = _root(parent, other[at])
                if n == k:
                    continue
                if shared[n] == 0:
                    near[found] = n
                    found += 1
                shared[n] += edges[at]
            member = follows[member]
        best = -1
        for i in range(found):
            n = near[i]
            if best < 0 or shared[n] > shared[best]:
                best = n
            elif shared[n] == shared[best]:
                if not (firm[n] and firm[best]):
                    unsure[k] = True
                if place[n] < place[best]:
                    best = n
            if not firm[n]:
                for j in range(i):
                    if not firm[near[j]] and label[near[j]] == label[n]:
                        unsure[k] = True
        for i in range(found):
            shared[near[i]] = 0
        if best < 0:
            continue
        parent[k] = best
        area[best] += area[k]
        if area[best] < least:
            follows[tail[best]] = k
            tail[best] = tail[k]
            heapq.heappush(heap, (area[best], place[best], np.int64(best)))
    target = np.zeros(count, np.int64)
    for k in range(count):
        target[k] = _root(parent, k)
    return target, unsure
