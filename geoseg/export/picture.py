"""The picture of a map: scene, map and legend side by side."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoseg.export.columns import area_text
from geoseg.export.target import written_beside
from geoseg.legend import Legend

__all__ = ["MapPicture", "draw_map", "round_length_m"]

_INK, _PAPER, _FAINT = "#20262b", "#ffffff", "#6b757d"
_PANEL_INCHES = 6.0
_LEGEND_ROWS = 24


@dataclass(frozen=True, kw_only=True)
class MapPicture:
    """What is drawn.

    Attributes:
        scene_rgb: (row, col, 3) uint8, as it is to be shown.
        category_id: (row, col) uint8, the same ground in any resolution; 255 = nodata.
        legend: names and colours.
        title: above it all.
        hectares: by category_id, of the whole map; None: shares of pixels alone are listed.
        width_m: of the ground shown, in metres, for the scale bar; None: no scale bar.
        note: one line below: source, licence.

    """

    scene_rgb: NDArray[np.uint8]
    category_id: NDArray[np.uint8]
    legend: Legend
    title: str = ""
    hectares: Mapping[int, float] | None = None
    width_m: float | None = None
    note: str = ""


def round_length_m(longest_m: float) -> float:
    """The longest of 1, 2 or 5 times a power of ten that is not longer.

    >>> round_length_m(7300.0)
    5000.0
    """
    power = 10.0 ** math.floor(math.log10(longest_m))
    # half a power too: a logarithm can be rounded up to the next one
    return max(step * power for step in (0.5, 1, 2, 5) if step * power <= longest_m)


def draw_map(picture: MapPicture, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Draw the picture as a PNG; raises OutputError when it can't be written.

    Names are drawn as they are: no markup is read in them.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows, cols = picture.category_id.shape
    shape = min(max(rows / cols, 0.4), 2.5)
    wide, high = _PANEL_INCHES / max(shape, 1), _PANEL_INCHES * min(shape, 1)
    legend_wide = 3.4
    # inches: margins 0.25, titles above, the note below
    total = (2 * wide + legend_wide + 1.0, high + 1.35)
    figure = Figure(figsize=total, dpi=110, facecolor=_PAPER)
    FigureCanvasAgg(figure)
    panels = []
    for number, image in enumerate((picture.scene_rgb, _coloured(picture))):
        left = (0.25 + number * (wide + 0.2)) / total[0]
        axes = figure.add_axes((left, 0.5 / total[1], wide / total[0], high / total[1]))
        axes.imshow(image, extent=(0, 1, 0, 1), aspect="auto", interpolation="antialiased")
        axes.set_xticks([])
        axes.set_yticks([])
        axes.set_title(("Scene", "Map")[number], loc="left", fontsize=11, color=_FAINT)
        for spine in axes.spines.values():
            spine.set_color("#c8ced3")
        panels.append(axes)
    figure.text(
        0.25 / total[0], 1 - 0.38 / total[1], picture.title,
        fontsize=15, color=_INK, weight="bold", parse_math=False,
    )  # fmt: skip
    figure.text(
        0.25 / total[0], 0.2 / total[1], picture.note,
        fontsize=8, color=_FAINT, parse_math=False,
    )  # fmt: skip
    if picture.width_m:
        _scale_bar(panels[1], picture.width_m, 1 / high)
    left = (0.25 + 2 * (wide + 0.2)) / total[0]
    _legend(figure, picture, (left, 0.5 / total[1], legend_wide / total[0], high / total[1]))
    with written_beside(path, overwrite, kinds=("picture",)) as part:
        figure.savefig(part, metadata={"Software": None})


def _coloured(picture: MapPicture) -> NDArray[np.uint8]:
    """(row, col, 3): the map in the legend's colours, white where there is none."""
    table = np.full((256, 3), 255, np.uint8)
    for category in picture.legend:
        table[category.id] = category.rgb
    return table[picture.category_id]


def _shares(picture: MapPicture) -> list[tuple[int, float]]:
    """(category_id, share) of what is on the map, largest first."""
    if picture.hectares is not None:
        amounts = {c.id: picture.hectares.get(c.id, 0.0) for c in picture.legend}
    else:
        counts = np.bincount(picture.category_id.ravel(), minlength=256)
        amounts = {c.id: float(counts[c.id]) for c in picture.legend}
    total = sum(amounts.values()) or 1.0
    shares = [(number, amount / total) for number, amount in amounts.items() if amount > 0]
    return sorted(shares, key=lambda pair: (-pair[1], pair[0]))


def _legend(figure: Any, picture: MapPicture, box: tuple[float, float, float, float]) -> None:
    """Rows of swatch, name, area and share; what doesn't fit is summed in a last row."""
    axes = figure.add_axes(box)
    high = box[3] * figure.get_figheight()
    axes.set_xlim(0, box[2] * figure.get_figwidth())
    axes.set_ylim(high, 0)
    axes.axis("off")
    shares = _shares(picture)
    room = max(min(_LEGEND_ROWS, int(high / 0.3) - 1), 1)
    listed = shares if len(shares) <= room else shares[: room - 1]
    rows = [(picture.legend.by_id(n).name, picture.legend.by_id(n).colour, [n]) for n, _ in listed]
    if len(listed) < len(shares):
        rest = [number for number, _ in shares[len(listed) :]]
        rows.append((f"{len(rest)} more", "#ffffff", rest))
    by_id = dict(shares)
    right = axes.get_xlim()[1]
    if picture.hectares is not None:
        axes.text(right - 0.6, 0.0, "area", ha="right", fontsize=9, color=_FAINT)
    axes.text(right, 0.0, "share", ha="right", fontsize=9, color=_FAINT)
    for row, (name, colour, numbers) in enumerate(rows):
        y = 0.3 * (row + 1)
        axes.add_patch(_swatch(y, colour))
        axes.text(0.42, y, _short(name), va="center", fontsize=10.5, color=_INK, parse_math=False)
        if picture.hectares is not None:
            amount = sum(picture.hectares.get(number, 0.0) for number in numbers)
            axes.text(
                right - 0.6,
                y,
                area_text(amount * 1e4),
                va="center",
                ha="right",
                fontsize=10,
                color=_INK,
            )
        share = sum(by_id[number] for number in numbers)
        axes.text(
            right, y, f"{100 * share:.1f} %", va="center", ha="right", fontsize=10, color=_INK
        )


def _swatch(y: float, colour: str) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle((0.04, y - 0.09), 0.26, 0.18, facecolor=colour, edgecolor="#8a949b", lw=0.6)


def _short(name: str) -> str:
    line = "".join(c if c.isprintable() else " " for c in " ".join(name.split()))
    return line if len(line) <= 22 else f"{line[:21]}…"


def _scale_bar(axes: Any, width_m: float, inch: float) -> None:
    """A bar with its length; ``inch`` is one inch in shares of the panel's height."""
    from matplotlib.patches import Rectangle

    length = round_length_m(width_m / 3)
    share = length / width_m
    text = f"{length / 1000:g} km" if length >= 1000 else f"{length:g} m"
    back = Rectangle((0.02, 0.1 * inch), share + 0.04, 0.36 * inch, fc=_PAPER, alpha=0.85, lw=0)
    axes.add_patch(back)
    axes.add_patch(Rectangle((0.04, 0.17 * inch), share, 0.05 * inch, fc=_INK, lw=0))
    axes.text(0.04 + share / 2, 0.25 * inch, text, ha="center", va="bottom", fontsize=9, color=_INK)
