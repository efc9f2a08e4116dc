"""The command line. Each verb is a file in ``geoseg/commands``; it is loaded when called."""

from __future__ import annotations

import gc
import traceback
from importlib import import_module

import click
from click.shell_completion import CompletionItem

from geoseg import __version__
from geoseg.errors import GeosegError
from geoseg.heap import one_heap

VERBS = {
    # verb: (module in geoseg.commands, one line for --help)
    "areas": ("areas", "Class areas with standard errors, corrected by a labelled sample."),
    "change": ("change", "What became what between two maps: a from-to matrix."),
    "fields": ("fields", "Parcels with id, area, perimeter, shape and cover; as fiboa too."),
    "weeds": ("weeds", "Weed pressure, what to spray where along the rows, stand counts."),
    "train": ("train", "Train a model on scenes and labels; ends with a bundle and a report."),
    "label": ("label", "A QGIS project to draw labels in, or to correct a map's."),
    "sample": ("sample", "Stratified points to label, with a QGIS project to label them in."),
    "terrain": ("terrain", "How much of each category a map has."),
    "count": ("count", "How many things of a map lie in each zone or cell of a grid."),
    "zones": ("zones", "What a map has in each polygon of a zone file."),
    "bundle": ("bundle", "Models on disk: look at one, make one, write one as ONNX."),
    "coco": ("coco", "A map as COCO instance or panoptic labels, georeference kept."),
    "demo": ("demo", "Map the scene that comes with geoseg: the first map in a minute."),
    "evaluate": (
        "evaluate",
        "Hold a map against the truth: IoU, PQ, AP, and a picture of the errors.",
    ),
    "info": ("info", "What a scene is: size, CRS, GSD, bands, nodata, valid share."),
    "layers": ("layers", "Score, probabilities, margin and entropy of a map as GeoTIFF."),
    "map": ("map", "Map a scene with a model: polygons and rasters that open styled in a GIS."),
    "models": ("models", "What --model accepts: bands, GSD, classes, licence, accuracy."),
    "plan": ("plan", "What a mapping would take: tiles, bytes, memory. Nothing runs."),
    "polygonize": ("polygonize", "A raster of integers, or a map, to polygons: exact, any size."),
    "project": ("project", "Maps and their scene as a QGIS project, ready to print."),
    "qgis": ("qgis", "The QGIS plugin: install it into a profile, or write its zip."),
    "serve": ("serve", "A map of any size as a page in the browser, from this machine."),
    "rethreshold": ("rethreshold", "Other thresholds per class, without predicting again."),
    "status": ("status", "How far a job is."),
    "view": ("view", "A map as one web page that works offline."),
    "explain": ("explain", "Plot how a classic method decides: threshold, centres, edges."),
}


class _Verbs(click.Group):
    """Loads a verb's module when it is used, so that ``--help`` is quick."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        module = import_module(f"geoseg.commands.{VERBS[cmd_name][0]}")
        command: click.Command = module.command
        command.name = cmd_name
        _keep_examples(command)
        _offer_files(command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(verb, text) for verb, (_, text) in VERBS.items()])

    def invoke(self, ctx: click.Context) -> object:
        # one clear line instead of a traceback, wherever the group is mounted
        try:
            return super().invoke(ctx)
        except GeosegError as error:
            from geoseg.commands.options import VERBOSE

            if ctx.meta.get(VERBOSE):
                click.echo(traceback.format_exc(), err=True, nl=False)
            click.echo(f"geoseg: {error}", err=True)
            ctx.exit(error.exit_code)


def _keep_examples(command: click.Command) -> None:
    r"""Leave the lines below ``\b`` as they are written; in a docstring it is two characters."""
    command.help = (command.help or "").replace("\\b\n", "\b\n")
    inner = command.commands.values() if isinstance(command, click.Group) else ()
    for one in inner:
        _keep_examples(one)


class _Text(click.types.StringParamType):
    """Text, where the shell offers files; with click's own it would offer nothing at all."""

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """See click: an item of this type makes the shell look for files itself."""
        return [CompletionItem(incomplete, type="file")]


def _offer_files(command: click.Command) -> None:
    """Scenes, outputs and models are typed as text: let Tab find them."""
    for parameter in command.params:
        if parameter.type is click.STRING:
            parameter.type = _Text()
    for one in command.commands.values() if isinstance(command, click.Group) else ():
        _offer_files(one)


@click.group(name="geoseg", cls=_Verbs)
@click.version_option(__version__, prog_name="geoseg")
def geoseg() -> None:
    r"""Turn satellite, aerial and drone imagery into map layers.

    \b
    geoseg info scene.tif
    geoseg map scene.tif --model terrain -o terrain.gpkg -o terrain.tif
    """


_keep_examples(geoseg)


def main() -> None:
    """Entry point of the ``geoseg`` command."""
    one_heap()
    # imports make many objects and hardly any garbage: looking for it took a tenth of the start.
    # Peaks of whole jobs are higher by 1 % at most: arrays are freed when nothing refers to them
    gc.set_threshold(10_000, 10, 10)
    geoseg(prog_name="geoseg")


if __name__ == "__main__":
    main()
