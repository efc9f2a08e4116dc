"""geoseg train: a model from scenes and a few labels."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from geoseg.errors import InputError

if TYPE_CHECKING:
    from geoseg.learn.job import Job, Outcome, Prepared

LINE_EVERY_S = 10.0
PAGES = (".html",)


@click.command(name="train")
@click.argument("scenes", nargs=-1, required=True, metavar="SCENE...")
@click.option(
    "-l",
    "--labels",
    multiple=True,
    required=True,
    metavar="FILE|FOLDER",
    help="Polygons, a GeoTIFF of categories (8 bits) or of instances (more), COCO: one per scene, "
    "one for all, or a folder of files that begin with the scenes' names.",
)
@click.option("-o", "--out", required=True, metavar="BUNDLE", help="A folder, or a .zip.")
@click.option(
    "--task",
    type=click.Choice(["semantic", "instance", "panoptic"]),
    default="semantic",
    show_default=True,
    help="Classes; things one by one; things and the classes around them.",
)
@click.option("--column", metavar="NAME", help="Column that holds the class.")
@click.option("--classes", metavar="A,B,...", help="All classes; by default what is found.")
@click.option("--things", metavar="A,B,...", help="Classes that are told apart (panoptic).")
@click.option(
    "--legend",
    metavar="NAME|FILE",
    help="What numbers mean, and colours.",
)
@click.option("--extent", metavar="FILE", help="Inside these polygons everything is labelled.")
@click.option("--exhaustive", is_flag=True, help="Everything on the scenes is labelled.")
@click.option(
    "--background",
    default="background",
    show_default=True,
    metavar="CLASS",
    help="Class of what has no label where everything is labelled.",
)
@click.option("-b", "--bands", metavar="LIST", help="Bands by name or number; all by default.")
@click.option("--gsd", type=float, metavar="M", help="Train at this GSD.")
@click.option(
    "--architecture",
    default="",
    help="By default unet; parcels for one class of things, else centers.",
)
@click.option("--encoder", default="", help="By default a small one (EfficientNet-Lite0).")
@click.option("--start", metavar="FILE", help="Weights of the encoder, or a bundle to go on from.")
@click.option(
    "--steps",
    type=click.IntRange(1),
    default=1000,
    show_default=True,
    help="How often the weights are changed.",
)
@click.option("--batch", type=click.IntRange(1), help="Windows a step: 8, on a GPU 32.")
@click.option(
    "--size-px",
    type=click.IntRange(32),
    default=256,
    show_default=True,
    help="Side of a window that is learnt from.",
)
@click.option("--lr", type=float, default=1e-3, show_default=True, help="Largest learning rate.")
@click.option("--focal", type=float, default=0.0, help="Gamma of the focal loss.")
@click.option(
    "--folds",
    type=click.IntRange(2),
    default=5,
    show_default=True,
    help="Parts the places are split into; one validates.",
)
@click.option("--fold", type=click.IntRange(1), help="Which one validates; else the fittest.")
@click.option(
    "--cross-validate",
    is_flag=True,
    help="Train once per fold, to BUNDLE-fold1 and so on; ends with mean and spread.",
)
@click.option("--square-px", type=click.IntRange(8), help="Side of the places that are split.")
@click.option("--buffer-px", type=click.IntRange(0), help="Left out around validation places.")
@click.option(
    "--evaluate-every",
    type=click.IntRange(0),
    default=200,
    show_default=True,
    help="Steps between looks at the validation places; 0: at the end only.",
)
@click.option(
    "--checkpoint-every",
    type=click.IntRange(1),
    default=50,
    show_default=True,
    help="Steps that a killed training loses at most.",
)
@click.option(
    "--seed",
    type=int,
    default=0,
    show_default=True,
    help="Of the random choices: the same gives the same weights.",
)
@click.option("--threads", type=click.IntRange(1), help="Of the processor; all by default.")
@click.option("--report", metavar="FILE", help="By default BUNDLE's name with .html.")
@click.option("--overwrite", is_flag=True, help="Replace outputs that exist.")
@click.option("-q", "--quiet", is_flag=True, help="No progress on stderr.")
def command(scenes: tuple[str, ...], **options: Any) -> None:
    r"""Train a network on SCENE... from labels; ends with a bundle and a report.

    Places are split into squares: one fold validates, the rest is trained on behind a
    buffer. What has no label is ignored, not background, unless --extent (or the layer
    "extent" of 'geoseg label') says that everything inside is labelled. Killed, it goes on
    with the same command, to the same weights.

    \b
    geoseg train field.tif --labels labels.gpkg --out weeds.zip
    geoseg train a.tif --labels a.gpkg --task instance --exhaustive --out fields.zip
    geoseg train field.tif --labels labels.gpkg --cross-validate --out weeds.zip
    geoseg map other.tif --model weeds.zip -o weeds.gpkg
    """
    out = Path(options["out"])
    if options["cross_validate"]:
        _cross_validate(scenes, out, options)
        return
    page = Path(options["report"] or out.with_suffix(".html"))
    _check_outputs(out, page, options["overwrite"])
    outcome = _train(_job(scenes, options), out, page, options)
    for name, value in outcome.figures.items():
        click.echo(f"{name:<24} {value:.4f}")
    click.echo(f"{out}: {outcome.card.name}, sha256 {outcome.card.sha256}; report in {page}")


def _train(job: Job, out: Path, page: Path, options: dict[str, Any]) -> Outcome:
    """One training with its report."""
    from geoseg.export.target import written_beside
    from geoseg.learn.job import prepare, run
    from geoseg.learn.report import report_html

    prepared = prepare(job)
    for line in _described(prepared):
        click.echo(line, err=True)
    with _Steps(job.schedule.steps, options["quiet"]) as progress:
        outcome = run(job, out, prepared, progress, options["overwrite"])
    with written_beside(page, options["overwrite"], suffixes=PAGES) as part:
        part.write_text(report_html(outcome, prepared.notes), encoding="utf-8")
    return outcome


def _cross_validate(scenes: tuple[str, ...], out: Path, options: dict[str, Any]) -> None:
    """Every fold validates once; folds that an earlier run finished are kept."""
    from dataclasses import replace

    from geoseg.learn.folds import FoldTable, fold_path
    from geoseg.learn.job import begun_with
    from geoseg.models.deep.bundle import open_bundle

    if options["fold"] or options["report"]:
        raise InputError("--cross-validate trains every fold: leave --fold and --report out")
    table = FoldTable.beside(out)
    for fold in range(1, options["folds"] + 1):
        path, job = fold_path(out, fold), _job(scenes, options)
        job = replace(job, split=replace(job.split, fold=fold))
        begun = begun_with(job)
        if path.exists() and table.has(fold, begun, open_bundle(path).card.sha256):
            click.echo(f"geoseg: fold {fold}: {path} is there already", err=True)
            continue
        page = path.with_suffix(".html")
        _check_outputs(path, page, options["overwrite"])
        click.echo(f"geoseg: fold {fold} of {options['folds']}", err=True)
        done = _train(job, path, page, options)
        table.add(fold, done.figures, begun, done.card.sha256)
    table.rows = {fold: table.rows[fold] for fold in range(1, options["folds"] + 1)}
    for line in table.lines():
        click.echo(line)
    click.echo(f"{table.path}: figures of {options['folds']} folds; a model of each beside it")


def _check_outputs(out: Path, page: Path, overwrite: bool) -> None:
    """Raises OutputError before any step: a bundle, or a report, that can't be written."""
    import os

    from geoseg.errors import OutputError
    from geoseg.export.target import check_file
    from geoseg.models.deep.bundle import check_replaceable

    if out.exists() and not overwrite:
        raise OutputError(f"{out}: exists already: use --overwrite or another name")
    check_replaceable(out)
    folder = out.absolute().parent
    there = next(place for place in (folder, *folder.parents) if place.exists())
    if not (there.is_dir() and os.access(there, os.W_OK | os.X_OK)):
        raise OutputError(f"{out}: {there} is no folder that can be written: choose another")
    if page.suffix.lower() not in PAGES:
        raise OutputError(f"{page}: a report is written as .html")
    if page.absolute().parent != folder or folder.exists():
        check_file(page, PAGES, overwrite)


