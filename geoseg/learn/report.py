"""The page a training ends with: curves, confusion, the worst and the best places."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from geoseg.assess.segmentation import Confusion
from geoseg.learn.samples import IGNORE
from geoseg.learn.validate import Place
from geoseg.legend import Legend

if TYPE_CHECKING:
    from geoseg.learn.job import Outcome

__all__ = ["report_html"]

SHOWN = 4
"""Worst and best places, each."""

CURVES = ("mIoU", "IoU", "PQ", "F1")
"""Beginnings of the figures that are drawn."""

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem;
  color: #222; background: #fff }
table { border-collapse: collapse } td, th { padding: .2rem .7rem; text-align: right;
  border-bottom: 1px solid #ddd } th:first-child { text-align: left }
img { max-width: 100% } figure { margin: 1rem 0 } figcaption, .note { color: #555 }
.key { display: inline-block; width: .9em; height: .9em; margin: 0 .3em 0 1em;
  border: 1px solid #777; vertical-align: -.1em }
"""


def report_html(outcome: Outcome, notes: Sequence[str]) -> str:
    """One page with all pictures inside; no script, nothing from the network."""
    card, legend = outcome.card, outcome.labels
    total = sum((place.confusion for place in outcome.places), Confusion.empty())
    ranked = sorted(outcome.places, key=lambda place: place.confusion.accuracy)
    half = min(SHOWN, max(len(ranked) // 2, 1))
    worst, best = ranked[:half], ranked[::-1][: min(half, len(ranked) - half)]
    shown = _shown(card.bands)
    parts = [
        f"<h1>{escape(card.name)}</h1><p>{escape(card.training_data)}</p>",
        "".join(f"<p class=note>{escape(note)}</p>" for note in notes),
        f"<h2>On places that were not trained on</h2>{_scores(total, legend)}",
        f"<p>{escape(card.accuracy)}</p>",
        f"<h2>Curves</h2>{_curves(outcome.log, legend)}",
        f"<h2>Confusion</h2>{_matrix(total, legend)}",
        f"<h2>Worst places</h2>{_key(legend)}",
        *(_place(place, legend, shown) for place in worst),
        f"<h2>Best places</h2>{_key(legend)}" if best else "",
        *(_place(place, legend, shown) for place in best),
    ]
    head = f"<meta charset=utf-8><title>{escape(card.name)}</title><style>{_STYLE}</style>"
    return f"<!doctype html><html lang=en><head>{head}</head><body>{''.join(parts)}</body></html>"


def _number(value: float) -> str:
    return "–" if np.isnan(value) else f"{value:.3f}"


def _scores(total: Confusion, legend: Legend) -> str:
    rows = "".join(
        f"<tr><th>{escape(c.name)}</th><td>{_number(total.iou(c.id))}</td>"
        f"<td>{_number(total.f1(c.id))}</td><td>{_number(total.precision(c.id))}</td>"
        f"<td>{_number(total.recall(c.id))}</td><td>{int(total.counts[c.id].sum()):,}</td></tr>"
        for c in legend
    )
    head = "<tr><th>class</th><th>IoU</th><th>F1</th><th>precision</th><th>recall</th><th>px</th>"
    return (
        f"<p>mean IoU <b>{_number(total.mean_iou)}</b>, accuracy {_number(total.accuracy)}, "
        f"kappa {_number(total.kappa)}</p><table>{head}</tr>{rows}</table>"
    )


def _matrix(total: Confusion, legend: Legend) -> str:
    ids = [c.id for c in legend]
    counts = total.counts[np.ix_(ids, ids)].astype(float)
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    names = [escape(c.name) for c in legend]
    head = "".join(f"<th>{name}</th>" for name in names)
    rows = "".join(
        f"<tr><th>{name}</th>"
        + "".join(f"<td style='background:rgba(0,114,178,{v * 0.6:.2f})'>{v:.1%}</td>" for v in row)
        + "</tr>"
        for name, row in zip(names, share, strict=True)
    )
    caption = "<p class=note>Rows: the label. Columns: what was found. Shares of the row.</p>"
    return f"{caption}<table><tr><th></th>{head}</tr>{rows}</table>"


def _curves(log: Sequence[dict[str, Any]], legend: Legend) -> str:
    """Loss and validation; names stand beside the picture, for a page has more letters than it."""
    colours = {f"{kind} {c.name}": c.colour for c in legend for kind in ("IoU", "PQ")}
    colours |= {"mIoU": "#222222", "PQ": "#222222", "F1": "#999999"}
    figure = Figure(figsize=(9, 3), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    steps = np.array([entry["step"] for entry in log])
    loss = np.array([entry["loss"] for entry in log])
    left.plot(steps, loss, color="#bbbbbb", linewidth=0.7)
    width = max(len(loss) // 30, 1)
    smooth = np.convolve(loss, np.ones(width) / width, "valid")
    left.plot(steps[width - 1 :], smooth, color="#0072b2")
    left.set(xlabel="step", ylabel="training loss")
    judged = [entry for entry in log if "mIoU" in entry]
    names = [k for k in (judged[-1] if judged else {}) if k.split()[0] in CURVES]
    for name in names:
        points = [(e["step"], e[name]) for e in judged if name in e]
        thick = 2.2 if name in ("mIoU", "PQ") else 1.0
        colour, dashes = colours.get(name, "#777777"), "--" if name.startswith("PQ ") else "-"
        right.plot(
            *zip(*points, strict=True), marker="o", markersize=3, color=colour, lw=thick, ls=dashes
        )
    right.set(xlabel="step", ylabel="validation", ylim=(0, 1))
    key = "".join(
        f"<span class=key style='background:{colours.get(name, '#777777')}'></span>{escape(name)}"
        for name in names
    )
    return f"<figure>{_image(figure)}<figcaption>{key}</figcaption></figure>"


def _place(place: Place, legend: Legend, bands: tuple[int, int, int]) -> str:
    figure = Figure(figsize=(9, 3.1), dpi=90, layout="constrained")
    FigureCanvasAgg(figure)
    shown = (
        ("scene", _picture(place, bands)),
        ("label", _outlined(_coloured(place.truth, legend), place.truth_id)),
        ("found", _outlined(_coloured(place.found, legend), place.found_id)),
    )
    for axes, (title, picture) in zip(figure.subplots(1, 3), shown, strict=True):
        axes.imshow(picture, interpolation="nearest")
        axes.set_title(title, fontsize=9)
        axes.set_axis_off()
    text = (
        f"{place.ground.name}, row {place.row}, column {place.col} of the labelled ground: "
        f"accuracy {place.confusion.accuracy:.3f}, mean IoU {_number(place.confusion.mean_iou)}"
    )
    return f"<figure>{_image(figure)}<figcaption>{escape(text)}</figcaption></figure>"


def _shown(names: Sequence[str]) -> tuple[int, int, int]:
    """Places of red, green and blue; else of the first three bands, or of the first alone."""
    lower = [name.lower() for name in names]
    for wanted in (("red", "green", "blue"), ("b04", "b03", "b02"), ("b4", "b3", "b2")):
        if set(wanted) <= set(lower):
            red, green, blue = map(lower.index, wanted)
            return red, green, blue
    return (0, 1, 2) if len(names) >= 3 else (0, 0, 0)


def _picture(place: Place, bands: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Bands stretched over the whole ground."""
    ground = place.ground
    out = np.empty((3, *place.found.shape), np.float32)
    for k, band in enumerate(bands):
        seen = ground.pixels[band][ground.valid].astype(np.float64)
        low, high = np.percentile(seen[np.isfinite(seen)], [2, 98])
        out[k] = (place.pixels[band].astype(np.float64) - low) / max(high - low, 1e-9)
    scaled: NDArray[np.uint8] = (np.nan_to_num(out).clip(0, 1) * 255).astype(np.uint8)
    return scaled.transpose(1, 2, 0)


def _coloured(position: NDArray[np.uint8], legend: Legend) -> NDArray[np.uint8]:
    table = np.full((256, 3), 235, np.uint8)
    for category in legend:
        table[category.id] = category.rgb
    table[IGNORE] = 255
    return table[position]


def _outlined(picture: NDArray[np.uint8], ids: NDArray[np.int32] | None) -> NDArray[np.uint8]:
    """Dark where one thing ends."""
    if ids is None:
        return picture
    edge = np.zeros(ids.shape, bool)
    edge[1:] |= ids[1:] != ids[:-1]
    edge[:, 1:] |= ids[:, 1:] != ids[:, :-1]
    out: NDArray[np.uint8] = np.where(edge[..., None], np.uint8(20), picture)
    return out


def _key(legend: Legend) -> str:
    return "".join(
        f"<span class=key style='background:{c.colour}'></span>{escape(c.name)}" for c in legend
    )


def _image(figure: Figure) -> str:
    data = io.BytesIO()
    figure.savefig(data, format="png")
    return f"<img alt='' src='data:image/png;base64,{base64.b64encode(data.getvalue()).decode()}'>"
