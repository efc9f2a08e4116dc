"""Labels as training takes them: how they are read, and what they are on a scene's grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from geoseg.errors import InputError
from geoseg.grid import Window
from geoseg.labels.schemes import Scheme
from geoseg.learn.samples import IGNORE, Labelled
from geoseg.legend import Legend

if TYPE_CHECKING:
    from geoseg.scene.reader import Scene

__all__ = ["CLASS_COLUMNS", "OBJECT", "Drawn", "LabelOptions", "NamedLabels"]

CLASS_COLUMNS = ("category", "class", "label", "name", "type", "category_id")
"""Columns in which the class of a polygon is looked for."""

OBJECT = "object"
"""Class of things whose file names none."""


@dataclass(frozen=True, kw_only=True)
class LabelOptions:
    """How label files are read.

    Attributes:
        column: that holds the class; None: the first of ``CLASS_COLUMNS``.
        legend: names of the numbers of a label raster.
        scheme: which numbers its publisher stores for the categories of the legend.
        extent: polygons inside which all is labelled; None: the layer ``extent`` of the
            label file, where it has one.
        exhaustive: all of every scene is labelled.
        background: class of what has no label inside the extent.
        things: polygons and numbers are told apart one by one, and may lack a class.
        single: class of things that lack one.

    """

    column: str | None = None
    legend: Legend | None = None
    scheme: Scheme | None = None
    extent: Path | None = None
    exhaustive: bool = False
    background: str = "background"
    things: bool = False
    single: str = OBJECT


@dataclass(frozen=True)
class Drawn:
    """What a file says, on all of a scene's grid: ``position`` (row, col) uint8 into ``names``,
    255 = none; ``instance_id`` (row, col) int32, 0 = none; ``things``: names known to be.
    """

    names: tuple[str, ...]
    position: NDArray[np.uint8]
    instance_id: NDArray[np.int32]
    things: frozenset[str] = frozenset()

    def filled(self, extent: NDArray[np.bool_], background: str) -> Drawn:
        """With ``background`` where nothing is drawn inside ``extent``."""
        names = self.names if background in self.names else (*self.names, background)
        empty = extent & (self.position == IGNORE)
        position = np.where(empty, np.uint8(names.index(background)), self.position)
        return Drawn(names, position, self.instance_id, self.things)


@dataclass(frozen=True)
class NamedLabels:
    """Labels on a scene's grid: ``position`` (row, col) uint8 into ``names``, 255 = none.

    Only ``window`` of the scene is held: the smallest that shows all labels and some pixels
    around. ``instance_id`` (row, col) int32 where things are told apart. ``things`` are the
    names that the file says are things; ``notes`` what a person should know of; ``drawn``:
    the file has labels here, and not only an extent.
    """

    names: tuple[str, ...]
    position: NDArray[np.uint8]
    window: Window
    notes: tuple[str, ...] = field(default=())
    instance_id: NDArray[np.int32] | None = None
    things: frozenset[str] = frozenset()
    drawn: bool = True

    def ground(
        self, scene: Scene, classes: Sequence[str], bands: Sequence[int], path: Path
    ) -> Labelled:
        """With the scene's pixels; raises InputError on names that ``classes`` lack."""
        seen = {self.names[k] for k in np.unique(self.position).tolist() if k != IGNORE}
        unknown = sorted(seen - set(classes))
        if unknown:
            raise InputError(
                f"{path}: unknown class {', '.join(map(repr, unknown))}: the classes are "
                f"{', '.join(classes)}: correct the label or add it to --classes"
            )
        table = np.full(256, IGNORE, np.uint8)
        for k, name in enumerate(self.names):
            if name in classes:
                table[k] = classes.index(name)
        pixels, valid = scene.read(self.window, bands)
        labels = np.where(valid, table[self.position], np.uint8(IGNORE))
        ids: Any = None if self.instance_id is None else self.instance_id * valid
        return Labelled(name=scene.name, pixels=pixels, valid=valid, labels=labels, instance_id=ids)
