"""Training from files to a bundle: what ``geoseg train`` does."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from geoseg.errors import InputError, OutputError, ResumeError
from geoseg.learn.augment import Augmentation
from geoseg.learn.ground import digest, labels_for
from geoseg.learn.labels import LabelOptions
from geoseg.learn.prepare import Prepared, prepare
from geoseg.learn.samples import IGNORE, ChipSource
from geoseg.learn.start import start_from
from geoseg.learn.train import Progress, Schedule, train
from geoseg.learn.validate import Place
from geoseg.legend import Legend
from geoseg.models.deep.architectures import Architecture, build, defaults
from geoseg.models.deep.bundle import write_bundle
from geoseg.models.segmenter import ModelCard, Task

__all__ = ["Job", "Outcome", "Prepared", "Split", "begun_with", "job_folder", "prepare", "run"]


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
    """All that decides the weights, besides the files' contents.

    ``architecture`` empty: the task's own. ``options`` are those of the architecture's
    constructor.
    """

    scenes: tuple[Path, ...]
    labels: tuple[Path, ...]
    task: Task = "semantic"
    classes: tuple[str, ...] = ()
    things: tuple[str, ...] = ()
    reading: LabelOptions = field(default_factory=LabelOptions)
    bands: tuple[str, ...] = ()
    gsd_m: float | None = None
    architecture: str = ""
    encoder: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    start: Path | None = None
    size_px: int = 256
    augmentation: Augmentation = field(default_factory=Augmentation)
    focal: float = 0.0
    threads: int = 1
    split: Split = field(default_factory=Split)
    schedule: Schedule


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A finished training; ``labels`` are the classes that ``places`` are judged by."""

    card: ModelCard
    labels: Legend
    log: list[dict[str, Any]]
    places: list[Place]
    figures: dict[str, float]


def job_folder(out: Path) -> Path:
    """Where an unfinished training lies."""
    return out.with_name(f"{out.name}.geoseg-train")


def run(job: Job, out: Path, prepared: Prepared, progress: Progress, overwrite: bool) -> Outcome:
    """Train, validate and write the bundle; goes on where a killed run stopped.

    Raises OutputError when the bundle exists, ResumeError when what is unfinished beside it
    was begun with something else, InputError on windows or batches that the network can't take.
    """
    if out.exists() and not overwrite:
        raise OutputError(f"{out} exists: choose another name, or overwrite it")
    goal, held = prepared.goal, prepared.validation
    torch.set_num_threads(job.threads)
    network, architecture, started = _network(job, prepared)
    _check_windows(network, job, architecture)
    folder = job_folder(out)
    _claim(folder, job)
    source = ChipSource(
        prepared.train,
        size_px=job.size_px,
        normalization=prepared.normalization,
        augmentation=job.augmentation,
        seed=job.schedule.seed,
    )
    validation = goal.validation(held, prepared.normalization)
    objective = goal.objective(job.focal)
    done = train(
        network, source, objective, job.schedule, folder, evaluate=validation, progress=progress
    )
    places = validation.places(done.network)
    figures = validation.figures(places)
    card = _card(job, out, prepared, figures, started)
    weights = done.network.state_dict()
    bundle = write_bundle(out, card, architecture, weights, overwrite=overwrite)
    shutil.rmtree(folder)
    return Outcome(
        card=bundle.card, labels=goal.labels, log=done.log, places=places, figures=figures
    )


def _network(job: Job, prepared: Prepared) -> tuple[nn.Module, Architecture, str]:
    torch.manual_seed(job.schedule.seed)
    name = prepared.goal.network
    architecture = Architecture(
        name=name,
        encoder=job.encoder or defaults(name).encoder,
        bands=len(prepared.bands),
        classes=prepared.goal.outputs,
        options=job.options,
    )
    network = build(architecture)
    started = ""
    if job.start is not None:
        started = start_from(network, job.start, prepared.goal.classes)
    return network, architecture, started


def _check_windows(network: nn.Module, job: Job, architecture: Architecture) -> None:
    """Raises InputError on a size or a batch that the network can't learn from."""
    divisor = defaults(architecture.name).divisor
    if job.size_px % divisor:
        raise InputError(
            f"--size-px {job.size_px}: {architecture.name} wants a multiple of {divisor}"
        )
    if job.schedule.batch > 1:
        return
    # some networks pool a window to one value, which a batch of one can't be normalized by
    trial = copy.deepcopy(network).train()
    try:
        with torch.no_grad():
            trial(torch.zeros(1, architecture.bands, job.size_px, job.size_px))
    except ValueError as error:
        raise InputError(
            f"--batch 1: {architecture.name} with {architecture.encoder} normalizes over the "
            f"batch and needs two windows of {job.size_px} px at least ({error}): use --batch 2"
        ) from error


def _card(
    job: Job, out: Path, prepared: Prepared, figures: dict[str, float], started: str
) -> ModelCard:
    goal = prepared.goal
    default = defaults(goal.network)
    judged = sum(int((g.labels != IGNORE).sum()) for g in prepared.validation)
    each = ", ".join(f"{name} {value:.3f}" for name, value in figures.items())
    scenes = ", ".join(path.name for path in job.scenes)
    steps = f"{job.schedule.steps} steps of {job.schedule.batch} windows of {job.size_px} px"
    return ModelCard(
        name=out.stem,
        task=goal.task,
        legend=goal.legend,
        bands=prepared.bands,
        gsd_m=prepared.gsd_m,
        normalization=prepared.normalization,
        tile_size=512,
        halo=default.halo,
        divisor=default.divisor,
        summary=f"{goal.network} trained with geoseg",
        accuracy=f"{each} on {judged:,} px of places that were not trained on ({prepared.where})",
        training_data=f"{scenes}; {steps}{started}",
    )


def begun_with(job: Job) -> dict[str, Any]:
    """All that decides the weights, as JSON values: the job, and the sha256 of its files."""
    files = (*job.scenes, *labels_for(job.scenes, job.labels))
    return {"job": json.loads(json.dumps(asdict(job), default=str)), "sha256": digest(files)}


def _claim(folder: Path, job: Job) -> None:
    """Note what the training is of; refuse to go on with something else."""
    mine = begun_with(job)
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
