"""Spectral indices and the bands they need, found in a scene by name, number or wavelength.

Formulas are those of the Awesome Spectral Indices catalogue (Montero et al. 2023,
https://doi.org/10.1038/s41597-023-02096-0); ExG is the raw ``2 G - R - B`` (Woebbecke et al.
1995), not its normalized form.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from geoseg.errors import ModelError
from geoseg.models.classic.formula import Formula, parse_formula

if TYPE_CHECKING:
    from geoseg.scene.reader import Scene

__all__ = ["INDICES", "Features", "IndexInfo", "find_band"]


@dataclass(frozen=True, slots=True)
class IndexInfo:
    """A named index: its formula, what high values mean, whether it wants reflectance."""

    formula: str
    high: str
    colour: str
    low: str = "other"
    needs_reflectance: bool = False


INDICES: dict[str, IndexInfo] = {
    "ndvi": IndexInfo("(nir-red)/(nir+red)", "vegetation", "#3a8f3a"),
    "ndwi": IndexInfo("(green-nir)/(green+nir)", "water", "#2b7bba"),
    "mndwi": IndexInfo("(green-swir1)/(green+swir1)", "water", "#2b7bba"),
    "evi": IndexInfo(
        "2.5*(nir-red)/(nir+6*red-7.5*blue+1)", "vegetation", "#3a8f3a", needs_reflectance=True
    ),
    "savi": IndexInfo(
        "1.5*(nir-red)/(nir+red+0.5)", "vegetation", "#3a8f3a", needs_reflectance=True
    ),
    "ndbi": IndexInfo("(swir1-nir)/(swir1+nir)", "built", "#b5443c"),
    "exg": IndexInfo("2*green-red-blue", "plants", "#3a8f3a", low="soil"),
    "vari": IndexInfo("(green-red)/(green+red-blue)", "vegetation", "#3a8f3a"),
}

_RANGES_UM = {
    "blue": (0.44, 0.52),
    "green": (0.52, 0.60),
    "red": (0.62, 0.69),
    "nir": (0.76, 0.90),
    "swir1": (1.50, 1.75),
    "swir2": (2.05, 2.40),
}
_ALIASES = {
    "blue": ("b", "b02"),
    "green": ("g", "b03"),
    "red": ("r", "b04"),
    "nir": ("n", "infrared", "near infrared", "nir08", "b08"),
    "swir1": ("swir16", "b11"),
    "swir2": ("swir22", "b12"),
}
"""Names besides the common ones; bNN are Sentinel-2's, with the leading zero."""

