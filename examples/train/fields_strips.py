"""Strips laid into drawn fields: what contour farming looks like, with the truth known.

Few of the places that the fields model is trained on show contour strips, narrow strips of one crop
or small plots. Here such are made from these places alone: a large drawn field is cut by
parallel curves, and every other strip (or each) gets the ground of another drawn field; or the crop
stays and a thin line parts the strips. ``stripped`` gives a place in this second guise; it is trained
on beside the place as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from geoseg.learn.samples import IGNORE, Labelled

TILE = 64
"""Side of the squares of bare field that other fields are filled with."""
LARGE_PX = 3000
"""Smaller fields stay as they are."""
WIDTH_PX = (7.0, 36.0)
SLIVER_PX = 40
"""Smaller pieces are neither learnt as a field nor as none."""

LEAST_CONTRAST = 10.0
"""Of neighbouring strips, in levels of the band that differs most."""

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Cut:
    """How a field is cut: ``strip`` (row, col) number of the strip, ``line`` (row, col)
    distance in pixels to the nearest cut.
    """

    strip: NDArray[np.int32]
    line: Floats


def squares(grounds: Sequence[Labelled]) -> list[NDArray[np.uint8]]:
    """Squares (band, TILE, TILE) that lie inside one drawn field each, two a field at most."""
    found = []
    for ground in grounds:
        assert ground.instance_id is not None
        ids = ground.instance_id
        for number, box in enumerate(ndimage.find_objects(ids), 1):
            if box is None or min(s.stop - s.start for s in box) < TILE:
                continue
            whole = np.pad(ids[box] == number, 1)
            # (row, col) of pixels that a square fits around: the taxicab of a square is Chebyshev's
            room = ndimage.distance_transform_cdt(whole, "chessboard")[1:-1, 1:-1]
            places = np.argwhere(room > TILE // 2 + 2)
            if not len(places):
                continue
            for row, col in places[[len(places) // 3, 2 * len(places) // 3]]:
                top = box[0].start + row - TILE // 2
                left = box[1].start + col - TILE // 2
                found.append(ground.pixels[:, top : top + TILE, left : left + TILE])
    return found


def texture(
    bank: Sequence[NDArray[np.uint8]], shape: tuple[int, int], rng: np.random.Generator
) -> Floats:
    """(band, row, col) ground of some field, turned, mirrored on and on, and lit a little
    differently.
    """
    square = bank[rng.integers(len(bank))].astype(np.float32)
    square = np.rot90(square, rng.integers(4), (1, 2))
    two = np.concatenate([square, square[:, ::-1]], 1)
    four = np.concatenate([two, two[:, :, ::-1]], 2)
    times = [-(-side // (2 * TILE)) for side in shape]
    full = np.tile(four, (1, *times))[:, : shape[0], : shape[1]]
    light = rng.uniform(0.9, 1.1) * rng.uniform(0.96, 1.04, 3).astype(np.float32)
    return (full * light[:, None, None]).astype(np.float32)


def _unlike(
    crop: Floats,
    own: NDArray[np.bool_],
    bank: Sequence[NDArray[np.uint8]],
    rng: np.random.Generator,
) -> Floats:
    """A texture that a person could tell from ``crop``; the last tried where none is found."""
    colour = crop[:, own].mean(1)
    for _ in range(8):
        other = texture(bank, own.shape, rng)
        if np.abs(other.mean((1, 2)) - colour).max() >= LEAST_CONTRAST:
            break
    return other


def cut(shape: tuple[int, int], rng: np.random.Generator) -> Cut:
    """Parallel curves across a box: straight, wavy or round; now and then crossed."""
    rows, cols = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    width = float(np.exp(rng.uniform(*np.log(WIDTH_PX))))
    strip, line = _family(rows, cols, width, rng)
    if rng.random() < 0.1:
        length = width * rng.uniform(2, 6)
        other, nearest = _family(rows, cols, length, rng)
        strip, line = strip * 1000 + other, np.minimum(line, nearest)
    return Cut(strip, line)


def _family(
    rows: Floats, cols: Floats, width: float, rng: np.random.Generator
) -> tuple[NDArray[np.int32], Floats]:
    angle = rng.uniform(0, 2 * np.pi)
    along = np.cos(angle) * rows + np.sin(angle) * cols
    across = np.cos(angle) * cols - np.sin(angle) * rows
    kind = rng.random()
    if kind < 0.6:
        for _ in range(2):
            period = rng.uniform(80, 400)
            height = rng.uniform(0, 0.12) * period
            across = across + height * np.sin(2 * np.pi * (along / period + rng.random()))
    elif kind < 0.75:
        centre = rng.uniform(-0.5, 1.5, 2) * rows.shape
        across = np.hypot(rows - centre[0], cols - centre[1])
    # strips are not all of one width
    across = across + rng.uniform(0, 0.3) * width * np.sin(across / (3 * width))
    place = across / width + rng.uniform(0, 1)
    strip = np.floor(place).astype(np.int32)
    steep = np.hypot(*np.gradient(place)).clip(min=1e-3)
    line = np.minimum(place - strip, strip + 1 - place) / steep
    return strip - strip.min(), line.astype(np.float32)


def stripped(
    ground: Labelled, bank: Sequence[NDArray[np.uint8]], seed: int, share: float = 0.7
) -> Labelled:
    """The ground with ``share`` of its large fields cut into strips."""
    rng = np.random.default_rng(seed)
    assert ground.instance_id is not None
    pixels = ground.pixels.astype(np.float32)
    ids, labels = ground.instance_id.copy(), ground.labels.copy()
    last = int(ids.max())
    for number, box in enumerate(ndimage.find_objects(ground.instance_id), 1):
        if box is None:
            continue
        own = ground.instance_id[box] == number
        if own.sum() < LARGE_PX or rng.random() >= share:
            continue
        made = cut(own.shape, rng)
        at = (slice(None), *box)
        pixels[at] = _painted(pixels[at], own, made, bank, rng)
        pieces, last = _pieces(own, made.strip, last)
        ids[box] = np.where(own, pieces, ids[box])
        labels[box] = np.where(own & (pieces == 0), np.uint8(IGNORE), labels[box])
    out = np.rint(pixels).clip(0, 255).astype(np.uint8)
    return replace(
        ground, name=f"{ground.name} in strips", pixels=out, labels=labels, instance_id=ids
    )


def _pieces(
    own: NDArray[np.bool_], strip: NDArray[np.int32], last: int
) -> tuple[NDArray[np.int32], int]:
    """Numbers of the connected pieces from ``last`` + 1, slivers 0, and the last number."""
    pieces = np.zeros(own.shape, np.int32)
    for k in np.unique(strip[own]):
        parts, count = ndimage.label(own & (strip == k))
        sizes = np.bincount(parts.ravel())
        for part in range(1, count + 1):
            if sizes[part] >= SLIVER_PX:
                last += 1
                pieces[parts == part] = last
    return pieces, last


def _painted(
    pixels: Floats,
    own: NDArray[np.bool_],
    made: Cut,
    bank: Sequence[NDArray[np.uint8]],
    rng: np.random.Generator,
) -> Floats:
    """The box of a field, its strips filled; edges are as soft as a camera sees them."""
    kind = rng.random()
    out = pixels.copy()
    shape = own.shape
    if kind < 0.6:
        # two crops take turns; the field's own is one of them half of the time
        crops = [pixels if rng.random() < 0.5 else texture(bank, shape, rng)]
        for _ in range(1 if rng.random() < 0.7 else 3):
            crops.append(_unlike(crops[-1], own, bank, rng))
        turn = (made.strip % 1000 + made.strip // 1000) % len(crops)
        for k, crop in enumerate(crops):
            part = ndimage.gaussian_filter((turn == k).astype(np.float32), 0.6)
            out += part * (crop - pixels)
    if kind >= 0.6 or rng.random() < 0.3:
        # a thin line parts them: grass, a furrow or a track
        darker = rng.choice([rng.uniform(0.7, 0.88), rng.uniform(1.14, 1.35)])
        shade = _unlike(out, own, bank, rng) if rng.random() < 0.6 else out * darker
        weight = np.exp(-((made.line / rng.uniform(0.5, 1.2)) ** 2)) * rng.uniform(0.4, 1.0)
        out += weight * (shade - out)
    soft = ndimage.gaussian_filter(own.astype(np.float32), 0.6) * own
    return (pixels + soft * (out - pixels)).astype(np.float32)
