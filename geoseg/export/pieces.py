"""The pieces that the web page shows: tiles of the scene, and tiles, cells and table of maps.

All lie on one pixel grid. A piece is made when it is asked for, so that a page and a server
share this code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from geoseg.export.mapcells import MapCells
from geoseg.export.pagegrid import TILE, Grid
from geoseg.export.scenetiles import SceneTiles

__all__ = ["Pieces", "is_key"]

_NUMBERS = {"s": 3, "t": 1, "c": 4, "v": 3}


def is_key(key: str) -> bool:
    """Whether a piece could have this name."""
    kind, *numbers = key.split("-")
    plain = all(n.isdecimal() and n.isascii() and len(n) < 9 for n in numbers)
    return len(numbers) == _NUMBERS.get(kind) and plain


class Pieces:
    """Gives pieces by key: ``s-LEVEL-ROW-COL`` (the scene, JPEG), and of each map
    ``t-MAP`` (its table: deflated JSON, by column), ``c-MAP-LEVEL-ROW-COL`` (deflated category
    ids, 512 x 512) and ``v-MAP-ROW-COL`` (deflated JSON: rows of the table, rings as
    differences in quarters of a pixel).
    """

    def __init__(self, grid: Grid, scene: SceneTiles | None, maps: Sequence[MapCells]) -> None:
        self.grid = grid
        self.scene = scene
        self.maps = maps

    def get(self, key: str) -> bytes | None:
        """The piece; None when there is none of that name."""
        if not is_key(key):
            return None
        kind, *texts = key.split("-")
        numbers = [int(text) for text in texts]
        if kind == "s":
            if self.scene is None or not self._on_grid(*numbers):
                return None
            return self.scene.tile(*numbers)
        if numbers[0] >= len(self.maps):
            return None
        one, where = self.maps[numbers[0]], numbers[1:]
        if kind == "t":
            return one.table()
        make: Callable[..., bytes | None] = one.classes if kind == "c" else one.cell
        return make(*where) if self._on_grid(*where[-3:]) else None

    def _on_grid(self, *where: int) -> bool:
        level, row, col = (0, *where)[-3:]
        size = TILE * 2 ** min(level, self.grid.levels)
        rows, cols = self.grid.shape
        return level <= self.grid.levels and row * size < rows and col * size < cols

    def keys(self, finest: int | None) -> Iterator[str]:
        """All names, in the order of a page; of the scene from level ``finest`` on."""
        for number in range(len(self.maps)):
            yield f"t-{number}"
            yield from (f"v-{number}-{r}-{c}" for r, c in self.grid.tiles(0))
        for level in range(self.grid.levels, -1, -1):
            tiles = list(self.grid.tiles(level))
            for number in range(len(self.maps) if level else 0):
                yield from (f"c-{number}-{level}-{r}-{c}" for r, c in tiles)
            if finest is not None and level >= finest:
                yield from (f"s-{level}-{r}-{c}" for r, c in tiles)
