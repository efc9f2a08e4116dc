"""Rasters as strips of tiles: any integer type, nodata by value or by mask, edges outside."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from geoseg.errors import InputError
from geoseg.grid import Window
from geoseg.vectorize.merge import Tile

__all__ = [
    "ArraySource",
    "BlockLabels",
    "LabelSource",
    "LeftOut",
    "Strip",
    "cut_tiles",
    "nodata_label",
    "strips_of",
]

_UNSIGNED = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}
_NODATA_64, _OUTSIDE_64 = 0x9D5C_3A71_E0B2_4F68, 0x9D5C_3A71_E0B2_4F69
_BAND_PIXELS = 3 << 20
_BAND_ROWS = 512
"""Reads span the raster's width: files hold tiles of so many rows as a rule, fewer are read where
that is more than so many pixels, and never less than a strip. A row of a file's tiles is then read
several times: GDAL and ``MapSource`` keep it meanwhile."""


@dataclass(frozen=True)
class LeftOut:
    """What gets no polygon.

    Attributes:
        values: of nodata.
        trace: trace regions of nodata too, under ``nodata_label``.

    """

    values: tuple[int, ...] = ()
    trace: bool = False

    def within(self, dtype: np.dtype[Any]) -> LeftOut:
        """With those values that the type can hold: others leave nothing out."""
        low, high = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
        return LeftOut(tuple(int(v) for v in self.values if low <= v <= high), self.trace)


@runtime_checkable
class LabelSource(Protocol):
    """A raster of labels that is read in windows.

    Attributes:
        shape: (rows, cols).
        dtype: of the labels, any integer type.

    """

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, cols)."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the labels."""

    def read(self, window: Window) -> tuple[NDArray[Any], NDArray[np.uint8] | None]:
        """Labels (row, col), masked where there are none, and score levels (255 = none) or None.

        Windows span the width and come from top to bottom.
        """


@dataclass(frozen=True)
class ArraySource:
    """Labels in memory; ``labels`` may be a masked array."""

    labels: NDArray[Any]
    score: NDArray[np.uint8] | None = None

    def __post_init__(self) -> None:
        if self.labels.ndim != 2 or self.labels.dtype.kind not in "iub":
            raise InputError(
                f"an array of {self.labels.dtype} with {self.labels.ndim} dimensions can't be "
                "polygonized: give integers (row, col)"
            )

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, cols)."""
        return int(self.labels.shape[0]), int(self.labels.shape[1])

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the labels."""
        return self.labels.dtype

    def read(self, window: Window) -> tuple[NDArray[Any], NDArray[np.uint8] | None]:
        """Views of both."""
        score = None if self.score is None else self.score[window.slices]
        return self.labels[window.slices], score


@dataclass(frozen=True)
class Strip:
    """Rows of lattice vertices over the width of a raster or block.

    Attributes:
        window: of the lattice, which is one row and one column larger than the raster.
        pixels: unsigned (h + 1, w + 1): one row above and one column left of the window more,
            nodata beyond the raster.
        nodata: value of pixels that belong to no region, outside included.
        score: (h, w) or None.

    """

    window: Window
    pixels: NDArray[Any]
    nodata: int
    score: NDArray[np.uint8] | None


def _free_value(bits: NDArray[Any]) -> int | None:
    """A value that no pixel has."""
    top = np.iinfo(bits.dtype).max
    low, high = int(bits.min()), int(bits.max())
    if high < top:
        return high + 1
    if low > 0:
        return low - 1
    if bits.dtype.itemsize < 8:
        return None
    values = np.unique(bits)
    return int(values[int(np.argmax(np.diff(values) > 1))]) + 1


def nodata_label(dtype: np.dtype[Any]) -> int:
    """Label of regions of nodata where they are traced too: no pixel has it."""
    return 1 << (8 * dtype.itemsize) if dtype.itemsize < 8 else _NODATA_64


def _marks(bits: NDArray[Any], left_out: list[int], trace_nodata: bool) -> tuple[Any, int, int]:
    """Type to hold the labels, value outside the raster, value of nodata inside it."""
    if not trace_nodata:
        outside = left_out[0] if left_out else _free_value(bits)
        if outside is not None:
            return bits.dtype, outside, outside
    elif bits.dtype.itemsize == 8:
        if np.isin(bits, np.array([_NODATA_64, _OUTSIDE_64], np.uint64)).any():
            raise InputError(f"labels {_NODATA_64} and {_OUTSIDE_64} stand for nodata: renumber")
        return bits.dtype, _OUTSIDE_64, _NODATA_64
    beyond = 1 << (8 * bits.dtype.itemsize)
    return _UNSIGNED[2 * bits.dtype.itemsize], beyond + 1, beyond if trace_nodata else beyond + 1


