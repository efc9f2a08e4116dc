r"""How much halo a model needs on a scene, measured.

Every place is predicted by a tile and by two more that are shifted by half a tile, to the
right and down. Where two tiles overlap, a pixel near the edge of one lies deep inside the
other, which says what the label is without an edge::

    |<------ tile ------>|
              |<----- shifted ----->|
              |>   d    <|              d: depth below either edge, up to a quarter of a tile

With a halo of h pixels, a seam of the map runs at depth h. The share of pixels whose label
differs there is held against the share a quarter of a tile inside, where the network has
all the context that a tile can give it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from math import isnan
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from geoseg.engine.plan import Plan
from geoseg.engine.predicting import label_tile
from geoseg.engine.report import NoProgress, Progress
from geoseg.engine.turns import side_by_side
from geoseg.errors import InputError
from geoseg.grid import Window

if TYPE_CHECKING:
    from geoseg.models.segmenter import Segmenter
    from geoseg.scene.reader import Scene

__all__ = ["HaloMeasure", "measure_halo"]

BAND_PX = 8
"""Depths are gathered over this many pixels."""

MORE_SHARE, MORE_POINTS = 0.1, 0.001
"""A seam may differ by a tenth more than the interior does, and by 0.1 % of the pixels."""


@dataclass(frozen=True, kw_only=True)
class HaloMeasure:
    """Labels that differ between overlapping tiles, by depth below a tile's edge.

    Attributes:
        tile_size, step: pixels; halos are multiples of ``step``.
        differing, compared: (place, depth) int64 counts of pixels, ``BAND_PX`` deep each.

    """

    tile_size: int
    step: int
    differing: NDArray[np.int64]
    compared: NDArray[np.int64]

    @property
    def places(self) -> int:
        """Places that had pixels to compare."""
        return int((self.compared.sum(axis=1) > 0).sum())

    @property
    def _inside(self) -> int:
        """The band from which on all is interior: the deepest quarter of what was compared."""
        bands = self.compared.shape[1]
        return bands - max(bands // 4, 1)

    @property
    def interior(self) -> float:
        """Share of labels that differ where both tiles know most."""
        inside = np.s_[:, self._inside :]
        return _share(self.differing[inside].sum(), self.compared[inside].sum())

    @property
    def halos(self) -> tuple[int, ...]:
        """Halos that the measurement tells apart."""
        return tuple(range(0, self._inside * BAND_PX, self.step))

    def at(self, halo: int) -> tuple[float, float]:
        """Share of labels that differ at a seam with this halo, and its standard error
        over places.
        """
        band = halo // BAND_PX
        differing, compared = self.differing[:, band], self.compared[:, band]
        share = _share(differing.sum(), compared.sum())
        seen = compared > 0
        if seen.sum() < 2:
            return share, float("nan")
        # of a ratio, by linearization: Cochran, Sampling Techniques, 1977, section 2.11
        rest = differing[seen] - share * compared[seen]
        error = np.sqrt((rest**2).sum() / (seen.sum() * (seen.sum() - 1))) / compared[seen].mean()
        return share, float(error)

    @property
    def recommended(self) -> int | None:
        """The smallest halo from which on no seam differs by more than a tenth more than the
        interior, or 0.1 % of the pixels; None when a quarter of a tile is too little.
        """
        allowed = self.interior + max(MORE_SHARE * self.interior, MORE_POINTS)
        best = None
        for halo in reversed(self.halos):
            if self.at(halo)[0] > allowed:
                break
            best = halo
        return best

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        rows = []
        for halo in self.halos:
            share, error = self.at(halo)
            rows.append({"halo": halo, "share": share, "error": None if isnan(error) else error})
        return {
            "tile_size": self.tile_size,
            "places": self.places,
            "pixels": int(self.compared.sum()),
            "seams": rows,
            "interior": self.interior,
            "recommended": self.recommended,
        }

    def __str__(self) -> str:
        lines = [
            f"tiles of {self.tile_size} px at {self.places} places, "
            f"{self.compared.sum():,} pixels seen twice",
            "halo, px   labels that differ at the seam",
        ]
        for halo in self.halos:
            share, error = self.at(halo)
            spread = "" if isnan(error) else f" ± {100 * error:.2f}"
            mark = "   <- enough" if halo == self.recommended else ""
            lines.append(f"{halo:8d}   {100 * share:6.2f}{spread} %{mark}")
        lines.append(f"interior   {100 * self.interior:6.2f} %")
        if self.recommended is None:
            lines.append(
                f"a quarter of a tile is too little: measure again with --tile-size "
                f"{2 * self.tile_size}"
            )
        return "\n".join(lines)


def _share(part: Any, whole: Any) -> float:
    return float(part / whole) if whole else 0.0


def measure_halo(
    scene: Scene,
    segmenter: Segmenter,
    plan: Plan,
    *,
    places: int = 16,
    progress: Progress | None = None,
) -> HaloMeasure:
    """Predict a sample of places and compare labels near tile edges with those inside.

    Places lie evenly over the plan's region; each costs three tiles. Labels are categories:
    how objects are cut is not measured.

    Raises:
        InputError: the region is smaller than one and a half tiles, or has no valid pixel
            at these places.

    """
    progress = progress or NoProgress()
    shift = _shift(plan)
    windows = _windows(plan, shift, places)
    deep = shift // 2 // BAND_PX
    differing = np.zeros((len(windows), deep), np.int64)
    compared = np.zeros_like(differing)
    progress.start("measure", 3 * len(windows) * plan.tile_size**2)
    for number, (first, right, below) in enumerate(_predicted(scene, segmenter, plan, windows)):
        for one, other, across in ((first, right, False), (first, below, True)):
            counts = _compared(one, other, shift, across)
            differing[number] += counts[0]
            compared[number] += counts[1]
        progress.advance(3 * plan.tile_size**2)
    if not compared.any():
        raise InputError(
            f"{scene.name}: no valid pixel at {len(windows)} places: give an --aoi that has some, "
            "or more --places"
        )
    step = -(-BAND_PX // plan.divisor) * plan.divisor
    return HaloMeasure(tile_size=plan.tile_size, step=step, differing=differing, compared=compared)


def _shift(plan: Plan) -> int:
    """Half a tile, in steps that the network is made for."""
    step = max(plan.divisor, 1)
    shift = plan.tile_size // 2 // step * step
    if shift < 4 * BAND_PX:
        raise InputError(
            f"tiles of {plan.tile_size} px are too small to measure a halo with: "
            f"give --tile-size {max(16 * BAND_PX, 4 * step)}"
        )
    return shift


def _windows(plan: Plan, shift: int, places: int) -> list[Window]:
    """Upper left tiles of places that lie evenly in the region, on the model's lattice."""
    side = plan.tile_size + shift
    region = plan.region
    room = region.height - side, region.width - side
    if min(room) < 0:
        raise InputError(
            f"{plan.scene}: {region.height} x {region.width} px are too few to measure a halo "
            f"with tiles of {plan.tile_size} px: give --tile-size, at most "
            f"{min(region.shape) * 2 // 3}"
        )
    rows = max(1, round((places * (room[0] + 1) / (room[1] + 1)) ** 0.5))
    rows = min(rows, places, room[0] + 1)
    cols = max(1, min(-(-places // rows), room[1] + 1))
    step = max(plan.divisor, 1)

    def spread(start: int, space: int, count: int) -> list[int]:
        found = [space // 2] if count == 1 else np.linspace(0, space, count).astype(int).tolist()
        return sorted({start + int(v) // step * step for v in found})

    return [
        Window(row, col, plan.tile_size, plan.tile_size)
        for row in spread(region.row_off, room[0], rows)
        for col in spread(region.col_off, room[1], cols)
    ]


Labels = tuple[NDArray[np.uint8], NDArray[np.bool_]]
"""``category_id`` and validity of one tile, (row, col) both."""


def _predicted(
    scene: Scene, segmenter: Segmenter, plan: Plan, windows: Sequence[Window]
) -> Iterator[tuple[Labels, Labels, Labels]]:
    """Labels of the three tiles of each place; batches have the pinned shape."""
    shift = _shift(plan)
    size = plan.tile_size
    for window in windows:
        outer = Window(window.row_off, window.col_off, size + shift, size + shift)
        pixels, valid = scene.read(outer, plan.bands)
        cuts = [
            np.s_[row : row + size, col : col + size]
            for row, col in ((0, 0), (0, shift), (shift, 0))
        ]
        tiles = [(pixels[(slice(None), *cut)], valid[cut]) for cut in cuts]
        works = []
        for start in range(0, len(tiles), plan.pins.batch):
            group = tiles[start : start + plan.pins.batch]
            filled = [*group, *[group[-1]] * (plan.pins.batch - len(group))]
            batch = [np.stack(parts) for parts in zip(*filled, strict=True)]
            works.append(partial(segmenter.predict, *batch))
        found = [result for some in side_by_side(works, plan.passes) for result in some]
        one, other, below = (
            (label_tile(result, segmenter.card.legend).category_id, inside)
            for result, (_, inside) in zip(found, tiles, strict=False)
        )
        yield one, other, below


def _compared(
    one: Labels, other: Labels, shift: int, across: bool
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pixels that differ, and all, by depth below the far edge of ``one`` and the near edge
    of ``other``, which lies ``shift`` columns (rows, if ``across``) further.

    Only the middle half along the edge counts: its ends are near other edges.
    """
    if across:
        one, other = (one[0].T, one[1].T), (other[0].T, other[1].T)
    size = one[0].shape[0]
    middle = slice(size // 4, size - size // 4)
    mine, theirs = np.s_[middle, shift:], np.s_[middle, : size - shift]
    both = one[1][mine] & other[1][theirs]
    differ = (one[0][mine] != other[0][theirs]) & both
    deep = shift // 2 // BAND_PX * BAND_PX
    counts = []
    for found in (differ, both):
        columns = found.sum(axis=0, dtype=np.int64)
        # other's near edge is at the left, one's far edge at the right
        depth = columns[:deep] + columns[::-1][:deep]
        counts.append(depth.reshape(-1, BAND_PX).sum(axis=1))
    return counts[0], counts[1]
