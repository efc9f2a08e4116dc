"""Training from files to a bundle: what ``geoseg train`` does."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from geoseg.errors import InputError, OutputError, ResumeError
from geoseg.learn.augment import Augmentation
from geoseg.learn.ground import LabelOptions, class_counts, digest, labels_for, read_labels
from geoseg.learn.objective import Classes
from geoseg.learn.samples import IGNORE, ChipSource, Labelled
from geoseg.learn.split import PlaceSplit, split_places
from geoseg.learn.start import start_from
from geoseg.learn.train import Progress, Schedule, train
from geoseg.learn.validate import Place, Validation
from geoseg.legend import Category, Legend
from geoseg.models.classic.palette import distinct
from geoseg.models.deep.architectures import Architecture, build, defaults
from geoseg.models.deep.bundle import write_bundle
from geoseg.models.segmenter import ModelCard
from geoseg.radiometry import Normalization
from geoseg.scene.opening import SceneOptions, open_scenes

if TYPE_CHECKING:
    from geoseg.scene.reader import Scene

__all__ = ["Job", "Outcome", "Prepared", "Split", "job_folder", "prepare", "run"]

SMALL_PX = 1024
"""Ground with shorter sides is judged and shown in smaller squares."""


@dataclass(frozen=True, kw_only=True)
class Split:
    """How places are dealt: squares of ``square_px`` in ``folds``, ``fold`` validates
    (from 1; None: the one that shows most classes), ``buffer_px`` around it is left out.
    0 for ``square_px`` and None for ``buffer_px``: from the size of the ground.
    """

    folds: int = 5
    fold: int | None = None
    square_px: int = 0
    buffer_px: int | None = None


@dataclass(frozen=True, kw_only=True)
class Job:
    """All that decides the weights, besides the files' contents."""

    scenes: tuple[Path, ...]
    labels: tuple[Path, ...]
    classes: tuple[str, ...] = ()
    reading: LabelOptions = field(default_factory=LabelOptions)
    bands: tuple[str, ...] = ()
    gsd_m: float | None = None
    architecture: str = "unet"
    encoder: str = ""
    start: Path | None = None
    size_px: int = 256
    focal: float = 0.0
    threads: int = 1
    split: Split = field(default_factory=Split)
    schedule: Schedule


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """What is trained on and validated on; ``notes`` for the person."""

    legend: Legend
    train: tuple[Labelled, ...]
    validation: tuple[Labelled, ...]
    normalization: Normalization
    bands: tuple[str, ...]
    gsd_m: tuple[float, float] | None
    fold: int
    notes: tuple[str, ...]

    @property
    def classes(self) -> tuple[str, ...]:
        """Names in the order of the network's outputs."""
        return tuple(category.name for category in self.legend)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A finished training."""

    card: ModelCard
    log: list[dict[str, Any]]
    places: list[Place]
    figures: dict[str, float]


def job_folder(out: Path) -> Path:
    """Where an unfinished training lies."""
    return out.with_name(f"{out.name}.geoseg-train")


def prepare(job: Job) -> Prepared:
    """Scenes and labels, checked and split by place; raises InputError."""
    files = labels_for(job.scenes, job.labels)
    options = SceneOptions(gsd_m=job.gsd_m, bands=job.bands or None)
    scenes = [open_scenes([path], options) for path in job.scenes]
    _check_alike(scenes)
    named = [
        read_labels(s, path, job.reading, job.size_px)
        for s, path in zip(scenes, files, strict=True)
    ]
    classes = job.classes or tuple(sorted({name for n in named for name in n.names}))
    bands = tuple(range(len(scenes[0].bands)))
    grounds = [
        n.ground(s, classes, bands, path) for n, s, path in zip(named, scenes, files, strict=True)
    ]
    _check_classes(class_counts(grounds, classes))
    splits = [_split(ground, job) for ground in grounds]
    fold = _fold(grounds, splits, len(classes)) if job.split.fold is None else job.split.fold - 1
    parts = [ground.within(s[fold].train) for ground, s in zip(grounds, splits, strict=True)]
    held = [
        replace(g, labels=np.where(s[fold].validation, g.labels, np.uint8(IGNORE)))
        for g, s in zip(grounds, splits, strict=True)
    ]
    _check_windows(parts, job)
    lacking = [n for n, count in class_counts(held, classes).items() if not count]
    notes = [note for n in named for note in n.notes]
    notes += [f"no validation place shows {n!r}: its IoU is not known" for n in lacking]
    gsds = [g for g in (scene.gsd_m for scene in scenes) if g is not None]
    return Prepared(
        legend=_legend(classes, job.reading.legend),
        train=tuple(parts),
        validation=tuple(held),
        normalization=_normalization(parts),
        bands=tuple(band.name for band in scenes[0].bands),
        gsd_m=(round(min(gsds) / 1.25, 6), round(max(gsds) * 1.25, 6)) if gsds else None,
        fold=fold + 1,
        notes=tuple(notes),
    )


def run(job: Job, out: Path, prepared: Prepared, progress: Progress, overwrite: bool) -> Outcome:
    """Train, validate and write the bundle; goes on where a killed run stopped.

    Raises OutputError when the bundle exists, ResumeError when what is unfinished beside it
    was begun with something else.
    """
    if out.exists() and not overwrite:
        raise OutputError(f"{out} exists: choose another name, or overwrite it")
    folder = job_folder(out)
    _claim(folder, job)
    torch.set_num_threads(job.threads)
    network, architecture, started = _network(job, prepared)
    source = ChipSource(
        prepared.train,
        size_px=job.size_px,
        normalization=prepared.normalization,
        augmentation=Augmentation(),
        seed=job.schedule.seed,
    )
    default = defaults(job.architecture)
    held = prepared.validation
    small = max(max(ground.labels.shape) for ground in held) < SMALL_PX
    core = max(64, default.divisor) if small else 256
    validation = Validation(held, prepared.classes, prepared.normalization, default.halo, core)
    objective = Classes(len(prepared.classes), focal=job.focal)
    done = train(
        network, source, objective, job.schedule, folder, evaluate=validation, progress=progress
    )
    places = validation.places(done.network)
    figures = validation.figures(places)
    card = _card(job, out, prepared, figures, started)
    weights = done.network.state_dict()
    bundle = write_bundle(out, card, architecture, weights, overwrite=overwrite)
    shutil.rmtree(folder)
    return Outcome(card=bundle.card, log=done.log, places=places, figures=figures)


def _check_alike(scenes: Sequence[Scene]) -> None:
    first = scenes[0]
    for scene in scenes[1:]:
        if len(scene.bands) != len(first.bands) or scene.dtype != first.dtype:
            raise InputError(
                f"{scene.name} has {len(scene.bands)} bands of {scene.dtype}, {first.name} has "
                f"{len(first.bands)} of {first.dtype}: choose bands that all have with --bands"
            )


def _check_classes(counts: Any) -> None:
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


def _legend(classes: Sequence[str], given: Legend | None) -> Legend:
    colours = {} if given is None else {c.name: c.colour for c in given}
    return Legend(
        tuple(Category(k, n, colours.get(n, distinct(k))) for k, n in enumerate(classes)), "trained"
    )


def _normalization(parts: Sequence[Labelled]) -> Normalization:
    """Mean and deviation of each band over the ground that is trained on."""
    values: NDArray[np.float64] = np.concatenate(
        [ground.pixels[:, ground.valid].astype(np.float64) for ground in parts], axis=1
    )
    values = np.where(np.isfinite(values), values, 0.0)
    mean, std = values.mean(1), np.maximum(values.std(1), 1e-6)
    return Normalization(mean=tuple(mean.tolist()), std=tuple(std.tolist()))


def _network(job: Job, prepared: Prepared) -> tuple[nn.Module, Architecture, str]:
    torch.manual_seed(job.schedule.seed)
    architecture = Architecture(
        name=job.architecture,
        encoder=job.encoder or defaults(job.architecture).encoder,
        bands=len(prepared.bands),
        classes=len(prepared.classes),
    )
    network = build(architecture)
    started = "" if job.start is None else start_from(network, job.start)
    return network, architecture, started


def _card(
    job: Job, out: Path, prepared: Prepared, figures: dict[str, float], started: str
) -> ModelCard:
    default = defaults(job.architecture)
    judged = sum(int((g.labels != IGNORE).sum()) for g in prepared.validation)
    each = ", ".join(f"{name} {value:.3f}" for name, value in figures.items())
    scenes = ", ".join(path.name for path in job.scenes)
    steps = f"{job.schedule.steps} steps of {job.schedule.batch} windows of {job.size_px} px"
    return ModelCard(
        name=out.stem,
        task="semantic",
        legend=prepared.legend,
        bands=prepared.bands,
        gsd_m=prepared.gsd_m,
        normalization=prepared.normalization,
        tile_size=512,
        halo=default.halo,
        divisor=default.divisor,
        summary=f"{job.architecture} trained with geoseg",
        accuracy=f"{each} on {judged:,} px of places that were not trained on (fold "
        f"{prepared.fold} of {job.split.folds})",
        training_data=f"{scenes}; {steps}{started}",
    )


def _claim(folder: Path, job: Job) -> None:
    """Note what the training is of; refuse to go on with something else."""
    files = (*job.scenes, *labels_for(job.scenes, job.labels))
    mine = {"job": json.loads(json.dumps(asdict(job), default=str)), "sha256": digest(files)}
    note = folder / "job.json"
    if note.exists():
        theirs = json.loads(note.read_text())
        if theirs != mine:
            changed = [k for k, v in mine["job"].items() if theirs["job"].get(k) != v]
            what = ", ".join(changed) or "the files' contents"
            raise ResumeError(
                f"{folder}: begun with other inputs ({what}): give the same again, or remove it "
                "to begin anew"
            )
        return
    folder.mkdir(parents=True, exist_ok=True)
    part = note.with_suffix(".writing")
    part.write_text(json.dumps(mine))
    part.replace(note)
