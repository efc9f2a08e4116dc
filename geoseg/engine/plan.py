"""Plan: everything that is decided before a pixel is predicted, and can be printed.

Planning is pure arithmetic on a scene's grid and a model's card. Blocks are not listed: a
plan for a scene of a million by a million pixels costs no more than one for a chip.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from geoseg.errors import InputError
from geoseg.grid import Block, BlockGrid, TileGrid, Window

if TYPE_CHECKING:
    from geoseg.models.segmenter import ModelCard
    from geoseg.scene.reader import Scene

__all__ = ["Pins", "Plan", "PlanRequest", "make_plan", "passes_that_fit"]

BASE_BYTES = 1200 << 20
"""Resident size of a process with torch, GDAL, Dask and a small network loaded."""

PLAIN_BYTES = 400 << 20
"""Of one without torch, for methods that need none."""

BLOCK_PX = 2048
"""Wanted side of a block: large enough that reading, writing and scheduling are cheap."""

CHUNK_PX = 512
"""Wanted side of an inner chunk of the store."""

SLOTS = 3
"""Blocks in one process at once: one is read, one predicted, one written."""


@dataclass(frozen=True, kw_only=True)
class Pins:
    """What could change a bit of the result, fixed for the whole job.

    A worker that can't honour them refuses; a resume with others is refused.
    """

    device: str = "cpu"
    backend: str = "torch"
    precision: str = "fp32"
    threads: int = 1
    batch: int = 4


@dataclass(frozen=True, kw_only=True)
class PlanRequest:
    """What a person may ask of a plan; None leaves the choice to it.

    ``memory`` is the bytes that each process may use. ``region`` is the window to map. ``passes``
    are forward passes side by side in a process.
    """

    tile_size: int | None = None
    halo: int | None = None
    batch: int | None = None
    block_tiles: int | None = None
    memory: int | None = None
    region: Window | None = None
    pins: Pins = field(default_factory=Pins)
    passes: int = 1


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Tiles, blocks, bytes and pins of one job.

    Attributes:
        scene, model: names, for people.
        shape: (rows, cols) of the scene.
        region: the window that is mapped; the whole scene by default.
        bands: indices of the bands that are read.
        itemsize: bytes of one value of one band.
        tile_size, halo, divisor, block_tiles: the tile grid and the tiles of a block's side.
        pins: what is fixed because it could change a bit.
        memory: bytes that a process may use.
        activation_px: bytes that the model needs per pixel of a batch.
        work_px: bytes that it needs per pixel of a block, besides pixels and map.
        passes: forward passes side by side in a process, each with the pinned threads; their
            number changes no bit.

    """

    scene: str
    model: str
    shape: tuple[int, int]
    region: Window
    bands: tuple[int, ...]
    itemsize: int
    tile_size: int
    halo: int
    divisor: int
    block_tiles: int
    pins: Pins
    memory: int
    activation_px: int
    work_px: int = 0
    passes: int = 1

    @property
    def tiles(self) -> TileGrid:
        """The tile grid, anchored at the scene's origin."""
        return TileGrid(self.shape, self.tile_size, self.halo, self.divisor)

    @property
    def blocks(self) -> BlockGrid:
        """The block grid over the whole scene."""
        return BlockGrid(self.tiles, self.block_tiles)

    @property
    def block_range(self) -> tuple[range, range]:
        """Block rows and block columns that the region meets."""
        size = self.blocks.size
        rows = range(self.region.row_off // size, -(-self.region.row_end // size))
        cols = range(self.region.col_off // size, -(-self.region.col_end // size))
        return rows, cols

    def iter_blocks(self) -> Iterator[Block]:
        """Blocks of the region in raster order."""
        rows, cols = self.block_range
        grid = self.blocks
        return (grid.block(row, col) for row in rows for col in cols)

    @property
    def block_count(self) -> int:
        """Number of blocks that the region meets."""
        rows, cols = self.block_range
        return len(rows) * len(cols)

    @property
    def tile_count(self) -> int:
        """Number of tiles in those blocks."""
        rows, cols = self.block_range
        tile_rows, tile_cols = self.tiles.counts
        side = self.block_tiles
        high = min(rows.stop * side, tile_rows) - rows.start * side
        wide = min(cols.stop * side, tile_cols) - cols.start * side
        return high * wide

    @property
    def chunk(self) -> int:
        """Side of an inner chunk: the whole number of strides nearest 512 px."""
        return _chunk_tiles(self.tiles.stride, self.block_tiles) * self.tiles.stride

    @property
    def read_bytes(self) -> int:
        """Bytes of pixels that will be read, halos included."""
        side = self.blocks.size + 2 * self.halo
        return self.block_count * side * side * self.itemsize * len(self.bands)

    @property
    def projected_bytes(self) -> int:
        """Peak memory of one process that works on this plan."""
        side = self.blocks.size + 2 * self.halo
        return self.fixed_bytes + SLOTS * side * side * self.block_px_bytes

    @property
    def fixed_bytes(self) -> int:
        """What a process needs whatever the size of its blocks: itself and a batch per pass."""
        base = PLAIN_BYTES if self.pins.backend == "numpy" else BASE_BYTES
        batch_px = self.passes * self.pins.batch * self.tile_size**2
        return base + batch_px * (self.activation_px + 2 * self.band_bytes)

    @property
    def band_bytes(self) -> int:
        """Bytes of one pixel that is read."""
        return self.itemsize * len(self.bands)

    @property
    def block_px_bytes(self) -> int:
        """Bytes per pixel of a block: pixels, validity, three maps and the method's work."""
        return self.band_bytes + 1 + 8 + self.work_px

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, with what follows from them."""
        out = asdict(self)
        out["region"] = asdict(self.region)
        return out | {
            "tiles": self.tile_count,
            "blocks": self.block_count,
            "block_px": self.blocks.size,
            "read_bytes": self.read_bytes,
            "projected_bytes": self.projected_bytes,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Plan:
        """From what ``to_dict`` gives."""
        derived = {"tiles", "blocks", "block_px", "read_bytes", "projected_bytes"}
        values = {key: value for key, value in data.items() if key not in derived}
        values |= {
            "shape": tuple(values["shape"]),
            "bands": tuple(values["bands"]),
            "region": Window(**values["region"]),
            "pins": Pins(**values["pins"]),
        }
        return cls(**values)

    def __str__(self) -> str:
        rows, cols = self.region.shape
        pins = self.pins
        return "\n".join(
            [
                f"scene    {self.scene}: {rows} x {cols} px, {len(self.bands)} bands",
                f"model    {self.model}",
                f"tiles    {self.tile_count:,} of {self.tile_size} px, halo {self.halo} px",
                f"blocks   {self.block_count:,} of {self.blocks.size} px",
                f"reads    {_size(self.read_bytes)}",
                f"memory   {_size(self.projected_bytes)} projected of "
                f"{_size(self.memory)} for each process",
                f"pinned   {pins.device}, {pins.backend}, {pins.precision}, "
                f"{pins.threads} threads, batches of {pins.batch}",
                f"passes   {self.passes} side by side in each process",
            ]
        )

    def _repr_html_(self) -> str:
        from html import escape

        rows = [line.split(maxsplit=1) for line in str(self).splitlines()]
        cells = "".join(f"<tr><th>{k}</th><td>{escape(v)}</td></tr>" for k, v in rows)
        return f"<table>{cells}</table>"


def passes_that_fit(
    card: ModelCard, cores: int, tile_size: int | None, batch: int, memory: int | None
) -> int:
    """Forward passes of one thread each that a process with so many cores runs side by side.

    No more than half the memory holds beside the process itself, so that blocks have the rest.
    """
    spare = (memory or _default_memory()) - BASE_BYTES
    each = batch * (tile_size or card.tile_size) ** 2 * max(card.activation_px, 1)
    return min(max(spare // 2 // each, 1), cores)


def _default_memory() -> int:
    """Half of the machine's."""
    import psutil

    return int(psutil.virtual_memory().total // 2)


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if count < 1000 or unit == "TB":
            break
        count /= 1000
    return f"{count:.3g} {unit}"


def _chunk_tiles(stride: int, block_tiles: int) -> int:
    """Tiles along an inner chunk: nearest to 512 px among the divisors of a block."""
    divisors = [k for k in range(1, block_tiles + 1) if block_tiles % k == 0]
    return min(divisors, key=lambda k: (abs(k * stride - CHUNK_PX), k))


def make_plan(
    scene: Scene, card: ModelCard, bands: tuple[int, ...], request: PlanRequest | None = None
) -> Plan:
    """The plan of a job.

    Raises InputError where tile size and halo don't fit the model, or where not even a
    block of one tile fits the memory given.
    """
    request = request or PlanRequest()
    batch = request.batch or request.pins.batch
    plan = Plan(
        scene=scene.name,
        model=card.name,
        shape=scene.shape,
        region=request.region or scene.window,
        bands=bands,
        itemsize=np.dtype(scene.dtype).itemsize,
        tile_size=request.tile_size or card.tile_size,
        halo=card.halo if request.halo is None else request.halo,
        divisor=card.divisor,
        block_tiles=1,
        pins=replace(request.pins, batch=batch),
        memory=request.memory or _default_memory(),
        activation_px=card.activation_px,
        work_px=card.work_px,
        passes=request.passes,
    )
    block_tiles = request.block_tiles or _block_tiles(plan)
    plan = replace(plan, block_tiles=block_tiles)
    if plan.projected_bytes > plan.memory:
        raise InputError(
            f"{plan.model} with tiles of {plan.tile_size} px in batches of {batch} needs "
            f"{_size(plan.projected_bytes)} of memory, {_size(plan.memory)} were given: "
            "raise --memory or lower --batch or --tile-size"
        )
    return plan


def _block_tiles(plan: Plan) -> int:
    """Tiles along a block: near 2048 px, less where memory or the scene is small."""
    stride = plan.tiles.stride
    spare = max(plan.memory - plan.fixed_bytes, 0)
    side = math.isqrt(spare // (SLOTS * plan.block_px_bytes)) - 2 * plan.halo
    # a scene of few tiles is still cut into some blocks, so that stages overlap
    whole = max(plan.region.shape)
    side = min(side, BLOCK_PX, max(whole // 2, CHUNK_PX))
    tiles = max(side // stride, 1)
    per_chunk = max(round(CHUNK_PX / stride), 1)
    return tiles - tiles % per_chunk if tiles >= per_chunk else tiles
