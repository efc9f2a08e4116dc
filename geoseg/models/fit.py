"""Whether a model fits a scene: bands, ground sampling distance, values. No pixel is mapped.

What doesn't fit is an error that names both sides; what had to be assumed is a warning.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from geoseg.errors import BlockError, ModelError
from geoseg.grid import Window
from geoseg.models.segmenter import ModelCard
from geoseg.models.sentinel2 import ORDER_12, ORDER_13, WAVELENGTHS_UM, band_key
from geoseg.radiometry import Normalization

if TYPE_CHECKING:
    from geoseg.scene.reader import Scene

__all__ = ["Fit", "choose_bands", "fit_scene", "match_bands"]

GSD_TOLERANCE = 2.0
"""How far a scene may be off the model's range of GSD."""

SAMPLE_PX = 128
"""Side of the windows whose values are looked at before any work."""

REFLECTANCE_DN = 10_000.0
"""Digital numbers per unit of reflectance where an integer scene states no scale."""


@dataclass(frozen=True, kw_only=True)
class Fit:
    """How a scene is fed to a model.

    ``indices`` of the scene's bands in the model's order; ``dn * gain + bias`` per band are
    the values that the card's normalization starts from.
    """

    indices: tuple[int, ...]
    gain: tuple[float, ...]
    bias: tuple[float, ...]
    warnings: tuple[str, ...]

    def compose(self, how: Normalization) -> Normalization:
        """The normalization of digital numbers: the scene's scale, then the card's."""
        count = len(self.indices)
        scale = np.broadcast_to(np.asarray(how.scale, np.float64), count)
        offset = np.broadcast_to(np.asarray(how.offset, np.float64), count)
        gain = scale * np.asarray(self.gain)
        bias = scale * np.asarray(self.bias) + offset
        return replace(how, scale=tuple(gain.tolist()), offset=tuple(bias.tolist()))


def fit_scene(card: ModelCard, scene: Scene) -> Fit:
    """Match bands, GSD and values of a scene to a card. Raises ModelError, naming both."""
    indices, _ = match_bands(card, scene)  # its warnings are said by whoever plans the job
    warnings = _check_gsd(card, scene)
    gain, bias, doubts = _scaling(card, scene, indices)
    warnings += doubts
    warnings += _check_values(card, scene, indices, gain, bias)
    return Fit(indices=indices, gain=gain, bias=bias, warnings=tuple(warnings))


def choose_bands(card: ModelCard, scene: Scene, override: Sequence[str]) -> Scene:
    """The scene with the bands that a person names for the model, in the model's order.

    They are called what the card calls them. Raises ModelError when the number is wrong,
    SceneError when there is no such band.
    """
    if not card.bands:
        return scene.select(override)
    _check_count(card, override)
    return scene.select([f"{n}={b}" for n, b in zip(card.bands, override, strict=True)])


def match_bands(
    card: ModelCard, scene: Scene, override: Sequence[str] | None = None
) -> tuple[tuple[int, ...], list[str]]:
    """Indices of the scene's bands that the model wants, in its order, and warnings.

    ``override`` gives the scene's bands in the model's order. Without it bands are found by
    name in any common spelling, else by wavelength. Of bands without names, 12 or 13 are
    taken for a whole Sentinel-2 product, and as many as the model wants for its own, in
    order. Raises ModelError that names what is wanted and what is there.
    """
    if not card.bands:
        return tuple(range(len(scene.bands))), []
    if override is not None:
        _check_count(card, override)
        return scene.band_indices(list(override)), []
    if all(re.fullmatch(r"band_\d+", name) for name in card.bands):
        return _in_order(card, scene)
    have = [band.name for band in scene.bands]
    keys = [band_key(name) for name in have]
    wanted = [band_key(name) for name in card.bands]
    warnings = []
    unnamed = all(name.isdigit() for name in have)
    if unnamed and len(have) in (12, 13) and set(wanted) <= set(ORDER_13):
        keys = list(ORDER_12 if len(have) == 12 else ORDER_13)
        warnings.append(
            f"{scene.name} doesn't name its {len(have)} bands: the usual order "
            f"{', '.join(keys)} is assumed; state another with --bands"
        )
    found = [_find(name, keys, scene) for name in wanted]
    missing = [name for name, i in zip(card.bands, found, strict=True) if i is None]
    partly = [name for name in have if name.isdigit()]
    if missing and partly and len(have) == len(wanted):
        found = list(range(len(have)))
        warnings.append(
            f"{scene.name} doesn't name all its bands ({', '.join(have)}): they are taken as "
            f"{', '.join(card.bands)}, in this order; state another with --bands"
        )
    elif missing:
        raise ModelError(
            f"{scene.name}: {card.name} wants {len(wanted)} bands, {', '.join(card.bands)}; "
            f"{', '.join(missing)} not found among {len(have)}, {', '.join(have)}: "
            "name the scene's bands in the model's order with --bands, by name or number from 1"
        )
    return tuple(i for i in found if i is not None), warnings


