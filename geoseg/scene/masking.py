"""What a mask can be: a quality band, a raster, polygons, another model's classes."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from geoseg.errors import InputError, SceneError
from geoseg.grid import Window
from geoseg.scene.masked import MaskSource
from geoseg.scene.reader import Reader, Scene

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

    from geoseg.scene.region import Region

__all__ = [
    "ArrayMask",
    "BandMask",
    "LabelMask",
    "RegionMask",
    "open_mask",
]

BoolArray = NDArray[np.bool_]

SCL_CLASSES = {"defective": (0, 1), "shadow": (3,), "cloud": (8, 9, 10)}
"""Sentinel-2 scene classification: no data and saturated; cloud shadow; clouds of medium and
high probability and thin cirrus (Sentinel-2 Products Specification Document, SCL)."""

QA_PIXEL_BITS = {"defective": (0,), "cloud": (1, 2, 3), "shadow": (4,)}
"""Landsat Collection 2 QA_PIXEL bits: fill; dilated cloud, cirrus, cloud; cloud shadow
(Landsat 8-9 Collection 2 Level 2 Science Product Guide)."""

_SCL_NAMES = ("scl",)
_QA_NAMES = ("qa_pixel", "pixel_qa", "qa")


@dataclass(frozen=True, slots=True)
class BandMask:
    """A quality band: class values (``classes``) or bits (``bits``) by reason."""

    reader: Reader
    band: int
    name: str
    classes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    bits: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    def reasons(self, window: Window) -> Mapping[str, BoolArray]:
        """Per reason, (row, col); raises BlockError."""
        pixels, _ = self.reader.read(window, (self.band,))
        values = pixels[0]
        out: dict[str, BoolArray] = {k: np.isin(values, v) for k, v in self.classes.items()}
        for reason, bits in self.bits.items():
            flags = sum(1 << bit for bit in bits)
            out[reason] = (values.astype(np.int64) & flags) != 0
        return out

    def fingerprint(self) -> Mapping[str, Any]:
        """The band, its source and what is left out."""
        what = {k: list(v) for k, v in (*self.classes.items(), *self.bits.items())}
        return {"source": dict(self.reader.fingerprint()), "band": self.name, "out": what}


@dataclass(frozen=True, slots=True)
class RegionMask:
    """Polygons that are to be left out."""

    region: Region
    geobox: GeoBox
    name: str

    def reasons(self, window: Window) -> Mapping[str, BoolArray]:
        """Per reason, (row, col): pixels whose centre is in a polygon."""
        return {"masked": self.region.mask(window, self.geobox)}

    def fingerprint(self) -> Mapping[str, Any]:
        """The polygons."""
        return {"name": self.name, "sha256": sha256(self.region.geometry.wkb).hexdigest()}


@dataclass(frozen=True, slots=True)
class LabelMask:
    """Another scene's first band on the same grid: valid pixels with these values are out.

    ``values`` None: every value but 0.
    """

    reader: Reader
    name: str
    values: tuple[int, ...] | None = None
    reason: str = "masked"

    def reasons(self, window: Window) -> Mapping[str, BoolArray]:
        """Per reason, (row, col); raises BlockError."""
        pixels, valid = self.reader.read(window, (0,))
        hit = pixels[0] != 0 if self.values is None else np.isin(pixels[0], self.values)
        return {self.reason: hit & valid}

    def fingerprint(self) -> Mapping[str, Any]:
        """The raster and the values."""
        return {"source": dict(self.reader.fingerprint()), "values": list(self.values or ())}


class Labels(Protocol):
    """Category ids on a grid: a numpy array, or a map that is cut like one."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __getitem__(self, index: tuple[slice, slice], /) -> Any: ...


@dataclass(frozen=True, slots=True)
class ArrayMask:
    """Category ids (row, col) on the scene's grid, such as another model's map of it.

    ``categories``: name to id of the classes that are to be left out.
    """

    labels: Labels
    name: str
    categories: Mapping[str, int]

    def reasons(self, window: Window) -> Mapping[str, BoolArray]:
        """Per category name, (row, col)."""
        values = np.asarray(self.labels[window.slices])
        return {name: values == category for name, category in self.categories.items()}

    def fingerprint(self) -> Mapping[str, Any]:
        """Its name and classes; the labels are taken as they are."""
        return {"name": self.name, "categories": dict(self.categories)}


def open_mask(scene: Scene, mask: str | Path | Collection[str]) -> list[MaskSource]:
    """What ``--mask`` names, on the scene's grid.

    The name of a band that says what its pixels are (SCL, QA_PIXEL); a raster file, whose
    valid pixels other than 0 are left out; or a vector file of polygons. Several in a list.
    Raises SceneError when it is none of these.
    """
    if not isinstance(mask, (str, Path)):
        return [source for one in mask for source in open_mask(scene, one)]
    band = _quality_band(scene, str(mask))
    if band is not None:
        return [band]
    path = Path(mask)
    if _is_quality(path.name) and not path.exists():
        raise SceneError(
            f"{scene.name}: no band {path.name!r} to mask with: it has {_names(scene)}"
        )
    from geoseg.scene.formats import sniff

    try:
        head = path.open("rb").read(512)
    except OSError as error:
        raise SceneError(
            f"mask {mask}: neither a file that can be read nor SCL or QA_PIXEL: {error.strerror}"
        ) from error
    if sniff(head) is None:
        return [_region_mask(scene, path)]
    return [_raster_mask(scene, path)]


def _quality_band(scene: Scene, name: str) -> MaskSource | None:
    if not _is_quality(name):
        return None
    for source in (scene.quality, scene):
        for number, band in enumerate(source.bands if source else ()):
            if source is None or band.name.lower() != name.lower():
                continue
            if name.lower() in _SCL_NAMES:
                return BandMask(source.reader, number, band.name, classes=SCL_CLASSES)
            return BandMask(source.reader, number, band.name, bits=QA_PIXEL_BITS)
    return None


def _is_quality(name: str) -> bool:
    return name.lower() in (*_SCL_NAMES, *_QA_NAMES)


def _names(scene: Scene) -> str:
    return ", ".join(band.name for band in scene.bands)


def _region_mask(scene: Scene, path: Path) -> MaskSource:
    from geoseg.scene.region import Region

    try:
        region = Region.open(path)
        region.window(scene.geobox)
    except InputError as error:
        raise SceneError(f"mask {error}") from error
    return RegionMask(region, scene.geobox, path.name)


def _raster_mask(scene: Scene, path: Path) -> MaskSource:
    from geoseg.scene.geotiff import open_file
    from geoseg.scene.regrid import on_grid

    mask = open_file(path)
    if mask.dtype.startswith("float"):
        raise SceneError(f"mask {path}: {mask.dtype} values: give integers, 0 where pixels stay")
    here, there = scene.geobox, mask.geobox
    placed = here.crs is not None and there.crs is not None
    if placed and not there.footprint(here.crs).intersects(here.extent):
        raise SceneError(
            f"mask {path}: lies beside {scene.name}, nothing would be masked: "
            "give a raster of this place"
        )
    return LabelMask(on_grid(mask, scene.geobox, method="nearest").reader, path.name)
