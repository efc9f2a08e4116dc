"""A map and its scene, small: the picture that is quickly looked at."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from geoseg.engine.segmentmap import SegmentMap
from geoseg.grid import Window

if TYPE_CHECKING:
    from geoseg.engine.report import RunReport
    from geoseg.scene.reader import Scene

__all__ = ["write_picture"]


def write_picture(result: SegmentMap, scene: Scene, path: str, report: RunReport) -> None:
    """The scene, the map over it, and its legend, as a PNG."""
    from geoseg.export.picture import MapPicture, draw_map

    width = scene.pixel_area_m2(result.region)
    picture = MapPicture(
        scene_rgb=_rgb_preview(scene, result.region),
        category_id=_map_preview(result),
        legend=result.legend,
        title=f"{scene.name}: {result.provenance.get('model', '')}",
        hectares={key: area / 1e4 for key, area in report.area_m2.items() if key != 255} or None,
        width_m=None if width is None else result.shape[1] * width**0.5,
        note=str(result.provenance.get("model_licence", "")),
    )
    draw_map(picture, path, overwrite=True)


PREVIEW_PX = 1500

_RGB_NAMES = (("red", "green", "blue"), ("b04", "b03", "b02"), ("b4", "b3", "b2"))


def _rgb_preview(scene: Scene, region: Window) -> NDArray[np.uint8]:
    """(row, col, 3) of the mapped region, stretched between its 2nd and 98th percentile."""
    names = [band.name.lower() for band in scene.bands]
    chosen = next((t for t in _RGB_NAMES if set(t) <= set(names)), None)
    bands = [names.index(n) for n in chosen] if chosen else [0, 1, 2][: len(names)]
    bands = (bands * 3)[:3]
    pixels, valid = scene.preview(_enough(scene, region), bands)
    step = max(scene.shape[0] / pixels.shape[1], 1.0)
    rows, cols = (slice(int(s.start / step), int(-(-s.stop // step))) for s in region.slices)
    pixels, valid = pixels[:, rows, cols].astype(np.float32), valid[rows, cols]
    picture = np.full((*valid.shape, 3), 255, np.uint8)
    for i, band in enumerate(pixels):
        if valid.any():
            low, high = np.percentile(band[valid], [2, 98])
            scaled = (band - low) / max(high - low, 1e-6)
            # lifted a little: a few bright clouds or roofs leave the rest of a scene dark
            shown = np.clip(scaled[valid], 0, 1) ** 0.7
            picture[valid, i] = (255 * shown).astype(np.uint8)
    return picture


def _enough(scene: Scene, region: Window) -> int:
    """Side of a preview of the whole scene in which the region has PREVIEW_PX pixels."""
    share = max(region.shape) / max(scene.shape)
    return min(int(PREVIEW_PX / share), 8 * PREVIEW_PX)


def _map_preview(result: SegmentMap) -> NDArray[np.uint8]:
    """The map small: every n-th pixel, read strip by strip."""
    rows, cols = result.shape
    step = max(1, -(-max(rows, cols) // PREVIEW_PX))
    height = step * max(1, 1024 // step)
    strips = [
        result.read(Window(row, 0, min(height, rows - row), cols))["category_id"][::step, ::step]
        for row in range(0, rows, height)
    ]
    return np.concatenate(strips)
