"""Small segments and holes of any raster of labels, gone before polygons are made of it.

::

    source --bands--> blocks --collect--> temporary file --solve--> tables --apply--> labels

The rule is ``stitch.sieve``'s, which maps are made with too. What lies between two steps is
kept, compressed, in a temporary file without a name: nothing is left behind however the
process ends. In memory there is a band of the raster, a block and, per block, a table of the
segments at its border.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from affine import Affine
from numpy.typing import NDArray

from geoseg.errors import InputError, OutputError
from geoseg.grid import Block, BlockGrid, TileGrid, Window

if TYPE_CHECKING:
    from geoseg.models.segmenter import Arrays
    from geoseg.stitch.sieve import SieveJoin
    from geoseg.vectorize.strips import LabelSource

__all__ = ["SievedLabels", "Sieving", "pixel_area"]

_BAND_BYTES = 32 << 20
_BLOCK = (512, 2048)
_LOWEST = 64
"""Rows of the bands of wide rasters."""
_ALL_PX = 1 << 62


@dataclass(frozen=True, kw_only=True)
class Sieving:
    """What becomes of small segments: 4-connected regions of one label.

    Attributes:
        min_area_m2: segments below it are merged into the neighbour with the longest border,
            smallest first.
        fill_holes_m2: holes below it go to the segment around them: segments that have one
            neighbour, and touch neither nodata nor the raster's edge. Before ``min_area_m2``.
        drop_small: segments below ``min_area_m2`` become nodata instead.

    """

    min_area_m2: float = 0.0
    fill_holes_m2: float = 0.0
    drop_small: bool = False

    def __post_init__(self) -> None:
        for area in (self.min_area_m2, self.fill_holes_m2):
            if not 0 <= area < math.inf:
                raise InputError(f"area {area} m2: use 0 or more")
        if self.drop_small and self.min_area_m2 == 0:
            raise InputError("small segments can't be dropped: say which are, with --min-area")

    def __bool__(self) -> bool:
        return self.steps > 0

    @property
    def steps(self) -> int:
        """How often the raster is gone through."""
        return (self.min_area_m2 > 0) + (self.fill_holes_m2 > 0)

    def joins(self, pixel_m2: float) -> tuple[SieveJoin, ...]:
        """The steps in order, for pixels of ``pixel_m2``."""
        from geoseg.stitch.sieve import SieveJoin

        def least(area_m2: float) -> int:
            # more than any raster has, and still a number of 64 bits
            return min(max(math.ceil(area_m2 / pixel_m2), 1), _ALL_PX)

        steps = []
        if self.fill_holes_m2 > 0:
            steps.append(SieveJoin(least(self.fill_holes_m2), "enclosing"))
        if self.min_area_m2 > 0:
            to: Literal["nodata", "neighbour"] = "nodata" if self.drop_small else "neighbour"
            steps.append(SieveJoin(least(self.min_area_m2), to))
        return tuple(steps)


def pixel_area(transform: Affine, crs_wkt: str | None, shape: tuple[int, int]) -> float:
    """Square metres of the pixel at a grid's centre; units of the transform without a CRS."""
    if crs_wkt is None:
        return float(abs(transform.determinant))
    from odc.geo.geobox import GeoBox

    from geoseg.scene.geodesy import pixel_size_m

    size = pixel_size_m(GeoBox(shape, transform, crs_wkt))
    if size is None:
        raise InputError("the raster's centre lies nowhere on the earth: check its CRS")
    return size[0] * size[1]


