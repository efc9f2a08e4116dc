"""Chips for training: random windows of labelled ground, balanced by class.

The chip of a step depends on the seed and the step's number alone. So a resumed training
sees what an undisturbed one would have seen, however many threads prepare the chips.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from geoseg.errors import InputError
from geoseg.learn.augment import Augmentation, warp
from geoseg.radiometry import Normalization, normalize

__all__ = ["IGNORE", "Chip", "ChipSource", "Labelled"]

IGNORE = 255
"""Label of pixels that nobody labelled: no loss, no score."""

_MAX_POSITIONS = 50_000


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """Ground with labels, at the GSD that is trained on.

    Attributes:
        name: for messages and reports.
        pixels: (band, row, col) in the source's dtype.
        valid: (row, col); False where pixels may not be used.
        labels: (row, col) uint8: position of the class in the legend, IGNORE = unlabelled.
        instance_id: (row, col) int32, 0 = no object; None where only classes are learnt.
        weight: how often it is drawn relative to the others.

    """

    name: str
    pixels: NDArray[np.generic]
    valid: NDArray[np.bool_]
    labels: NDArray[np.uint8]
    instance_id: NDArray[np.int32] | None = None
    weight: float = 1.0

    def __post_init__(self) -> None:
        shapes = {self.pixels.shape[1:], self.valid.shape, self.labels.shape}
        if self.instance_id is not None:
            shapes.add(self.instance_id.shape)
        if len(shapes) > 1:
            raise InputError(f"{self.name}: pixels, valid and labels differ in shape: {shapes}")

    def within(self, mask: NDArray[np.bool_]) -> Labelled:
        """The same ground with everything outside ``mask`` blanked: pixels, labels, objects.

        What is blanked isn't hidden but gone: no window of the result can show it.
        """
        return replace(
            self,
            pixels=np.where(mask, self.pixels, np.zeros((), self.pixels.dtype)),
            valid=self.valid & mask,
            labels=np.where(mask, self.labels, np.uint8(IGNORE)),
            instance_id=None if self.instance_id is None else self.instance_id * mask,
        )


@dataclass(frozen=True)
class Chip:
    """One training sample: ``pixels`` (band, row, col) float32 normalized, ``labels``
    (row, col) uint8 with IGNORE, ``instance_id`` (row, col) int32.
    """

    pixels: NDArray[np.float32]
    labels: NDArray[np.uint8]
    instance_id: NDArray[np.int32]


class ChipSource:
    """Draws chips of ``size_px`` squares from labelled ground.

    First a class is drawn, all alike; then the ground, by how many labelled pixels of the
    class it has (to the power ``evenness``) times its weight; then one of these pixels,
    which the window holds at a random place. Raises InputError when no label is there.
    """

    def __init__(
        self,
        grounds: Sequence[Labelled],
        *,
        size_px: int,
        normalization: Normalization,
        augmentation: Augmentation,
        seed: int,
        evenness: float = 0.5,
    ) -> None:
        self.grounds = tuple(grounds)
        self.size_px = size_px
        self.normalization = normalization
        self.augmentation = augmentation
        self.seed = seed
        self._positions: dict[int, list[tuple[int, NDArray[np.int64]]]] = {}
        self._chances: dict[int, NDArray[np.float64]] = {}
        self._index(evenness)

    @property
    def classes(self) -> tuple[int, ...]:
        """Positions of the classes that have labels."""
        return tuple(sorted(self._positions))

    def _index(self, evenness: float) -> None:
        rng = np.random.default_rng(self.seed)
        chances: dict[int, list[float]] = {}
        for number, ground in enumerate(self.grounds):
            usable = np.where(ground.valid, ground.labels, np.uint8(IGNORE)).ravel()
            counts = np.bincount(usable, minlength=256)
            for label in np.flatnonzero(counts[:IGNORE]).tolist():
                where = np.flatnonzero(usable == label)
                if where.size > _MAX_POSITIONS:
                    where = rng.choice(where, _MAX_POSITIONS, replace=False)
                self._positions.setdefault(label, []).append((number, where))
                share = float(counts[label]) ** evenness * ground.weight
                chances.setdefault(label, []).append(share)
        if not self._positions:
            names = ", ".join(ground.name for ground in self.grounds)
            raise InputError(f"no labelled pixel to train on in {names or 'nothing'}")
        self._chances = {k: np.asarray(v) / np.sum(v) for k, v in chances.items()}

    def chip(self, number: int) -> Chip:
        """Chip ``number``: the same whenever it is asked for."""
        rng = np.random.default_rng([self.seed, number])
        label = self.classes[rng.integers(len(self.classes))]
        choice = rng.choice(len(self._chances[label]), p=self._chances[label])
        which, positions = self._positions[label][choice]
        ground = self.grounds[which]
        row, col = divmod(int(positions[rng.integers(positions.size)]), ground.labels.shape[1])
        return self._cut(ground, (row, col), rng)

    def _cut(self, ground: Labelled, at: tuple[int, int], rng: np.random.Generator) -> Chip:
        matrix = self.augmentation.matrix(rng)
        # the drawn pixel lies anywhere in the chip, but not at its very edge
        place = rng.uniform(-0.45, 0.45, 2) * self.size_px
        centre = np.asarray(at, np.float64) - matrix @ place
        reach = int(np.ceil(np.abs(matrix).sum(1).max() * self.size_px / 2)) + 2
        corner = np.floor(centre).astype(int) - reach
        pixels, labels, ids = _window(ground, corner, 2 * reach, self.normalization)
        pixels, labels, ids = warp(pixels, labels, ids, matrix, centre - corner, self.size_px)
        return Chip(self.augmentation.recolour(pixels, rng), labels, ids)


def _window(
    ground: Labelled, corner: NDArray[np.int64], size: int, how: Normalization
) -> tuple[NDArray[np.float32], NDArray[np.uint8], NDArray[np.int32]]:
    """A square of the ground that may reach beyond it: 0 and IGNORE there."""
    rows, cols = ground.labels.shape
    top, left = max(corner[0], 0), max(corner[1], 0)
    bottom, right = min(corner[0] + size, rows), min(corner[1] + size, cols)
    pixels = np.zeros((ground.pixels.shape[0], size, size), np.float32)
    labels = np.full((size, size), IGNORE, np.uint8)
    ids = np.zeros((size, size), np.int32)
    if top < bottom and left < right:
        source = np.s_[top:bottom, left:right]
        target = np.s_[
            top - corner[0] : bottom - corner[0],
            left - corner[1] : right - corner[1],
        ]
        valid = ground.valid[source]
        pixels[:, target[0], target[1]] = (
            normalize(ground.pixels[:, source[0], source[1]], how) * valid
        )
        labels[target] = np.where(valid, ground.labels[source], IGNORE)
        if ground.instance_id is not None:
            ids[target] = ground.instance_id[source] * valid
    return pixels, labels, ids
