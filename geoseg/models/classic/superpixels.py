"""Superpixels on a lattice: SLIC with a bounded reach, so that tiles agree to the pixel.

SLIC (Achanta et al. 2012, doi 10.1109/TPAMI.2012.120) in the form of gSLIC (Ren and Reid
2011): a pixel chooses among the centres of the 3 x 3 lattice cells around its own, after a
fixed number of rounds. Then what a pixel gets depends on ``2 rounds + 7`` cells around it
and no further: with that halo, and tiles that begin on the lattice, tiled equals whole.
Features are in units of their deviation over the scene.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numba
import numpy as np
from numpy.typing import NDArray

from geoseg.grid import Block, BlockGrid, Tile
from geoseg.models.classic.clusters import observe_sample
from geoseg.models.classic.fields import FieldTile
from geoseg.models.classic.indices import Features
from geoseg.models.classic.links import Nodes, first_pixels, numbered_by_first
from geoseg.models.classic.regions import region_card
from geoseg.models.classic.sample import ValueSample
from geoseg.models.classic.spec import Spec
from geoseg.models.classic.watershed import things
from geoseg.models.segmenter import Arrays, ModelCard

if TYPE_CHECKING:
    from geoseg.scene.reader import Scene

__all__ = ["Cells", "Lattice", "SuperpixelFit", "Superpixels", "slic", "superpixel_size"]

BoolArray = NDArray[np.bool_]
_EDGE_CELLS = 1 << 20
"""Added to cell rows and columns so that cells beyond the scene's edge have an id too."""


@dataclass(frozen=True)
class Lattice:
    """How superpixels are made: ``size`` of a cell in pixels, weight of place, rounds."""

    size: int = 10
    compactness: float = 0.5
    rounds: int = 4

    @property
    def halo(self) -> int:
        """Pixels on which the superpixel of a pixel and its extent depend."""
        return (2 * self.rounds + 8) * self.size

    def __call__(self, values: NDArray[np.float64], usable: BoolArray) -> NDArray[np.int32]:
        """Cell (row * cells per row + col) of each pixel; -1 where not usable.

        ``values`` (feature, row, col) begin on the lattice; sides are multiples of ``size``.
        """
        weight = (self.compactness / self.size) ** 2
        filled = np.where(usable, values, 0.0)
        nearest = _lattice(np.ascontiguousarray(filled), usable, self.size, weight, self.rounds)
        return _connected(nearest, self.size)


