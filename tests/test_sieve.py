"""Law 15: the sieve of the whole scene, at any tiling, by its plain definition."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from geoseg.grid import BlockGrid, TileGrid
from geoseg.stitch.frame import join_in_memory
from geoseg.stitch.sieve import SieveJoin, sieve

CROSS = ndimage.generate_binary_structure(2, 1)


def segments_of(category, instance):
    """Number of the segment of each pixel, from 1 in raster order; 0 for nodata."""
    out = np.zeros(category.shape, int)
    parts = []
    for c, i in set(zip(category.ravel().tolist(), instance.ravel().tolist())):
        if c != 255:
            part, n = ndimage.label((category == c) & (instance == i), CROSS)
            parts += [part == k for k in range(1, n + 1)]
    for number, part in enumerate(sorted(parts, key=lambda m: np.flatnonzero(m)[0]), 1):
        out[part] = number
    return out


def borders_of(now):
    """Pixel edges shared by each pair of segments; 0: nodata or the scene's edge."""
    shared = {}
    padded = np.pad(now, 1)
    for row in range(padded.shape[0]):
        for col in range(padded.shape[1]):
            for r, c in ((row + 1, col), (row, col + 1)):
                if r < padded.shape[0] and c < padded.shape[1]:
                    a, b = int(padded[row, col]), int(padded[r, c])
                    if a != b:
                        shared.setdefault(a, {}).setdefault(b, 0)
                        shared.setdefault(b, {}).setdefault(a, 0)
                        shared[a][b] += 1
                        shared[b][a] += 1
    return shared


def reference(arrays, least, to):
    """One segment after the other, everything counted anew each time."""
    category, instance = arrays["category_id"], arrays["instance_id"]
    start = segments_of(category, instance)
    now = start.copy()
    if to == "nodata":
        sizes = np.bincount(start.ravel())
        now[(sizes < least)[start]] = 0
    elif to == "enclosing":
        for k, near in borders_of(start).items():
            if k and (start == k).sum() < least and 0 not in near and len(near) == 1:
                now[start == k] = next(iter(near))
    else:
        first = {k: int(np.flatnonzero(start == k)[0]) for k in np.unique(start)}
        stuck = set()
        while True:
            sizes = {int(k): int((now == k).sum()) for k in np.unique(now) if k}
            todo = [(n, first[k], k) for k, n in sizes.items() if n < least and k not in stuck]
            if not todo:
                break
            _, _, k = min(todo)
            near = {n: e for n, e in borders_of(now).get(k, {}).items() if n}
            if near:
                now[now == k] = min(near, key=lambda n: (-near[n], first[n]))
            else:
                stuck.add(k)
    moved = now != start
    labels = {int(k): np.flatnonzero(start == k)[0] for k in np.unique(start)}
    labels[0] = 0
    place = np.vectorize(labels.get, otypes=[int])(now)
    out = {
        "category_id": np.where(moved, category.ravel()[place], category),
        "instance_id": np.where(moved, instance.ravel()[place], instance),
        "score": np.where(moved, 255, arrays["score"]),
    }
    gone = moved & (now == 0)
    out["category_id"][gone], out["instance_id"][gone] = 255, 0
    return out


