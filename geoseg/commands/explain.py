"""geoseg explain: how a classic method came to its map, as a plot."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from geoseg.commands.options import open_scene_as, plan_options, scene_options
from geoseg.errors import ModelError, OutputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from geoseg.models.segmenter import Segmenter
    from geoseg.pipeline import RunOptions
    from geoseg.scene.reader import Scene

__all__ = ["add_plot_to_pages", "check_explain", "command", "explain", "figure_of"]

KINDS = (".png", ".svg", ".pdf")

SIDE = 400
"""Pixels of the scene's middle that are shown."""
MOST_CLUSTERS = 12


@click.command()
@click.argument("scene")
@click.option("-m", "--model", required=True, help="A classic method; see 'geoseg models'.")
@click.option("-o", "--output", required=True, metavar="FILE", help="The plot: .png .svg .pdf.")
@click.option("--overwrite", is_flag=True, help="Replace the plot if it exists.")
@scene_options
@plan_options
def command(scene: str, model: str, output: str, overwrite: bool, **options: Any) -> None:
    r"""Plot how a classic method decides: histogram and threshold, centres, edges, markers.

    \b
    geoseg explain scene.tif --model otsu:ndwi -o why.png
    geoseg explain scene.tif --model kmeans:k=6 -o clusters.png
    """
    from geoseg.commands.map import run_options_from

    check_explain(model, output, overwrite=overwrite)
    explain(open_scene_as([scene], options, model), model, output, run_options_from(options))
    click.echo(output)


def check_explain(
    model: str | Segmenter, output: str, *, overwrite: bool, kinds: Sequence[str] = KINDS
) -> None:
    """All that can be known about a plot before any work.

    Raises ModelError for models that decide by learned weights, OutputError for a name that
    can't be written.
    """
    from geoseg.export.target import check_file
    from geoseg.models.catalogue import card_of, load_model

    check_file(output, kinds, overwrite)
    if isinstance(model, str):
        name, card = model, card_of(model) or load_model(model).card
    else:
        name, card = model.card.name, model.card
    if "method" not in card.parameters:
        raise _learned(name)


def explain(
    scene: Scene, model: str | Segmenter, output: str, options: RunOptions | None = None
) -> None:
    """Fit a method to a scene and write its plot.

    Raises ModelError for models that decide by learned weights, OutputError when the plot
    can't be written.
    """
    from geoseg.engine.job import Job
    from geoseg.engine.report import NoProgress
    from geoseg.engine.run import SerialExecutor, fit
    from geoseg.engine.store import JobStore
    from geoseg.models.segmenter import Segmenter as SegmenterProtocol
    from geoseg.pipeline import RunOptions, prepare

    prepared = prepare(scene, model, options or RunOptions())
    segmenter: Any = prepared.segmenter
    if not isinstance(segmenter, SegmenterProtocol):
        with tempfile.TemporaryDirectory(prefix="geoseg-") as folder:
            job = Job(
                scene=prepared.scene,
                segmenter=segmenter,
                plan=prepared.plan,
                store=JobStore(folder),
                area=prepared.area,
            )
            segmenter, _ = fit(segmenter, job, SerialExecutor(), NoProgress())
    import matplotlib

    target = Path(output)
    part = target.with_name(f".{target.stem}.part{target.suffix}")
    try:
        # a dollar in the name of a file or class is no formula
        with matplotlib.rc_context({"text.parse_math": False}):
            figure_of(segmenter, prepared.scene).savefig(part, dpi=110)
        part.replace(target)
    except (OSError, ValueError) as error:
        part.unlink(missing_ok=True)
        raise OutputError(f"{output}: can't be written: {error}") from error


def add_plot_to_pages(outputs: Sequence[str], plot: str) -> None:
    """Put a plot into the web pages among the outputs of a run."""
    from geoseg.export.target import kind_of
    from geoseg.export.web import add_plot

    for path in outputs:
        if kind_of(path) == "page":
            add_plot(path, plot)


