"""Segmenter: pixels in, labels out. ModelCard: what must be known to run it right.

No torch, no files: classic methods and networks alike stand behind these few names.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from geoseg.errors import ModelError
from geoseg.grid import Block, BlockGrid, Tile
from geoseg.legend import Legend
from geoseg.radiometry import Normalization

if TYPE_CHECKING:
    from geoseg.scene.reader import Scene

__all__ = [
    "ArrayJoin",
    "Arrays",
    "Fittable",
    "HeldTile",
    "InstanceTile",
    "Join",
    "LabelTile",
    "ModelCard",
    "Pinnable",
    "Runtime",
    "Segmenter",
    "SemanticTile",
    "Stats",
    "Streaming",
    "Task",
    "TileResult",
]

Task = Literal["semantic", "instance", "panoptic"]
Arrays = dict[str, NDArray[Any]]
"""Named arrays: what a block keeps (``category_id``, ``score``, ...) or publishes."""


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """All that is needed to run a model right, and to say what it is.

    Attributes:
        name: as in ``--model``.
        task: semantic (stuff), instance (things) or panoptic (both).
        bands: wanted bands in order, by common name or Sentinel-2 name; empty: any.
        legend: the categories it gives.
        gsd_m: finest and coarsest ground sampling distance it was made for; None: any.
        normalization: how digital numbers become the network's input.
        values: what normalization starts from: digital numbers as they are stored, or
            reflectance (1 = 100 %), to which a scene's own scale and offset are applied.
        value_range: of these values: what is plausible; None: any.
        tile_size, halo, divisor: pixels; halo covers what a pixel's label depends on.
        activation_px: bytes of memory that predicting needs per pixel of a batch, measured.
        work_px: bytes per pixel of a block, of features and of what is joined, measured.
        runtimes: ``backend-precision`` pairs measured to keep 99.9 % of fp32's labels; the
            first one that a machine has is chosen.
        parameters: options that change the result (JSON values).
        layers: names of further uint8 layers that each tile gives (levels of 254).
        sha256: of the weights; empty without weights.

    """

    name: str
    task: Task
    legend: Legend
    bands: tuple[str, ...] = ()
    gsd_m: tuple[float, float] | None = None
    normalization: Normalization = field(default_factory=Normalization)
    values: Literal["dn", "reflectance"] = "dn"
    value_range: tuple[float, float] | None = None
    tile_size: int = 512
    halo: int = 0
    divisor: int = 1
    activation_px: int = 2048
    work_px: int = 0
    runtimes: tuple[str, ...] = ("torch-fp32",)
    parameters: Mapping[str, Any] = field(default_factory=dict)
    layers: tuple[str, ...] = ()
    summary: str = ""
    accuracy: str = ""
    training_data: str = ""
    licence: str = ""
    sha256: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        out: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)}
        out["legend"] = self.legend.to_dict()
        out["normalization"] = self.normalization.to_dict()
        out["parameters"] = dict(self.parameters)
        return {k: list(v) if isinstance(v, tuple) else v for k, v in out.items()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ModelCard:
        """From what ``to_dict`` gives; raises ModelError on what it can't read."""
        values: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in data.items()
        }
        unknown = set(values) - {f.name for f in fields(cls)}
        missing = {"name", "task", "legend"} - set(values)
        if unknown or missing:
            raise ModelError(
                f"not a model card: unknown {sorted(unknown)}, missing {sorted(missing)}"
            )
        values["legend"] = Legend.from_dict(data["legend"])
        values["normalization"] = Normalization.from_dict(data.get("normalization", {}))
        return cls(**values)