def _framed(
    labels: NDArray[Any], how: LeftOut, frame: tuple[int, int, int, int]
) -> tuple[NDArray[Any], int]:
    """Labels as unsigned bits in a frame of nodata: rows above and below, columns left and
    right. A type whose values are all in use is widened.
    """
    mask = np.ma.getmaskarray(labels) if np.ma.isMaskedArray(labels) else None
    plain = np.ascontiguousarray(np.ma.getdata(labels))
    if plain.dtype.kind == "b":
        plain = plain.view(np.uint8)
    bits = plain.view(_UNSIGNED[plain.dtype.itemsize])
    left_out = [int(np.array(v).astype(labels.dtype).view(bits.dtype)) for v in how.values]
    dtype, outside, nodata = _marks(bits, left_out, how.trace)
    above, below, before, behind = frame
    height, width = bits.shape
    out = np.empty((height + above + below, width + before + behind), dtype)
    out[:above] = outside
    out[above + height :] = outside
    out[:, :before] = outside
    out[:, before + width :] = outside
    inner = out[above : above + height, before : before + width]
    inner[:] = bits
    for value in left_out:
        if value != nodata:
            inner[bits == value] = nodata
    if mask is not None:
        inner[mask] = nodata
    return out, outside


def strips_of(source: LabelSource, height: int, left_out: LeftOut) -> Iterator[Strip]:
    """Strips of ``height`` lattice rows from top to bottom; each row is read once."""
    rows, cols = source.shape
    left_out = left_out.within(source.dtype)
    above: NDArray[Any] | None = None
    for top, end in _bands(source, height):
        window = Window(top, 0, end - top, cols)
        labels, score = source.read(window)
        if labels.shape != window.shape:
            raise InputError(f"a source gave {labels.shape} pixels for {window}")
        last = end == rows
        if above is not None:
            stack = np.ma.vstack if np.ma.isMaskedArray(labels) else np.concatenate
            labels = stack([above, labels])
        above = labels[-1:].copy()
        strips = _cut_strips(window, labels, score, (height, left_out, last))
        del labels, score  # the strips hold what they need of them
        yield from strips


def _bands(source: LabelSource, height: int) -> Iterator[tuple[int, int]]:
    """First and last row, exclusive, of each read."""
    rows, cols = source.shape
    most = min(_BAND_PIXELS // max(cols, 1), _BAND_ROWS)
    step = max(1, most // height) * height
    for top in range(0, rows, step):
        yield top, min(top + step, rows)


def _cut_strips(
    window: Window, labels: NDArray[Any], score: NDArray[np.uint8] | None, how: Any
) -> Iterator[Strip]:
    """Strips of one read; ``labels`` begin a row above it, save at the top."""
    height, left_out, last = how
    pixels, outside = _framed(labels, left_out, (int(window.row_off == 0), int(last), 1, 1))
    del labels  # copied: only the copy is kept while the strips are traced
    if score is not None:
        padded = np.full((window.height + last, window.width + 1), 255, np.uint8)
        padded[: window.height, :-1] = score
        score = padded
    # the lattice has one row and one column more than the raster
    lattice = Window(window.row_off, 0, window.height + last, window.width + 1)
    yield from _slices(lattice, pixels, outside, score, height)


@dataclass(frozen=True)
class BlockLabels:
    """A block of a raster, for tracing it wherever it lies.

    Attributes:
        shape: rows and cols of the whole raster.
        window: the block's pixels.
        labels: (row, col) of ``halo``: the window, one row above and one column left of it
            where the raster has them; masked where there is no label.
        score: (row, col) of the window, or None.

    """

    shape: tuple[int, int]
    window: Window
    labels: NDArray[Any]
    score: NDArray[np.uint8] | None = None

    @staticmethod
    def halo(window: Window) -> Window:
        """The pixels that a block needs."""
        up, left = int(window.row_off > 0), int(window.col_off > 0)
        return Window(
            window.row_off - up, window.col_off - left, window.height + up, window.width + left
        )

    def strips(self, height: int, left_out: LeftOut) -> Iterator[Strip]:
        """Strips as wide as the block."""
        w = self.window
        if self.labels.shape != self.halo(w).shape:
            raise InputError(
                f"a block at {w} came with {self.labels.shape} labels: give {self.halo(w).shape}"
            )
        last_row, last_col = w.row_end == self.shape[0], w.col_end == self.shape[1]
        frame = (int(w.row_off == 0), int(last_row), int(w.col_off == 0), int(last_col))
        pixels, outside = _framed(self.labels, left_out.within(self.labels.dtype), frame)
        score = self.score
        if score is not None:
            score = np.pad(score, ((0, last_row), (0, last_col)), constant_values=255)
        lattice = Window(w.row_off, w.col_off, w.height + last_row, w.width + last_col)
        yield from _slices(lattice, pixels, outside, score, height)


def _slices(
    lattice: Window, pixels: NDArray[Any], outside: int, score: Any, height: int
) -> Iterator[Strip]:
    """A framed piece of the raster as strips of ``height`` rows."""
    for row in range(0, lattice.height, height):
        h = min(height, lattice.height - row)
        yield Strip(
            Window(lattice.row_off + row, lattice.col_off, h, lattice.width),
            pixels[row : row + h + 1],
            outside,
            None if score is None else score[row : row + h],
        )


def cut_tiles(strip: Strip, width: int) -> list[Tile]:
    """The strip's tiles from left to right."""
    tiles = []
    top, height = strip.window.row_off, strip.window.height
    for c in range(0, strip.window.width, width):
        w = min(width, strip.window.width - c)
        window = Window(top, strip.window.col_off + c, height, w)
        score = None if strip.score is None else strip.score[:, c : c + w]
        tiles.append(Tile(window, strip.pixels, strip.nodata, score, c))
    return tiles
