"""What a run printed at its end: size, classes with hectares, seconds, memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from geoseg.export.columns import area_text
from geoseg.legend import NODATA_CATEGORY

if TYPE_CHECKING:
    from geoseg.engine.report import RunReport
    from geoseg.scene.reader import Scene

__all__ = ["summary_text"]


def summary_text(report: RunReport, scene: Scene) -> str:
    """The summary that a person reads after a run."""
    rows, cols = scene.shape
    gsd = scene.gsd_m
    lines = [
        f"{report.scene}: {rows} x {cols} px" + (f", GSD {gsd:.4g} m" if gsd else ""),
        "",
        *_classes(report),
        "",
        str(report),
    ]
    if report.outputs:
        lines += ["", "wrote    " + ", ".join(report.outputs)]
    return "\n".join(lines)


def _classes(report: RunReport) -> list[str]:
    """A line per class that occurs, the largest first."""
    names = report.class_names
    counts = {key: n for key, n in report.counts.items() if key != NODATA_CATEGORY}
    total = max(sum(counts.values()), 1)
    width = max([len(name) for name in names.values()] + [8])
    lines = []
    for key, count in sorted(counts.items(), key=lambda item: -item[1]):
        area = report.area_m2.get(key)
        amount = area_text(area) if area else f"{count:,} px"
        lines.append(f"  {names.get(key, key):{width}} {amount:>15} {100 * count / total:6.2f} %")
    if report.counts.get(NODATA_CATEGORY):
        missing = report.counts[NODATA_CATEGORY]
        lines.append(f"  {'nodata':{width}} {missing:12,} px")
    return lines