class _Pages:
    """Named arrays in a temporary file that has no name."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(prefix="geoseg-")  # noqa: SIM115
        self._pages: dict[tuple[str, int], tuple[int, int]] = {}
        self._end = 0

    def put(self, kind: str, number: int, arrays: Arrays) -> None:
        from geoseg.engine.store import pack

        data = pack(arrays)
        try:
            self._file.seek(self._end)
            self._file.write(data)
            self._file.flush()
        except OSError as error:
            raise OutputError(
                f"{tempfile.gettempdir()}: can't keep the raster while it is sieved ({error}): "
                "set TMPDIR to a folder with more room"
            ) from error
        self._pages[kind, number] = (self._end, len(data))
        self._end += len(data)

    def get(self, kind: str, number: int) -> Arrays:
        from geoseg.engine.store import unpack

        start, size = self._pages[kind, number]
        self._file.seek(start)
        return unpack(self._file.read(size))

    def close(self) -> None:
        self._file.close()


@dataclass(frozen=True)
class _Grid:
    """Blocks of rows and cols ``size`` over a raster."""

    shape: tuple[int, int]
    size: tuple[int, int]

    def row(self, index: int) -> list[Block]:
        """Blocks of one row, from left to right."""
        height, width = self.size
        per_row = -(-self.shape[1] // width)
        rows = min(height, self.shape[0] - index * height)
        return [
            Block(
                (index, i),
                index * per_row + i,
                Window(index * height, i * width, rows, min(width, self.shape[1] - i * width)),
                (),
            )
            for i in range(per_row)
        ]

    def __iter__(self) -> Iterator[Block]:
        for index in range(-(-self.shape[0] // self.size[0])):
            yield from self.row(index)

    def within(self, window: Window) -> Iterator[Block]:
        """Blocks that share pixels with a window."""
        for index in range(window.row_off // self.size[0], -(-window.row_end // self.size[0])):
            yield from (b for b in self.row(index) if (b.window & window).pixels)


@dataclass(frozen=True)
class _Step:
    """A raster after one step of the sieve: what the step kept, and what it found to do."""

    join: SieveJoin
    pages: _Pages
    tables: Mapping[int, Arrays]

    def arrays(self, block: Block) -> Arrays:
        """A block of the raster."""
        kept = self.pages.get("kept", block.number)
        return self.join.apply(block, kept, self.tables[block.number], {})

    def blocks(self, grid: _Grid) -> Iterator[tuple[Block, Arrays]]:
        """All of them, one after the other."""
        return ((block, self.arrays(block)) for block in grid)


@dataclass(frozen=True)
class SievedLabels:
    """A raster of labels without what is small: a LabelSource.

    Attributes:
        source: as it was.

    """

    source: LabelSource
    _grid: _Grid
    _last: _Step

    @classmethod
    def of(
        cls,
        source: LabelSource,
        joins: Sequence[SieveJoin],
        *,
        nodata: int | None = None,
        block: tuple[int, int] = _BLOCK,
        on_pixels: Callable[[int], None] | None = None,
    ) -> LabelSource:
        """Sieve a raster, which is read once, from top to bottom.

        Args:
            source: labels of any integer type.
            joins: the steps.
            nodata: label that is nodata, besides those that are masked.
            block: rows and cols that are sieved at once, fewer rows where the raster is wide;
                it changes memory, not the result.
            on_pixels: told how many more pixels a step is done with.

        Raises OutputError where there is no room for the temporary file.

        """
        rows, cols = source.shape
        if not joins or not rows or not cols:
            return source
        height = max(_LOWEST, _BAND_BYTES // (cols * source.dtype.itemsize))
        grid = _Grid((rows, cols), (min(block[0], height), block[1]))
        step = _stepped(joins[0], grid, _read(source, grid, nodata), on_pixels)
        for join in joins[1:]:
            before = step
            step = _stepped(join, grid, before.blocks(grid), on_pixels)
            before.pages.close()
        return cls(source, grid, step)

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, cols)."""
        return self.source.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the labels."""
        return self.source.dtype

    def read(self, window: Window) -> tuple[NDArray[Any], NDArray[np.uint8] | None]:
        """See LabelSource."""
        out: Arrays = {}
        for block in self._grid.within(window):
            shared = block.window & window
            for name, array in self._last.arrays(block).items():
                target = out.setdefault(name, np.empty(window.shape, array.dtype))
                source = array[shared.relative_to(block.window).slices]
                target[shared.relative_to(window).slices] = source
        labels, valid = out["label"], out["valid"]
        labels = labels if valid.all() else np.ma.MaskedArray(labels, ~valid)
        return labels, out.get("score")


def _read(source: LabelSource, grid: _Grid, nodata: int | None) -> Iterator[tuple[Block, Arrays]]:
    """A raster block by block, read in bands over its width."""
    rows, cols = grid.shape
    for index in range(-(-rows // grid.size[0])):
        blocks = grid.row(index)
        band = Window(blocks[0].window.row_off, 0, blocks[0].window.height, cols)
        labels, score = source.read(band)
        plain = np.ma.getdata(labels)
        for block in blocks:
            at = block.window.relative_to(band).slices
            valid = np.ones(block.window.shape, bool)
            if np.ma.isMaskedArray(labels):
                valid &= ~np.ma.getmaskarray(labels[at])
            if nodata is not None:
                valid &= plain[at] != nodata
            arrays = {"label": plain[at], "valid": valid}
            yield block, arrays if score is None else arrays | {"score": score[at]}


def _stepped(
    join: SieveJoin,
    grid: _Grid,
    blocks: Iterator[tuple[Block, Arrays]],
    on_pixels: Callable[[int], None] | None,
) -> _Step:
    """One step over a whole raster."""
    pages = _Pages()
    for block, arrays in blocks:
        kept, frame = join.collect(block, arrays, arrays["valid"])
        pages.put("kept", block.number, kept)
        pages.put("frame", block.number, frame)
        if on_pixels is not None:
            on_pixels(block.window.pixels)
    frames = ((block, pages.get("frame", block.number)) for block in grid)
    whole = BlockGrid(TileGrid(grid.shape, max(grid.shape)), 1)
    return _Step(join, pages, join.solve(frames, whole))
