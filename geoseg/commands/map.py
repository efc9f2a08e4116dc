"""geoseg map: a scene and a model to polygons and rasters that open styled in a GIS."""

from __future__ import annotations

import json
import os
import shlex
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from geoseg.commands.options import (
    parse_bands,
    parse_bytes,
    parse_part,
    parse_resources,
    plan_options,
    run_options,
    scene_options,
    security,
)
from geoseg.commands.progress import progress_for
from geoseg.outlines import KINDS

if TYPE_CHECKING:
    from geoseg.requests import MapRequest, RunOptions

__all__ = ["GOES_ON", "NOTHING_KEPT", "command", "interruptible", "run_options_from"]


@click.command()
@click.argument("scenes", metavar="SCENE...", nargs=-1, required=True)
@click.option("-m", "--model", required=True, help="Name or file of a model; see 'geoseg models'.")
@click.option(
    "-o",
    "--output",
    "outputs",
    multiple=True,
    required=True,
    metavar="FILE",
    help="What to write: .gpkg .parquet .fgb .geojson .shp .pmtiles .tif .png .zarr .qgz .html "
    ".json (STAC); may be repeated.",
)
@click.option("--overwrite", is_flag=True, help="Replace outputs that exist; drop unfinished work.")
@scene_options
@plan_options
@click.option("--min-area", type=float, default=0.0, metavar="M2", help="Merge smaller segments.")
@click.option("--fill-holes", type=float, default=0.0, metavar="M2", help="Fill smaller holes.")
@click.option("--drop-small", is_flag=True, help="Small segments become nodata instead.")
@click.option("--simplify", type=float, default=0.0, metavar="M", help="Tolerance of outlines.")
@click.option("--smooth", is_flag=True, help="Round the corners of pixels in outlines.")
@click.option(
    "--geometry",
    type=click.Choice(KINDS),
    default="polygon",
    help="What stands for a segment in vector files.",
)
@click.option(
    "--mask-with", metavar="MODEL", help="Leave out what another model gives --mask-classes."
)
@click.option("--mask-classes", metavar="LIST", help="Of --mask-with, e.g. cloud,shadow.")
@click.option(
    "--layers",
    metavar="LIST",
    help="Beside the first output: probs, confidence, margin, entropy as NAME.LAYER.tif.",
)
@click.option("--blend", is_flag=True, help="Blend probabilities of neighbouring tiles.")
@click.option(
    "--on-error",
    type=click.Choice(["fail", "nodata"]),
    default="fail",
    help="What becomes of tiles that can't be read.",
)
@click.option("--store", metavar="URL", help="Where the job works; beside the output by default.")
@click.option("--keep", is_flag=True, help="Keep the job's folder.")
@click.option("--part", metavar="I/N", help="Do the I-th of N shares; --join when all are done.")
@click.option("--join", is_flag=True, help="Finish a job whose shares were done by --part.")
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="NAME=VALUE",
    help="Of the model: level, offset, symmetries, score, layers, temperature.",
)
@click.option("--samples", metavar="FILE", help="Polygons with a class, for --model objects.")
@click.option("--sample-column", metavar="NAME", help="Column of --samples that holds the class.")
@click.option("--seeds", metavar="FILE", help="Points to grow regions from, for --model grow:...")
@click.option("--explain", metavar="FILE", help="Plot how a classic method decided: .png .svg.")
@click.option("--report", metavar="FILE", help="Write the run report as JSON, too.")
@click.option("--json", "as_json", is_flag=True, help="Print the run report as JSON on stdout.")
@run_options
def command(scenes: tuple[str, ...], model: str, outputs: tuple[str, ...], **options: Any) -> None:
    r"""Map SCENE with a model.

    The same command goes on where an interrupted one stopped.

    \b
    geoseg map scene.tif --model terrain -o terrain.gpkg -o terrain.tif
    geoseg map field.tif --model otsu:exg -o plants.gpkg --min-area 0.01
    geoseg map big.tif --model terrain --workers 4 --aoi district.gpkg -o map.gpkg
    geoseg map scenes/ --model terrain -o 'maps/{scene}.gpkg'

    A folder, or several files, are mapped one by one where outputs hold {scene}; what fails
    is listed and the rest kept.
    """
    from geoseg.commands.folder import is_folder
    from geoseg.commands.summary import summary_text
    from geoseg.errors import InputError
    from geoseg.pipeline import map_scene

    if options["geometry"] != "polygon" and any(out.endswith(".qgz") for out in outputs):
        raise InputError("--geometry: a project (.qgz) shows polygons: leave one of them out")
    outputs, options = _with_layers(outputs, options)
    request = _request_from(outputs, options)
    run = run_options_from(options)
    if options["explain"]:
        from geoseg.commands.explain import check_explain

        overwrite = options["overwrite"]
        check_explain(model, options["explain"], overwrite=overwrite, kinds=(".png", ".svg"))
    if is_folder(scenes, outputs, options):
        from geoseg.commands.folder import map_many

        map_many(scenes, model, request, run, options)
        return
    with interruptible(), progress_for(options["quiet"]) as progress:
        from geoseg.commands.options import open_scene_as

        opened = open_scene_as(scenes, options, model)
        chosen = _taught(opened, model, options)
        report = map_scene(opened, chosen, request, run, progress)
    for warning in report.warnings:
        click.echo(f"geoseg: warning: {warning}", err=True)
    if options["explain"]:
        from geoseg.commands.explain import add_plot_to_pages, explain

        explain(opened, chosen, options["explain"], run)
        add_plot_to_pages(outputs, options["explain"])
    if options["as_json"]:
        click.echo(json.dumps(report.to_dict(), indent=2))
    elif not options["quiet"]:
        click.echo(summary_text(report, opened))


