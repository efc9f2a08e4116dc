"""Scenes and labels, checked and split by place: what a training starts from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from geoseg.errors import InputError
from geoseg.learn.goal import Goal, check_architecture
from geoseg.learn.ground import class_counts, labels_for, read_labels, read_shared
from geoseg.learn.labels import LabelOptions, NamedLabels
from geoseg.learn.samples import IGNORE, Labelled
from geoseg.learn.split import PlaceSplit, split_places
from geoseg.radiometry import Normalization
from geoseg.scene.opening import SceneOptions, open_scenes

if TYPE_CHECKING:
    from geoseg.learn.job import Job
    from geoseg.scene.reader import Scene

__all__ = ["Prepared", "prepare"]


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """What is trained on and validated on; ``notes`` for the person."""

    goal: Goal
    train: tuple[Labelled, ...]
    validation: tuple[Labelled, ...]
    normalization: Normalization
    bands: tuple[str, ...]
    gsd_m: tuple[float, float] | None
    where: str
    notes: tuple[str, ...] = ()


def prepare(job: Job) -> Prepared:
    """Scenes and labels, checked and split by place; raises InputError."""
    check_architecture(job.task, job.architecture)
    files = labels_for(job.scenes, job.labels)
    options = SceneOptions(gsd_m=job.gsd_m, bands=job.bands or None)
    scenes = [open_scenes([path], options) for path in job.scenes]
    _check_alike(scenes)
    reading = replace(job.reading, things=job.task != "semantic")
    if len(job.classes) == 1 and reading.things:
        reading = replace(reading, single=job.classes[0])
    scenes, files, named = _labels(scenes, files, reading, job.size_px)
    goal = _goal(job, named)
    bands = tuple(range(len(scenes[0].bands)))
    grounds = [
        _of_things(n.ground(s, goal.classes, bands, path), goal)
        for n, s, path in zip(named, scenes, files, strict=True)
    ]
    _check_classes(class_counts(grounds, goal.classes))
    splits = [_split(ground, job) for ground in grounds]
    given = job.split.fold
    fold = _fold(grounds, splits, len(goal.classes)) if given is None else given - 1
    parts = [ground.within(s[fold].train) for ground, s in zip(grounds, splits, strict=True)]
    held = [
        replace(g, labels=np.where(s[fold].validation, g.labels, np.uint8(IGNORE)))
        for g, s in zip(grounds, splits, strict=True)
    ]
    _check_windows(parts, job)
    taught = class_counts(parts, goal.classes)
    _check_taught(taught, fold + 1)
    lacking = [n for n, count in class_counts(held, goal.classes).items() if not count]
    left_out = len(job.scenes) - len(scenes)
    notes = [f"{left_out} scenes have no label and are left out"] if left_out else []
    notes += [note for n in named for note in n.notes]
    notes += [
        f"no place to train on shows {n!r}: the model can't learn it: choose another --fold, or "
        "a smaller --square-px or --buffer-px"
        for n, count in taught.items()
        if not count
    ]
    notes += [f"no validation place shows {n!r}: its IoU is not known" for n in lacking]
    gsds = [g for g in (scene.gsd_m for scene in scenes) if g is not None]
    return Prepared(
        goal=goal,
        train=tuple(parts),
        validation=tuple(held),
        normalization=_normalization(parts),
        bands=tuple(band.name for band in scenes[0].bands),
        gsd_m=(round(min(gsds) / 1.25, 6), round(max(gsds) * 1.25, 6)) if gsds else None,
        where=f"fold {fold + 1} of {job.split.folds}",
        notes=tuple(notes),
    )


def _labels(
    scenes: list[Scene], files: list[Path], reading: LabelOptions, margin: int
) -> tuple[list[Scene], list[Path], list[NamedLabels]]:
    """Scenes with their files and labels; of scenes that share a file, those that have any."""
    if len(scenes) == 1 or len(set(files)) > 1:
        pairs = zip(scenes, files, strict=True)
        return scenes, files, [read_labels(s, path, reading, margin) for s, path in pairs]
    shared = read_shared(scenes, files[0], reading, margin)
    both = [(s, n) for s, n in zip(scenes, shared, strict=True) if n is not None]
    return [s for s, _ in both], files[: len(both)], [n for _, n in both]


def _goal(job: Job, named: Sequence[NamedLabels]) -> Goal:
    """Classes and things: what was asked for, else what was found."""
    background = job.reading.background
    order = [c.name for c in job.reading.legend or ()]
    found = sorted({name for n in named for name in n.names})
    # as the legend has them, then what it lacks by name
    found.sort(key=lambda name: order.index(name) if name in order else len(order))
    classes = job.classes or tuple(found)
    if job.things and job.task != "panoptic":
        raise InputError(f"--things is for --task panoptic, not {job.task}")
    strangers = sorted(set(job.things) - set(classes))
    if strangers:
        raise InputError(f"--things {strangers[0]}: not one of the classes {', '.join(classes)}")
    flagged = {c.name for c in job.reading.legend or () if c.isthing}
    things = frozenset(job.things) or frozenset(flagged.union(*(n.things for n in named)))
    if job.task == "instance":
        # nothing comes last: its position is no category's
        classes = (*(name for name in classes if name != background), background)
        things = frozenset(classes[:-1])
        if not any(background in n.names for n in named):
            raise InputError(
                "labels of things alone don't say where none are: give --extent FILE, inside "
                "which everything is labelled, or --exhaustive where all of the scene is"
            )
    return Goal(
        task=job.task,
        architecture=job.architecture,
        classes=classes,
        things=things if job.task != "semantic" else frozenset(),
        background=background,
        given=job.reading.legend,
    )


def _of_things(ground: Labelled, goal: Goal) -> Labelled:
    """Only things have numbers."""
    if ground.instance_id is None:
        return ground
    things = np.zeros(256, bool)
    things[: len(goal.classes)] = [c.isthing for c in goal.labels]
    return replace(ground, instance_id=ground.instance_id * things[ground.labels])


def _check_alike(scenes: Sequence[Scene]) -> None:
    first = scenes[0]
    for scene in scenes[1:]:
        if len(scene.bands) != len(first.bands) or scene.dtype != first.dtype:
            raise InputError(
                f"{scene.name} has {len(scene.bands)} bands of {scene.dtype}, {first.name} has "
                f"{len(first.bands)} of {first.dtype}: choose bands that all have with --bands"
            )


def _check_classes(counts: Mapping[str, int]) -> None:
    empty = [name for name, count in counts.items() if not count]
    if empty:
        raise InputError(
            f"class {', '.join(map(repr, empty))} has no label on any scene: label some of it, "
            "or leave it out of --classes"
        )
    if len(counts) < 2:
        raise InputError(
            f"only one class, {next(iter(counts))!r}: label what is not it as well, or say with "
            "--extent where everything is labelled (the rest is background there)"
        )


def _check_taught(counts: Mapping[str, int], fold: int) -> None:
    """Raises InputError where less than two classes are left to train on."""
    kept = [name for name, count in counts.items() if count]
    if len(kept) < 2:
        raise InputError(
            f"with fold {fold} kept for validation, the places to train on show only "
            f"{', '.join(map(repr, kept)) or 'nothing'}: label more places, choose another --fold, "
            "or a smaller --square-px or --buffer-px"
        )


def _split(ground: Labelled, job: Job) -> list[PlaceSplit]:
    rows, cols = ground.labels.shape
    given = job.split
    # a few dozen squares, none so small that it shows nothing
    fitting = int(np.clip((rows * cols / (6 * given.folds)) ** 0.5, 24, 512))
    square = given.square_px or fitting
    buffer = min(32, square // 4) if given.buffer_px is None else given.buffer_px
    return split_places(
        (rows, cols),
        square_px=square,
        buffer_px=buffer,
        folds=given.folds,
        seed=job.schedule.seed,
    )


def _fold(grounds: Sequence[Labelled], splits: Sequence[Sequence[PlaceSplit]], classes: int) -> int:
    """The fold that shows most classes on both sides; of these the one nearest to its share."""

    def worth(fold: int) -> tuple[int, float]:
        sides = np.zeros((2, 256))
        for ground, split in zip(grounds, splits, strict=True):
            for side, mask in enumerate((split[fold].train, split[fold].validation)):
                sides[side] += np.bincount(ground.labels[mask], minlength=256)
        sides = sides[:, :classes]
        share = sides[1].sum() / max(sides.sum(), 1)
        return int((sides > 0).all(0).sum()), -abs(share - 1 / len(splits[0]))

    return max(range(len(splits[0])), key=worth)


def _check_windows(parts: Sequence[Labelled], job: Job) -> None:
    """A batch wants windows that don't show the same ground."""
    size, windows = job.size_px, 0
    for ground in parts:
        rows, cols = np.nonzero(ground.labels != IGNORE)
        windows += len(np.unique(np.stack([rows // size, cols // size]), axis=1).T)
    if windows < job.schedule.batch:
        raise InputError(
            f"the labels to train on lie in {windows} windows of {size} px, fewer than a batch of "
            f"{job.schedule.batch}: label more, or use a smaller --size-px or --batch"
        )


def _normalization(parts: Sequence[Labelled]) -> Normalization:
    """Mean and deviation of each band over the ground that is trained on."""
    values: NDArray[np.float64] = np.concatenate(
        [ground.pixels[:, ground.valid].astype(np.float64) for ground in parts], axis=1
    )
    values = np.where(np.isfinite(values), values, 0.0)
    mean, std = values.mean(1), np.maximum(values.std(1), 1e-6)
    return Normalization(mean=tuple(mean.tolist()), std=tuple(std.tolist()))