@numba.njit(cache=True, nogil=True)
def _lattice(values: Any, usable: Any, size: int, weight: float, rounds: int) -> Any:
    width, rows, cols = values.shape
    down, across = rows // size, cols // size
    cell = np.full((rows, cols), -1, np.int32)
    for row in range(rows):
        for col in range(cols):
            if usable[row, col]:
                cell[row, col] = (row // size) * across + col // size
    # a centre: its features, then its place relative to its cell (whole numbers: exact sums)
    centres = np.zeros((down * across, width + 2))
    counts = np.zeros(down * across, np.int64)
    for _ in range(rounds):
        centres[:] = 0.0
        counts[:] = 0
        for row in range(rows):
            for col in range(cols):
                c = cell[row, col]
                if c >= 0:
                    counts[c] += 1
                    for f in range(width):
                        centres[c, f] += values[f, row, col]
                    centres[c, width] += row - (c // across) * size
                    centres[c, width + 1] += col - (c % across) * size
        for c in range(down * across):
            if counts[c] > 0:
                for f in range(width + 2):
                    centres[c, f] /= counts[c]
        for row in range(rows):
            for col in range(cols):
                if not usable[row, col]:
                    continue
                best = np.inf
                for r in range(max(row // size - 1, 0), min(row // size + 2, down)):
                    for q in range(max(col // size - 1, 0), min(col // size + 2, across)):
                        c = r * across + q
                        if counts[c] == 0:
                            continue
                        dy = row - r * size - centres[c, width]
                        dx = col - q * size - centres[c, width + 1]
                        distance = (dy * dy + dx * dx) * weight
                        for f in range(width):
                            step = values[f, row, col] - centres[c, f]
                            distance += step * step
                        if distance < best:
                            best = distance
                            cell[row, col] = c
    return cell


@numba.njit(cache=True, nogil=True)
def _connected(cell: Any, size: int) -> Any:
    """Each cell's largest 4-connected part (ties to the first); the rest goes to neighbours."""
    rows, cols = cell.shape
    part = np.full((rows, cols), -1, np.int32)
    stack = np.empty(rows * cols, np.int32)
    largest = np.zeros(cell.max() + 1, np.int32)
    chosen = np.full(cell.max() + 1, -1, np.int32)
    parts = 0
    for start in range(rows * cols):
        c = cell[start // cols, start % cols]
        if c < 0 or part[start // cols, start % cols] >= 0:
            continue
        count, top = 0, 1
        stack[0] = start
        part[start // cols, start % cols] = parts
        while top > 0:
            top -= 1
            row, col = stack[top] // cols, stack[top] % cols
            count += 1
            for step in range(4):
                r = row + (step == 3) - (step == 0)
                q = col + (step == 2) - (step == 1)
                if 0 <= r < rows and 0 <= q < cols and part[r, q] < 0 and cell[r, q] == c:
                    part[r, q] = parts
                    stack[top] = r * cols + q
                    top += 1
        if count > largest[c]:
            largest[c], chosen[c] = count, parts
        parts += 1
    out = cell.copy()
    loose = 0
    for row in range(rows):
        for col in range(cols):
            c = cell[row, col]
            if c >= 0 and part[row, col] != chosen[c]:
                out[row, col] = -2
                stack[loose] = row * cols + col
                loose += 1
    taken = np.empty(loose, np.int32)
    for _ in range(size):
        # all at once, from the last turn's labels: no order of visits
        for i in range(loose):
            row, col = stack[i] // cols, stack[i] % cols
            taken[i] = -2
            for step in range(4):
                r = row + (step == 3) - (step == 0)
                q = col + (step == 2) - (step == 1)
                if 0 <= r < rows and 0 <= q < cols and out[r, q] >= 0:
                    taken[i] = out[r, q]
                    break
        left = 0
        for i in range(loose):
            if taken[i] >= 0:
                out[stack[i] // cols, stack[i] % cols] = taken[i]
            else:
                stack[left] = stack[i]
                left += 1
        loose = left
    for i in range(loose):  # surrounded by unusable pixels
        out[stack[i] // cols, stack[i] % cols] = cell[stack[i] // cols, stack[i] % cols]
    return out


def standardized(
    features: Features, sample: ValueSample, pixels: NDArray[Any], valid: BoolArray
) -> tuple[NDArray[np.float64], BoolArray]:
    """Features of one tile in units of their deviation over the scene, and where defined."""
    values, usable = features.stack(pixels, valid)
    mean, deviation = moments(sample)
    return (values - mean[:, None, None]) / deviation[:, None, None], usable


def moments(sample: ValueSample) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and deviation of each feature over the sample's pixels; deviation never 0."""
    if not len(sample):
        return np.zeros(sample.values.shape[1]), np.ones(sample.values.shape[1])
    weights = sample.counts.astype(float)
    mean = np.average(sample.values, axis=0, weights=weights)
    deviation = np.sqrt(np.average((sample.values - mean) ** 2, axis=0, weights=weights))
    return mean, np.where(deviation > 0, deviation, 1.0)


@dataclass(frozen=True)
class Cells:
    """Join: gives superpixels ids for the whole scene; nothing has to be matched."""

    size: int
    shape: tuple[int, int]

    def collect(
        self, block: Block, results: Sequence[tuple[Tile, Any]], valid: NDArray[np.bool_]
    ) -> tuple[Arrays, Arrays]:
        """Superpixels of a block by the scene-wide number of their cell."""
        cells = np.full(block.window.shape, -1, np.int64)
        for tile, result in results:
            source = tile.core.relative_to(tile.read).slices
            local = result.values[0][source].astype(np.int64)
            across = tile.read.width // self.size
            row = local // across + tile.read.row_off // self.size + _EDGE_CELLS
            col = local % across + tile.read.col_off // self.size + _EDGE_CELLS
            number = (row << 32) | col
            cells[tile.core.relative_to(block.window).slices] = np.where(local >= 0, number, -1)
        usable = (cells >= 0) & valid
        found, place = np.unique(cells[usable], return_inverse=True)
        labels = np.zeros(usable.shape, np.int32)
        labels[usable] = place + 1
        frame = {
            "cell": found,
            "first": first_pixels(labels, block, self.shape[1], found.size),
        }
        return {"label": labels, "usable": usable}, frame

    def solve(
        self, frames: Iterable[tuple[Block, Arrays]], grid: BlockGrid
    ) -> Mapping[int, Arrays]:
        """Ids in the order of first pixels."""
        nodes = Nodes.of(frames, grid)
        _, component = np.unique(nodes.gather("cell"), return_inverse=True)
        ids = numbered_by_first(component.astype(np.int64), nodes.gather("first"))
        return nodes.scatter(ids.astype(np.uint32), "instance")

    def apply(
        self, block: Block, kept: Arrays, table: Arrays, frames: Mapping[tuple[int, int], Arrays]
    ) -> Arrays:
        """1 with its id everywhere, 255 where no value is."""
        return things(table["instance"][kept["label"]], kept["usable"])


@dataclass(frozen=True)
class Superpixels:
    """Superpixels as instances. A Segmenter."""

    card: ModelCard
    features: Features
    lattice: Lattice
    sample: ValueSample = field(compare=False, repr=False)
    join: Cells

    def for_scene(self, scene: Scene) -> tuple[Superpixels, list[str]]:
        """With the scene's bands and extent; raises ModelError when it lacks a band."""
        features, warnings = self.features.for_scene(scene)
        join = replace(self.join, shape=scene.shape)
        return replace(self, features=features, join=join), warnings

    def predict(self, pixels: NDArray[Any], valid: NDArray[np.bool_]) -> list[Any]:
        """Cells of each tile."""
        out: list[Any] = []
        for tile, tile_valid in zip(pixels, valid, strict=True):
            values, usable = standardized(self.features, self.sample, tile, tile_valid)
            out.append(FieldTile(self.lattice(values, usable)[None], usable))
        return out


@dataclass(frozen=True)
class SuperpixelFit:
    """The pass that finds each feature's spread, then Superpixels. A Fittable."""

    card: ModelCard
    features: Features
    lattice: Lattice
    shape: tuple[int, int] = (1, 1)

    def for_scene(self, scene: Scene) -> tuple[SuperpixelFit, list[str]]:
        """With the scene's bands and extent; raises ModelError when it lacks a band."""
        features, warnings = self.features.for_scene(scene)
        card = replace(self.card, bands=features.bands)
        return replace(self, features=features, card=card, shape=scene.shape), warnings

    def observe(self, pixels: NDArray[Any], valid: NDArray[np.bool_]) -> ValueSample:
        """The sample of one block."""
        return observe_sample(self.features, pixels, valid)

    def fitted(self, stats: ValueSample) -> Superpixels:
        """The Segmenter."""
        join = Cells(self.lattice.size, self.shape)
        return Superpixels(self.card, self.features, self.lattice, stats, join)


def superpixel_size(lattice: Lattice) -> int:
    """Tile size that spends at least as much on its core as on its halo."""
    size = lattice.size
    return 2 * lattice.halo + max(-(-512 // size), 2 * lattice.halo // size) * size


def lattice_of(spec: Spec) -> Lattice:
    """The options ``size``, ``compactness`` and ``rounds``."""
    return Lattice(
        spec.whole("size", 10, 3, 100),
        spec.number("compactness", 0.5, 0, 1e6),
        spec.whole("rounds", 4, 1, 20),
    )


def slic(spec: Spec) -> SuperpixelFit:
    """``slic:size=10,compactness=0.5,rounds=4``: of all bands, or of the features named."""
    features = Features.parse(spec.features, spec.number("scale", 1.0, 1e-12, 1e12))
    lattice = lattice_of(spec)
    card = region_card(spec, features, lattice.halo, lattice.size)
    card = replace(card, tile_size=superpixel_size(lattice))
    return SuperpixelFit(card, features, lattice)