_BY_COUNT = {3: ("red", "green", "blue"), 4: ("red", "green", "blue", "nir")}
_NUMBER = re.compile(r"b?(\d+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Features:
    """Indices or bands to be computed of each pixel.

    ``names`` are as a person wrote them, ``formulas`` what they mean, ``bands`` the names
    of the pixels' bands (empty until ``for_scene``, unless no formula was given: then
    ``for_scene`` takes every band). ``scale`` multiplies digital numbers first.
    """

    names: tuple[str, ...]
    formulas: tuple[Formula, ...]
    bands: tuple[str, ...] = ()
    places: tuple[tuple[int, ...], ...] = ()
    scale: float = 1.0

    @classmethod
    def parse(cls, texts: Sequence[str], scale: float = 1.0) -> Features:
        """From names of indices, bands or formulas; raises ModelError on what is neither."""
        formulas = []
        for text in texts:
            known = INDICES.get(text.lower())
            formulas.append(parse_formula(known.formula if known else text))
        return cls(tuple(texts), tuple(formulas), scale=scale)

    @property
    def wanted(self) -> tuple[str, ...]:
        """Bands the formulas name, each once, in order."""
        return tuple(dict.fromkeys(name for f in self.formulas for name in f.names))

    def for_scene(self, scene: Scene) -> tuple[Features, list[str]]:
        """With the scene's bands in place of names, and warnings; raises ModelError."""
        if not self.formulas:
            names = tuple(f"b{i + 1}" for i in range(len(scene.bands)))
            formulas = tuple(Formula(name, (name,)) for name in names)
            return replace(self, names=names, formulas=formulas)._placed(
                {n: i for i, n in enumerate(names)}, scene
            ), []
        found: dict[str, int] = {}
        warnings: list[str] = []
        for name in self.wanted:
            found[name], warning = find_band(scene, name)
            if warning is not None and warning not in warnings:
                warnings.append(warning)
        whole = np.dtype(scene.dtype).kind in "iu"
        for name in self.names:
            info = INDICES.get(name.lower())
            if info and info.needs_reflectance and whole and self.scale == 1.0:
                warnings.append(
                    f"{name} has constants for reflectance from 0 to 1, and {scene.name} holds "
                    f"whole numbers: add scale=0.0001 if they are reflectance times 10000"
                )
        return self._placed(found, scene), warnings

    def _placed(self, found: dict[str, int], scene: Scene) -> Features:
        order = sorted(set(found.values()))
        places = tuple(tuple(order.index(found[n]) for n in f.names) for f in self.formulas)
        names = tuple(scene.bands[i].name for i in order)
        return replace(self, bands=names, places=places)

    def values(self, pixels: NDArray[Any]) -> list[NDArray[Any]]:
        """One array (..., row, col) per feature of pixels (..., band, row, col).

        Undefined values (0/0) are NaN or infinite.
        """
        out = []
        for formula, places in zip(self.formulas, self.places, strict=True):
            bands = {n: pixels[..., i, :, :] for n, i in zip(formula.names, places, strict=True)}
            out.append(formula(bands, self.scale))
        return out

    def bare(self, pixels: NDArray[Any]) -> bool:
        """Whether the features are all bands of the pixels (band, row, col), as they are."""
        own = [f.text == f.names[0] for f in self.formulas if f.names]
        order = tuple((i,) for i in range(len(pixels)))
        return self.scale == 1.0 and len(own) == len(order) and all(own) and self.places == order

    def value(
        self, pixels: NDArray[Any], valid: NDArray[np.bool_]
    ) -> tuple[Any, NDArray[np.bool_]]:
        """The only feature, and where it may be used: valid and defined."""
        (values,) = self.values(pixels)
        usable = valid & np.isfinite(values) if values.dtype.kind == "f" else valid
        return values, usable

    def stack(
        self, pixels: NDArray[Any], valid: NDArray[np.bool_]
    ) -> tuple[Any, NDArray[np.bool_]]:
        """All features (feature, row, col) float64 of one window, and where all are defined."""
        computed = self.values(pixels)
        values = np.empty((len(computed), *valid.shape))
        usable = valid
        for target, value in zip(values, computed, strict=True):
            target[...] = value
            if value.dtype.kind == "f":  # whole numbers are always defined
                usable = usable & np.isfinite(value)
        return values, usable


def find_band(scene: Scene, name: str) -> tuple[int, str | None]:
    """Index of a band by name, common name, wavelength or number, and a warning if assumed.

    Tried in this order: the scene's own names; known names and wavelengths of a common
    name (red, nir, ...); ``b4`` or ``4`` as the fourth; and where no band of a scene tells
    what it is, three bands are taken for red, green, blue and four for these and nir.
    Raises ModelError when nothing fits.
    """
    own = {band.name.lower(): i for i, band in enumerate(scene.bands)}
    lower = name.lower()
    if lower in own:
        return own[lower], None
    for alias in _ALIASES.get(lower, ()):
        if alias in own:
            return own[alias], None
    if lower in _RANGES_UM:
        low, high = _RANGES_UM[lower]
        for i, band in enumerate(scene.bands):
            if band.wavelength_um is not None and low <= band.wavelength_um <= high:
                return i, None
    number = _NUMBER.fullmatch(lower)
    if number:
        padded = f"b{int(number[1]):02d}"
        if lower.startswith("b") and padded in own:
            return own[padded], None
        if 1 <= int(number[1]) <= len(scene.bands):
            return int(number[1]) - 1, None
    assumed = _BY_COUNT.get(len(scene.bands), ())
    if lower in assumed and all(_NUMBER.fullmatch(n) for n in own):
        return assumed.index(lower), (
            f"{scene.name} does not name its bands: taken for {', '.join(assumed)} "
            f"(name them with --bands if not)"
        )
    raise ModelError(f"{scene.name}: no band {name!r} {_advice(scene, lower)}")


def _advice(scene: Scene, wanted: str) -> str:
    """What a scene has, and how to ask for it; every number is that of a band that is there."""
    have = [band.name for band in scene.bands]
    last = len(have)
    own = "b1" if last == 1 else f"b1 to b{last}"
    listed = ", ".join(name if name.isdigit() else f"{i} {name}" for i, name in enumerate(have, 1))
    among = f"among its {last}, {listed}" if last > 1 else f"in its only band, {listed}"
    if wanted not in _RANGES_UM:
        return f"{among}: use its names, or {own}, in the formula"
    place = min([*_BY_COUNT[4], wanted].index(wanted) + 1, last)
    named = ",".join(f"{wanted}={i}" if i == place else str(i) for i in range(1, last + 1))
    return (
        f"{among}: if one of them is {wanted}, say which, such as --bands {named}; else use an "
        f"index without it, or {own} in a formula"
    )
