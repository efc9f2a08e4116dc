"""Tables that grow, in memory while they are small and in a temporary file beyond."""

from __future__ import annotations

import mmap
import tempfile
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Growing"]

_FIRST_ROWS = 1 << 16


class Growing:
    """A two-dimensional array that rows are appended to.

    Beyond ``spill_bytes`` it lives in a temporary file that is mapped into memory and has no
    name: nothing is left behind however the process ends. Arrays got from ``data`` stay
    valid for reading when it grows, but show the rows at that time.
    """

    def __init__(self, width: int, dtype: Any, spill_bytes: int | None = None) -> None:
        self._width, self._dtype = width, np.dtype(dtype)
        self._spill_bytes = spill_bytes
        self._array: NDArray[Any] = np.empty((_FIRST_ROWS, width), dtype)
        self._rows = 0
        self._file: IO[bytes] | None = None
        self._map: mmap.mmap | None = None

    def __len__(self) -> int:
        return self._rows

    @property
    def data(self) -> NDArray[Any]:
        """The rows, as a view."""
        return self._array[: self._rows]

    @property
    def spilled(self) -> bool:
        """True when the rows are in a file."""
        return self._file is not None

    def resize(self, rows: int) -> None:
        """Make it ``rows`` long; new rows hold anything."""
        if rows > len(self._array):
            self._reserve(max(rows, 2 * len(self._array)))
        self._rows = rows

    def extend(self, rows: NDArray[Any]) -> None:
        """Append rows."""
        start = self._rows
        self.resize(start + len(rows))
        self._array[start : self._rows] = rows

    def release(self) -> None:
        """Let go of the memory behind a spilled table; its rows stay in the file."""
        if self._map is not None and hasattr(mmap, "MADV_DONTNEED"):
            self._map.madvise(mmap.MADV_DONTNEED)

    def _reserve(self, rows: int) -> None:
        size = rows * self._width * self._dtype.itemsize
        if self._file is None and (self._spill_bytes is None or size <= self._spill_bytes):
            grown = np.empty((rows, self._width), self._dtype)
            grown[: self._rows] = self.data
            self._array = grown
            return
        old = self.data if self._file is None else None
        if self._file is None:
            self._file = tempfile.TemporaryFile(prefix="geoseg-")  # noqa: SIM115
        size = -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
        self._file.truncate(size)
        self._map = mmap.mmap(self._file.fileno(), size)
        n = size // (self._width * self._dtype.itemsize)
        flat = np.frombuffer(self._map, self._dtype, n * self._width)
        self._array = flat.reshape(n, self._width)
        if old is not None:
            self._array[: self._rows] = old