@st.composite
def maps(draw):
    shape = draw(st.tuples(st.integers(1, 26), st.integers(1, 26)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    zoom, kinds = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    coarse = rng.integers(0, kinds, (shape[0] // zoom + 1, shape[1] // zoom + 1))
    category = np.kron(coarse, np.ones((zoom, zoom), int))[: shape[0], : shape[1]]
    noisy = rng.random(shape) < draw(st.sampled_from([0, 0.1, 0.5]))
    category = np.where(noisy, rng.integers(0, 4, shape), category)
    category = np.where(rng.random(shape) < draw(st.sampled_from([0, 0.05, 0.4])), 255, category)
    thing = (category == 1) & (category != 255)
    instance = np.where(thing, rng.integers(1, 3, shape), 0)
    score = np.where(category == 255, 255, rng.integers(0, 255, shape))
    return {
        "category_id": category.astype(np.uint8),
        "instance_id": instance.astype(np.uint32),
        "score": score.astype(np.uint8),
    }


def in_blocks(arrays, join, stride, side):
    shape = arrays["category_id"].shape
    return join_in_memory(
        BlockGrid(TileGrid(shape, stride), side),
        join,
        lambda block: {name: array[block.window.slices] for name, array in arrays.items()},
        arrays["category_id"] != 255,
    )


def assert_equal(a, b):
    assert set(a) == set(b)
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], name)


@settings(max_examples=150, deadline=None)
@given(maps(), st.integers(1, 12), st.sampled_from(["neighbour", "nodata", "enclosing"]))
def test_whole_equals_the_plain_definition(arrays, least, to):
    assert_equal(sieve(arrays, least, to), reference(arrays, least, to))


@settings(max_examples=300, deadline=None)
@given(
    maps(),
    st.integers(1, 30),
    st.integers(1, 13),
    st.integers(1, 3),
    st.sampled_from(["neighbour", "nodata", "enclosing"]),
)
def test_the_blocks_leave_no_trace(arrays, least, stride, side, to):
    join = SieveJoin(least, to)
    assert_equal(in_blocks(arrays, join, stride, side), sieve(arrays, least, to))


@pytest.mark.parametrize("to", ["neighbour", "nodata", "enclosing"])
def test_large_map_in_blocks(to):
    """Many small segments, large ones that run through all blocks."""
    rng = np.random.default_rng(3)
    smooth = ndimage.gaussian_filter(rng.random((600, 500)), 8)
    category = np.digitize(smooth, np.quantile(smooth, [0.3, 0.6, 0.8])).astype(np.uint8)
    category[rng.random(category.shape) < 0.05] = 7
    category[100:140, 60:300] = 255
    score = np.where(category == 255, 255, 100).astype(np.uint8)
    arrays = {"category_id": category, "score": score}
    whole = sieve(arrays, 40, to)
    for stride in (64, 230):
        assert_equal(in_blocks(arrays, SieveJoin(40, to), stride, 1), whole)
    if to == "neighbour":
        sizes = np.bincount(segments_of(whole["category_id"], np.zeros(category.shape)).ravel())
        assert sizes[1:].min() >= 40


def test_only_what_is_not_settled_is_shipped():
    """Frames hold the border and what hangs on it, not every small segment."""
    rng = np.random.default_rng(3)
    category = (rng.random((512, 512)) < 0.05).astype(np.uint8)
    arrays = {"category_id": category, "score": category}
    grid = BlockGrid(TileGrid((512, 512), 256), 1)
    block = grid.block(0, 0)
    own = {name: array[block.window.slices] for name, array in arrays.items()}
    _, frame = SieveJoin(9).collect(block, own, np.ones((256, 256), bool))
    assert len(frame["first"]) < 150
    assert np.unique(category[:256, :256], return_counts=True)[1][1] > 3000


def test_ties_between_segments_that_a_block_sees_in_part():
    """Lone pixels on the borders of large segments that meet again in another block."""
    rng = np.random.default_rng(11)
    for _ in range(250):
        coarse = rng.integers(0, 3, (14, 14))
        category = np.kron(coarse, np.ones((4, 4), int))[:50, :50]
        category[rng.random(category.shape) < 0.04] = 5
        category[rng.random(category.shape) < 0.02] = 6
        category = category.astype(np.uint8)
        arrays = {"category_id": category, "score": np.full(category.shape, 9, np.uint8)}
        join = SieveJoin(int(rng.integers(2, 6)), "neighbour")
        stride = int(rng.integers(9, 26))
        assert_equal(in_blocks(arrays, join, stride, 1), sieve(arrays, join.min_area_px))
