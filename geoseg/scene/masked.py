"""A scene without the pixels that masks leave out, and the count of these.

A mask only ever takes pixels away: what the source calls invalid stays invalid. A pixel that
several masks want counts for the first of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from geoseg.grid import Window
from geoseg.scene.reader import Reader, Scene, taken_by_masks
from geoseg.scene.regrid import resampled

__all__ = ["MaskSource", "Masked", "left_out", "masked", "masked_at"]

BoolArray = NDArray[np.bool_]


class MaskSource(Protocol):
    """Says which pixels of the scene's grid are to be left out. Picklable."""

    @property
    def name(self) -> str:
        """For the report: a file, a band, a model."""
        ...

    def reasons(self, window: Window) -> Mapping[str, BoolArray]:
        """Per reason, (row, col): True where a pixel inside the grid is to be left out."""
        ...

    def fingerprint(self) -> Mapping[str, Any]:
        """What tells it from another mask (JSON values)."""
        ...


def masked(scene: Scene, *masks: MaskSource) -> Scene:
    """The scene without the pixels that the masks leave out."""
    return replace(scene, reader=Masked(scene.reader, tuple(masks))) if masks else scene


def masked_at(scene: Scene, masks: Sequence[MaskSource], gsd_m: float) -> Scene:
    """The scene masked on its own grid, then resampled; raises SceneError.

    What each mask took is then known pixel by pixel of the new grid, though not why.
    """
    steps = [masked(scene, *masks[:count]) for count in range(len(masks) + 1)]
    coarse = [resampled(step, gsd_m) for step in steps]
    if not masks or coarse[0] is steps[0]:  # the same GSD
        return coarse[-1]
    readers = tuple(step.reader for step in coarse)
    return replace(coarse[-1], reader=_Steps(readers, tuple(mask.name for mask in masks)))


@dataclass(frozen=True, slots=True)
class Masked:
    """Another reader's pixels, valid only where no mask leaves them out."""

    reader: Reader
    masks: tuple[MaskSource, ...]

    def read(self, window: Window, bands: Sequence[int]) -> tuple[NDArray[Any], BoolArray]:
        """Pixels (band, row, col) and valid (row, col); raises BlockError."""
        pixels, valid = self.reader.read(window, bands)
        valid = valid.copy()
        for mask in self.masks:
            for out in mask.reasons(window).values():
                valid &= ~out
        return pixels, valid

    def fingerprint(self) -> Mapping[str, Any]:
        """The source's, and what the masks are."""
        return {
            "source": dict(self.reader.fingerprint()),
            "masks": [dict(mask.fingerprint()) for mask in self.masks],
        }

    def taken(self, window: Window, bands: Sequence[int]) -> dict[str, BoolArray]:
        """See ``reader.Explaining``: by mask and reason, those of a masked source first."""
        found = taken_by_masks(self.reader, window, bands)
        _, valid = self.reader.read(window, bands)
        for mask in self.masks:
            for reason, out in mask.reasons(window).items():
                found[f"{mask.name}: {reason}"] = out & valid
                valid = valid & ~out
        return found


@dataclass(frozen=True, slots=True)
class _Steps:
    """Readers of one source with none, one, two ... of the masks: the last one is read."""

    readers: tuple[Reader, ...]
    names: tuple[str, ...]

    def read(self, window: Window, bands: Sequence[int]) -> tuple[NDArray[Any], BoolArray]:
        return self.readers[-1].read(window, bands)

    def fingerprint(self) -> Mapping[str, Any]:
        return self.readers[-1].fingerprint()

    def taken(self, window: Window, bands: Sequence[int]) -> dict[str, BoolArray]:
        valid = [reader.read(window, bands)[1] for reader in self.readers]
        return {
            name: before & ~after
            for name, before, after in zip(self.names, valid[:-1], valid[1:], strict=True)
        }


def left_out(scene: Scene, window: Window, bands: Sequence[int] = (0,)) -> dict[str, int]:
    """How many pixels of a window inside the scene are not mapped, by reason.

    Counts add up over windows that partition the scene.
    """
    taken = taken_by_masks(scene.reader, window, bands)
    by_masks = {reason: int(out.sum()) for reason, out in taken.items()}
    _, valid = scene.reader.read(window, bands)
    return {"nodata": int((~valid).sum()) - sum(by_masks.values())} | by_masks
