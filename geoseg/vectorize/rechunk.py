"""Batches of polygons in sizes that writers like, whatever sizes they were made in."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

__all__ = ["Chunks", "rechunked"]

_BATCH_BYTES = 4 << 20
_BATCH_ROWS = 65_536


class Chunks:
    """Where batches end in a stream of rows: after _BATCH_ROWS of them or _BATCH_BYTES of geometry.

    A row as large as a batch is one alone.
    """

    def __init__(self) -> None:
        self._rows = self._bytes = 0

    def cut(self, sizes: NDArray[np.int64]) -> Iterator[tuple[int, int, bool]]:
        """First and last row, exclusive, of the pieces of the next rows, whose geometries take
        ``sizes`` bytes; and whether a batch ends there.
        """
        ends = np.cumsum(sizes)
        huge = np.flatnonzero(sizes >= _BATCH_BYTES)
        at, next_huge = 0, 0
        while at < len(sizes):
            alone = int(huge[next_huge]) if next_huge < len(huge) else len(sizes)
            if at == alone:
                if self._rows:
                    yield at, at, True
                self._rows = self._bytes = 0
                yield at, at + 1, True
                at, next_huge = at + 1, next_huge + 1
                continue
            before = int(ends[at - 1]) if at else 0
            full = 1 + int(np.searchsorted(ends[at:], before + _BATCH_BYTES - self._bytes))
            end = at + min(full, _BATCH_ROWS - self._rows)
            if end > alone:  # it ends before a huge one, or goes on behind these rows
                end, ended = alone, alone < len(sizes)
            else:
                ended = True
            self._rows += end - at
            self._bytes += int(ends[end - 1]) - before
            if ended:
                self._rows = self._bytes = 0
            yield at, end, ended
            at = end


def rechunked(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Batches that end where Chunks says so, at least one."""
    waiting: list[pa.RecordBatch] = []
    chunks = Chunks()
    blank: pa.RecordBatch | None = None  # what to yield when there is no row at all
    first = True
    for batch in batches:
        ends = batch.column("geometry").buffers()[1]
        offsets = np.frombuffer(ends, np.int32, batch.num_rows + 1).astype(np.int64)
        blank = batch.slice(0, 0) if first else blank
        first = False
        for start, end, ended in chunks.cut(offsets[1:] - offsets[:-1]):
            blank = None
            if end > start:
                waiting.append(batch.slice(start, end - start))
            if ended:
                yield _combined(waiting)
                waiting = []
    if waiting or blank is not None:
        yield _combined(waiting or [blank])


def _combined(batches: Sequence[pa.RecordBatch]) -> pa.RecordBatch:
    if len(batches) == 1:
        return batches[0]
    return pa.Table.from_batches(batches).combine_chunks().to_batches()[0]
