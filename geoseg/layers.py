"""Layers of a map as files: probabilities in one of many bands, score, margin, entropy."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoseg.engine.segmentmap import SegmentMap
from geoseg.errors import InputError
from geoseg.grid import Window

__all__ = ["PROBS", "is_layer_name", "layer_in_name", "layers_of", "write_layer"]

PROBS = "probs"
"""All probabilities as one layer: a band per class."""

_KNOWN = ("score", PROBS, "confidence", "margin", "entropy")


def layers_of(given: SegmentMap) -> dict[str, tuple[str, ...]]:
    """What can be written: name of a layer to the arrays of the map that it is made of."""
    by_class = {f"prob_{c.name}": f"prob_{c.id}" for c in given.legend}
    by_class = {name: array for name, array in by_class.items() if array in given.layers}
    others = [name for name in given.layers if not name.startswith("prob_")]
    found: dict[str, tuple[str, ...]] = {name: (name,) for name in ("score", *others)}
    if len(by_class) == len(given.legend):
        found[PROBS] = tuple(by_class.values())
    return found | {name: (array,) for name, array in by_class.items()}


def layer_in_name(path: str | Path, given: SegmentMap) -> str | None:
    """``entropy`` of ``map.entropy.tif`` where the map has that layer; None otherwise."""
    inner = Path(Path(path).stem).suffix.removeprefix(".")
    return inner if inner in layers_of(given) else None


def is_layer_name(path: str | Path) -> bool:
    """The same where there is no map yet, by the layers that any may have."""
    inner = Path(Path(path).stem).suffix.removeprefix(".")
    return inner in _KNOWN or inner.startswith("prob_")


def write_layer(
    given: SegmentMap,
    name: str,
    path: str | Path,
    provenance: Mapping[str, str],
    *,
    overwrite: bool = False,
) -> None:
    """A layer as a Cloud Optimized GeoTIFF: uint8 levels of 254 that read as 0 to 1.

    Bands are described by the layer's name, those of ``probs`` by the classes' names. Raises
    InputError where the map has no such layer, OutputError where the file can't be written.
    """
    from geoseg.export.raster import RasterOptions, write_raster

    have = layers_of(given)
    if name not in have:
        raise InputError(f"{given.url}: no layer {name!r}: it has {', '.join(have)}")
    arrays = have[name]
    bands = tuple(c.name for c in given.legend) if name == PROBS else (name,)

    def read(window: Window) -> NDArray[Any]:
        found = given.read(window, arrays)
        return np.stack([found[array] for array in arrays])

    write_raster(
        read,
        path,
        geobox=given.geobox,
        provenance=dict(provenance) | {"layer": name},
        overwrite=overwrite,
        options=RasterOptions(kind="score", bands=bands),
    )
