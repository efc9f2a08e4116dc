"""What a training is towards: classes, things one by one, or both; with which network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from geoseg.errors import InputError
from geoseg.learn.objective import Centers, Classes, Objective, Parcels
from geoseg.learn.samples import Labelled
from geoseg.learn.things import Things, ThingValidation
from geoseg.learn.validate import Validation
from geoseg.legend import Category, Legend
from geoseg.models.classic.palette import distinct
from geoseg.models.deep.architectures import ARCHITECTURES, defaults
from geoseg.models.deep.centers import CenterRule, Channels
from geoseg.models.deep.oneshot import centers_tile, parcels_tile
from geoseg.models.deep.parcels import ParcelRule
from geoseg.models.segmenter import InstanceTile, Task
from geoseg.radiometry import Normalization

__all__ = ["TRAINED", "Goal", "check_architecture"]

SMALL_PX = 1024
"""Ground with shorter sides is judged and shown in smaller squares."""

_THINGS = ("parcels", "centers", "panoptic_deeplab")

TRAINED: Mapping[Task, tuple[str, ...]] = {
    "semantic": tuple(ARCHITECTURES),
    "instance": _THINGS,
    "panoptic": _THINGS,
}
"""Architectures that are trained towards each task."""


def check_architecture(task: Task, name: str) -> None:
    """Raises InputError where a network isn't trained towards a task, ModelError on no network."""
    if not name or name in TRAINED[task]:
        return
    defaults(name)
    others = [f"--task {other}" for other, names in TRAINED.items() if name in names]
    remedy = f"give {' or '.join(others)}, or " if others else ""
    raise InputError(
        f"--architecture {name} is not trained by --task {task}: {remedy}use one of "
        f"{', '.join(TRAINED[task])}"
    )


@dataclass(frozen=True, kw_only=True)
class Goal:
    """A task on given classes.

    Attributes:
        task: as in a model's card.
        architecture: empty: the task's own.
        classes: by position of their label.
        things: which of them are told apart.
        background: the class where nothing is; maps of things alone don't show it.
        given: a legend whose colours are kept.

    """

    task: Task
    architecture: str = ""
    classes: tuple[str, ...]
    things: frozenset[str] = frozenset()
    background: str = "background"
    given: Legend | None = None

    def __post_init__(self) -> None:
        check_architecture(self.task, self.architecture)
        things = [name for name in self.classes if name in self.things]
        if self.task != "semantic" and not things:
            raise InputError(
                f"--task {self.task}: none of {', '.join(self.classes)} is a thing: name those "
                "that are with --things"
            )
        stuff = len(self.classes) - len(things)
        if self.network == "parcels" and (len(things), stuff) != (1, 1):
            raise InputError(
                f"--architecture parcels tells one class of things from the rest, not "
                f"{', '.join(self.classes)}: use --architecture centers"
            )

    @property
    def network(self) -> str:
        """Name of the architecture."""
        if self.architecture:
            return self.architecture
        if self.task == "instance" and len(self.classes) == 2:
            return "parcels"
        return "unet" if self.task == "semantic" else "centers"

    @property
    def labels(self) -> Legend:
        """What each position of a label means."""
        colours = {} if self.given is None else {c.name: c.colour for c in self.given}
        categories = tuple(
            Category(k, n, colours.get(n, distinct(k)), n in self.things)
            for k, n in enumerate(self.classes)
        )
        return Legend(categories, "trained")

    @property
    def legend(self) -> Legend:
        """What maps show."""
        shown = tuple(c for c in self.labels if self.task != "instance" or c.isthing)
        return Legend(shown, "trained")

    @property
    def channels(self) -> Channels:
        """Semantic channels of a network that learns centres."""
        return Channels.of(self.legend)

    @property
    def outputs(self) -> int:
        """``classes`` of the architecture."""
        if self.network == "parcels":
            return 3
        return len(self.classes if self.task == "semantic" else self.channels)

    def objective(self, focal: float) -> Objective:
        """Targets and loss."""
        if self.task == "semantic":
            return Classes(len(self.classes), focal=focal)
        if self.network == "parcels":
            return Parcels()
        # a class that no map shows is the channel of nothing, the first
        index = self.channels.category_id.index
        shown = {c.id for c in self.legend}
        return Centers(tuple(index(c.id) if c.id in shown else 0 for c in self.labels))

    def validation(self, held: Sequence[Labelled], how: Normalization) -> Validation:
        """What judges the network."""
        default = defaults(self.network)
        if self.task == "semantic":
            small = max(max(ground.labels.shape) for ground in held) < SMALL_PX
            core = max(64, default.divisor) if small else 256
            return Validation(held, self.classes, how, default.halo, core)
        things = Things(
            classes=self.classes,
            isthing=tuple(c.isthing for c in self.labels),
            nothing=self.classes.index(self.background) if self.task == "instance" else None,
            decode=self.decode,
        )
        return ThingValidation(held, things, how, default.halo)

    def decode(self, logits: Tensor, valid: NDArray[np.bool_]) -> InstanceTile:
        """Things of a whole ground, as a model of this goal finds them in a tile."""
        if self.network == "parcels":
            return parcels_tile(logits.sigmoid().numpy(), valid, self.legend, ParcelRule())
        return centers_tile(logits[None], valid, self.channels, CenterRule())
