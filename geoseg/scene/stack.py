"""Several images of one place as one scene: bands of different files, sensors or dates.

All are brought to one stated grid when a window is read: that of the first, unless another is
given. A pixel is valid where every file that is read for it is valid there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from geoseg.errors import SceneError
from geoseg.grid import Window
from geoseg.scene.reader import Band, Reader, Scene
from geoseg.scene.regrid import on_grid

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

__all__ = ["Stack", "stack"]

BoolArray = NDArray[np.bool_]


def stack(scenes: Sequence[Scene], *, grid: GeoBox | Literal["first", "finest"] = "first") -> Scene:
    """One scene with the bands of all, in the order given, on one grid.

    ``grid``: the first scene's, that of the scene with the finest GSD, or any GeoBox.
    A band's name that is there already gets a number: ``red``, ``red_2``.
    Raises SceneError without scenes, or when some have a CRS and some none.
    """
    if not scenes:
        raise SceneError("nothing to stack: give at least one file")
    box = _grid(scenes, grid)
    placed = [on_grid(scene, box) for scene in scenes]
    tags = {key: value for scene in reversed(placed) for key, value in scene.tags.items()}
    first = placed[0]
    return replace(
        first,
        name="+".join(scene.name for scene in scenes),
        bands=_unique([band for scene in placed for band in scene.bands]),
        dtype=np.result_type(*(scene.dtype for scene in placed)).name,
        reader=Stack(
            tuple(scene.reader for scene in placed), tuple(len(scene.bands) for scene in placed)
        ),
        tags=tags,
    )


def _grid(scenes: Sequence[Scene], grid: GeoBox | Literal["first", "finest"]) -> GeoBox:
    if grid == "first":
        return scenes[0].geobox
    if grid == "finest":
        return min(scenes, key=lambda scene: scene.gsd_m or float("inf")).geobox
    return grid


def _unique(bands: Sequence[Band]) -> tuple[Band, ...]:
    if all(band.name.isdigit() for band in bands):
        # bands without names are counted through
        return tuple(replace(band, name=str(i)) for i, band in enumerate(bands, 1))
    seen: dict[str, int] = {}
    out = []
    for band in bands:
        seen[band.name] = seen.get(band.name, 0) + 1
        name = band.name if seen[band.name] == 1 else f"{band.name}_{seen[band.name]}"
        out.append(replace(band, name=name))
    return tuple(out)


@dataclass(frozen=True, slots=True)
class Stack:
    """The bands of several readers on one grid; ``counts``: bands per reader."""

    readers: tuple[Reader, ...]
    counts: tuple[int, ...]

    def read(self, window: Window, bands: Sequence[int]) -> tuple[NDArray[Any], BoolArray]:
        """Pixels (band, row, col) and valid (row, col); raises BlockError."""
        valid = np.ones(window.shape, bool)
        layers: dict[int, NDArray[Any]] = {}
        first = 0
        for reader, count in zip(self.readers, self.counts, strict=True):
            wanted = [band for band in dict.fromkeys(bands) if first <= band < first + count]
            if wanted:
                pixels, good = reader.read(window, [band - first for band in wanted])
                valid &= good
                layers.update(zip(wanted, pixels, strict=True))
            first += count
        return np.stack([layers[band] for band in bands]), valid

    def fingerprint(self) -> Mapping[str, Any]:
        """Those of all readers."""
        return {"stack": [dict(reader.fingerprint()) for reader in self.readers]}
