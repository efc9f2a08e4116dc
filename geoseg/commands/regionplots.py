"""Plots of the methods that make regions: where they start, and what becomes of it.

A piece of the scene's middle is worked on by itself, with its context: regions that reach
the piece's border go on beyond it in the map.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from geoseg.grid import Block, BlockGrid, TileGrid
from geoseg.models.classic.fields import as_float, clipped

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from geoseg.scene.reader import Scene

__all__ = ["plot_regions", "plot_surface"]

SIDE = 400
"""Pixels of the piece, about."""


def plot_regions(left: Axes, right: Axes, segmenter: Any, scene: Scene) -> None:
    """Seeds, squares or outlines on the scene, and each region in its mean."""
    from geoseg.models.classic.quadtree import Quadtree
    from geoseg.models.classic.regions import Growth

    block, pixels, valid = _piece(segmenter, scene)
    core = block.window.relative_to(block.read).slices
    segments, usable = _regions(segmenter, block, pixels, valid, valid[core])
    values, _ = segmenter.features.stack(pixels, valid)
    image = plain = _coloured(values[(slice(None), *core)], usable)
    join = segmenter.join
    names = ", ".join(segmenter.features.names[: 3 if len(values) >= 3 else 1])
    title = f"{names}, and outlines"
    if isinstance(join, Quadtree):
        squares = _squares(join, segmenter, pixels[(slice(None), *core)], usable)
        image, title = _outlined(image, squares), "even squares"
    elif not isinstance(join, Growth):
        image = _outlined(image, segments)
    _show(left, image, title)
    if isinstance(join, Growth):
        row, col = _seeds(join, segmenter, block, pixels, valid)
        left.plot(col, row, ".", color="#3ad1ff", ms=3)
        left.set_title(f"{names}, and {row.size} seeds", fontsize=9)
    count = len(np.unique(segments[usable]))
    means = _means(plain, segments)
    means[usable & (segments == 0)] = (0.72, 0.55, 0.5)
    _show(right, _outlined(means, segments), f"{count} regions in their means, this piece alone")


def plot_surface(left: Axes, right: Axes, segmenter: Any, scene: Scene) -> None:
    """A local threshold: the value, and the threshold it is compared with."""
    from geoseg.models.classic.local import sauvola_threshold

    block, pixels, valid = _piece(segmenter, scene)
    values, usable = segmenter.features.value(pixels, valid)
    numbers = np.where(usable, values, 0).astype(np.float64)
    levels = sauvola_threshold(numbers, usable, segmenter.window, segmenter.k, segmenter.spread)
    core = block.window.relative_to(block.read).slices
    shown = np.where(usable, values, np.nan)[core]
    levels = np.where(usable, levels, np.nan)[core]
    row = shown.shape[0] // 2
    left.plot(shown[row], color="#8aa4b5", lw=1, label=segmenter.features.names[0])
    left.plot(levels[row], color="#b5443c", lw=1.2, label=f"threshold, window {segmenter.window}")
    left.set_xlabel("pixels along the middle row")
    left.set_title("the value and its threshold", fontsize=9)
    left.legend(fontsize=8)
    image = np.ones((*shown.shape, 3))
    image[shown > levels] = (0.27, 0.45, 0.58)
    image[shown <= levels] = (0.85, 0.83, 0.8)
    _show(right, image, "above its threshold, in the middle of the scene")
    right.axhline(row, color="#b5443c", lw=0.8)


def _piece(segmenter: Any, scene: Scene) -> tuple[Block, Any, Any]:
    """A block of one tile in the scene's middle, its pixels and valid with their context."""
    card = segmenter.card
    side = max(SIDE // card.divisor, 1) * card.divisor
    grid = TileGrid(scene.shape, side + 2 * card.halo, card.halo, card.divisor)
    blocks = BlockGrid(grid, 1)
    rows, cols = blocks.counts
    block = blocks.block((rows - 1) // 2, (cols - 1) // 2)
    return block, *scene.read(block.read, scene.band_indices(card.bands))


def _regions(
    segmenter: Any, block: Block, pixels: Any, valid: Any, inside: Any
) -> tuple[NDArray[np.uint32], NDArray[np.bool_]]:
    """Regions of one block (row, col) as if it were alone, 0 none; and where there may be any."""
    result = segmenter.predict(pixels[None], valid[None])[0]
    join, (tile,) = segmenter.join, block.tiles
    kept, frame = join.collect(block, [(tile, result)], inside)
    blocks = BlockGrid(
        TileGrid(join.shape, tile.read.height, segmenter.card.halo, segmenter.card.divisor), 1
    )
    table = join.solve([(block, frame)], blocks)[block.number]
    arrays = join.apply(block, kept, table, {block.index: frame})
    return arrays["instance_id"], arrays["category_id"] != 255


def _seeds(growth: Any, segmenter: Any, block: Block, pixels: Any, valid: Any) -> Any:
    """Rows and columns of the seeds in a block, counted from its corner."""
    window = block.window
    if growth.seeds is not None:
        row, col = np.array(growth.seeds).T - [[window.row_off], [window.col_off]]
        here = (row >= 0) & (row < window.height) & (col >= 0) & (col < window.width)
        return row[here], col[here]
    field = segmenter.predict(pixels[None], valid[None])[0]
    inside, part = clipped(block.tiles[0], field, growth.shape)
    _, seeds = growth.start(part.values, part.usable)
    return np.nonzero(seeds[window.relative_to(inside).slices])


def _squares(quadtree: Any, segmenter: Any, pixels: Any, usable: Any) -> NDArray[np.int64]:
    """Square of each pixel of a piece that begins on the lattice."""
    from geoseg.models.classic.quadtree import split

    layers = [np.where(usable, as_float(v), 0.0) for v in segmenter.features.values(pixels)]
    rows, cols = usable.shape
    pad = ((0, -rows % quadtree.largest), (0, -cols % quadtree.largest))
    values = np.stack([np.pad(layer, pad) for layer in layers])
    leaf = split(values, np.pad(usable, pad), quadtree.largest, quadtree.limit)
    return leaf[:rows, :cols]


def _coloured(values: Any, usable: Any) -> NDArray[np.float64]:
    """(row, col, 3) from 0 to 1 of the first three features, or the first in grey."""
    image = np.ones((*usable.shape, 3))
    chosen = values[:3] if len(values) >= 3 else values[[0, 0, 0]]
    for place, value in enumerate(chosen):
        if usable.any():
            low, high = np.percentile(value[usable], [1, 99])
            shown = (value[usable] - low) / max(high - low, 1e-12)
            image[usable, place] = np.clip(shown, 0, 1)
    return image


def _means(image: Any, segments: Any) -> NDArray[np.float64]:
    _, place = np.unique(segments.reshape(-1), return_inverse=True)
    counts = np.bincount(place)
    flat = image.reshape(-1, 3)
    means = np.stack([np.bincount(place, flat[:, b]) / counts for b in range(3)], 1)
    out: NDArray[np.float64] = means[place].reshape(image.shape)
    return out


def _outlined(image: Any, segments: Any) -> NDArray[np.float64]:
    edge = np.zeros(segments.shape, bool)
    edge[:, 1:] |= segments[:, 1:] != segments[:, :-1]
    edge[1:] |= segments[1:] != segments[:-1]
    out: NDArray[np.float64] = image.copy()
    out[edge] = (1.0, 0.9, 0.2)
    return out


def _show(axes: Axes, image: Any, title: str) -> None:
    axes.imshow(image, interpolation="nearest")
    axes.set_title(title, fontsize=9)
    axes.set_axis_off()
