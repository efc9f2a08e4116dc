"""Connected regions across blocks, from the lines at their borders, against SciPy on the whole."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from geoseg.grid import BlockGrid, TileGrid
from geoseg.stitch.components import label_regions, region_borders
from geoseg.stitch.regions import border_lines, connected_groups, meetings


@st.composite
def labelled(draw):
    shape = draw(st.tuples(st.integers(1, 30), st.integers(1, 30)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    label = rng.integers(0, draw(st.integers(1, 4)), shape)
    inside = rng.random(shape) >= draw(st.sampled_from([0, 0.03, 0.3]))
    tiles = TileGrid(shape, draw(st.integers(1, 14)))
    return label, inside, BlockGrid(tiles, draw(st.integers(1, 3)))


def whole(label, inside):
    """Regions in raster order of their first pixel."""
    parts = []
    for value in np.unique(label):
        part, count = ndimage.label((label == value) & inside)
        parts += [part == k for k in range(1, count + 1)]
    out = np.zeros(label.shape, int)
    for number, part in enumerate(sorted(parts, key=lambda p: np.flatnonzero(p)[0]), 1):
        out[part] = number
    return out


@settings(max_examples=80, deadline=None)
@given(labelled())
def test_regions_of_one_array(scene):
    label, inside, _ = scene
    region, pixels, first = label_regions(label, inside)
    expected = whole(label, inside)
    np.testing.assert_array_equal(region, expected)
    assert pixels.tolist() == np.bincount(expected.ravel())[1:].tolist()
    assert (region.ravel()[first] == np.arange(1, len(first) + 1)).all()
    every = np.ones(len(first) + 1, bool)
    shared = {(a, b): n for a, b, n in zip(*region_borders(region, every))}
    counted: dict[tuple[int, int], int] = {}
    pairs = [(region[1:], region[:-1]), (region[:, 1:], region[:, :-1])]
    for one, two in pairs:
        for a, b in zip(one.ravel().tolist(), two.ravel().tolist()):
            if a != b:
                key = (min(a, b), max(a, b))
                counted[key] = counted.get(key, 0) + 1
    assert shared == counted


@settings(max_examples=120, deadline=None)
@given(labelled())
def test_regions_over_blocks_are_those_of_the_whole(scene):
    label, inside, grid = scene
    frames, placed = [], []
    for block in grid:
        own = block.window.slices
        region, _, first = label_regions(label[own], inside[own])
        frames.append((block, border_lines(region) | border_lines(label[own], "label_")))
        frames[-1][1]["first"] = first
        placed.append(region)
    links, bare, count = [], [], 0
    for met in meetings(frames, ("", "label_")):
        x, y = met.values["label_"].T
        links.append(met.pairs[(x == y) & (met.pairs > 0).all(1)])
        bare.append(met.bare)
        count = met.base
    group = connected_groups(links, count)
    found = np.zeros(label.shape, int)
    base = 0
    for (block, frame), region in zip(frames, placed):
        number = np.concatenate([[0], group[base : base + len(frame["first"])] + 1])
        found[block.window.slices] = number[region]
        base += len(frame["first"])
    expected = whole(label, inside)
    pairs = np.unique(np.stack([expected.ravel(), found.ravel()]), axis=1)
    assert len(np.unique(pairs[0])) == len(np.unique(pairs[1])) == pairs.shape[1]
    edge = np.unique(np.concatenate([found[0], found[-1], found[:, 0], found[:, -1]]))
    bare_groups = np.unique(group[np.concatenate(bare) - 1] + 1) if count else []
    assert edge[edge > 0].tolist() == list(bare_groups)