@dataclass(frozen=True, slots=True)
class SemanticTile:
    """``probs`` (class, row, col) float32, classes in the order of the card's legend."""

    probs: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class LabelTile:
    """``category_id`` (row, col) uint8 and ``score`` (row, col) uint8 levels of 254.

    ``layers`` are those that the card names, (row, col) uint8 each.
    """

    category_id: NDArray[np.uint8]
    score: NDArray[np.uint8]
    layers: Mapping[str, NDArray[np.uint8]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class InstanceTile:
    """Objects of one tile, flattened: ids count from 1 within the tile, 0 = no instance.

    ``instance_id`` (row, col) int32, ``category_id`` (row, col) uint8 (255 where nothing
    was found), ``score`` (row, col) uint8 levels of 254.
    """

    instance_id: NDArray[np.int32]
    category_id: NDArray[np.uint8]
    score: NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class HeldTile:
    """Probabilities that stay on a device, for a join that adds them up there.

    ``levels`` (class, row, col): probabilities as whole numbers, 65535 = 1; a tensor.
    """

    levels: Any


TileResult = SemanticTile | LabelTile | InstanceTile | HeldTile


class Join(Protocol):
    """How tiles become one map where a label depends on more than its own tile.

    Three pure steps. ``collect`` runs once per block, with all its tiles. ``solve`` runs
    once, over the frames of all blocks in raster order, and gives each block its table.
    ``apply`` runs once per block with its own table and the frames around it. The result
    may not depend on how many tiles make a block.
    """

    def collect(
        self, block: Block, results: Sequence[tuple[Tile, TileResult]], valid: NDArray[np.bool_]
    ) -> tuple[Arrays, Arrays]:
        """(what the block keeps, its frame). ``valid`` (row, col) is the block's."""
        ...

    def solve(
        self, frames: Iterable[tuple[Block, Arrays]], grid: BlockGrid
    ) -> Mapping[int, Arrays]:
        """The table of each block, by block number, from all frames in raster order."""
        ...

    def apply(
        self, block: Block, kept: Arrays, table: Arrays, frames: Mapping[tuple[int, int], Arrays]
    ) -> Arrays:
        """Final arrays of the block: ``category_id``, ``score``, and ``instance_id`` for
        things. ``frames`` holds the frames of the block and its up to 8 neighbours by index.
        """
        ...


class ArrayJoin(Protocol):
    """A Join that comes after another: it collects a block's arrays instead of its tiles."""

    def collect(
        self, block: Block, arrays: Arrays, valid: NDArray[np.bool_]
    ) -> tuple[Arrays, Arrays]:
        """(what the block keeps, its frame); ``arrays`` is what the join before gave."""
        ...

    def solve(
        self, frames: Iterable[tuple[Block, Arrays]], grid: BlockGrid
    ) -> Mapping[int, Arrays]:
        """See Join."""
        ...

    def apply(
        self, block: Block, kept: Arrays, table: Arrays, frames: Mapping[tuple[int, int], Arrays]
    ) -> Arrays:
        """See Join."""
        ...


@runtime_checkable
class Segmenter(Protocol):
    """Anything that labels tiles. Picklable; workers load weights once per process."""

    @property
    def card(self) -> ModelCard:
        """What it is and what it needs."""
        ...

    @property
    def join(self) -> Join | None:
        """How its tiles are joined; None: every label depends on its own tile alone."""
        ...

    def predict(self, pixels: NDArray[Any], valid: NDArray[np.bool_]) -> list[TileResult]:
        """Labels of a batch of tiles.

        ``pixels`` (tile, band, row, col) in the scene's dtype, bands as the card wants
        them; ``valid`` (tile, row, col). One result per tile, of the tile's full size.
        """
        ...

    def for_scene(self, scene: Scene) -> tuple[Segmenter, list[str]]:
        """Itself adapted to a scene, and warnings; raises ModelError when it can't fit."""
        ...


@runtime_checkable
class Streaming(Protocol):
    """A segmenter that overlaps copying and computing over a stream of batches."""

    def predict_batches(
        self, batches: Iterable[tuple[NDArray[Any], NDArray[np.bool_]]]
    ) -> Iterator[list[TileResult]]:
        """What ``predict`` gives for each batch, in order."""
        ...


class Stats(Protocol):
    """Statistics of pixels that can be added in any grouping, in block order."""

    def __add__(self, other: Any, /) -> Any: ...


@runtime_checkable
class Fittable(Protocol):
    """A segmenter that must see the whole scene before it can label it."""

    @property
    def card(self) -> ModelCard:
        """What it is and what it needs."""
        ...

    def observe(self, pixels: NDArray[Any], valid: NDArray[np.bool_]) -> Stats:
        """Statistics of one block's own pixels (band, row, col), valid (row, col)."""
        ...

    def fitted(self, stats: Stats) -> Segmenter:
        """The segmenter that these statistics of the whole scene give.

        It may return another Fittable where the method needs a further pass.
        """
        ...

    def for_scene(self, scene: Scene) -> tuple[Fittable, list[str]]:
        """Itself adapted to a scene, and warnings; raises ModelError when it can't fit."""
        ...


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """Where and how a network is asked to run; ``auto`` leaves it to the model's card."""

    device: str = "auto"
    backend: str = "auto"
    precision: str = "auto"
    threads: int | None = None
    batch: int | None = None


@runtime_checkable
class Pinnable(Protocol):
    """A segmenter whose result may depend on device, backend, precision, threads or batch."""

    def pinned(self, runtime: Runtime) -> tuple[Segmenter, Runtime]:
        """Itself on that runtime, and the runtime with every choice made.

        It must work in any process that it is sent to, or raise ModelError there.
        """
        ...
