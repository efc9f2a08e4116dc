"""geoseg evaluate: how good a map is, held against the truth."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from geoseg.grid import Window

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from odc.geo.geobox import GeoBox

    from geoseg.assess.evaluation import Evaluation
    from geoseg.labels.schemes import Scheme
    from geoseg.labels.sources import LabelSource
    from geoseg.legend import Legend

__all__ = ["command", "evaluate", "open_grid", "open_side"]

WINDOW_PX = 1024
LEAST_PX = 32
BLOCKS = 36
"""Windows of a scene that is smaller than so many of ``WINDOW_PX``."""
PICTURE_PX = 1200
JSON = (".json",)


@click.command()
@click.argument("map_path", metavar="MAP")
@click.argument("truth_path", metavar="TRUTH")
@click.option("--like", metavar="RASTER", help="The grid, where both sides are polygons.")
@click.option("--legend", metavar="NAME|FILE", help="What the numbers of rasters mean.")
@click.option("--column", metavar="NAME", help="Column of the truth's polygons with the category.")
@click.option(
    "--exhaustive/--partial",
    default=None,
    help="Where the truth has no label there is nothing / nobody looked. By default exhaustive "
    "for polygons and COCO, partial for rasters.",
)
@click.option("--boundary-px", type=click.IntRange(0), default=0, help="Boundary metrics too.")
@click.option("--json", "json_path", metavar="FILE", help="Write all figures as JSON.")
@click.option("--picture", metavar="FILE", help="Matches, misses and false finds as a PNG.")
def command(map_path: str, truth_path: str, **options: Any) -> None:
    r"""Hold MAP against TRUTH: categories, objects and their outlines.

    Either is a GeoTIFF of categories (8 bits) or of instances (more bits), polygons, a COCO
    instances or panoptic file, or a map that geoseg kept. Both are read on the raster's grid.

    \b
    geoseg evaluate fields.gpkg truth.gpkg --like scene.tif --picture errors.png
    geoseg evaluate map.zarr truth.tif --legend worldcover --json figures.json
    """
    from geoseg.export.target import check_file, check_output, written_beside
    from geoseg.labels.schemes import legend_or_scheme

    if options["json_path"]:
        check_file(options["json_path"], JSON, overwrite=True)
    if options["picture"]:
        check_output(options["picture"], overwrite=True, kinds=("picture",))
    legend, scheme = legend_or_scheme(options["legend"])
    grid = open_grid(options["like"], map_path, truth_path)
    found = open_side(map_path, grid, legend, None)
    truth = open_side(truth_path, grid, legend or found.legend, options["column"], scheme)
    exhaustive = options["exhaustive"]
    if exhaustive is None:
        exhaustive = not truth_path.lower().endswith((".tif", ".tiff", ".zarr"))
    evaluation = evaluate(found, truth, exhaustive=exhaustive, boundary_px=options["boundary_px"])
    report = {"map": map_path, "truth": truth_path, "exhaustive": exhaustive}
    report |= evaluation.report()
    for line in table(report):
        click.echo(line)
    if options["json_path"]:
        with written_beside(options["json_path"], True, suffixes=JSON) as part:
            part.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    if options["picture"]:
        draw(evaluation, found, truth, Path(options["picture"]))


def evaluate(
    found: LabelSource, truth: LabelSource, *, exhaustive: bool, boundary_px: int = 0
) -> Evaluation:
    """Both sides read once, window by window. Categories are matched by id and name; one that
    only one side has counts there as missed or as false.

    Raises InputError where an id has another name on the other side.
    """
    from geoseg.assess.evaluation import Evaluation

    evaluation = Evaluation(_merged(found, truth), exhaustive, boundary_px)
    whole = Window(0, 0, *truth.shape)
    evaluation.side_px = _side(whole)
    for window in _windows(whole, evaluation.side_px):
        around = window.grow(boundary_px) & whole
        inner = window.relative_to(around)
        edges = whole.relative_to(around)
        evaluation.add(_read(truth, around), _read(found, around), inner, edges)
    return evaluation


def table(report: dict[str, Any]) -> list[str]:
    """The report as lines for a terminal."""

    def row(name: str, values: dict[str, Any]) -> str:
        parts = [f"{k} {'-' if v is None else format(v, '.4g')}" for k, v in values.items()]
        return f"{name:<22} " + "  ".join(f"{part:<16}" for part in parts).rstrip()

    lines = [f"{report['pixels']:,} px judged", row("pixels", report["semantic"])]
    if len(report["per_category"]) <= 40:
        lines += [row(f"  {name}", values) for name, values in report["per_category"].items()]
    for name, values in report.get("panoptic", {}).items():
        lines.append(row(f"panoptic, {name}", values))
    for name, values in report.get("objects", {}).items():
        lines.append(row(f"  {name}", values))
    for key in ("average_precision", "boundary_panoptic", "segmentation"):
        if key in report:
            lines.append(row(key.replace("_", " "), report[key]))
    for key in ("semantic", "iou", "panoptic"):
        limits = report.get(f"{key}_95_percent", {})
        known = {name: pair for name, pair in limits.items() if None not in pair}
        if known:
            pairs = (f"{name} {low:.3g} to {high:.3g}" for name, (low, high) in known.items())
            lines.append(f"{key + ', 95 %':<22} " + "  ".join(pairs))
    if "blocks" in report:
        lines.append("intervals from {count} blocks of {side_px} px".format(**report["blocks"]))
    return lines


def draw(evaluation: Evaluation, found: LabelSource, truth: LabelSource, path: Path) -> None:
    """Where the map is right, what it misses and what it finds wrongly, as a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    from geoseg.export.target import written_beside

    codes = _codes(evaluation, found, truth)
    names = ("not judged", "nothing", "right", "missed", "false", "mixed up")
    colours = ("#ffffff", "#eeeeee", "#009e73", "#0072b2", "#d55e00", "#f0e442")
    rgb = np.array([[int(c[k : k + 2], 16) for k in (1, 3, 5)] for c in colours], np.uint8)
    high, wide = codes.shape
    figure = Figure(figsize=(8, 8 * high / wide + 0.6), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.imshow(rgb[codes], interpolation="nearest")
    axes.set_axis_off()
    counts = np.bincount(codes.ravel(), minlength=len(names)) / codes.size
    patches = [
        Patch(facecolor=colours[k], edgecolor="#666666", label=f"{names[k]} {counts[k]:.1%}")
        for k in range(len(names))
        if counts[k]
    ]
    figure.legend(handles=patches, loc="outside lower center", ncols=3, frameon=False)
    with written_beside(path, overwrite=True, kinds=("picture",)) as part:
        figure.savefig(part, format="png")


def _codes(evaluation: Evaluation, found: LabelSource, truth: LabelSource) -> NDArray[np.uint8]:
    """What each pixel of the picture shows; objects as a whole are matched, missed or false."""
    matches = evaluation.matches()
    whole = Window(0, 0, *truth.shape)
    step = max(-(-max(whole.shape) // PICTURE_PX), 1)
    rows = []
    for row in range(0, whole.height, WINDOW_PX - WINDOW_PX % step):
        height = min(WINDOW_PX - WINDOW_PX % step, whole.height - row)
        strip = Window(row, 0, height, whole.width)
        a, b = (_read(source, strip) for source in (truth, found))
        thin = tuple(key[::step, ::step] for key in evaluation.keys(a, b))
        real_a, real_b = thin[0] >= 0, thin[1] >= 0
        good_a, good_b = np.isin(thin[0], matches.truth), np.isin(thin[1], matches.found)
        same = a.category_id[::step, ::step] == b.category_id[::step, ::step]
        plain = a.instance_id[::step, ::step] == 0
        right = real_a & real_b & same & (plain | (good_a & good_b))
        code = np.ones(thin[0].shape, np.uint8)
        code[real_a & real_b] = 5
        code[real_a & (~real_b | ~(good_a | plain))] = 3
        code[real_b & ~real_a] = 4
        code[real_b & real_a & ~good_b & good_a & ~plain] = 4
        code[right] = 2
        code[thin[0] == -1] = 0
        rows.append(code)
    return np.concatenate(rows)


def _side(whole: Window) -> int:
    """Of the windows, which are also the blocks that intervals are drawn from: a few dozen."""
    return int(np.clip((whole.pixels / BLOCKS) ** 0.5, LEAST_PX, WINDOW_PX))


def _windows(whole: Window, side: int) -> list[Window]:
    return [
        Window(row, col, side, side) & whole
        for row in range(0, whole.height, side)
        for col in range(0, whole.width, side)
    ]


def _read(source: LabelSource, window: Window) -> Any:
    from geoseg.assess.evaluation import Labels

    category, instance = source.read(window)
    score = getattr(source, "score", None)
    if callable(score):
        return Labels(category, instance, score(window))
    return Labels(category, instance, None if score is None else score[window.slices])


def _merged(found: LabelSource, truth: LabelSource) -> Legend:
    from geoseg.errors import InputError

    mine = {c.id: c.name for c in found.legend}
    for category in truth.legend:
        if mine.setdefault(category.id, category.name) != category.name:
            raise InputError(
                f"category {category.id} is {category.name!r} in the truth and "
                f"{mine[category.id]!r} in the map: give one --legend for both"
            )
    from geoseg.legend import Legend

    known = {c.id: c for c in truth.legend} | {c.id: c for c in found.legend}
    return Legend(tuple(known.values()))


def open_grid(like: str | None, *paths: str) -> GeoBox | None:
    """The grid on which both are read: that of the first raster among them."""
    from geoseg.engine.segmentmap import SegmentMap
    from geoseg.labels.sources import raster_grid

    for path in (like, *paths):
        if path is None:
            continue
        if path.rstrip("/").endswith(".zarr"):
            return SegmentMap.open(path).geobox
        if path == like or path.lower().endswith((".tif", ".tiff")):
            return raster_grid(Path(path))
    return None


def open_side(
    path: str,
    grid: GeoBox | None,
    legend: Legend | None,
    column: str | None,
    scheme: Scheme | None = None,
) -> LabelSource:
    """Labels of any file, or of a map that geoseg kept; raises InputError.

    A GeoTIFF that geoseg wrote carries its legend.
    """
    from geoseg.engine.segmentmap import SegmentMap
    from geoseg.export.facts import read_facts
    from geoseg.labels.sources import open_labels
    from geoseg.legend import Legend

    if path.rstrip("/").endswith(".zarr"):
        return _MapLabels(SegmentMap.open(path))
    if legend is None and path.lower().endswith((".tif", ".tiff")):
        carried = read_facts(path).get("legend")
        legend = Legend.from_dict(json.loads(carried)) if carried else None
    return open_labels(path, grid, legend, column=column, scheme=scheme)


class _MapLabels:
    """A map that geoseg kept."""

    def __init__(self, segments: Any) -> None:
        self._map = segments
        self.shape: tuple[int, int] = segments.shape
        self.legend: Legend = segments.legend

    def read(self, window: Window) -> tuple[NDArray[np.uint8], NDArray[Any]]:
        """See LabelSource."""
        arrays = self._map.read(window)
        none = np.zeros(window.shape, np.uint32)
        return arrays["category_id"], arrays.get("instance_id", none)

    def score(self, window: Window) -> NDArray[np.uint8]:
        """Score levels of a window."""
        levels: NDArray[np.uint8] = self._map.read(window)["score"]
        return levels
