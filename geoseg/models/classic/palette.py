"""Legends of classes that have no name of their own."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

from geoseg.legend import Category, Legend

__all__ = ["distinct", "numbered", "ramp", "two_classes"]

_LOW, _HIGH = "#d9d4c5", "#2f6d8c"
_GOLDEN = 0.61803398875


def two_classes(low: str, high: str, colour: str = _HIGH) -> Legend:
    """0 is what lies below a threshold, 1 what lies above."""
    return Legend((Category(0, low, _LOW), Category(1, high, colour)), "classic")


def ramp(names: Sequence[str]) -> Legend:
    """Classes in order of a value, from light to dark."""
    steps = max(len(names) - 1, 1)
    ends = [tuple(int(c[i : i + 2], 16) for i in (1, 3, 5)) for c in ("#efe9d2", "#12436d")]
    colours = [
        "#" + "".join(f"{round(a + (b - a) * n / steps):02x}" for a, b in zip(*ends, strict=True))
        for n in range(len(names))
    ]
    return _legend(names, colours)


def distinct(index: int) -> str:
    """A colour that differs from its neighbours'."""
    hue = (0.58 + index * _GOLDEN) % 1.0
    red, green, blue = colorsys.hsv_to_rgb(
        hue, (0.55, 0.75)[index % 2], (0.85, 0.62)[index // 2 % 2]
    )
    return f"#{round(red * 255):02x}{round(green * 255):02x}{round(blue * 255):02x}"


def numbered(stem: str, count: int) -> Legend:
    """``stem 1`` ... ``stem count``, ids from 0."""
    return _legend([f"{stem} {i + 1}" for i in range(count)], [distinct(i) for i in range(count)])


def _legend(names: Sequence[str], colours: Sequence[str]) -> Legend:
    pairs = enumerate(zip(names, colours, strict=True))
    return Legend(tuple(Category(i, n, c) for i, (n, c) in pairs), "classic")