def _with_layers(
    outputs: tuple[str, ...], options: dict[str, Any]
) -> tuple[tuple[str, ...], dict[str, Any]]:
    """A file per layer beside the first output, and the setting that makes the model give them."""
    from pathlib import Path

    from geoseg.errors import InputError

    names = parse_bands(options["layers"])
    if not names:
        return outputs, options
    for name in names:
        if name not in LAYERS:
            raise InputError(f"--layers: no layer {name!r}: use {', '.join(LAYERS)}")
    first = Path(outputs[0])
    files = tuple(str(first.with_name(f"{first.stem}.{name}.tif")) for name in names)
    setting = f"layers={','.join(names)}"
    return (*outputs, *files), options | {"settings": (*options["settings"], setting)}


def _request_from(outputs: tuple[str, ...], options: dict[str, Any]) -> MapRequest:
    """The part of the options that says what is written."""
    from geoseg.requests import MapRequest

    return MapRequest(
        outputs=outputs,
        overwrite=options["overwrite"],
        pixel_coords=options["pixel_coords"],
        simplify_m=options["simplify"],
        smooth=options["smooth"],
        geometry=options["geometry"],
        store=options["store"],
        keep=options["keep"],
        part=parse_part(options["part"]),
        join=options["join"],
        report=options["report"],
    )


def _taught(scene: Any, model: str, options: dict[str, Any]) -> Any:
    """The model as given, with its parameters, or trained on samples or seeds."""
    _check_teaching(options)
    if options["samples"]:
        from geoseg.commands.samples import trained_objects

        trained = trained_objects(scene, model, options["samples"], options["sample_column"])
        if not options["quiet"]:
            most = ", ".join(f"{name} {weight:.2f}" for name, weight in trained.importances[:5])
            click.echo(f"geoseg: {trained.trained_on} objects; what matters: {most}", err=True)
        return trained
    if options["seeds"]:
        from geoseg.commands.samples import seeded

        return seeded(scene, model, options["seeds"])
    if options["settings"]:
        from geoseg.models.catalogue import load_model, parse_parameters

        return load_model(model, parse_parameters(options["settings"]))
    return model


def _check_teaching(options: dict[str, Any]) -> None:
    """Options that would be passed over in silence; raises InputError."""
    from geoseg.errors import InputError

    given = [name for name in ("samples", "seeds") if options[name]]
    if len(given) > 1:
        raise InputError("--samples and --seeds: no method learns from both: leave one of them out")
    if options["sample_column"] and not options["samples"]:
        raise InputError("--sample-column: name the polygons that have it with --samples")
    if given and options["settings"]:
        setting = options["settings"][-1]
        raise InputError(
            f"--{given[0]}: a classic method has no {setting!r} to set: its parameters are part of "
            "its name, as objects:size=10"
        )


def run_options_from(options: dict[str, Any]) -> RunOptions:
    """The part of a verb's options that says how a job is run."""
    from geoseg.pipeline import RunOptions
    from geoseg.scene.region import Region

    aoi = options.get("aoi")
    return RunOptions(
        bands=parse_bands(options.get("bands")),
        area=Region.open(aoi) if aoi else None,
        tile_size=options["tile_size"],
        halo=options["halo"],
        batch=options["batch"],
        device=options["device"],
        backend=options["backend"],
        precision=options["precision"],
        threads=options["threads"],
        memory=parse_bytes(options["memory"]),
        workers=options.get("workers", 0),
        scheduler=options.get("scheduler"),
        security=security(options.get("tls")),
        resources=parse_resources(options.get("resources")),
        dashboard=options.get("dashboard"),
        min_area_m2=options.get("min_area", 0.0),
        fill_holes_m2=options.get("fill_holes", 0.0),
        drop_small=options.get("drop_small", False),
        on_error=options.get("on_error", "fail"),
        blend=options.get("blend", False),
        mask_with=options.get("mask_with"),
        mask_classes=tuple(parse_bands(options.get("mask_classes")) or ()),
    )


LAYERS = ("probs", "confidence", "margin", "entropy")
GOES_ON = "what is done is kept. Go on with"
NOTHING_KEPT = "nothing was written. Start again with"


@contextmanager
def interruptible(kept: str = GOES_ON) -> Iterator[None]:
    """Ctrl-C, SIGTERM and SIGUSR1 end the run with exit code 130 and how to go on.

    Blocks in flight are given up, not waited for: they are not in the ledger, so they are
    done again. ``kept`` says what is left of the work, before the command.
    """

    def stop(number: int, _: object) -> None:
        raise KeyboardInterrupt(signal.Signals(number).name)

    before = {}
    for number in (signal.SIGTERM, getattr(signal, "SIGUSR1", signal.SIGTERM)):
        before[number] = signal.signal(number, stop)
    try:
        yield
    except KeyboardInterrupt:
        words = sys.argv[1:]
        if kept == GOES_ON:
            # --overwrite would drop what is done
            words = [word for word in words if word != "--overwrite"]
        click.echo(f"\ngeoseg: interrupted; {kept}: {shlex.join(['geoseg', *words])}", err=True)
        sys.stdout.flush()
        sys.stderr.flush()
        # threads that predict can't be stopped; leaving at once is safe by design
        os._exit(130)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
