"""Runs a classic method over blocks of an array, as the engine does: serial, no files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoseg.grid import BlockGrid, TileGrid, Window
from geoseg.models.classic import parse
from geoseg.models.segmenter import Fittable, Segmenter
from geoseg.scene.reader import Band, Scene


@dataclass(frozen=True)
class ArrayReader:
    """A reader of arrays in memory."""

    pixels: NDArray[Any]
    valid: NDArray[np.bool_]

    def read(self, window: Window, bands: Sequence[int]) -> tuple[NDArray[Any], Any]:
        rows, cols = window.slices
        return self.pixels[list(bands), rows, cols], self.valid[rows, cols]

    def fingerprint(self) -> Mapping[str, Any]:
        return {}


@dataclass(frozen=True)
class Grid:
    """As much of a GeoBox as these methods look at."""

    shape: tuple[int, int]
    crs: None = None


def array_scene(
    pixels: NDArray[Any],
    valid: NDArray[np.bool_] | None = None,
    names: Sequence[str] | None = None,
) -> Scene:
    valid = np.ones(pixels.shape[1:], bool) if valid is None else valid
    names = names or [str(i + 1) for i in range(len(pixels))]
    return Scene(
        name="array",
        geobox=Grid(pixels.shape[1:]),  # type: ignore[arg-type]
        bands=tuple(Band(n) for n in names),
        dtype=pixels.dtype.name,
        nodata=None,
        reader=ArrayReader(pixels, valid),
    )


def fit(model: Fittable | Segmenter, scene: Scene, blocks: BlockGrid) -> Any:
    bands = scene.band_indices(model.card.bands)
    while isinstance(model, Fittable) and not isinstance(model, Segmenter):
        total: Any = None
        for block in blocks:
            stats = model.observe(*scene.read(block.window, bands))
            total = stats if total is None else total + stats
        model = model.fitted(total)
    return model


def run_model(
    model: Any, scene: Scene, tile: int | None = None, side: int = 2
) -> dict[str, NDArray[Any]]:
    """The map: ``tile`` is the core's size (None: the whole scene as one tile)."""
    model, _ = model.for_scene(scene)
    card = model.card
    core = tile or -(-max(scene.shape) // card.divisor) * card.divisor
    blocks = BlockGrid(TileGrid(scene.shape, core + 2 * card.halo, card.halo, card.divisor), side)
    model = fit(model, scene, blocks)
    bands = scene.band_indices(card.bands)
    out: dict[str, NDArray[Any]] = {}
    kept, frames = {}, {}
    for block in blocks:
        valid = scene.read(block.window, bands)[1]
        results = []
        for piece in block.tiles:
            if scene.read(piece.core, bands)[1].any():
                pixels, piece_valid = scene.read(piece.read, bands)
                results.append((piece, model.predict(pixels[None], piece_valid[None])[0]))
        if model.join is None:
            arrays = {"category_id": np.full(block.window.shape, 255, np.uint8)}
            for piece, result in results:
                source = piece.core.relative_to(piece.read).slices
                target = piece.core.relative_to(block.window).slices
                arrays["category_id"][target] = result.category_id[source]
            arrays["category_id"][~valid] = 255
            _paste(out, arrays, block.window, scene.shape)
        else:
            kept[block.index], frames[block.index] = model.join.collect(block, results, valid)
    if model.join is not None:
        tables = model.join.solve(((b, frames[b.index]) for b in blocks), blocks)
        for block in blocks:
            near = {i: f for i, f in frames.items() if _near(i, block.index)}
            arrays = model.join.apply(block, kept[block.index], tables[block.number], near)
            _paste(out, arrays, block.window, scene.shape)
    return out


def run(spec: str, scene: Scene, tile: int | None = None, side: int = 2) -> dict[str, NDArray[Any]]:
    return run_model(parse(spec), scene, tile, side)


def fitted(spec: str, scene: Scene, tile: int = 100, side: int = 1) -> Any:
    model, _ = parse(spec).for_scene(scene)
    return fit(model, scene, BlockGrid(TileGrid(scene.shape, tile), side))


def _near(a: tuple[int, int], b: tuple[int, int]) -> bool:
    return abs(a[0] - b[0]) <= 1 and abs(a[1] - b[1]) <= 1


def _paste(
    out: dict[str, NDArray[Any]], arrays: Mapping[str, NDArray[Any]], window: Window, shape: Any
) -> None:
    for name, array in arrays.items():
        out.setdefault(name, np.zeros(shape, array.dtype))[window.slices] = array