def _in_order(card: ModelCard, scene: Scene) -> tuple[tuple[int, ...], list[str]]:
    """The first bands of a scene, for a model that doesn't say which it wants."""
    wanted, have = len(card.bands), [band.name for band in scene.bands]
    if len(have) < wanted:
        raise ModelError(
            f"{scene.name}: {card.name} wants {wanted} bands, it has {len(have)}: {', '.join(have)}"
        )
    said = f"{card.name} doesn't say which bands it wants: {', '.join(have[:wanted])} are taken"
    return tuple(range(wanted)), [] if len(have) == wanted else [f"{said}; state others by --bands"]


def _check_count(card: ModelCard, override: Sequence[str]) -> None:
    if len(override) != len(card.bands):
        raise ModelError(
            f"--bands names {len(override)} bands, {card.name} wants {len(card.bands)}: "
            f"{', '.join(card.bands)}, in this order"
        )


def _find(wanted: str, keys: Sequence[str], scene: Scene) -> int | None:
    """By name; else the band whose centre is within 20 nm of the wanted one's."""
    if wanted in keys:
        return keys.index(wanted)
    centre = WAVELENGTHS_UM.get(wanted)
    distances = [
        (abs(band.wavelength_um - centre), i)
        for i, band in enumerate(scene.bands)
        if centre is not None and band.wavelength_um is not None
    ]
    best = min(distances, default=(1.0, 0))
    return best[1] if best[0] <= 0.02 else None


def _check_gsd(card: ModelCard, scene: Scene) -> list[str]:
    if card.gsd_m is None:
        return []
    finest, coarsest = card.gsd_m
    made_for = f"{finest:g} m" if finest == coarsest else f"{finest:g} to {coarsest:g} m"
    gsd = scene.gsd_m
    if gsd is None:
        return [f"{scene.name}: no CRS, so its GSD is unknown; {card.name} is for {made_for}"]
    if not finest / GSD_TOLERANCE <= gsd <= coarsest * GSD_TOLERANCE:
        raise ModelError(
            f"{scene.name}: its GSD is {gsd:.3g} m, {card.name} is for {made_for}: "
            "resample on reading with --gsd model, or use another model"
        )
    if not finest / 1.1 <= gsd <= coarsest * 1.1:
        return [f"{scene.name}: its GSD is {gsd:.3g} m, {card.name} is for {made_for}"]
    return []


def _scaling(
    card: ModelCard, scene: Scene, indices: Sequence[int]
) -> tuple[tuple[float, ...], tuple[float, ...], list[str]]:
    """Gain and bias per band from digital numbers to the values that the card starts from."""
    count = len(indices)
    if card.values == "dn":
        return (1.0,) * count, (0.0,) * count, []
    bands = [scene.bands[i] for i in indices]
    stated = any(band.scale != 1.0 or band.offset != 0.0 for band in bands)
    if stated or np.dtype(scene.dtype).kind == "f":
        return tuple(b.scale for b in bands), tuple(b.offset for b in bands), []
    return (1 / REFLECTANCE_DN,) * count, (0.0,) * count, []


def sample(scene: Scene, indices: Sequence[int]) -> NDArray[np.float64]:
    """Valid pixels (band, pixel) of five windows: the centre and the quarters' centres."""
    rows, cols = scene.shape
    parts = []
    for row, col in ((2, 2), (1, 1), (1, 3), (3, 1), (3, 3)):
        height, width = min(SAMPLE_PX, rows), min(SAMPLE_PX, cols)
        row_off = min(max(rows * row // 4 - height // 2, 0), rows - height)
        col_off = min(max(cols * col // 4 - width // 2, 0), cols - width)
        try:
            pixels, valid = scene.read(Window(row_off, col_off, height, width), indices)
        except BlockError:  # it is reported, with its window, when it is mapped
            continue
        parts.append(pixels[:, valid].astype(np.float64))
    return np.concatenate(parts, axis=1) if parts else np.empty((len(indices), 0))


def _check_values(
    card: ModelCard, scene: Scene, indices: Sequence[int], gain: Any, bias: Any
) -> list[str]:
    """Look at a sample: values of another kind are an error, odd ones a warning."""
    if card.value_range is None:
        return []
    low, high = card.value_range
    values = sample(scene, indices) * np.asarray(gain)[:, None] + np.asarray(bias)[:, None]
    values = values[np.isfinite(values)]
    if values.size == 0:
        return []
    unit = "reflectance" if card.values == "reflectance" else "digital numbers"
    says = f"{card.name} is for {unit} of {low:g} to {high:g}"
    top = float(np.percentile(values, 99))
    floor = max(low, 0.0)
    if top < floor + 0.002 * (high - floor) or top > floor + 10 * (high - floor):
        raise ModelError(
            f"{scene.name} ({scene.dtype}): its values reach {top:.3g}, {says}: state the "
            "scale of its bands in the file, or use a model made for such values"
        )
    outside = float(((values < low) | (values > high)).mean())
    if outside > 0.01:
        return [f"{scene.name}: {outside:.0%} of the values looked at are off range: {says}"]
    return []