def figure_of(segmenter: Any, scene: Scene) -> Figure:
    """The plot of a fitted classic method; raises ModelError for any other model."""
    from matplotlib.figure import Figure

    from geoseg.commands.regionplots import plot_regions, plot_surface
    from geoseg.models.classic.clusters import Centres
    from geoseg.models.classic.edges import Canny, Contours, Hysteresis, Sobel
    from geoseg.models.classic.local import Sauvola
    from geoseg.models.classic.merging import Merged
    from geoseg.models.classic.mixture import GaussianMixture
    from geoseg.models.classic.objects import ObjectClasses
    from geoseg.models.classic.quadtree import SplitMerge
    from geoseg.models.classic.regions import GrownRegions
    from geoseg.models.classic.superpixels import Superpixels
    from geoseg.models.classic.threshold import Threshold
    from geoseg.models.classic.watershed import Watershed

    figure = Figure(figsize=(10, 4.2), layout="constrained")
    figure.suptitle(f"{segmenter.card.name} on {scene.name}", fontsize=11)
    left, right = figure.subplots(1, 2)
    if isinstance(segmenter, Threshold):
        _histogram(left, segmenter, scene)
        _labels(right, segmenter, scene)
    elif isinstance(segmenter, Centres | GaussianMixture):
        _centres(left, segmenter)
        _elbow(right, segmenter)
    elif isinstance(segmenter, Sobel):
        _gradient(left, segmenter, scene)
        _labels(right, segmenter, scene)
    elif isinstance(segmenter, Canny) and isinstance(segmenter.join, Hysteresis | Contours):
        _candidates(left, right, segmenter, scene)
    elif isinstance(segmenter, Watershed):
        _relief(left, right, segmenter, scene)
    elif isinstance(segmenter, ObjectClasses):
        _importances(left, segmenter)
        _labels(right, segmenter, scene)
    elif isinstance(segmenter, Sauvola):
        plot_surface(left, right, segmenter, scene)
    elif isinstance(segmenter, GrownRegions | Merged | SplitMerge | Superpixels):
        plot_regions(left, right, segmenter, scene)
    else:
        raise _learned(segmenter.card.name)
    return figure


def _learned(name: str) -> ModelError:
    return ModelError(
        f"{name}: nothing to explain: it decides by learned weights; --explain is for the "
        "classic methods, see 'geoseg models'"
    )