def _job(scenes: tuple[str, ...], options: dict[str, Any]) -> Job:
    import os

    import torch

    from geoseg.commands.options import parse_bands
    from geoseg.folder import images_in
    from geoseg.labels.schemes import legend_or_scheme
    from geoseg.learn.ground import LabelOptions
    from geoseg.learn.job import Job, Split
    from geoseg.learn.train import Schedule

    if options["extent"] and options["exhaustive"]:
        raise InputError("--extent and --exhaustive both say where all is labelled: give one")
    if options["fold"] and options["fold"] > options["folds"]:
        raise InputError(f"--fold {options['fold']} of {options['folds']} folds: count from 1")
    legend, scheme = legend_or_scheme(options["legend"])
    reading = LabelOptions(
        column=options["column"],
        legend=legend,
        scheme=scheme,
        extent=None if options["extent"] is None else Path(options["extent"]),
        exhaustive=options["exhaustive"],
        background=options["background"],
    )
    schedule = Schedule(
        steps=options["steps"],
        batch=options["batch"] or (32 if torch.cuda.is_available() else 8),
        lr=options["lr"],
        warmup=min(50, options["steps"] // 4),
        evaluate_every=options["evaluate_every"],
        checkpoint_every=options["checkpoint_every"],
        seed=options["seed"],
    )
    split = Split(
        folds=options["folds"],
        fold=options["fold"],
        square_px=options["square_px"] or 0,
        buffer_px=options["buffer_px"],
    )
    return Job(
        scenes=tuple(images_in(scenes)),
        labels=tuple(map(Path, options["labels"])),
        task=options["task"],
        classes=tuple(parse_bands(options["classes"]) or ()),
        things=tuple(parse_bands(options["things"]) or ()),
        reading=reading,
        bands=tuple(parse_bands(options["bands"]) or ()),
        gsd_m=options["gsd"],
        architecture=options["architecture"],
        encoder=options["encoder"],
        start=None if options["start"] is None else Path(options["start"]),
        size_px=options["size_px"],
        focal=options["focal"],
        threads=options["threads"] or os.cpu_count() or 1,
        split=split,
        schedule=schedule,
    )


def _described(prepared: Prepared) -> list[str]:
    from geoseg.learn.ground import class_counts

    classes = prepared.goal.classes
    kept, held = (class_counts(g, classes) for g in (prepared.train, prepared.validation))
    lines = [f"geoseg: {note}" for note in prepared.notes]
    return lines + [
        f"geoseg: {name}: {kept[name]:,} px to train on, {held[name]:,} px to validate on"
        for name in classes
    ]


class _Steps:
    """Live loss and validation metric: a bar on a terminal, lines elsewhere."""

    def __init__(self, total: int, quiet: bool) -> None:
        self._total, self._quiet = total, quiet
        self._begun = self._said = time.monotonic()
        self._first: int | None = None
        self._metric = ""
        self._bar: Any = None

    def __enter__(self) -> _Steps:
        if not self._quiet and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

            self._bar = Progress(
                TextColumn("{task.completed}/{task.total}"),
                BarColumn(),
                TextColumn("{task.description}"),
                TimeRemainingColumn(),
                console=Console(stderr=True),
            )
            self._bar.start()
            self._task = self._bar.add_task("", total=self._total)
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, entry: dict[str, Any]) -> None:
        """After each step."""
        step = entry["step"]
        if self._first is None:
            self._first = step - 1
        metric = next((name for name in ("PQ", "mIoU") if name in entry), None)
        if metric:
            self._metric = f", validation {metric} {entry[metric]:.3f}"
        text = f"loss {entry['loss']:.3f}{self._metric}"
        now = time.monotonic()
        due = now - self._said >= LINE_EVERY_S or metric or step == self._total
        if self._bar is not None:
            self._bar.update(self._task, completed=step, description=text)
        elif due and not self._quiet:
            self._said = now
            rate = (step - self._first) / max(now - self._begun, 1e-9)
            left = (self._total - step) / max(rate, 1e-9)
            head = f"geoseg: step {step}/{self._total}, {text}"
            sys.stderr.write(f"{head}, {rate:.2f} steps/s, {left:.0f} s left\n")
