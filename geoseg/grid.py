"""Windows, tiles and blocks of a pixel grid: pure integers.

``GeoBox`` (crs, affine, shape) is odc-geo's; nothing here knows about coordinates.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from geoseg.errors import InputError

__all__ = ["Block", "BlockGrid", "Tile", "TileGrid", "Window"]


@dataclass(frozen=True, order=True, slots=True)
class Window:
    """A rectangle of pixels: ``row_off``, ``col_off``, ``height``, ``width``.

    Offsets may be negative and the window may reach beyond a scene: such pixels are
    reflected when they are read.

    >>> Window(0, 0, 4, 6) & Window(2, 2, 4, 6)
    Window(row_off=2, col_off=2, height=2, width=4)
    """

    row_off: int
    col_off: int
    height: int
    width: int

    @property
    def row_end(self) -> int:
        """First row below the window."""
        return self.row_off + self.height

    @property
    def col_end(self) -> int:
        """First column right of the window."""
        return self.col_off + self.width

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, cols)."""
        return self.height, self.width

    @property
    def pixels(self) -> int:
        """Number of pixels; 0 when empty."""
        return max(self.height, 0) * max(self.width, 0)

    @property
    def slices(self) -> tuple[slice, slice]:
        """Row and column slices into an array whose origin is (0, 0)."""
        return slice(self.row_off, self.row_end), slice(self.col_off, self.col_end)

    def __and__(self, other: Window) -> Window:
        """The common rectangle; height or width 0 when there is none."""
        row_off, col_off = max(self.row_off, other.row_off), max(self.col_off, other.col_off)
        height = max(min(self.row_end, other.row_end) - row_off, 0)
        width = max(min(self.col_end, other.col_end) - col_off, 0)
        return Window(row_off, col_off, height, width)

    def __contains__(self, other: Window) -> bool:
        return (self & other) == other

    def grow(self, pixels: int) -> Window:
        """The window with ``pixels`` more on each of its four sides."""
        return Window(
            self.row_off - pixels,
            self.col_off - pixels,
            self.height + 2 * pixels,
            self.width + 2 * pixels,
        )

    def relative_to(self, origin: Window) -> Window:
        """The same pixels, counted from the upper left corner of ``origin``."""
        return Window(
            self.row_off - origin.row_off, self.col_off - origin.col_off, self.height, self.width
        )


@dataclass(frozen=True, slots=True)
class Tile:
    """What a network sees at once. ``core`` is kept; ``read`` is core plus halo.

    ``read`` always measures tile_size x tile_size and may reach beyond the scene; ``core``
    is cut at the scene's edge.
    """

    index: tuple[int, int]
    core: Window
    read: Window


@dataclass(frozen=True, slots=True)
class TileGrid:
    """Tiles over a grid of ``shape`` (rows, cols), anchored at its origin.

    The stride is ``tile_size - 2 * halo``; it and the halo are multiples of ``divisor``, the
    network's total stride, so that every tile meets the network on the same phase.

    >>> grid = TileGrid((100, 70), tile_size=64, halo=16, divisor=2)
    >>> grid.stride, grid.counts
    (32, (4, 3))
    >>> grid.tile(3, 2).core
    Window(row_off=96, col_off=64, height=4, width=6)
    """

    shape: tuple[int, int]
    tile_size: int
    halo: int = 0
    divisor: int = 1

    def __post_init__(self) -> None:
        if min(self.shape) < 1:
            raise InputError(f"a grid needs at least 1 x 1 pixels, got {self.shape}")
        if self.halo < 0 or self.stride < 1:
            raise InputError(
                f"tile size {self.tile_size} with halo {self.halo} leaves no core: "
                f"use a tile size of more than {2 * max(self.halo, 0)}"
            )
        for name, value in (("halo", self.halo), ("tile size", self.tile_size)):
            if value % self.divisor:
                lower = value - value % self.divisor
                raise InputError(
                    f"{name} {value} is not a multiple of {self.divisor}, the model's divisor: "
                    f"use {lower} or {lower + self.divisor}"
                )

    @property
    def stride(self) -> int:
        """Size of a core in pixels."""
        return self.tile_size - 2 * self.halo

    @property
    def counts(self) -> tuple[int, int]:
        """Tiles per column and per row."""
        return -(-self.shape[0] // self.stride), -(-self.shape[1] // self.stride)

    def tile(self, row: int, col: int) -> Tile:
        """The tile in tile row ``row`` and tile column ``col``."""
        whole = Window(row * self.stride, col * self.stride, self.stride, self.stride)
        core = whole & Window(0, 0, *self.shape)
        return Tile((row, col), core, whole.grow(self.halo))

    def __len__(self) -> int:
        rows, cols = self.counts
        return rows * cols

    def __iter__(self) -> Iterator[Tile]:
        rows, cols = self.counts
        return (self.tile(row, col) for row in range(rows) for col in range(cols))


@dataclass(frozen=True, slots=True)
class Block:
    """A rectangle of tiles: what is scheduled, retried and recorded as one.

    ``window`` is the union of its cores, ``number`` its place in raster order.
    """

    index: tuple[int, int]
    number: int
    window: Window
    tiles: tuple[Tile, ...]

    @property
    def read(self) -> Window:
        """Everything that its tiles read."""
        first, last = self.tiles[0].read, self.tiles[-1].read
        return Window(
            first.row_off,
            first.col_off,
            last.row_end - first.row_off,
            last.col_end - first.col_off,
        )


@dataclass(frozen=True, slots=True)
class BlockGrid:
    """Blocks of ``tiles_per_side`` x ``tiles_per_side`` tiles over a TileGrid.

    Nothing is listed in advance: a grid of millions of blocks costs nothing.
    """

    tiles: TileGrid
    tiles_per_side: int

    @property
    def size(self) -> int:
        """Side of a whole block in pixels."""
        return self.tiles_per_side * self.tiles.stride

    @property
    def counts(self) -> tuple[int, int]:
        """Blocks per column and per row."""
        rows, cols = self.tiles.counts
        return -(-rows // self.tiles_per_side), -(-cols // self.tiles_per_side)

    def window(self, row: int, col: int) -> Window:
        """Pixels of the block in block row ``row`` and block column ``col``."""
        whole = Window(row * self.size, col * self.size, self.size, self.size)
        return whole & Window(0, 0, *self.tiles.shape)

    def block(self, row: int, col: int) -> Block:
        """The block in block row ``row`` and block column ``col``."""
        tile_rows, tile_cols = self.tiles.counts
        side = self.tiles_per_side
        tiles = tuple(
            self.tiles.tile(r, c)
            for r in range(row * side, min((row + 1) * side, tile_rows))
            for c in range(col * side, min((col + 1) * side, tile_cols))
        )
        return Block((row, col), row * self.counts[1] + col, self.window(row, col), tiles)

    def __len__(self) -> int:
        rows, cols = self.counts
        return rows * cols

    def __iter__(self) -> Iterator[Block]:
        rows, cols = self.counts
        return (self.block(row, col) for row in range(rows) for col in range(cols))
