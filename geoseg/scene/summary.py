"""What a person wants to know of a scene before running anything on it."""

from __future__ import annotations

import math
from html import escape
from typing import TYPE_CHECKING, Any

from geoseg.grid import Window
from geoseg.scene.reader import Decimating

if TYPE_CHECKING:
    from geoseg.scene.reader import Scene

__all__ = ["summarize", "to_html", "to_text", "valid_share"]

_SMALL_PIXELS = 1 << 22
_PREVIEW_SIDE = 512
_WINDOWS_PER_SIDE, _WINDOW_SIDE = 8, 64


def valid_share(scene: Scene) -> tuple[float, str]:
    """Share of pixels that are valid in all bands, 0 to 1, and what it was taken from.

    Every pixel of a small scene; the overviews of a large one, else 64 windows spread
    evenly, so that the answer takes no longer for a scene of a hundred gigapixels.
    """
    if scene.window.pixels <= _SMALL_PIXELS:
        return float(scene.read()[1].mean()), "all pixels"
    if scene.tags.get("overviews") and isinstance(scene.reader, Decimating):
        _, valid = scene.preview(_PREVIEW_SIDE)
        return float(valid.mean()), f"an overview of {valid.shape[0]} x {valid.shape[1]} pixels"
    counted = total = 0
    for window in _spread(scene.shape):
        _, valid = scene.read(window)
        counted, total = counted + int(valid.sum()), total + valid.size
    return counted / total, f"a sample of {_WINDOWS_PER_SIDE**2} windows"


def _spread(shape: tuple[int, int]) -> list[Window]:
    side = min(_WINDOW_SIDE, *shape)
    steps = range(_WINDOWS_PER_SIDE)
    offsets = [
        [round(i * (size - side) / (_WINDOWS_PER_SIDE - 1)) for i in steps] for size in shape
    ]
    return [Window(row, col, side, side) for row in offsets[0] for col in offsets[1]]


def summarize(scene: Scene, *, pixels: bool = True) -> dict[str, Any]:
    """Plain JSON values that describe a scene; ``pixels``: read some for the valid share."""
    rows, cols = scene.shape
    crs = scene.geobox.crs
    box = scene.geobox.boundingbox
    out: dict[str, Any] = {
        "name": scene.name,
        "rows": rows,
        "cols": cols,
        "megapixels": rows * cols / 1e6,
        "crs": None if crs is None else str(crs),
        "georeferenced": scene.georeferenced,
        "transform": list(scene.geobox.affine)[:6],
        "bounds": [box.left, box.bottom, box.right, box.top],
        "gsd_m": scene.gsd_m,
        "dtype": scene.dtype,
        "nodata": _json_number(scene.nodata),
        "bands": [
            {
                "number": number,
                "name": band.name,
                "wavelength_um": band.wavelength_um,
                "scale": band.scale,
                "offset": band.offset,
            }
            for number, band in enumerate(scene.bands, 1)
        ],
        "tags": dict(scene.tags),
    }
    if pixels:
        share, source = valid_share(scene)
        out |= {"valid_share": share, "valid_share_from": source}
    return out


def _json_number(value: float | None) -> float | int | str | None:
    """NaN and infinity are no JSON: as text."""
    if value is None or not math.isfinite(value):
        return None if value is None else str(value)
    return int(value) if value == int(value) else value


def _facts(summary: dict[str, Any]) -> list[tuple[str, str]]:
    """Label and text per line, for people."""
    tags = summary["tags"]
    facts = [
        ("size", f"{summary['rows']} rows x {summary['cols']} cols, "
                 f"{summary['megapixels']:.3g} Mpx"),
        ("CRS", _short_crs(summary)),
        ("GSD", "unknown" if summary["gsd_m"] is None else f"{summary['gsd_m']:.4g} m"),
        ("bounds", ", ".join(f"{value:.10g}" for value in summary["bounds"])),
        ("bands", f"{len(summary['bands'])}: " + ", ".join(b["name"] for b in summary["bands"])),
        ("pixels", summary["dtype"]),
        ("nodata", "not declared" if summary["nodata"] is None else str(summary["nodata"])),
    ]  # fmt: skip
    scaled = {(b["scale"], b["offset"]) for b in summary["bands"]} - {(1.0, 0.0)}
    if scaled:
        facts.append(("value", "; ".join(f"dn x {s:g} {o:+g}" for s, o in sorted(scaled))))
    if "valid_share" in summary:
        text = f"{summary['valid_share']:.1%} of the pixels"
        facts.append(("valid", f"{text} ({summary['valid_share_from']})"))
    if "driver" in tags:
        overviews = tags.get("overviews") or "none"
        facts.append(
            (
                "stored",
                f"{tags['driver']}, blocks of {tags['block']}, {tags['compression']}, "
                f"overviews: {overviews}",
            )
        )
    if "gcps" in tags:
        facts.append(
            ("note", f"{tags['gcps']} ground control points, no transform: gdalwarp it first")
        )
    return facts


def _short_crs(summary: dict[str, Any]) -> str:
    if summary["crs"] is None:
        reason = "--assume-crs gives one" if summary["georeferenced"] else "coordinates are pixels"
        return f"none ({reason})"
    text: str = summary["crs"]
    return text if len(text) < 80 else text.partition('["')[2].partition('"')[0] or text[:80]


def to_text(summary: dict[str, Any]) -> str:
    """The summary as lines of text."""
    lines = [summary["name"]]
    lines += [f"  {label:<8}{text}" for label, text in _facts(summary)]
    return "\n".join(lines)


def to_html(scene: Scene) -> str:
    """The summary as a table for notebooks; reads no pixel."""
    summary = summarize(scene, pixels=False)
    rows = "".join(
        f"<tr><th style='text-align:left'>{escape(label)}</th>"
        f"<td style='text-align:left'>{escape(text)}</td></tr>"
        for label, text in _facts(summary)
    )
    return f"<table><caption>{escape(summary['name'])}</caption>{rows}</table>"