def _middle(segmenter: Any, scene: Scene) -> tuple[Any, Any]:
    """Pixels and valid of the scene's middle, as the method's features want them."""
    from geoseg.grid import Window

    rows, cols = scene.shape
    divisor = segmenter.card.divisor
    height, width = (max(min(n, SIDE) // divisor, 1) * divisor for n in (rows, cols))
    row = (rows - height) // 2 // divisor * divisor
    col = (cols - width) // 2 // divisor * divisor
    return scene.read(Window(row, col, height, width), scene.band_indices(segmenter.card.bands))


def _show(axes: Axes, image: Any, title: str, **how: Any) -> None:
    axes.imshow(image, interpolation="nearest", **how)
    axes.set_title(title, fontsize=9)
    axes.set_axis_off()


def _labels(axes: Axes, segmenter: Any, scene: Scene) -> None:
    pixels, valid = _middle(segmenter, scene)
    labels = segmenter.predict(pixels[None], valid[None])[0].category_id
    image = np.full((*labels.shape, 3), 255, np.uint8)
    for category in segmenter.card.legend:
        image[labels == category.id] = category.rgb
        axes.plot([], [], "s", color=category.colour, label=category.name)
    _show(axes, image, "the middle of the scene")
    axes.legend(fontsize=8, loc="upper right")


def _histogram(axes: Axes, segmenter: Any, scene: Scene) -> None:
    histogram, what = segmenter.histogram, "the whole scene"
    if histogram is None:
        values, usable = segmenter.features.value(*_middle(segmenter, scene))
        axes.hist(values[usable], bins=256, histtype="stepfilled", color="#8aa4b5", lw=0)
        what = "the scene's middle"
    else:
        shown = histogram.coarse(512)
        axes.fill_between(shown.centres, shown.counts, step="mid", color="#8aa4b5", lw=0)
        axes.set_ylim(0)
    for threshold in segmenter.thresholds:
        axes.axvline(threshold, color="#b5443c")
        axes.annotate(
            f" {threshold:.4g}", (threshold, 0.97), xycoords=("data", "axes fraction"),
            color="#b5443c", fontsize=9, va="top",
        )  # fmt: skip
    axes.set_xlabel(segmenter.features.names[0])
    axes.set_ylabel("pixels")
    axes.set_title(f"histogram of {what} and threshold", fontsize=9)


def _centres(axes: Axes, segmenter: Any) -> None:
    from geoseg.models.classic.superpixels import moments

    mixture = getattr(segmenter, "gaussians", None)
    centres = segmenter.centres if mixture is None else mixture.means
    mean, deviation = moments(segmenter.sample)
    place = np.arange(centres.shape[1])
    for category, centre in zip(segmenter.card.legend, centres, strict=True):
        standing = (centre - mean) / deviation
        axes.plot(place, standing, "o-", color=category.colour, label=category.name)
    axes.set_xticks(place, segmenter.features.names)
    axes.set_ylabel("deviations from the scene's mean")
    axes.set_title("centres", fontsize=9)
    axes.legend(fontsize=7)


def _elbow(axes: Axes, segmenter: Any) -> None:
    """Spread left within clusters for other numbers of them, on the scene's sample."""
    from geoseg.models.classic.clusters import centres_plus_plus, inertia_of, lloyd

    sample = segmenter.sample
    counts = range(1, min(MOST_CLUSTERS, len(sample)) + 1)
    weights = sample.counts.astype(float)
    spread = [
        inertia_of(sample, lloyd(sample.values, weights, centres_plus_plus(sample, k), 0.0, 30))
        for k in counts
    ]
    axes.plot(counts, spread, "o-", color="#2f6d8c")
    axes.axvline(len(segmenter.card.legend), color="#b5443c", ls="--")
    axes.set_ylim(0)
    axes.set_xlabel("clusters")
    axes.set_ylabel("mean squared distance to the centre")
    axes.set_title("elbow", fontsize=9)


def _gradient(axes: Axes, segmenter: Any, scene: Scene) -> None:
    from geoseg.models.classic.edges import sobel_magnitude

    values, usable = segmenter.features.value(*_middle(segmenter, scene))
    _show(axes, sobel_magnitude(values, usable), "gradient", cmap="magma")


def _candidates(left: Axes, right: Axes, segmenter: Any, scene: Scene) -> None:
    values, usable = segmenter.features.value(*_middle(segmenter, scene))
    weak, strong = segmenter.join.candidates(values[None], usable)
    _show(left, np.where(usable, values, np.nan), segmenter.features.names[0], cmap="gray")
    image = np.ones((*weak.shape, 3))
    image[weak], image[strong] = (0.85, 0.6, 0.3), (0.1, 0.1, 0.1)
    low, high = segmenter.join.candidates.low, segmenter.join.candidates.high
    _show(right, image, f"edges above {high:g} (black), and above {low:g} (brown), kept if linked")


def _relief(left: Axes, right: Axes, segmenter: Any, scene: Scene) -> None:
    values, usable = segmenter.features.value(*_middle(segmenter, scene))
    relief, flooded, markers = segmenter.join.relief(values[None], usable)
    _show(left, np.where(usable, values, np.nan), segmenter.features.names[0], cmap="gray")
    _show(right, np.where(flooded, relief, np.nan), "what is flooded, and markers", cmap="magma")
    row, col = np.nonzero(markers)
    right.plot(col, row, ".", color="#3ad1ff", ms=3)


def _importances(axes: Axes, segmenter: Any) -> None:
    most = segmenter.importances[:15][::-1]
    axes.barh([name for name, _ in most], [weight for _, weight in most], color="#2f6d8c")
    axes.tick_params(labelsize=8)
    axes.set_title(f"what tells classes apart, from {segmenter.trained_on} objects", fontsize=9)
