"""A SegmentMap as the vectorizer reads it: labels and scores of rows as wide as the map."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from geoseg.engine.segmentmap import SegmentMap
from geoseg.engine.store import writing
from geoseg.grid import Window

__all__ = ["MapSource"]

_PIECE_COLS = 4096

Pair = tuple[NDArray[Any], NDArray[np.uint8]]


class _Waiting:
    """A row of chunks, piece by piece, in a temporary file that has no name."""

    def __init__(self) -> None:
        self._file: IO[bytes] | None = None
        self._top = -1
        self._places: list[tuple[int, int, int]] = []

    def holds(self, top: int) -> bool:
        """Whether these are the chunks that begin at that row."""
        return self._top == top

    def fill(self, top: int, pieces: Iterator[Pair]) -> None:
        """Take other chunks; raises OutputError where there is no room for them."""
        self._top, self._places = -1, []
        with writing(tempfile.gettempdir()):
            self._file = self._file or tempfile.TemporaryFile(prefix="geoseg-")  # noqa: SIM115
            self._file.seek(0)
            for labels, score in pieces:
                at = self._file.tell()
                self._places.append((at, at + labels.nbytes, labels.shape[1]))
                self._file.write(np.ascontiguousarray(labels).data)
                self._file.write(np.ascontiguousarray(score).data)
            self._file.flush()
        self._top = top

    def take(self, window: Window, into: Pair) -> None:
        """Copy a window that lies within the chunks, and spans the map's width."""
        assert self._file is not None
        first, col = window.row_off - self._top, 0
        for *places, width in self._places:
            for array, place in zip(into, places, strict=True):
                rows = np.empty((window.height, width), array.dtype)
                self._file.seek(place + first * width * rows.itemsize)
                self._file.readinto(rows.data.cast("B"))  # type: ignore[attr-defined]
                array[:, col : col + width] = rows
            col += width


@dataclass(frozen=True)
class MapSource:
    """Labels and score levels of a window, where windows come from top to bottom.

    A map is kept in chunks that are unpacked as a whole, and a wide one is read by fewer rows
    than those of a chunk: a row of chunks waits in a file meanwhile, not in memory.
    """

    map: SegmentMap
    _waiting: _Waiting = field(default_factory=_Waiting, init=False, repr=False, compare=False)

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, cols)."""
        return self.map.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """uint8 for semantic maps, int64 where there are things."""
        return np.dtype(np.uint8 if self.map.task == "semantic" else np.int64)

    def read(self, window: Window) -> Pair:
        """Labels (row, col), as ``pack_labels`` makes them, and score levels (row, col)."""
        rows = list(self._chunk_rows(window))
        whole = window.row_off == rows[0][0] and window.row_end == rows[-1][1]
        if whole or window.width < self.shape[1]:
            return self._unpacked(window)
        labels = np.empty(window.shape, self.dtype)
        score = np.empty(window.shape, np.uint8)
        for top, end in rows:
            if not self._waiting.holds(top):
                self._waiting.fill(top, self._pieces(top, end))
            part = Window(top, window.col_off, end - top, window.width) & window
            here = part.relative_to(window).slices
            self._waiting.take(part, (labels[here], score[here]))
        return labels, score

    def _chunk_rows(self, window: Window) -> Iterator[tuple[int, int]]:
        """First and last row, exclusive, of each row of chunks that a window meets."""
        high = self.map.chunk_rows
        over = self.map.region.row_off % high
        top = window.row_off - (window.row_off + over) % high
        while top < window.row_end:
            yield max(top, 0), min(top + high, self.shape[0])
            top += high

    def _pieces(self, top: int, end: int) -> Iterator[Pair]:
        cols = self.shape[1]
        for col in range(0, cols, _PIECE_COLS):
            yield self._unpacked(Window(top, col, end - top, min(_PIECE_COLS, cols - col)))

    def _unpacked(self, window: Window) -> Pair:
        from geoseg.vectorize.table import pack_labels

        arrays = self.map.read(window)
        labels = arrays["category_id"]
        if "instance_id" in arrays:
            labels = pack_labels(labels, arrays["instance_id"])
        return labels, arrays["score"]
